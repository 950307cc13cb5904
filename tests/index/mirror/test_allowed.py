"""Filters that are kept, and rows read from large files."""

import numpy as np
import pytest
from fixtures import stores
from fixtures.stores import record
from hypothesis import given
from hypothesis import strategies as st

from smart_retrieval.index.mirror import arrays as mapped
from smart_retrieval.index.mirror.arrays import RowFile, let_go
from smart_retrieval.index.mirror.mirror import Mirror
from smart_retrieval.index.mirror.snapshot import Allowed, Filters
from smart_retrieval.index.store.store import Store


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    with Store.create(tmp_path_factory.mktemp("allowed") / "a.smart", stores.manifest()) as store:
        store.add([record(f"{number}") for number in range(20)])
        mirror = Mirror(store)
        store.add([record(f"{number}") for number in range(20, 30)])
        mirror.snapshot()
        store.delete(ids=["3", "4", "25"])
        yield mirror.snapshot()


@given(rowids=st.lists(st.integers(-3, 40)), asked=st.lists(st.integers(0, 29)), start=st.integers(0, 30))
def test_allowed_is_a_set_of_living_rows(snapshot, rowids, asked, start):
    gone = {3, 4, 25}
    for given_rows, expected in (
        (np.array(rowids, np.int64), {row - 1 for row in rowids if 1 <= row <= 30} - gone),
        (None, set(range(30)) - gone),
    ):
        allowed = Allowed(snapshot, None if given_rows is None else np.unique(given_rows))
        assert allowed.positions.tolist() == sorted(expected)
        assert allowed.count == len(expected)
        assert allowed.among(np.array(asked, np.int64)).tolist() == [at for at in asked if at in expected]
        assert allowed.behind(start).tolist() == sorted(at for at in expected if at >= start)
        bits, count = allowed.ann_mask
        assert (bits is None, count) == (given_rows is None, 0)


def test_filters_are_forgotten_when_memory_runs_out_and_when_something_is_written(snapshot):
    scans = []

    def select(where):
        scans.append(where)
        return np.arange(1, 21)

    size = Allowed(snapshot, np.arange(1, 21)).nbytes
    filters = Filters(kept_bytes=2 * size + 100)
    for where in ("a", "b", "a", "c", "a", "b"):
        assert filters.get(snapshot, where, select).count == 18
    assert scans == ["a", "b", "c", "b"]
    Filters(kept_bytes=0).get(snapshot, "a", select)
    other = object.__new__(type(snapshot))
    other.__dict__.update(snapshot.__dict__)
    scans.clear()
    filters.get(other, "a", select)
    assert scans == ["a"]


@pytest.mark.parametrize("limit", [0, 1 << 40])
def test_rows_of_a_mapped_file(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(mapped, "LARGE_BYTES", limit)
    values = np.random.default_rng(0).normal(size=(500, 7)).astype(np.float32)
    values.tofile(tmp_path / "rows.f4")
    array = np.memmap(tmp_path / "rows.f4", np.float32, "r", shape=(500, 7)).view(np.ndarray)
    file = RowFile(tmp_path / "rows.f4", array)
    (tmp_path / "rows.f4").rename(tmp_path / "elsewhere")  # another build's files take its name
    for rows in ([], [3], [499, 0, 3, 3], list(range(500)), list(range(100, 120))):
        assert np.array_equal(file.take(np.array(rows, np.int64)), values[rows])
    let_go(array)
    assert np.array_equal(array, values)
