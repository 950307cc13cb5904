"""The store keeps what it was given, exactly, and says by name what it cannot do."""

import threading
from dataclasses import replace

import numpy as np
import pytest
from fixtures import stores
from fixtures.stores import record

from smart_retrieval.errors import DuplicateIdError, FilterError, IndexMismatchError, SmartError, UnknownIdError
from smart_retrieval.index.codec.payload import pack_token_ids, unpack_token_ids
from smart_retrieval.index.store.records import FileEntry, Record
from smart_retrieval.index.store.store import Store


def versions(store):
    return stores.contents(store)


def idf_by_hand(records):
    counts = {}
    for one in records:
        for token in set(one.token_ids[one.token_ids >= 0].tolist()):
            counts[token] = counts.get(token, 0) + 1
    return len(records), counts


def assert_idf(store, records):
    documents, tokens, counts = store.idf()
    assert (documents, dict(zip(tokens.tolist(), counts.tolist(), strict=True))) == idf_by_hand(records)


# -- rows in, rows out -------------------------------------------------------------------------------------------------


def test_round_trip(store, path):
    given = Record(
        id="ä/1",
        anchor=np.arange(stores.ANCHOR_DIM, dtype=np.float64),
        codes=np.arange(12, dtype=np.uint8).reshape(2, 6),
        token_ids=np.array([5, -1, 119_000]),
        text="Zeile 1\nZeile 2 \0 🙂",
        source="dir/file.pdf",
        page=3,
        heading="A > B",
        metadata={"year": 2024, "nested": {"ß": [1, None, True, 1.5]}},
    )
    added = store.add([given])
    assert (added.rowids, added.replaced, added.skipped, added.commit) == ([1], 0, 0, 1)
    for opened in (store, Store.open(path)):
        (document,) = opened.get(["ä/1"])
        assert (document.rowid, document.id, document.text, document.commit) == (1, given.id, given.text, 1)
        assert (document.source, document.page, document.heading) == (given.source, 3, "A > B")
        assert document.metadata == given.metadata
        vectors = opened.read_vectors([1])
        assert vectors.anchors.dtype == np.float32
        assert np.array_equal(vectors.anchors[0], given.anchor)
        assert np.array_equal(vectors.codes, given.codes)
        assert vectors.offsets.tolist() == [0, 2]
        assert vectors.token_ids.tolist() == [5, -1, 119_000]
        assert vectors.id_offsets.tolist() == [0, 3]
        assert opened.codec() == b"codec bytes"
    opened.close()


@pytest.mark.parametrize("ids", [[], [-1, -1], [0], [254, 255], [65534, 65535, -1], [2**26]])
def test_token_ids_survive_packing(ids):
    assert unpack_token_ids(pack_token_ids(np.array(ids, np.int64)), len(ids)).tolist() == ids


def test_documents_without_tokens_text_or_metadata(store):
    empty = Record("e", np.zeros(stores.ANCHOR_DIM), np.zeros((0, stores.CODE_WIDTH), np.uint8), np.zeros(0, np.int32))
    store.add([empty, record("f")])
    assert store.read_vectors([1]).codes.shape == (0, stores.CODE_WIDTH)
    assert store.get(["e"])[0].text == ""
    assert store.add([]).rowids == []
    assert store.verify().ok


def test_order_is_the_one_asked_for(store):
    store.add([record(f"{number}") for number in range(2500)])
    wanted = [7, 2400, 3, 1200]
    assert [document.rowid for document in store.get(rowids=wanted)] == wanted
    vectors = store.read_vectors(wanted)
    assert vectors.rowids.tolist() == wanted
    assert np.array_equal(vectors.anchors[1], record("2399").anchor)
    assert store.ids_of([3, 9999, 1]) == ["2", None, "0"]
    assert store.rowids(["5", "0"]).tolist() == [6, 1]
    streamed = list(store.iterate(1000))
    assert [len(part.rowids) for part in streamed] == [1000, 1000, 500]
    assert np.concatenate([part.rowids for part in streamed]).tolist() == list(range(1, 2501))
    assert len(next(store.iterate(1000, after=2000)).rowids) == 500


