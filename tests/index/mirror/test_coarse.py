"""Anchors in 8 bits: their cosines are off by no more than is said, and a search finds the same rows with them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smart_retrieval.core.vectors import unit_rows
from smart_retrieval.index.codec import kernels
from smart_retrieval.index.mirror import arrays
from smart_retrieval.index.mirror.arrays import RowFile
from smart_retrieval.index.mirror.coarse import CoarseAnchors
from smart_retrieval.index.mirror.snapshot import Segment, Selection, Snapshot
from smart_retrieval.index.search import first_stage

pytest.importorskip("numba")


@pytest.fixture(autouse=True, scope="module")
def compiled():
    kernels.load_kernels()


def mapped(folder, anchors: np.ndarray, alive: np.ndarray | None = None) -> Snapshot:
    anchors.tofile(folder / "anchors.f4")
    rows = np.arange(len(anchors))
    file = RowFile(folder / "anchors.f4", anchors)
    segment = Segment(rows, anchors, np.zeros((len(rows), 1), np.uint8), np.arange(len(rows) + 1), file)
    alive = np.ones(len(rows), bool) if alive is None else alive
    return Snapshot(1, 1, "a", (segment,), alive, int(alive.sum()))


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([1, 2, 7, 64, 384, 4096, 16_384]),
    st.integers(0, 2**32 - 1),
    st.sampled_from(["any", "even", "one", "mixed", "near"]),
)
def test_a_cosine_is_off_by_no_more_than_is_said(dim: int, seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(9, dim)) * (rng.normal(size=dim) ** 6 if kind == "mixed" else 1)
    if kind == "one":  # the most that sums and numbers can be
        vectors = np.where(np.arange(dim) == dim // 2, np.sign(rng.normal(size=(9, 1))), 0)
    elif kind == "even":
        vectors = np.sign(vectors)
    elif kind == "near":
        vectors = 1 + 1e-4 * vectors
    rows = np.concatenate([unit_rows(vectors), np.zeros((1, dim), np.float32)])
    coarse = CoarseAnchors.of(rows)
    assert coarse is not None
    for asked in rows:
        out = np.empty(len(rows), np.float32)
        off = coarse.cosines(asked, out)
        assert off is not None
        assert np.abs(out - rows.astype(np.float64) @ asked).max() <= off < 0.02


@pytest.mark.parametrize("filtered", [False, True])
@pytest.mark.parametrize("spread", [1.0, 1e-3, 1e-6])
def test_the_same_rows_are_found(tmp_path, spread: float, filtered: bool) -> None:
    rng = np.random.default_rng(3)
    # As near to each other as 8 bits cannot tell apart, and some of them equal.
    anchors = unit_rows(rng.normal(size=24) + spread * rng.normal(size=(6000, 24)))
    anchors[4000:] = anchors[rng.integers(0, 4000, 2000)]
    alive = rng.random(len(anchors)) < 0.9
    snapshot = mapped(tmp_path, anchors, alive)
    only = np.flatnonzero(alive)[rng.permutation(alive.sum())[:5000]] if filtered else np.flatnonzero(alive)
    selection = Selection(snapshot, positions=np.sort(only))
    segment = snapshot.segments[0]
    assert segment.file is not None
    coarse = [segment.file.coarse() for _ in range(2)]
    assert coarse[0] is None  # one search gains nothing
    assert coarse[1] is not None
    for query in unit_rows(anchors[::600] + 0.3 * spread * rng.normal(size=(10, 24))):
        exact = first_stage.exact_cosines(snapshot, query, selection.positions)
        order = np.lexsort((selection.positions, -exact))[:50]
        positions, cosines = first_stage.nearest(snapshot, query, selection, 50)
        assert positions.tolist() == selection.positions[order].tolist()
        assert (cosines == exact[order]).all()


def test_what_is_no_unit_vector_is_left_to_the_plain_scan(tmp_path, monkeypatch) -> None:
    anchors = unit_rows(np.random.default_rng(0).normal(size=(3, 4)))
    for wrong in (np.nan, np.inf, 2.0):
        damaged = anchors.copy()
        damaged[1, 2] = wrong
        assert CoarseAnchors.of(damaged) is None
    assert CoarseAnchors.of(np.zeros((1, 16_385), np.float32)) is None
    coarse = CoarseAnchors.of(anchors)
    assert coarse is not None
    assert coarse.cosines(2 * anchors[0], np.empty(3, np.float32)) is None
    assert coarse.cosines(anchors[0] * np.float32(np.nan), np.empty(3, np.float32)) is None
    file = mapped(tmp_path, anchors).segments[0].file
    assert file is not None
    monkeypatch.setattr(arrays, "LARGE_BYTES", 1)
    assert [file.coarse() for _ in range(3)] == [None] * 3


def test_anchors_that_are_no_numbers_are_not_found(tmp_path) -> None:
    anchors = unit_rows(np.random.default_rng(0).normal(size=(5000, 4)))
    damaged = anchors.copy()
    damaged[::100] = np.nan
    selection = Selection(mapped(tmp_path, damaged))
    for _ in range(3):
        for wanted in (10, 50, 51, 4900):
            positions, cosines = first_stage.nearest(selection.snapshot, anchors[7], selection, wanted)
            assert np.isfinite(cosines).all()
            assert not (positions % 100 == 0).any()


def test_without_kernels_anchors_are_read_as_they_are(tmp_path, monkeypatch) -> None:
    anchors = unit_rows(np.random.default_rng(0).normal(size=(3, 4)))
    coarse = CoarseAnchors.of(anchors)
    assert coarse is not None
    monkeypatch.setattr(kernels, "_kernels", None)
    assert coarse.cosines(anchors[0], np.empty(3, np.float32)) is None
    file = mapped(tmp_path, anchors).segments[0].file
    assert file is not None
    assert [file.coarse() for _ in range(3)] == [None] * 3
