"""The index as an object: what goes in, comes out, is refused, and survives."""

import hashlib
import json
import shutil
import sqlite3
import threading
import time

import numpy as np
import pytest
from fixtures import crafted
from fixtures.indexes import DIM, PLAIN, assert_best, documents, flat, names
from fixtures.ragged import ragged

from smart_retrieval import Readout, SmartEmbeddings
from smart_retrieval.core.hybrid import hybrid_scores
from smart_retrieval.errors import (
    CodecError,
    DuplicateIdError,
    EmptyInputError,
    FilterError,
    IndexFormatError,
    IndexMismatchError,
    ModelNotFoundError,
    SmartError,
    UnknownIdError,
)
from smart_retrieval.index.encoder import IndexEncoder
from smart_retrieval.index.ingest import writer
from smart_retrieval.index.ingest.new_documents import NewDocument
from smart_retrieval.index.smart_index import SmartIndex

TEXTS = ["the otter swims", "tax is due", "bread and butter", "moon and sun"]
QUERY = documents([5], seed=99)


@pytest.fixture
def few_at_once(monkeypatch):
    monkeypatch.setattr(writer, "BATCH_WEIGHT", 4)


def all_ids(index):
    return index.store.ids()


# -- nothing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["float32", "int8", "codebook+32x1"])
def test_an_empty_index(make, codec):
    index = make(codec=codec)
    assert len(index) == 0
    assert "a" not in index
    for options in ({}, {"exact": True}, {"where": "year > 1"}, {"lexical_weight": 1.0}, {"deadline_ms": 0}):
        hits = index.search("otter", 5, **options)
        assert (hits.hits, hits.candidates, hits.searched, hits.partial) == ((), 0, 0, False)
        assert list(hits.group_by_source()) == []
    assert index.delete(where="year > 1") == 0
    assert index.add([]) == []
    assert index.get([]) == []
    with pytest.raises(UnknownIdError):
        index.get("a")
    with pytest.raises(UnknownIdError):
        index.explain("otter", "a")
    assert index.verify().ok
    index.optimize()
    assert index.info()["documents"] == 0


def test_an_index_emptied_again(make):
    index = make(documents(20), codec="int8")
    index.search(QUERY, **PLAIN)
    assert index.delete(names(20)) == 20
    assert index.search(QUERY, **PLAIN)[0].hits == ()
    index.optimize()
    assert index.search(QUERY, **PLAIN)[0].hits == ()
    index.add(ids=["a"], embeddings=QUERY)
    assert [hit.id for hit in index.search(QUERY, **PLAIN)[0]] == ["a"]
    assert index.verify().ok


# -- adding ------------------------------------------------------------------------------------------------------------


def test_everything_given_comes_back(make):
    index = make()
    metadata = [{"year": 2020 + i, "tags": ["x", None], "nested": {"ü": 1.5}} for i in range(4)]
    added = index.add(
        TEXTS,
        ids=["a", "b", "c", "ü 4"],
        metadata=metadata,
        sources=["one.txt", None, "one.txt", "two.txt"],
        pages=[1, None, 3, 4],
        headings=["A > B", None, "", "C"],
    )
    assert added == ["a", "b", "c", "ü 4"]
    for found in (index.get(["ü 4", "a"]), [make.again(index, "r").get(id)[0] for id in ("ü 4", "a")]):
        last, first = found
        assert (first.id, first.text, first.source, first.page, first.heading) == ("a", TEXTS[0], "one.txt", 1, "A > B")
        assert (last.id, last.text, last.metadata) == ("ü 4", TEXTS[3], metadata[3])
    hits = {hit.id: hit for hit in index.search("otter", 4)}
    assert hits["a"].metadata == metadata[0]
    assert (hits["b"].source, hits["b"].page, hits["b"].heading) == (None, None, None)
    assert json.loads(json.dumps(hits["ü 4"].to_dict()))["metadata"] == metadata[3]
    assert set(index.search("otter", 4).group_by_source()) == {"one.txt", "b", "two.txt"}
    assert index.search("otter", 4, where="nested.ü = 1.5 and year < 2022").searched == 2