def test_the_idf_table_follows_add_replace_and_delete(store):
    one, two, three = record("1"), record("2"), record("3")
    store.add([one, two, three])
    assert_idf(store, [one, two, three])
    store.add([record("2", 5)], "replace")
    assert_idf(store, [one, record("2", 5), three])
    store.delete(ids=["1"])
    assert_idf(store, [record("2", 5), three])
    store.delete(where="id exists")
    assert_idf(store, [])
    assert store.state().tokens == 0


def test_duplicates(store):
    store.add([record("a"), record("b")])
    with pytest.raises(DuplicateIdError, match="'b' in the index already"):
        store.add([record("c"), record("b", 1)])
    with pytest.raises(DuplicateIdError, match="twice in one batch"):
        store.add([record("c"), record("c", 1)])
    assert versions(store) == {"a": 0, "b": 0}
    skipped = store.add([record("b", 1), record("c", 1), record("c", 2)], "skip")
    assert (skipped.rowids, skipped.skipped) == ([3], 2)
    assert versions(store) == {"a": 0, "b": 0, "c": 1}
    replaced = store.add([record("a", 3), record("d", 3), record("d", 4)], "replace")
    assert (replaced.rowids, replaced.replaced) == ([4, 5], 1)
    assert versions(store) == {"a": 3, "b": 0, "c": 1, "d": 4}
    assert store.verify().ok


def test_delete(store):
    store.add([record(f"{number}", year=2000 + number) for number in range(20)])
    assert store.delete(ids=["0", "0", "1"]) == 2
    assert store.delete(rowids=[3, 3, 999]) == 1
    assert store.delete(where="year >= 2015") == 5
    assert store.count() == 12
    with pytest.raises(UnknownIdError, match="found no document '0'"):
        store.delete(ids=["5", "0"])
    assert store.count() == 12
    assert store.delete(ids=["5", "0"], missing="skip") == 1
    with pytest.raises(SmartError, match="exactly one"):
        store.delete()
    with pytest.raises(FilterError):
        store.delete(where="year >")
    before = store.state().number
    assert store.delete(where="year = 1") == 0
    assert store.state().number == before, "nothing was written, so there is no new commit"
    assert store.verify().ok


def test_rowids_are_never_used_twice(store):
    store.add([record("a"), record("b")])
    store.delete(ids=["b"])
    store.optimize()
    assert store.add([record("b")]).rowids == [3]
    assert store.deleted_since(0).tolist() == [2]


def test_unknown_documents(store):
    store.add([record("a")])
    with pytest.raises(UnknownIdError, match="'x' \\(and 1 more\\)"):
        store.get(["x", "a", "y"])
    assert [document.id for document in store.get(["x", "a"], missing="skip")] == ["a"]
    for call in (lambda: store.read_vectors([1, 2]), lambda: store.get(rowids=[2])):
        with pytest.raises(UnknownIdError, match="rows asked for"):
            call()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": ""}, "non-empty"),
        ({"id": 5}, "non-empty"),
        ({"anchor": np.ones(3)}, r"\(3,\)"),
        ({"anchor": np.full(stores.ANCHOR_DIM, np.nan)}, "NaN"),
        ({"codes": np.zeros((2, 3), np.uint8)}, r"\(2, 3\)"),
        ({"codes": np.zeros((2, stores.CODE_WIDTH))}, "float64"),
        ({"token_ids": np.zeros((2, 2), np.int32)}, "one row of integers"),
        ({"token_ids": np.array([-2])}, "from -1 to"),
        ({"metadata": {"a": float("nan")}}, "JSON"),
        ({"metadata": {"a": object()}}, "JSON"),
        ({"metadata": {1: 2}}, "key"),
        ({"metadata": ["a"]}, "list"),
        ({"id": "\ud800"}, "Unicode"),
        ({"text": "\ud800"}, "Unicode"),
        ({"page": 2**63}, "page"),
    ],
)
def test_invalid_records_are_refused_and_nothing_is_stored(store, changes, message):
    import dataclasses

    with pytest.raises(SmartError, match=message):
        store.add([record("fine"), dataclasses.replace(record("bad"), **changes)])
    assert store.count() == 0
    with pytest.raises(SmartError, match="'error', 'replace', 'skip'"):
        store.add([record("a")], "upsert")


