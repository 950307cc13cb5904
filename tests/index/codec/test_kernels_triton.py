"""The GPU's kernels against the NumPy reference, on the CPU by Triton's interpreter."""

from __future__ import annotations

import numpy as np
import pytest

# 190 MB, so no development dependency: pip install triton. The interpreter of earlier versions fails with NumPy 2.4.
pytest.importorskip("triton", minversion="3.8", reason="needs Triton 3.8: pip install triton")

from fixtures.codecs import DIM, corpus

from smart_retrieval.core.late import weighted_parts
from smart_retrieval.core.vectors import unit_rows
from smart_retrieval.errors import CodecError
from smart_retrieval.index.codec.codebook import CodebookCodec
from smart_retrieval.index.codec.factory import fit_codec
from smart_retrieval.index.codec.kernels_triton import DeviceCodec

LENGTHS = (3, 0, 17, 1, 40, 16)


def fitted(name: str) -> CodebookCodec:
    codec = fit_codec(name, corpus())
    assert isinstance(codec, CodebookCodec)
    return codec


class Case:
    """Coded documents of these lengths, and a query."""

    def __init__(self, codec: CodebookCodec, query_tokens: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.codec = codec
        self.offsets = np.concatenate([[0], np.cumsum(LENGTHS)])
        total = self.offsets[-1]
        self.anchors = unit_rows(rng.normal(size=(len(LENGTHS), DIM)))
        per_token = np.repeat(self.anchors, LENGTHS, axis=0)
        self.codes = codec.encode(unit_rows(rng.normal(size=(total, DIM))), rng.integers(-1, 45, total), per_token)
        self.tokens = unit_rows(rng.normal(size=(query_tokens, DIM)))
        self.anchor = unit_rows(rng.normal(size=(1, DIM)))[0]
        shares = rng.random(query_tokens)
        self.shares = (shares / shares.sum()).astype(np.float32)

    def expected(self, floor: float | None) -> np.ndarray:
        tables = self.codec.prepare(self.tokens)
        best = self.codec.best_similarities(tables, self.codes, self.offsets, anchors=self.anchors)
        return weighted_parts(best, self.shares, floor).sum(axis=0)

    def found(self, rows: int = 16, chosen: list[int] | None = None, **options: float | None) -> list[np.ndarray]:
        import torch

        scorer = DeviceCodec(self.codec, "cpu", rows=rows)
        documents = scorer.upload(self.codes, self.offsets, self.anchors)
        places = None if chosen is None else torch.tensor(chosen)
        query = scorer.prepare(self.tokens, self.shares, self.anchor)
        return [values.numpy() for values in scorer.score(query, documents, chosen=places, **options)]


@pytest.mark.parametrize("floor", [None, 0.2])
@pytest.mark.parametrize(
    ("name", "query_tokens"),
    [("anchored+3vq+norm", 5), ("anchored+2vq+norm", 32), ("codebook+16x1", 70), ("codebook", 1), ("anchored+1vq", 33)],
)
def test_scores_are_those_of_the_reference(name: str, query_tokens: int, floor: float | None) -> None:
    case = Case(fitted(name), query_tokens)
    scores, anchor, late = case.found(floor=floor, lambda_anchor=0.5, lambda_late=2.0)
    expected = case.expected(floor)
    assert expected.std() > 0.01
    np.testing.assert_allclose(late, expected, atol=3e-7)
    np.testing.assert_allclose(anchor, case.anchors @ case.anchor, atol=3e-7)
    assert (scores == np.float32(0.5) * anchor + np.float32(2) * late).all()
    assert late[1] == 0  # no tokens


def test_scores_depend_neither_on_blocks_nor_on_the_place_of_a_document() -> None:
    case = Case(fitted("anchored+3vq+norm"), 40)
    scores, anchor, late = case.found(floor=0.1)
    for rows in (4, 32):
        assert (case.found(rows=rows, floor=0.1)[0] == scores).all()
    # The interpreter multiplies anchors by BLAS, which rounds a row by where it stands; so without them.
    case = Case(fitted("codebook+2vq+norm"), 40)
    scores, anchor, late = case.found(floor=0.1)
    chosen = [4, 4, 0, 5, 1]
    for found, values in zip(case.found(chosen=chosen, floor=0.1), (scores, anchor, late), strict=True):
        assert (found == values[chosen]).all()


def test_nothing_to_score() -> None:
    case = Case(fitted("codebook"), 2)
    assert [len(values) for values in case.found(chosen=[])] == [0, 0, 0]


def test_damaged_documents_are_refused_before_they_are_read() -> None:
    case = Case(fitted("anchored+3vq+norm"), 2)
    case.codes[7, :2] = 255
    with pytest.raises(CodecError, match="found centroid 65535"):
        case.found()
    for offsets in ([0, 5, 3, 9, 9, 9, 9], [0, 1, 2, 3, 4, 5, 99], [-1, 1, 2, 3, 4, 5, 6]):
        case = Case(fitted("codebook"), 2)
        case.offsets = np.array(offsets)
        with pytest.raises(CodecError, match="row ranges"):
            case.found()
