"""LanceDB: several processes, filters from a copy of the metadata, an index of anchors."""

import pytest
from fixtures.commands import loaded, run
from fixtures.indexes import PLAIN, documents, names, topics

pytest.importorskip("lancedb")
from smart_retrieval.errors import StoreError
from smart_retrieval.stores import LanceIndex


def ids(hits):
    return [hit.id for hit in hits]


def test_what_another_process_writes_is_seen(make, tmp_path):
    with LanceIndex.create(tmp_path / "x", make().model, codec="float16") as one:
        one.add(ids=names(40), embeddings=documents(40, 1), metadata=[{"n": n} for n in range(40)])
        with LanceIndex.open(tmp_path / "x", one.model) as other:
            assert other.count("n < 5") == 5
            one.delete(where="n < 3")
            one.upsert(ids=["d0004"], embeddings=documents(1, 9), metadata=[{"n": 100}])
            assert other.count("n < 5") == 1
            assert len(other) == 37
            query = documents(1, 9)
            assert ids(other.search(query, 37, **PLAIN)[0]) == ids(one.search(query, 37, **PLAIN)[0])
            other.add(ids=["z"], embeddings=documents(1, 3), metadata=[{"n": 1}])
        assert one.count("n < 5") == 2


def test_an_index_of_anchors_finds_what_all_of_them_give(make, tmp_path, monkeypatch):
    from smart_retrieval.index.search import searcher
    from smart_retrieval.stores import search
    from smart_retrieval.stores.lance import engine

    for module in (searcher, search):
        monkeypatch.setattr(module, "EXHAUSTIVE_PRODUCTS", 0)
    monkeypatch.setattr(engine, "_KEYS", 50)
    index = make(codec="float16")
    index.add(ids=names(600), embeddings=topics(600, 5, 3), metadata=[{"n": n} for n in range(600)])
    with LanceIndex.export(tmp_path / "x", index) as exported:
        exported.optimize(indexed_from=100)
        exported.optimize(indexed_from=100)
        columns = [column for one in exported.store.engine._rows.list_indices() for column in one.columns]
        assert sorted(columns) == ["anchor", "key"]
        queries = topics(4, 5, 11)
        for where in (None, "n < 30", "n < 500", "n = 1"):
            options = {"where": where, "candidates": 60, **PLAIN}
            found, expected = (one.search(queries, 5, **options) for one in (exported, index))
            same = sum(len({*ids(a)} & {*ids(b)}) for a, b in zip(found, expected, strict=True))
            assert same >= 0.9 * sum(map(len, expected)), where


def test_an_export_is_made_once(make, tmp_path):
    index = make(documents(30, 1), codec="float16")
    found = loaded(run("export", "lancedb", tmp_path / "x", index.path, "--json"))
    assert (found["documents"], found["table"]) == (30, "smart")
    again = run("export", "lancedb", tmp_path / "x", index.path)
    assert again.exit_code == 1
    assert "found one of that name" in str(again.exception)
    index.delete(["d0001"])
    assert "29 documents" in run("export", "lancedb", tmp_path / "x", index.path, "--replace").output
    with LanceIndex.open(tmp_path / "x", index.model) as opened:
        assert len(opened) == 29


def test_commands_take_its_folder(make, tmp_path):
    index = make(codec="float16")
    index.add(["Logs rotate nightly.", "Oak logs burn slowly."], ids=["a", "b"])
    LanceIndex.export(tmp_path / "x", index).close()
    found = loaded(run("search", tmp_path / "x", "oak logs", "--model", index.model.name, "--json"))
    assert [hit["id"] for hit in found["hits"]] == ids(index.search("oak logs"))
    shown = run("info", tmp_path / "x").stdout
    assert "documents  2\n" in shown
    assert "size" not in shown
    assert loaded(run("delete", tmp_path / "x", "a", "--json"))["deleted"] == 1


def test_no_index_there(tmp_path):
    with pytest.raises(StoreError, match="no index there"):
        LanceIndex.open(tmp_path / "x")


def test_a_missing_library_is_named(monkeypatch, tmp_path):
    import sys

    from smart_retrieval.errors import MissingExtraError

    monkeypatch.setitem(sys.modules, "lancedb", None)
    with pytest.raises(MissingExtraError, match=r"smart-retrieval\[lancedb\]"):
        LanceIndex.open(tmp_path)