def test_ids_made_from_texts_follow_from_them_alone(make):
    first, second = make(), make(codec="int8")
    ids = first.add(TEXTS)
    assert ids == [hashlib.sha256(text.encode()).hexdigest()[:16] for text in TEXTS]
    assert second.add(reversed(TEXTS)) == ids[::-1]
    assert len(set(ids)) == 4
    assert first.add(TEXTS, on_duplicate="skip") == ids
    assert len(first) == 4
    with pytest.raises(DuplicateIdError):
        first.add([TEXTS[2]])


def test_ids_are_stable(make):
    index = make()
    index.add(TEXTS, ids=["b", "a", "10", "9"])
    index.delete("a")
    index.add(["moon"], ids=["a"])
    index.optimize()
    assert all_ids(make.again(index)) == ["10", "9", "a", "b"]
    assert index.get("a")[0].text == "moon"
    assert index.get("b")[0].text == TEXTS[0]


def test_texts_are_read_as_they_are_needed(make, few_at_once):
    index = make()
    stored_when_read = []

    def texts():
        for number in range(11):
            stored_when_read.append(len(index))
            yield f"otter {number}"

    assert len(index.add(texts(), ids=(f"{number}" for number in range(11)), sources=iter(["s"] * 11))) == 11
    # Never more than a batch ahead of what is stored.
    assert stored_when_read == [0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8]
    assert len(index) == 11


def test_embeddings_without_texts_or_model(make, few_at_once):
    docs = documents(30)
    index = make()
    index.close()
    index = make._kept(SmartIndex.open(index.path))  # no model, and none is loaded
    index.add(ids=names(30), embeddings=docs)
    index.upsert(None, ids=names(30)[:3], embeddings=docs[:3])
    (hits,) = index.search(QUERY, 10, **PLAIN)
    assert_best(hits, names(30), hybrid_scores(QUERY, docs)[0], 10)
    assert index.encoder.loaded is None
    assert {document.text for document in index.get(names(30))} == {""}
    lengths = index.store.read_vectors(index.store.rowids(names(30)))
    assert np.array_equal(np.diff(lengths.offsets), docs.lengths)


def test_embeddings_with_texts(make):
    docs = documents(4)
    index = make()
    ids = index.add(TEXTS, embeddings=docs)
    assert [document.text for document in index.get(ids)] == TEXTS
    assert_best(index.search(QUERY, 4, **PLAIN)[0], ids, hybrid_scores(QUERY, docs)[0], 4)


@pytest.mark.parametrize(("anchor", "token"), [(DIM, 31), (31, DIM), (DIM, 1), (384, 384)])
def test_other_widths_are_refused(make, anchor, token):
    index = make(documents(3))
    wrong = ragged([2, 3], anchor_dim=anchor, token_dim=token)
    for refused in (
        lambda: index.add(ids=["x", "y"], embeddings=wrong),
        lambda: index.search(wrong, **PLAIN),
        lambda: index.explain(wrong[0], names(1)[0], **PLAIN),
    ):
        with pytest.raises(IndexMismatchError, match=f"{anchor}.*{token}.*{DIM}"):
            refused()
    assert len(index) == 3


def test_numbers_that_are_not_finite_are_refused(make):
    index = make(documents(3))
    for part in ("anchors", "token_vectors"):
        for value in (np.nan, np.inf):
            bad = documents([2, 3])
            getattr(bad, part)[-1, 0] = value
            with pytest.raises(SmartError):
                index.add(ids=["x", "y"], embeddings=bad)
    assert len(index) == 3
    bad = documents([3])
    bad.token_vectors[0, 0] = np.nan
    with pytest.raises(SmartError):
        index.search(bad, **PLAIN)


def test_a_query_anchor_that_is_not_finite_is_refused(make):
    index = make(documents(3))
    bad = documents([3])
    bad.anchors[0, 0] = np.nan
    with pytest.raises(SmartError):
        index.search(bad, **PLAIN)


# -- duplicates --------------------------------------------------------------------------------------------------------


def test_a_duplicate_is_an_error_and_nothing_of_its_batch_is_kept(make, few_at_once):
    index = make()
    index.add(["old"], ids=["9"])
    with pytest.raises(DuplicateIdError, match="'9'"):
        index.add((f"new {n}" for n in range(12)), ids=(f"{n}" for n in range(12)))
    # Batches before it are stored, its own is not.
    assert all_ids(index) == ["0", "1", "2", "3", "4", "5", "6", "7", "9"]
    assert index.get("9")[0].text == "old"
    with pytest.raises(DuplicateIdError, match="twice"):
        index.add(["x", "y"], ids=["z", "z"])
    assert "z" not in index
    assert index.verify().ok


