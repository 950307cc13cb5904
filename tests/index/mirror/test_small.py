"""A small index has no mapped files; one that grows gets them, and one that shrinks loses them."""

import numpy as np
import pytest
from fixtures import stores
from fixtures.stores import assert_mirrors, record

from smart_retrieval.errors import SmartWarning
from smart_retrieval.index.mirror import mirror as mirrors
from smart_retrieval.index.mirror.files import MirrorFiles
from smart_retrieval.index.mirror.mirror import Mirror
from smart_retrieval.index.store.lock import file_lock
from smart_retrieval.index.store.store import Store


@pytest.fixture(autouse=True)
def small(monkeypatch, mapped):
    monkeypatch.setattr(mirrors, "SMALL_DOCUMENTS", 30)


@pytest.fixture
def store(tmp_path):
    with Store.create(tmp_path / "a.smart", stores.manifest()) as store:
        store.add([record(f"{number}") for number in range(30)])
        yield store


def derived(store):
    folder = store.path / "derived"
    return sorted(path.name for path in folder.iterdir() if path.name != "lock") if folder.exists() else []


def test_it_is_read_into_memory_and_follows_every_commit(store):
    mirror = Mirror(store)
    assert_mirrors(mirror, store)
    store.delete(ids=["3", "29"])
    store.add([record("x"), record("4", 1)], "replace")
    assert_mirrors(mirror, store)
    assert_mirrors(Mirror(store), store)
    store.recode(b"inverted", stores.flipped, codec_name="test", code_width=stores.CODE_WIDTH)
    assert_mirrors(mirror, store)
    assert not (store.path / "derived").exists()
    assert mirror.verify() == []


def test_reading_it_writes_nothing(store):
    with Store.open(store.path) as reader:
        before = sorted(path.name for path in store.path.rglob("*"))
        assert_mirrors(Mirror(reader), reader)
        assert sorted(path.name for path in store.path.rglob("*")) == before


def test_an_empty_index(tmp_path):
    with Store.create(tmp_path / "a.smart", stores.manifest()) as store:
        mirror = Mirror(store)
        assert (len(mirror.snapshot()), derived(store)) == (0, [])
        store.add([record("a")])
        assert_mirrors(mirror, store)


@pytest.mark.parametrize("limit", [("SMALL_DOCUMENTS", 29), ("SMALL_BYTES", 30 * 4 * stores.ANCHOR_DIM)])
def test_one_document_or_byte_too_many(store, monkeypatch, limit):
    monkeypatch.setattr(mirrors, *limit)
    assert_mirrors(Mirror(store), store)
    assert derived(store)


def test_files_are_written_once_it_has_grown(store):
    mirror = Mirror(store, fold_rows=20)
    older = mirror.snapshot()
    held = older.anchors_at(np.arange(30)).copy()
    store.delete(ids=["7"])
    store.add([record(f"x{number}") for number in range(21)])
    assert_mirrors(mirror, store)
    assert derived(store)
    assert np.array_equal(older.anchors_at(np.arange(30)), held)
    store.add([record(f"y{number}") for number in range(5)])
    store.delete(ids=["x3", "9"])
    assert_mirrors(mirror, store)
    assert_mirrors(Mirror(store), store)


def test_many_replacements_do_not_pile_up_in_memory(store):
    mirror = Mirror(store, fold_rows=20)
    for version in range(1, 9):
        store.add([record(f"{number}", version) for number in range(10)], "replace")
        assert_mirrors(mirror, store)
        assert len(mirror.snapshot()) <= 30 + 20 + 10
    assert derived(store) == []


def test_files_of_a_larger_index_are_used_until_optimize_and_then_removed(store):
    store.add([record(f"x{number}") for number in range(20)])
    mirror, other = Mirror(store), Mirror(store)
    there = derived(store)
    store.delete(where="id like 'x%'")
    assert_mirrors(Mirror(store), store)
    assert derived(store) == there
    mirror.rebuild()
    assert derived(store) == []
    for one in (mirror, other, Mirror(store)):
        assert_mirrors(one, store)
    store.add([record(f"y{number}") for number in range(20)])
    for one in (mirror, other, Mirror(store), mirror):
        assert_mirrors(one, store)


def test_files_that_went_away_do_not_keep_rows_in_memory_for_ever(store, monkeypatch):
    store.add([record("x")])
    mirror = Mirror(store, fold_rows=5)
    store.delete(ids=["x"])
    Mirror(store).rebuild()
    assert derived(store) == []
    store.add([record(f"y{number}") for number in range(9)])
    assert_mirrors(mirror, store)
    assert derived(store)


def test_damaged_files_of_a_small_index_are_said_once_and_removed(store, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(mirrors, "SMALL_DOCUMENTS", 0)
        Mirror(store)
    (store.path / "derived" / "stamp.json").write_text("{")
    with pytest.warns(SmartWarning, match="damaged.* it is deleted, as an index this small is read from the database"):
        assert_mirrors(Mirror(store), store)
    assert derived(store) == []
    assert_mirrors(Mirror(store), store)


def test_files_that_another_process_is_writing_are_left_to_it(store, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(mirrors, "SMALL_DOCUMENTS", 0)
        Mirror(store)
    there = derived(store)
    with file_lock(store.path / "derived" / "lock", 0):
        MirrorFiles(store.path / "derived").clear()
        assert derived(store) == there
