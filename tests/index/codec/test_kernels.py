"""The kernels: loaded in the background after the first searches; their parts."""

import numpy as np
import pytest

from smart_retrieval.errors import SmartWarning
from smart_retrieval.index.codec import kernels


@pytest.fixture
def fresh(monkeypatch):
    """A process that has not loaded them."""
    for name, value in (("_kernels", None), ("_thread", None), ("_done", 0), ("PATIENCE", 1000)):
        monkeypatch.setattr(kernels, name, value)


def score(rows=10):
    lookup = kernels.Lookup(np.random.default_rng(0).normal(size=(2, 256, 8)).astype(np.float32))
    codes = np.random.default_rng(1).integers(0, 256, (rows, 2)).astype(np.uint8)
    return kernels.best_from_tables(lookup, codes, np.array([0, 3]), np.array([3, rows]))


@pytest.mark.usefixtures("fresh")
def test_kernels_are_loaded_after_some_work():
    pytest.importorskip("numba")
    first = score()
    assert kernels.compiled_kernels() is None
    assert kernels._thread is None
    score(200)
    kernels._thread.join()
    assert kernels.compiled_kernels() is not None
    assert np.array_equal(score(), first)


@pytest.mark.usefixtures("fresh")
def test_a_broken_numba_is_a_warning(monkeypatch):
    def broken():
        raise ImportError("no llvm")

    monkeypatch.setattr(kernels, "load_kernels", broken)
    with pytest.warns(SmartWarning, match="no llvm"):
        kernels._load_in_background()
    assert score().shape == (2, 8)


@pytest.mark.usefixtures("fresh")
def test_without_numba(monkeypatch):
    monkeypatch.setattr(kernels.importlib.util, "find_spec", lambda name: None)
    assert kernels.load_kernels() is None


def test_row_blocks_cover_every_row_once() -> None:
    starts, stops = np.array([5, 0, 40, 7, 9]), np.array([9, 5, 75, 7, 12])
    seen: list[tuple[int, int]] = []
    for documents, rows, offsets in kernels.row_blocks(starts, stops, 10):
        numbers = np.arange(100)[rows]
        assert len(numbers) <= 10
        owners = np.repeat(documents, np.diff(offsets, append=len(numbers)))
        seen += zip(owners.tolist(), numbers.tolist(), strict=True)
    assert seen == [(n, row) for n in range(5) for row in range(starts[n], stops[n])]


def test_compiled_conversion_is_exact() -> None:
    numbers = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert (kernels.int8_as_float32(numbers) == numbers.view(np.int8)).all()


@pytest.mark.parametrize("columns", [np.zeros((72, 3)), np.random.default_rng(5).normal(size=(72, 13)) * 30])
def test_exact_products_do_not_depend_on_where_a_row_stands(columns: np.ndarray) -> None:
    columns = columns.astype(np.float32)
    rows = np.random.default_rng(6).normal(size=(1100, 72)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    (products,) = kernels.exact_products(rows, [columns])
    np.testing.assert_allclose(
        products, rows.astype(np.float64) @ columns, atol=1e-4 * np.linalg.norm(columns, axis=0).max()
    )
    order = np.random.default_rng(7).permutation(len(rows))[:611]
    assert (kernels.exact_products(rows[order], [columns])[0] == products[order]).all()


@pytest.mark.parametrize("shift", [False, True])
def test_scores_do_not_depend_on_the_number_of_threads(monkeypatch, shift):
    pytest.importorskip("numba")
    kernels.load_kernels()
    rng = np.random.default_rng(0)
    stops = np.cumsum(rng.integers(0, 40, 100))
    starts = np.concatenate([[0], stops[:-1]])
    lookup = kernels.Lookup(
        rng.normal(size=(3, 256, 16)).astype(np.float32),
        shift=rng.normal(size=(100, 16)).astype(np.float32) if shift else None,
    )
    codes = rng.integers(0, 256, (int(stops[-1]), 3)).astype(np.uint8)
    reference = kernels._reference_best(lookup, codes, starts, stops)
    for worth, threads in ((10**9, 4), (1000, 1), (1000, 2), (1000, 7), (1, 300)):
        monkeypatch.setattr(kernels, "_WORTH_A_THREAD", worth)
        monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
        assert np.array_equal(kernels.best_from_tables(lookup, codes, starts, stops), reference)
        assert kernels.best_from_tables(lookup, codes, starts[:0], stops[:0]).shape == (0, 16)