def test_a_duplicate_is_skipped_and_nothing_else_is_lost(make, few_at_once):
    index = make()
    index.add(["old"], ids=["5"])
    ids = [f"{n}" for n in [*range(10), 3, 11]]
    assert index.add([f"new {n}" for n in range(12)], ids=ids, on_duplicate="skip") == ids
    assert len(index) == 11
    assert index.get("5")[0].text == "old"
    assert index.get("3")[0].text == "new 3"
    assert index.get("11")[0].text == "new 11"


def test_upsert_replaces(make):
    docs = documents(20)
    index = make(docs[:10])
    index.search(QUERY, **PLAIN)
    index.upsert(["anew"] * 5, ids=names(20)[5:10], embeddings=docs[15:], metadata=[{"n": n} for n in range(5)])
    assert len(index) == 10
    expected = SmartEmbeddings.concatenate([docs[:5], docs[15:]])
    (hits,) = index.search(QUERY, 10, **PLAIN)
    assert_best(hits, names(10), hybrid_scores(QUERY, expected)[0], 10)
    assert index.get(names(10)[9])[0].metadata == {"n": 4}
    assert index.idf().documents == 10
    assert index.search(QUERY, 10, where="n >= 0", **PLAIN)[0].searched == 5
    index.upsert(["first", "second"], ids=["a", "a"])
    assert index.get("a")[0].text == "second"
    assert index.verify().ok


def test_an_unknown_way_with_duplicates_is_refused(make):
    index = make(documents(2))
    with pytest.raises(SmartError, match="on_duplicate"):
        index.add(ids=["x"], embeddings=documents([2]), on_duplicate="overwrite")
    assert len(index) == 2


# -- what add refuses --------------------------------------------------------------------------------------------------


def test_one_string_for_texts_is_refused(make):
    index = make()
    with pytest.raises(EmptyInputError, match="one string"):
        index.add("otter")
    with pytest.raises(EmptyInputError, match="one string"):
        index.upsert("otter", ids=["a"])
    assert len(index) == 0


def test_one_string_for_ids_is_refused(make):
    index = make()
    with pytest.raises(SmartError):
        index.add(["x", "y"], ids="ab")


@pytest.mark.parametrize(
    "columns",
    [
        {"ids": ["a", "b", "c"]},
        {"ids": ["a", "b", "c", "d", "e"]},
        {"metadata": [{}]},
        {"sources": ["s"] * 5},
        {"pages": []},
        {"headings": iter(["h"] * 3)},
        {"embeddings": documents(3)},
        {"embeddings": documents(5)},
    ],
    ids=lambda columns: next(iter(columns)),
)
def test_columns_of_different_lengths_are_refused(make, columns):
    index = make()
    with pytest.raises(SmartError, match="different lengths"):
        index.add(TEXTS, **columns)
    assert len(index) == 0


def test_an_error_of_the_callers_iterator_stays_that_error(make):
    def texts():
        yield "otter"
        raise ValueError("cannot be read")

    with pytest.raises(ValueError, match=r"^cannot be read$"):
        make().add(texts())


def test_texts_or_embeddings_with_ids_are_needed(make):
    index = make()
    with pytest.raises(EmptyInputError):
        index.add()
    with pytest.raises(EmptyInputError):
        index.add(embeddings=documents(3))
    with pytest.raises(EmptyInputError):
        index.add(ids=["a"])
    with pytest.raises(SmartError):
        index.add([None, "x"])
    assert len(index) == 0


@pytest.mark.parametrize("rows", [1, 3])
def test_rows_and_encodings_of_different_numbers_are_refused(make, rows):
    index = make()
    with pytest.raises(SmartError):
        index.add_encoded([NewDocument(f"{number}") for number in range(rows)], documents([2, 3]))


@pytest.mark.parametrize(
    "call",
    [
        lambda index: index.add(ids=["a"], embeddings=documents([3]), pages=["three"]),
        lambda index: index.search(QUERY, where=5, **PLAIN),
    ],
)
def test_values_of_the_wrong_type_have_a_named_error(make, call):
    with pytest.raises(SmartError):
        call(make())


