"""The GPU's kernels against the NumPy reference, on the CPU by Triton's interpreter."""

from __future__ import annotations

import numpy as np
import pytest

# It has wheels for Linux alone. The interpreter of earlier versions fails with NumPy 2.4.
pytest.importorskip("triton", minversion="3.8", reason="needs Triton 3.8, which has no wheel here")

from fixtures.codecs import DIM, corpus

from smart_retrieval.core.late import weighted_parts
from smart_retrieval.core.vectors import unit_rows
from smart_retrieval.errors import CodecError
from smart_retrieval.index.codec.codebook import CodebookCodec
from smart_retrieval.index.codec.factory import fit_codec
from smart_retrieval.index.codec.kernels_triton import DeviceCodec
from smart_retrieval.index.codec.names import parse_codec

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

    def found(
        self, rows: int = 16, chosen: list[int] | None = None, digits: str = "int8", **options: float | None
    ) -> list[np.ndarray]:
        import torch
        import triton.language as tl

        scorer = DeviceCodec(self.codec, "cpu", rows=rows)
        scorer.digits = getattr(tl, digits)
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
    chosen = [4, 4, 0, 5, 1]
    for found, values in zip(case.found(chosen=chosen, floor=0.1), (scores, anchor, late), strict=True):
        assert (found == values[chosen]).all()


class Drawn(Case):
    """More documents and dimensions than a block holds, without a residual; one query token of share 1."""

    def __init__(self, dims: int, context: np.ndarray | None = None, anchors: np.ndarray | None = None) -> None:
        rng = np.random.default_rng(0)
        lengths = rng.integers(1, 4, 70)
        self.offsets = np.concatenate([[0], np.cumsum(lengths)])
        self.codes = np.zeros((self.offsets[-1], 2), np.uint8)
        self.codes[:, 0] = rng.integers(0, 50, len(self.codes))
        drawn = rng.normal(size=(dims, dims)).astype(np.float32) / 10
        centroids = rng.normal(size=(50, dims)).astype(np.float16)
        around = drawn if context is None else context
        self.codec = CodebookCodec(parse_codec("anchored"), centroids, np.arange(40), None, around)
        self.anchors = unit_rows(rng.normal(size=(70, dims))) if anchors is None else anchors
        self.tokens = unit_rows(rng.normal(size=(1, dims)))
        self.anchor = unit_rows(rng.normal(size=(1, dims)))[0]
        self.shares = np.ones(1, np.float32)


@pytest.mark.parametrize("digits", ["int8", "float16"])
@pytest.mark.parametrize("dims", [5, 64, 100])
def test_similarities_are_those_of_the_reference_to_the_bit(dims: int, digits: str) -> None:
    case = Drawn(dims)
    _, anchor, late = case.found(digits=digits)
    # Steps of 2^-36 hold every float32 from 2^-12 on.
    assert (np.abs(case.expected(None)) > 2**-12).all()
    assert (late == case.expected(None)).all()
    np.testing.assert_allclose(anchor, case.anchors @ case.anchor, atol=3e-7)


@pytest.mark.parametrize("digits", ["int8", "float16"])
@pytest.mark.parametrize("sign", [1, -1])
def test_whole_numbers_as_large_as_can_be(sign: int, digits: str) -> None:
    ones = np.eye(70, dtype=np.float32)
    # Every anchor is one number, and the query's column of the context is one or many.
    for context in (sign * ones, np.full((70, 70), sign, np.float32)):
        case = Drawn(70, context, ones * np.where(np.arange(70) % 2, 1, -1).astype(np.float32)[:, None])
        case.tokens = ones[69:]
        assert (case.found(digits=digits)[2] == case.expected(None)).all()


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


@pytest.mark.parametrize(("width", "dims"), [(5, 64), (6, 100)])
def test_the_room_is_that_of_what_is_copied(width, dims):
    codes, offsets, anchors = np.zeros((9, width), np.uint8), np.array([0, 4, 9]), np.ones((2, dims), np.float32)
    codec = DeviceCodec(fitted("codebook+8x1"), "cpu")
    own = codec.upload(codes, offsets, anchors)
    assert codec.room(codes, offsets, anchors) == sum(part.nbytes for part in own)