def test_select_and_ids(store):
    store.add([record(f"{number}", year=number, tags=["a"]) for number in range(10)])
    assert store.select("year >= 8").tolist() == [9, 10]
    assert store.select().tolist() == list(range(1, 11))
    assert store.select("year = 99").dtype == np.int64
    assert store.ids("year in (3, 1)") == ["1", "3"]


# -- transactions ------------------------------------------------------------------------------------------------------


def test_a_transaction_is_one_commit_or_none(store):
    with store.transaction():
        store.add([record("a")])
        store.delete(ids=["a"])
        store.add([record("b")])
        assert store.ids() == ["b"]
    assert store.state().number == 1
    with pytest.raises(ZeroDivisionError), store.transaction():
        raise ZeroDivisionError(store.delete(ids=["b"]))
    assert store.ids() == ["b"]
    assert store.state().number == 1
    assert store.verify().ok


def test_a_failed_nested_transaction_is_rolled_back_alone(store):
    with store.transaction():
        store.add([record("a")])
        with pytest.raises(DuplicateIdError):
            store.add([record("b"), record("a")])
        store.add([record("c")])
    assert store.ids() == ["a", "c"]
    assert store.state().documents == 2
    assert store.verify().ok


def test_a_read_transaction_sees_one_commit(store, path):
    store.add([record("a")])
    with Store.open(path) as reader:
        with reading(reader):
            assert reader.count() == 1
            store.add([record("b")])
            assert reader.count() == 1
            assert reader.ids() == ["a"]
        assert reader.ids() == ["a", "b"]
        with pytest.raises(SmartError, match="open for reading"):
            reader.add([record("c")])
    with store.reading(), pytest.raises(SmartError, match="inside reading"):
        store.add([record("c")])


def reading(store):
    return store.reading()


def test_threads_have_their_own_connections(store):
    failures = []

    def work(name):
        try:
            for number in range(15):
                store.add([record(f"{name}-{number}-{part}") for part in range(3)])
                with store.reading():
                    assert store.count() == len(store.ids())
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert store.count() == 4 * 15 * 3
    assert store.state().number == 60
    assert store.verify().ok


def test_a_closed_store_is_a_named_error(store):
    store.close()
    with pytest.raises(SmartError, match="was closed"):
        store.count()
    assert not list(store.path.glob("*-wal")), "the last to leave tidies up"


# -- files -------------------------------------------------------------------------------------------------------------


def test_files_are_noted_in_the_commit_of_their_last_passages(store):
    entry = FileEntry("do.txt", 10, 123_456_789_012_345_678, "ab" * 32)
    with store.transaction():
        store.add([record("doc-1"), record("doc-2"), record("x")])
        store.files.put(entry)
    assert store.files.get("do.txt") == entry
    assert store.files.all() == {"do.txt": entry}
    assert store.select("source = 'do.txt'").tolist() == [1, 2]
    assert store.files.drop("do.txt") == 2
    assert store.files.get("do.txt") is None
    assert store.ids() == ["x"]
    assert store.verify().ok


# -- optimize ----------------------------------------------------------------------------------------------------------


def test_optimize_gives_space_back(store):
    store.add([record(f"{number}") for number in range(1000)])
    store.delete(where="id like '%5%'")
    store.optimize()
    size = store.info()["bytes"]
    assert size["free"] == 0
    store.delete(where="id like '1%'")
    before = store.info()["bytes"]["database"]
    store.optimize()
    assert store.info()["bytes"]["database"] < before
    assert store.verify().ok