# -- deleting ----------------------------------------------------------------------------------------------------------


def test_what_is_deleted_is_never_found(make):
    docs = documents(60)
    index = make()
    index.add(["otter"] * 60, ids=names(60), embeddings=docs, metadata=[{"n": n} for n in range(60)])
    other = make.again(index, "r")
    other.search(QUERY, **PLAIN)
    gone = set()

    def check():
        for handle in (index, other):
            left = [id for id in names(60) if id not in gone]
            for options in ({}, {"exact": True}, {"where": "n >= 0"}):
                (hits,) = handle.search(QUERY, 100, **PLAIN, **options)
                assert {hit.id for hit in hits} == set(left)
                assert hits.searched == len(left)
            words = index.search("otter", 100, lexical_weight=9.0, **PLAIN)
            assert {hit.id for hit in words} == set(left)
            assert len(handle) == len(left)
        assert all((id in index) == (id not in gone) for id in names(60))
        for id in list(gone)[:2]:
            with pytest.raises(UnknownIdError):
                index.explain(QUERY, id, **PLAIN)

    check()
    assert index.delete(names(60)[:7]) == 7
    gone |= set(names(60)[:7])
    check()
    assert index.delete(where="n > 50") == 9
    gone |= set(names(60)[51:])
    check()
    assert index.delete("d0020") == 1
    gone.add("d0020")
    index.optimize()
    check()


def test_delete_is_all_or_nothing(make):
    index = make(documents(5))
    with pytest.raises(UnknownIdError, match="nobody"):
        index.delete(["d0001", "nobody", "d0002"])
    assert len(index) == 5
    for wrong in ({}, {"ids": ["d0001"], "where": "n = 1"}):
        with pytest.raises(SmartError):
            index.delete(**wrong)
    with pytest.raises(FilterError):
        index.delete(where="n ~ 1")
    assert index.delete([]) == 0
    assert index.delete(["d0001", "d0001"]) == 1


# -- asking ------------------------------------------------------------------------------------------------------------


def test_nothing_is_read_behind_a_search_that_failed(make, monkeypatch):
    index = make(documents(3))
    path, original, ended = index.path, IndexEncoder.codec, threading.Event()
    index.close()

    def slow(self):
        time.sleep(0.2)
        found = original(self)
        ended.set()
        return found

    monkeypatch.setattr(IndexEncoder, "codec", slow)
    with SmartIndex.open(path) as index:
        with pytest.raises(EmptyInputError):
            index.search("")
        assert ended.is_set()  # the connection that it read with may be closed now


@pytest.mark.parametrize("query", ["", "  \n", [], ["otter", ""], documents([3])[:0], [None]], ids=repr)
def test_an_empty_query_is_a_named_error(make, query):
    index = make(documents(3))
    with pytest.raises(EmptyInputError):
        index.search(query)


def test_one_text_gives_hits_and_several_a_list(make):
    index = make(documents(3))
    assert len(index.search("otter", 2)) == 2
    assert [len(hits) for hits in index.search(["otter"], 2)] == [2]
    assert [len(hits) for hits in index.search(("otter", "moon"), 2)] == [2, 2]
    assert [len(hits) for hits in index.search_many(["otter"], 2)] == [2]
    assert [len(hits) for hits in index.search(QUERY, 2, **PLAIN)] == [2]


def test_hits_are_a_sequence(make):
    hits = make(documents(5)).search("otter", 3)
    assert [hit.id for hit in hits] == [hits[0].id, hits[1].id, hits[-1].id]
    assert len(hits[:2]) == 2
    assert hits[0] in hits
    assert json.loads(json.dumps(hits.to_dict()))["searched"] == 5
    assert len(make(documents(2)).search("otter", 0)) == 0


