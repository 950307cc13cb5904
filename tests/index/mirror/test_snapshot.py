"""A snapshot shows one commit, whatever is written after it and whichever thread asks; what filters let through."""

import threading

import numpy as np
import pytest
from fixtures import stores
from fixtures.stores import assert_mirrors, record
from hypothesis import given
from hypothesis import strategies as st

from smart_retrieval.index.mirror.mirror import Mirror
from smart_retrieval.index.mirror.snapshot import Filters, Selection
from smart_retrieval.index.store.records import Record
from smart_retrieval.index.store.store import Store


@pytest.fixture
def store(tmp_path):
    with Store.create(tmp_path / "a.smart", stores.manifest()) as store:
        store.add([record(f"{number}") for number in range(30)])
        yield store


def test_an_older_snapshot_stays_as_it_was(store):
    mirror = Mirror(store, fold_rows=10)
    older = mirror.snapshot()
    codes = older.codes_at(np.arange(30))[0].copy()
    store.delete(ids=["0"])
    store.add([record(f"x{number}") for number in range(25)])
    middle = mirror.snapshot()
    store.add([record(f"y{number}") for number in range(5)])
    mirror.rebuild()
    assert older.documents == 30
    assert older.alive.all()
    assert np.array_equal(older.codes_at(np.arange(30))[0], codes)
    assert middle.documents == 54
    assert_mirrors(mirror, store)
    with pytest.raises(ValueError, match="read-only"):
        mirror.snapshot().alive[0] = False


def test_anchors_are_unit_length_and_zero_stays_zero(tmp_path):
    with Store.create(tmp_path / "a.smart", stores.manifest()) as store:
        codes, ids = np.zeros((0, stores.CODE_WIDTH), np.uint8), np.zeros(0, np.int32)
        anchors = [np.zeros(stores.ANCHOR_DIM), np.full(stores.ANCHOR_DIM, 1e20), np.full(stores.ANCHOR_DIM, 1e-30)]
        store.add([Record(f"{number}", anchor, codes, ids) for number, anchor in enumerate(anchors)])
        found = Mirror(store).snapshot().anchors_at(np.arange(3))
        assert found[0].tolist() == [0.0] * stores.ANCHOR_DIM
        assert np.allclose(np.linalg.norm(found[1:], axis=1), 1)


def test_positions_and_masks(store):
    mirror = Mirror(store)
    store.add([record("tail-1"), record("tail-2")])
    mirror.snapshot()
    store.delete(ids=["4", "tail-1"])
    snapshot = mirror.snapshot()
    assert snapshot.positions([1, 32, 5, 31, 99, 30]).tolist() == [0, 31, -1, -1, -1, 29]
    some = Selection(snapshot, np.array([32, 5, 2]))
    assert (some.positions.tolist(), some.count, some.rowids.tolist()) == ([1, 31], 2, [2, 32])
    assert some.among(np.array([31, 2, 1])).tolist() == [31, 1]
    assert some.behind(2).tolist() == [31]
    none = Selection(snapshot, np.zeros(0, np.int64))
    assert (none.count, none.among(np.array([0])).tolist(), none.behind(0).tolist()) == (0, [], [])
    everything = snapshot.everything
    assert everything.count == snapshot.documents == 30 == len(everything.positions)
    assert everything.rowids is None
    assert everything.among(np.array([4, 3])).tolist() == [3]
    assert everything.behind(29).tolist() == [29, 31]
    assert snapshot.rowids_at(np.array([31, 0, 30])).tolist() == [32, 1, 31]
    codes, offsets = snapshot.codes_at(np.array([31, 2, 0]))
    for index, id in enumerate(["tail-2", "2", "0"]):
        assert np.array_equal(codes[offsets[index] : offsets[index + 1]], record(id).codes)


def test_an_older_transaction_gets_the_newer_snapshot(store):
    mirror = Mirror(store)
    with store.reading():
        assert store.count() == 30

        def later():
            store.add([record("x")])
            mirror.snapshot()

        thread = threading.Thread(target=later)
        thread.start()
        thread.join()
        assert store.count() == 30
        assert mirror.snapshot().documents == 31
    assert_mirrors(mirror, store)


def test_threads_share_a_mirror(store):
    mirror = Mirror(store, fold_rows=10)
    failures = []

    def search():
        try:
            for _ in range(60):
                snapshot = mirror.snapshot()
                positions = np.flatnonzero(snapshot.alive)
                assert snapshot.documents == len(positions)
                for rowid, anchor in zip(
                    snapshot.rowids_at(positions).tolist(), snapshot.anchors_at(positions), strict=True
                ):
                    assert abs(float(np.linalg.norm(anchor)) - 1) < 1e-5, rowid
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(25):
        store.add([record(f"t{number}-{part}") for part in range(3)])
        store.delete(ids=[f"t{number}-0"])
    for thread in threads:
        thread.join()
    assert failures == []
    assert_mirrors(mirror, store)


# -- filters -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    with Store.create(tmp_path_factory.mktemp("selection") / "a.smart", stores.manifest()) as store:
        store.add([record(f"{number}") for number in range(20)])
        mirror = Mirror(store)
        store.add([record(f"{number}") for number in range(20, 30)])
        mirror.snapshot()
        store.delete(ids=["3", "4", "25"])
        yield mirror.snapshot()


@given(rowids=st.lists(st.integers(-3, 40)), asked=st.lists(st.integers(0, 29)), start=st.integers(0, 30))
def test_a_selection_is_the_set_of_living_rows(snapshot, rowids, asked, start):
    gone = {3, 4, 25}
    for given_rows, expected in (
        (np.array(rowids, np.int64), {row - 1 for row in rowids if 1 <= row <= 30} - gone),
        (None, set(range(30)) - gone),
    ):
        selection = Selection(snapshot, None if given_rows is None else np.unique(given_rows))
        assert selection.positions.tolist() == sorted(expected)
        assert selection.count == len(expected)
        assert selection.among(np.array(asked, np.int64)).tolist() == [at for at in asked if at in expected]
        assert selection.behind(start).tolist() == sorted(at for at in expected if at >= start)
        bits, count = selection.ann_mask
        assert (bits is None, count) == (given_rows is None, 0)


def test_filters_are_dropped_when_memory_runs_out_and_after_a_write(snapshot):
    scans = []

    def select(snapshot, where):
        scans.append(where)
        return Selection(snapshot, np.arange(1, 21))

    size = Selection(snapshot, np.arange(1, 21)).nbytes
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