def test_recoding_swaps_all_codes_at_once(store, path):
    store.add([record(f"{number}") for number in range(25)])
    calls = []

    def encode(vectors):
        calls.append(len(vectors.rowids))
        if len(calls) == 2:  # somebody adds and deletes meanwhile
            with Store.open(path, "w") as other:
                other.add([record("late")])
                other.delete(ids=["0", "24"])
        codes = np.repeat(255 - vectors.codes[:, :1], 2, axis=1)
        return codes, vectors.offsets

    with Store.open(path, "w") as other:
        store.recode(b"new codec", encode, codec_name="new", code_width=2, batch=10)
        assert (store.codec(), store.manifest.codec, store.manifest.code_width) == (b"new codec", "new", 2)
        assert store.count() == 24
        vectors = store.read_vectors(store.rowids(["late", "5"]))
        assert np.array_equal(vectors.codes[: vectors.offsets[1], 0], 255 - record("late").codes[:, 0])
        with pytest.raises(IndexMismatchError, match="changed its codec"):
            other.add([record("stale")])
        other.reload()
        assert other.manifest.codec == "new"
    assert store.verify().ok
    assert sum(calls) >= 25


def test_a_recoding_that_fails_changes_nothing(store):
    store.add([record(f"{number}") for number in range(5)])
    with pytest.raises(IndexMismatchError, match="bytes a token"):
        store.recode(b"x", lambda vectors: (vectors.codes, vectors.offsets), codec_name="x", code_width=2)
    with pytest.raises(ZeroDivisionError):
        store.recode(b"x", lambda vectors: 1 / 0, codec_name="x", code_width=2)
    assert store.codec() == b"codec bytes"
    assert versions(store) == {f"{number}": 0 for number in range(5)}
    assert store.verify().ok


def test_documents_whose_ids_take_different_numbers_of_bytes_lie_side_by_side(store):
    known = [[1, 2], [300, -1, 7], [], [], [-1, -1], [70_000, 2], [70_001], [-1], [9], [8, 250]]
    store.add(replace(record(f"{place}"), token_ids=np.array(ids, np.int32)) for place, ids in enumerate(known))
    (vectors,) = store.iterate()
    rows = zip(vectors.id_offsets, vectors.id_offsets[1:], strict=False)
    assert [vectors.token_ids[start:stop].tolist() for start, stop in rows] == known


# -- what a filter can name --------------------------------------------------------------------------------------------


def test_fields_are_as_a_filter_writes_them(store):
    metadata = {
        "parts": [{"name": "valve", "size": 3}, {"name": None, "a.b": {"in": [1.5]}}, "loose", [{"deep": 1}]],
        "two words": True,
        "page": {"page": 1},
        'a"b': 1,
    }
    store.add([record("a", **metadata), record("b", parts="none"), record("c", 1, parts=[])])
    found = store.fields()
    assert found == {
        "`page`": ["object"],
        "page.page": ["integer"],
        "`two words`": ["true"],
        "parts": ["array", "text"],
        "parts.`a.b`": ["object"],
        "parts.`a.b`.`in`": ["array"],
        "parts.name": ["null", "text"],
        "parts.size": ["integer"],
        "version": ["integer"],
    }
    assert [len(store.select(f"{name} exists")) for name in found] == [1, 1, 1, 3, 1, 1, 1, 1, 3]
    assert store.unknown_keys("parts.name = 'x' or parts.deep = 1 or parts.`a.b`.`in` = 2") == ["parts.deep"]
    assert store.fields("id = 'b'") == {"parts": ["text"], "version": ["integer"]}


def test_only_so_many_fields_within_objects_are_named(store):
    store.add([record("a", votes={f"user {number}": number for number in range(500)}, lang="en")])
    assert len(store.fields()) == 103
    assert {"lang", "version", "votes"} <= set(store.fields())