# -- the model it belongs to -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made_with", "opened_with", "told"),
    [
        (("mean", {}), ("cls", {}), "pooling"),
        (("mean", {}), ("decoder", {}), "fingerprint"),
        (("mean", {}), ("mean", {"readout": Readout((-2,))}), "layers"),
        (("mean", {}), ("mean", {"readout": Readout((-1, -2), "concat")}), "mix"),
        (("mean", {}), ("mean", {"readout": Readout(token_filter="content")}), "token_filter"),
        (("mean", {}), ("mean", {"max_length": 10}), "max_length"),
        (("mean", {}), ("mean", {"prompts": {"query": "find: "}}), "prompts"),
        (("prompts", {}), ("prompts", {"prompts": {"query": "find: "}}), "prompts"),
    ],
)
def test_another_model_is_refused(make, smart, made_with, opened_with, told):
    index = make(model=smart(made_with[0], **made_with[1]))
    path = index.path
    index.close()
    with pytest.raises(IndexMismatchError, match=told):
        SmartIndex.open(path, smart(opened_with[0], **opened_with[1]))
    SmartIndex.open(path, smart(made_with[0], **made_with[1])).close()


def test_a_model_without_the_prompts_it_was_made_with_is_refused(make, smart):
    index = make(model=smart("prompts"))
    bare = smart("prompts", prompts={"query": "", "document": ""})
    assert bare.prompts == {}
    with pytest.raises(IndexMismatchError, match="prompt"):
        SmartIndex.open(index.path, bare)


def test_a_model_by_name_is_read_as_the_index_was(make, smart, tiny):
    index = make(model=smart("mean", preset="paper"))
    index.add(TEXTS, ids=names(4))
    before = flat(index.search("the otter", 4))
    for model in (None, str(tiny("mean"))):
        with SmartIndex.open(index.path, model) as again:
            assert flat(again.search("the otter", 4)) == before
            assert again.preset == index.preset
            assert again.readout == index.readout
    with pytest.raises(IndexMismatchError):
        SmartIndex.open(index.path, str(tiny("cls")))
    with pytest.raises(ModelNotFoundError):
        SmartIndex.open(index.path, str(index.path / "no model"))


def test_a_model_that_moved_away_is_named_when_it_is_needed(make, tiny, tmp_path):
    shutil.copytree(tiny("mean"), tmp_path / "model")
    with SmartIndex.create(tmp_path / "a.smart", str(tmp_path / "model"), codec="float32") as index:
        index.add(TEXTS, ids=names(4))
    shutil.rmtree(tmp_path / "model")
    with SmartIndex.open(tmp_path / "a.smart") as index:
        assert len(index) == 4
        width = index.codec().token_dim
        assert len(index.search(ragged([2], anchor_dim=DIM, token_dim=width), **PLAIN)[0]) == 4
        with pytest.raises(ModelNotFoundError):
            index.search("otter")


# -- opening and closing -----------------------------------------------------------------------------------------------


def test_create_refuses_what_it_cannot_make(make, tmp_path, smart):
    index = make()
    with pytest.raises(IndexFormatError):
        SmartIndex.create(index.path, smart("mean"))
    with pytest.raises(CodecError):
        SmartIndex.create(tmp_path / "new.smart", smart("mean"), codec="zip")
    with pytest.raises(ModelNotFoundError):
        SmartIndex.create(tmp_path / "new.smart", str(tmp_path / "no model"))
    assert not (tmp_path / "new.smart").exists()
    with pytest.raises(IndexFormatError):
        SmartIndex.open(tmp_path / "new.smart")
    with pytest.raises(SmartError, match="mode"):
        SmartIndex.open(index.path, mode="a")


@pytest.mark.parametrize("pooling", [0.5, 0, -2, float("nan"), float("inf")])
def test_create_refuses_an_impossible_pooling(tmp_path, smart, pooling):
    with pytest.raises(CodecError, match="pooling"):
        SmartIndex.create(tmp_path / "new.smart", smart("mean"), token_pooling=pooling)
    assert not (tmp_path / "new.smart").exists()


def test_it_closes_with_its_block(make, tmp_path, smart):
    with SmartIndex.create(tmp_path / "a.smart", smart("mean")) as index:
        index.add(TEXTS, ids=names(4))
        assert index.path == tmp_path / "a.smart"
        assert "4 documents" in repr(index)
    for use in (
        lambda: len(index),
        lambda: index.search("otter"),
        lambda: index.add(["x"]),
        lambda: index.get("d0000"),
    ):
        with pytest.raises(SmartError, match="closed"):
            use()
    index.close()
    with pytest.raises(UnknownIdError), SmartIndex.open(tmp_path / "a.smart", smart("mean")) as index:
        index.delete([index.store.ids()[0]]) and index.get("nobody")
    with SmartIndex.open(tmp_path / "a.smart", mode="r") as index:
        assert len(index) == 3
        assert "d0000" not in index
        assert "d0001" in index


