"""An index in any engine gives what the index it was exported from gives.

Memory, LanceDB, Qdrant's client and Edge, and PostgreSQL, whose store is another.
"""

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest
from fixtures.indexes import DIM, PLAIN, documents, names, topics

from smart_retrieval import SmartEmbeddings
from smart_retrieval.errors import (
    DuplicateIdError,
    EmptyInputError,
    FilterError,
    IndexDamagedError,
    IndexMismatchError,
    SmartError,
    StoreError,
    UnknownIdError,
)
from smart_retrieval.index.codec.factory import fit_codec
from smart_retrieval.stores import (
    EngineStore,
    LanceIndex,
    PostgresIndex,
    QdrantIndex,
    StoreIndex,
    export_to,
    make_store,
)
from smart_retrieval.stores.rows import key_of

TEXTS = ["The otter swims in the cold river.", "Tax is due.", "The moon is cold.", "Bread, butter and oil."]
_VALUES = {
    "x": [1.0, None, 2.0**70],
    "b": 1.5,
    "d": [{"e": "\u0001x"}],
    "f": 2.0**70,
    "g": -0.1,
    "h": True,
    "": "empty",
}
GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "databases.md"


def memory_engine():
    """The worked example of the guide, as it is printed there."""
    (code,) = re.findall(r"```python\n(import numpy as np\n.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    space = {}
    exec(code, space)
    return space["MemoryEngine"]()


def needs(module):
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")


@pytest.fixture(params=["memory", "lancedb", "qdrant", "edge", "postgres"])
def export(request, tmp_path):
    """``export(index)``: the index in an engine."""
    made = []

    def run(index):
        if request.param == "memory":
            made.append(StoreIndex(export_to(memory_engine(), index), index.model))
        elif request.param == "lancedb":
            needs("lancedb")
            made.append(LanceIndex.export(tmp_path / "lance", index, table=f"t{len(made)}"))
        elif request.param == "postgres":
            made.append(PostgresIndex.export(request.getfixturevalue("dsn"), index))
        else:
            needs("qdrant_client")
            location = ":memory:"
            if request.param == "edge":
                needs("qdrant_edge")
                from fixtures.edge import EdgeClient

                (tmp_path / "edge").mkdir(exist_ok=True)
                location = EdgeClient(tmp_path / "edge")
            made.append(QdrantIndex.export(location, index, tokens=True))
        return made[-1]

    yield run
    for one in made:
        one.close()


def flat(hits):
    return [(hit.id, hit.score, hit.anchor, hit.late, hit.feedback, hit.neighbours) for hit in hits]


def assert_same(found, expected, tolerance=1e-6):
    assert [hit.id for hit in found] == [hit.id for hit in expected]
    for one, other in zip(flat(found), flat(expected), strict=True):
        assert one[1:4] == pytest.approx(other[1:4], abs=tolerance)
        assert [part or 0 for part in one[4:]] == pytest.approx([part or 0 for part in other[4:]], abs=tolerance)
    for one, other in zip(found, expected, strict=True):
        assert (one.text, one.source, one.page, one.heading) == (other.text, other.source, other.page, other.heading)
        assert one.metadata == other.metadata


@pytest.fixture
def pair(make, export):
    """An index of documents about topics, with metadata, and its export."""
    index = make(codec=fit_codec("anchored+3vq+norm", documents(300, 1)))
    metadata = [{"year": 2000 + n % 20, "tags": ["even" if n % 2 == 0 else "odd"], "n": n} for n in range(300)]
    index.add(
        ids=names(300), embeddings=topics(300, 8, 3), metadata=metadata, sources=[f"{n % 7}.md" for n in range(300)]
    )
    return index, export(index)


OPTIONS = [
    {},
    {"exact": True},
    {"candidates": 40},
    {"where": "year > 2010 and tags = 'odd'"},
    {"where": "n = 3 or n = 5", "candidates": 10},
    {"where": "n = -1"},
    {"weights": "idf", "lambda_late": 2.0, "floor": 0.1},
    {"lambda_late": 0.0},
    {"feedback": 0.3},
    {"feedback": 0.3, "neighbours": 0.2, "candidates": 40},
    {"neighbours": 0.5, "where": "year = 2005"},
]


def test_hits_are_those_of_the_index(pair):
    index, exported = pair
    queries = topics(4, 5, 11)
    for options in OPTIONS:
        for settings in (options, {**PLAIN, **options}):
            for found, expected in zip(
                exported.search(queries, 10, **settings), index.search(queries, 10, **settings), strict=True
            ):
                assert_same(found, expected)
                assert (found.candidates, found.searched) == (expected.candidates, expected.searched)
    for where in ("year > 2010", "source = '3.md'", "not n < 100", "tags exists"):
        assert exported.count(where) == index.count(where)


def test_candidates_come_from_the_engine(pair, monkeypatch):
    """The same hits where not everything is scored, with filters that let much, little or nothing through."""
    from smart_retrieval.index.search import searcher
    from smart_retrieval.stores import search

    for module in (searcher, search):
        monkeypatch.setattr(module, "EXHAUSTIVE_PRODUCTS", 0)
    index, exported = pair
    queries = topics(4, 5, 11)
    for where in (None, "year > 2003", "n < 5", "n = -1"):
        for found, expected in zip(
            exported.search(queries, 5, where=where, candidates=40, **PLAIN),
            index.search(queries, 5, where=where, candidates=40, **PLAIN),
            strict=True,
        ):
            assert_same(found, expected)


def test_writes_are_those_of_an_index(make, export):
    index = make(documents(60, 1), codec="float16")
    exported = export(index)
    for one in (index, exported):
        one.add(ids=["new", "newer"], embeddings=documents(2, 7), metadata=[{"a": 1}, {"a": [2, None]}])
        one.upsert(ids=["d0003", "new"], embeddings=documents(2, 8), headings=["A > B", None])
        one.add(ids=["d0004", "last"], embeddings=documents(2, 9), on_duplicate="skip")
        assert one.delete(["d0001", "d0002"]) == 2
        assert one.delete(where="a exists") == 1
        assert one.delete(where="a exists") == 0
        with pytest.raises(DuplicateIdError, match="'d0009'"):
            one.add(ids=["x", "d0009"], embeddings=documents(2, 9))
        with pytest.raises(UnknownIdError, match="d0001"):
            one.delete(["d0005", "d0001"])
        assert "x" not in one
        assert "d0005" in one
    assert len(exported) == len(index) == 60
    assert exported.info()["tokens"] == index.info()["tokens"]
    for ours, theirs in zip(exported.store.idf(), index.store.idf(), strict=True):
        assert np.array_equal(ours, theirs)
    for id in ("d0003", "new", "last"):
        (one,), (other,) = exported.get(id), index.get(id)
        assert (one.id, one.heading, one.metadata) == (other.id, other.heading, other.metadata)
    queries = documents(5, 20)
    for found, expected in zip(exported.search(queries), index.search(queries), strict=True):
        assert_same(found, expected)


def test_texts_are_encoded_explained_and_found(make, export):
    index = make(codec="float16")
    index.add(TEXTS, ids=names(4), metadata=[{"n": n, "ü": "é", **_VALUES} for n in range(4)])
    exported = export(index)
    assert [one.metadata for one in exported.get(names(4))] == [one.metadata for one in index.get(names(4))]
    for options in ({}, {"feedback": 0.5, "neighbours": 0.1}, {"where": "n < 3", "weights": "idf"}):
        found, expected = (one.search("cold river", **options) for one in (exported, index))
        assert_same(found, expected)
        for hit in found:
            why, other = (one.explain("cold river", hit.id, **options) for one in (exported, index))
            assert why.score == pytest.approx(hit.score, abs=1e-5)
            assert why.tokens == other.tokens
            assert [(part.name, part.like) for part in why.added] == [(part.name, part.like) for part in other.added]
            assert "river" in why.to_html()
    with pytest.raises(SmartError, match="does not pass"):
        exported.explain("cold", "d0003", where="n < 3")
    with pytest.raises(UnknownIdError):
        exported.explain("cold", "nobody")
    with pytest.raises(StoreError, match=r"lexical_weight.*SmartIndex has it"):
        exported.search("cold", lexical_weight=2.0)
    with pytest.raises(StoreError, match=r"device.*SmartIndex has it"):
        exported.search("cold", device="cuda")
    with pytest.raises(SmartError, match="candidates=0"):
        exported.search("cold", candidates=0)
    with pytest.raises(SmartError, match="exactly one"):
        exported.delete()
    with pytest.raises(FilterError, match="column 7"):
        exported.search("cold", where="year >")
    with pytest.raises(EmptyInputError):
        exported.search("")
    with pytest.raises(IndexMismatchError, match=r"4 \(anchor"):
        exported.search(SmartEmbeddings(np.eye(1, 4), np.eye(1, 4), [0, 1]))
    exported.add(ids=["caf\u00e9.md"], embeddings=index.model.encode_document(["x"]))
    assert exported.get("cafe\u0301.md")[0].id == "caf\u00e9.md"
    for id in ("nul\0", "half\ud800"):
        with pytest.raises(UnknownIdError):
            exported.get(id)
    assert exported.delete("cafe\u0301.md") == 1
    assert exported.search("cold", 0).hits == ()
    (hits,) = exported.search(documents(1), 5, deadline_ms=0)
    assert hits.partial


def test_settings_go_along_and_calibration_is_fixed(pair):
    index, exported = pair
    ours, theirs = exported.info(), index.info()
    for name in ("codec", "code_width", "model", "readout", "prompts", "pooling", "limits", "scoring", "calibration"):
        assert ours[name] == theirs[name], name
    assert ours["codec_hash"] == index.codec().hash == exported.codec().hash
    assert exported.calibration() == index.calibration()
    assert ours["documents"] == exported.count() == 300
    exported.add(ids=names(50, "more"), embeddings=topics(50, 8, 4))
    assert exported.calibration() == index.calibration()


# -- what an engine without transactions means ---------------------------------------------------------------------


def empty(make):
    """A store in memory, of a new index."""
    index = make(codec="float16")
    return make_store(memory_engine(), index.store.newest_manifest(), index.codec()), index.model


def head(store, **changed):
    found = json.loads(store.engine.values["head"])
    store.engine.values["head"] = json.dumps({**found, **changed}).encode()
    return found


def test_a_writer_that_dies_is_made_good(make, monkeypatch):
    """Killed between the documents and their counts: the next writer counts again, a minute later."""
    store, model = empty(make)
    index = StoreIndex(store, model)
    index.add(ids=names(10), embeddings=documents(10, 1))
    monkeypatch.setattr(store.engine, "save", lambda name, value: 1 / 0 if name == "idf" else head_only(name, value))

    def head_only(name, value):
        store.engine.values[name] = value

    with pytest.raises(ZeroDivisionError):
        index.add(ids=names(5, "x"), embeddings=documents(5, 2))
    monkeypatch.undo()
    assert index.store.state().documents == 10  # not counted
    assert "x0001" in index

    other = StoreIndex(EngineStore(store.engine), model)
    with pytest.raises(StoreError, match="another process writing"):
        other.delete(["d0001"])
    head(store, writing={"by": "someone", "since": "2020-01-01T00:00:00+00:00"})
    assert other.delete(["d0001"]) == 1
    assert len(other) == 14
    expected = StoreIndex(*empty(make))
    expected.add(ids=names(10), embeddings=documents(10, 1))
    expected.add(ids=names(5, "x"), embeddings=documents(5, 2))
    expected.delete(["d0001"])
    assert all(np.array_equal(one, two) for one, two in zip(other.store.idf(), expected.store.idf(), strict=True))


def test_the_same_writer_goes_on_at_once(make, monkeypatch):
    store, model = empty(make)
    index = StoreIndex(store, model)
    monkeypatch.setattr(store.engine, "put", lambda rows: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        index.add(ids=names(5), embeddings=documents(5, 2))
    monkeypatch.undo()
    index.add(ids=names(5), embeddings=documents(5, 2))
    assert len(index) == index.store.idf()[0] == 5


def test_what_is_refused_changes_nothing(make):
    store, model = empty(make)
    index = StoreIndex(store, model)
    index.add(ids=["a"], embeddings=documents(1, 2))
    before = dict(store.engine.values)
    for wrong in (
        lambda: index.add(ids=["b", "a"], embeddings=documents(2, 2)),
        lambda: index.add(ids=["b", "b"], embeddings=documents(2, 2)),
        lambda: index.add(ids=["b"], embeddings=documents(1, 2), on_duplicate="x"),
        lambda: index.delete(["a", "b"]),
        lambda: index.delete(where="x ="),
    ):
        with pytest.raises(SmartError):
            wrong()
        assert store.engine.values == before
        assert len(store.engine.rows) == 1


def test_two_ids_of_one_key_are_refused(make, monkeypatch):
    from smart_retrieval.stores import engine_store, rows

    for module in (engine_store, rows):
        monkeypatch.setattr(module, "key_of", lambda id: 7)
    store, model = empty(make)
    index = StoreIndex(store, model)
    index.add(ids=["a"], embeddings=documents(1, 2))
    with pytest.raises(StoreError, match="'a' and 'b', which have the same key"):
        index.add(ids=["b"], embeddings=documents(1, 3))
    with pytest.raises(UnknownIdError):
        index.get("b")


def test_keys_are_those_of_the_id_alone():
    assert key_of("a") == key_of("a") != key_of("b")
    assert all(0 <= key_of(f"d{n}") < 2**63 for n in range(1000))
    assert len({key_of(f"d{n}") for n in range(1000)}) == 1000


def test_an_export_is_whole_or_no_index(make, monkeypatch):
    index, engine = make(documents(30, 1), codec="float16"), memory_engine()

    def fail(done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_to(engine, index, fail)
    with pytest.raises(StoreError, match="no index there, or an export that did not end"):
        EngineStore(engine)


def test_damage_is_named(make):
    store, model = empty(make)
    index = StoreIndex(store, model)
    index.add(ids=["a"], embeddings=documents(1, 2))
    (key, row), values = next(iter(store.engine.rows.items())), dict(store.engine.values)
    from dataclasses import replace

    for broken in (
        replace(row, blob=row.blob[:-1]),
        replace(row, anchor=np.ones(DIM + 1, np.float32)),
        replace(row, anchor=None),
        replace(row, document={"id": "a"}),
    ):
        store.engine.rows[key] = broken
        with pytest.raises(IndexDamagedError):
            index.search(documents(1, 3), **PLAIN)
    store.engine.rows[key] = row
    for name, value, error in (
        ("idf", b"x", IndexDamagedError),
        ("head", b"{", IndexDamagedError),
        ("head", b'{"format": 9}', StoreError),
        ("manifest", b"[1]", SmartError),
    ):
        store.engine.values[name] = value
        with pytest.raises(error):
            EngineStore(store.engine).idf()
        store.engine.values.update(values)
