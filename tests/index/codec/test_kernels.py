"""Compiled kernels come behind the first searches, in the background."""

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
def test_a_little_work_is_done_without_them_and_more_loads_them():
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