def test_open_for_reading_changes_nothing(make):
    index = make()
    index.add(TEXTS, ids=names(4))
    reader = make.again(index, "r")
    before = flat(index.search("the otter", 4))
    assert flat(reader.search("the otter", 4)) == before
    assert reader.explain("the otter", "d0000").tokens
    assert reader.verify().ok
    assert reader.info()["documents"] == 4
    for change in (
        lambda: reader.add(["x"]),
        lambda: reader.upsert(["x"], ids=["d0000"]),
        lambda: reader.delete("d0000"),
        lambda: reader.delete(where="page = 1"),
        lambda: reader.optimize(),
    ):
        with pytest.raises(SmartError, match="reading"):
            change()
    assert len(reader) == 4


# -- info and verify ---------------------------------------------------------------------------------------------------


def test_info(make):
    index = make(documents([3, 4]), codec="codebook+32x1", token_pooling=1)
    info = index.info()
    assert info["documents"] == 2
    assert info["tokens"] == 7
    assert (info["codec"], info["codec_wanted"]) == ("float16", "codebook+32x1")
    assert info["code_width"] == 2 * DIM
    assert info["anchor_dim"] == DIM
    assert info["pooling"] == 1
    assert info["readout"] == Readout().to_dict()
    assert info["prompts"] == {}
    assert info["limits"]["max_length"] == 24
    assert info["lexical"] is True
    assert info["model"]["fingerprint"] == make.model.identity()["fingerprint"]
    assert {"path", "format", "uuid", "files", "commit", "codec_generation", "created", "updated"} <= set(info)
    assert {"database", "wal", "free", "derived", "disk_free"} <= set(info["bytes"])
    assert json.loads(json.dumps(info)) == info


def flip(index, table, column, row):
    """Change one byte of one row, behind the index's back."""
    with sqlite3.connect(index.path / "index.sqlite") as connection:
        where = f"rowid = {row}"
        (value,) = connection.execute(f"SELECT {column} FROM {table} WHERE {where}").fetchone()
        raw = bytearray(value.encode() if isinstance(value, str) else value)
        raw[len(raw) // 2] ^= 1
        changed = raw.decode() if isinstance(value, str) else bytes(raw)
        connection.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", (changed,))
    connection.close()


DAMAGED = [
    ("codes", "codes", "codes"),
    ("vectors", "anchor", "vectors"),
    ("vectors", "ids", "vectors"),
    ("documents", "text", "document"),
]


@pytest.mark.parametrize(
    ("table", "column", "part", "searched"),
    [(*damage, searched) for damage in DAMAGED for searched in (True, False)],
)
def test_verify_names_the_document_of_a_flipped_byte(make, table, column, part, searched):
    index = make()
    index.add(TEXTS, ids=names(4), metadata=[{"n": n} for n in range(4)])
    if searched:
        assert index.verify().ok
    flip(index, table, column, 3)
    for handle in (index, make.again(index), make.again(index, "r")):
        report = handle.verify()
        assert not report.ok
        assert [(damage.id, damage.part) for damage in report.damaged] == [("d0002", part)]
        assert report.documents == 4
    index.delete("d0002")
    assert index.verify().ok


@pytest.mark.parametrize("data", ["zeroblob(64)", "x''", "filled('ff', length(data))"])
def test_verify_finds_a_codec_that_is_none_though_its_checksum_is_right(make, data):
    index = make(documents(30))
    index.close()
    crafted.craft(index.path, f"UPDATE codec SET data = {data}")
    with SmartIndex.open(index.path) as opened:
        assert any("codec" in problem for problem in opened.verify().problems)


def test_verify_looks_at_derived_files_too(make, monkeypatch):
    monkeypatch.setattr("smart_retrieval.index.mirror.mirror.SMALL_DOCUMENTS", 29)
    index = make(documents(30))
    index.search(QUERY, **PLAIN)
    report = index.verify()
    assert report.ok
    assert report.notes == []
    largest = max((index.path / "derived").iterdir(), key=lambda file: file.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 1
    with largest.open("r+b") as file:
        file.write(data)
    report = index.verify()
    assert not report.ok
    assert [largest.name in problem for problem in report.problems] == [True]
    index.optimize()
    assert index.verify().ok
