"""An index in PostgreSQL gives what the index it was exported from gives."""

import numpy as np
import pytest
from fixtures.commands import loaded, run
from fixtures.indexes import DIM, PLAIN, documents, names, topics

from smart_retrieval import SmartEmbeddings, SmartIndex
from smart_retrieval.errors import (
    CodecError,
    DuplicateIdError,
    EmptyInputError,
    FilterError,
    IndexMismatchError,
    SmartError,
    StoreError,
    UnknownIdError,
)
from smart_retrieval.index.codec.factory import fit_codec
from smart_retrieval.stores.postgres.index import PostgresIndex

TEXTS = ["The otter swims in the cold river.", "Tax is due.", "The moon is cold.", "Bread, butter and oil."]


def flat(hits):
    return [(hit.id, hit.score, hit.anchor, hit.late, hit.feedback, hit.neighbours) for hit in hits]


def assert_same(found, expected, tolerance=1e-6):
    assert [hit.id for hit in found] == [hit.id for hit in expected]
    for one, other in zip(flat(found), flat(expected), strict=True):
        assert one[1:4] == pytest.approx(other[1:4], abs=tolerance)
        assert [part is None for part in one] == [part is None for part in other]
        assert [part or 0 for part in one[4:]] == pytest.approx([part or 0 for part in other[4:]], abs=tolerance)
    for one, other in zip(found, expected, strict=True):
        assert (one.text, one.source, one.page, one.heading) == (other.text, other.source, other.page, other.heading)
        assert one.metadata == other.metadata


@pytest.fixture
def pair(make, dsn):
    """An index of documents about topics, with metadata, and its export."""
    items = topics(700, 8, 3)
    index = make(codec=fit_codec("anchored+3vq+norm", documents(300, 1)))
    metadata = [{"year": 2000 + n % 20, "tags": ["even" if n % 2 == 0 else "odd"], "n": n} for n in range(700)]
    index.add(ids=names(700), embeddings=items, metadata=metadata, sources=[f"{n % 7}.md" for n in range(700)])
    with PostgresIndex.export(dsn, index) as exported:
        yield index, exported


OPTIONS = [
    {},
    {"exact": True},
    {"candidates": 40},
    {"where": "year > 2010 and tags = 'odd'"},
    {"where": "n = 3 or n = 5", "candidates": 10},
    {"weights": "idf", "lambda_late": 2.0, "floor": 0.1},
    {"lambda_late": 0.0},
    {"feedback": 0.3},
    {"feedback": 0.3, "neighbours": 0.2, "candidates": 40},
    {"neighbours": 0.5, "where": "year = 2005"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_hits_are_those_of_the_index(pair, options):
    index, exported = pair
    queries = topics(6, 5, 11)
    for settings in (options, {**PLAIN, **options}):
        for found, expected in zip(
            exported.search(queries, 10, **settings), index.search(queries, 10, **settings), strict=True
        ):
            assert_same(found, expected)
            assert (found.candidates, found.searched) == (expected.candidates, expected.searched)


def test_a_large_table_is_searched_by_its_graph(pair, dsn, monkeypatch):
    """The same hits from HNSW, with filters that let much, little or nothing through."""
    from smart_retrieval.index.search import searcher
    from smart_retrieval.stores import search

    index, _ = pair
    for module in (searcher, search):
        monkeypatch.setattr(module, "EXHAUSTIVE_PRODUCTS", 0)
    queries = topics(6, 5, 11)
    with PostgresIndex.open(dsn, index.model, exact_rows=0) as exported:
        with exported.store.reading() as connection:
            connection.execute("SET LOCAL enable_seqscan = off")
            plan = connection.execute(
                "EXPLAIN SELECT rowid FROM documents ORDER BY anchor <#> %s::halfvec LIMIT 9", (str([0.0] * DIM),)
            ).fetchall()
            assert "documents_anchor" in str(plan)
        for where in (None, "year > 2003", "n < 5", "n = -1"):
            for found, expected in zip(
                exported.search(queries, 5, where=where, candidates=100, **PLAIN),
                index.search(queries, 5, where=where, candidates=100, **PLAIN),
                strict=True,
            ):
                assert_same(found, expected)


def test_writes_are_those_of_an_index(make, dsn):
    index = make(documents(100, 1), codec="float16")
    with PostgresIndex.export(dsn, index) as exported:
        for one in (index, exported):
            one.add(ids=["new", "newer"], embeddings=documents(2, 7), metadata=[{"a": 1}, {"a": [2, None]}])
            one.upsert(ids=["d0003", "new"], embeddings=documents(2, 8), headings=["A > B", None])
            one.add(ids=["d0004", "last"], embeddings=documents(2, 9), on_duplicate="skip")
            assert one.delete(["d0001", "d0002"]) == 2
            assert one.delete(where="a exists") == 1
            with pytest.raises(DuplicateIdError, match="'d0009'"):
                one.add(ids=["x", "d0009"], embeddings=documents(2, 9))
            with pytest.raises(UnknownIdError, match="d0001"):
                one.delete(["d0005", "d0001"])
            assert "x" not in one
            assert "d0005" in one
        assert len(exported) == len(index) == 100
        assert exported.info()["tokens"] == index.info()["tokens"]
        ours, theirs = exported.store.idf(), index.store.idf()
        assert ours[0] == theirs[0]
        assert np.array_equal(ours[1], theirs[1])
        assert np.array_equal(ours[2], theirs[2])
        for id in ("d0003", "new", "last"):
            (one,), (other,) = exported.get(id), index.get(id)
            assert (one.id, one.heading, one.metadata) == (other.id, other.heading, other.metadata)
        queries = documents(5, 20)
        for found, expected in zip(exported.search(queries), index.search(queries), strict=True):
            assert_same(found, expected)


def test_texts_are_encoded_explained_and_found(make, dsn):
    index = make(codec="float16")
    index.add(TEXTS, ids=names(4), metadata=[{"n": n, "ü": "é"} for n in range(4)])
    with PostgresIndex.create(dsn, index.model, codec="float16") as created:
        created.add(TEXTS, ids=names(4), metadata=[{"n": n, "ü": "é"} for n in range(4)])
        for options in ({}, {"feedback": 0.5, "neighbours": 0.1}, {"where": "n < 3", "weights": "idf"}):
            found, expected = (one.search("cold river", **options) for one in (created, index))
            assert_same(found, expected)
            for hit in found:
                why, other = (one.explain("cold river", hit.id, **options) for one in (created, index))
                assert why.score == pytest.approx(hit.score, abs=1e-5)
                assert why.tokens == other.tokens
                assert [(part.name, part.like) for part in why.added] == [
                    (part.name, part.like) for part in other.added
                ]
                assert "river" in why.to_html()
        with pytest.raises(SmartError, match="does not pass"):
            created.explain("cold", "d0003", where="n < 3")
        with pytest.raises(UnknownIdError):
            created.explain("cold", "nobody")
        assert created.search(["cold", "tax"])[1][0].id == index.search("tax")[0].id
        assert created.search_many("cold")[0].hits


def test_ids_are_found_as_unicode_has_them(make, dsn):
    with PostgresIndex.create(dsn, make().model, codec="float32") as created:
        created.add(ids=["caf\u00e9.md", "a"], embeddings=documents(2, 1))
        assert created.get("cafe\u0301.md")[0].id == "caf\u00e9.md"
        for id in ("nul\0", "half\ud800"):
            with pytest.raises(UnknownIdError):
                created.get(id)
        assert created.delete("cafe\u0301.md") == 1


def test_metadata_comes_back(make, dsn):
    values = {"a": 1, "b": 1.5, "c": None, "d": [1, {"e": "\u0001x"}], "f": 2.0**70, "g": -0.1, "h": True, "": "empty"}
    index = make(codec="float32")
    index.add(ids=["one"], embeddings=documents(1, 1), metadata=[values])
    with PostgresIndex.export(dsn, index) as exported:
        (stored,), (expected,) = exported.get("one"), index.get("one")
        assert stored.metadata == expected.metadata


def test_what_a_database_cannot_do_is_refused(pair):
    _, exported = pair
    query = topics(1, 5, 1)
    for options in ({"lexical_weight": 3.0}, {"device": "cuda"}):
        with pytest.raises(StoreError, match=f"{next(iter(options))}.*SmartIndex has it"):
            exported.search(query, **options)
    with pytest.raises(FilterError, match="column 7"):
        exported.search(query, where="year >")
    with pytest.raises(SmartError, match="candidates=0"):
        exported.search(query, candidates=0)
    with pytest.raises(EmptyInputError):
        exported.search("")
    with pytest.raises(IndexMismatchError, match=r"4 \(anchor"):
        exported.search(SmartEmbeddings(np.eye(1, 4), np.eye(1, 4), [0, 1]))
    with pytest.raises(SmartError, match="exactly one"):
        exported.delete()
    assert exported.search(query, 0)[0].hits == ()


def test_deadlines_give_partial_hits(pair):
    _, exported = pair
    (hits,) = exported.search(topics(1, 5, 1), 5, deadline_ms=0)
    assert hits.partial
    (hits,) = exported.search(topics(1, 5, 1), 5, deadline_ms=60_000)
    assert not hits.partial
    assert len(hits) == 5


def test_a_slow_server_gives_partial_hits_in_time(pair):
    """The time is over while the server still looks; what is read later is not hurt."""
    _, exported = pair
    exported.store._near = lambda connection, *_: connection.execute("SELECT pg_sleep(5)")
    with exported.store.reading() as connection:
        with pytest.raises(TimeoutError):
            exported.store.near(np.ones(DIM, np.float32), 3, None, timeout=0.05)
        assert exported.store.state().documents == 700
        assert connection.execute("SHOW statement_timeout").fetchone() == ("0",)
    (hits,) = exported.search(topics(1, 5, 1), 5, deadline_ms=50)
    assert hits.partial
    assert not len(hits)


def test_an_export_is_whole_or_not_there(pair, dsn):
    index, exported = pair
    with pytest.raises(StoreError, match="'smart': found one"):
        PostgresIndex.export(dsn, index)

    def fail(done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        PostgresIndex.export(dsn, index, schema="other", progress=fail)
    with pytest.raises(StoreError, match="no index there"):
        PostgresIndex.open(dsn, schema="other")
    with pytest.raises(KeyboardInterrupt):
        PostgresIndex.export(dsn, index, replace=True, progress=fail)
    assert len(exported) == 700
    index.delete(where="n > 9")
    with PostgresIndex.export(dsn, index, replace=True) as again:
        assert len(again) == 10
    with PostgresIndex.export(dsn, index.path, schema="other") as other:
        assert len(other) == 10


def test_settings_go_along(pair, dsn):
    index, exported = pair
    ours, theirs = exported.info(), index.info()
    for name in ("codec", "code_width", "model", "readout", "prompts", "pooling", "limits", "scoring", "calibration"):
        assert ours[name] == theirs[name], name
    assert ours["codec_hash"] == index.codec().hash == exported.codec().hash
    assert exported.calibration() == index.calibration()
    assert ours["documents"] == exported.count() == 700
    assert exported.count("year > 2010") == index.count("year > 2010") > 0


def test_what_is_not_there_or_not_fitted(dsn, make, smart):
    with pytest.raises(StoreError, match="no index there"):
        PostgresIndex.open(dsn)
    with pytest.raises(StoreError, match="fitted already"):
        PostgresIndex.create(dsn, make().model, codec="anchored")
    with pytest.raises(CodecError):
        PostgresIndex.create(dsn, make().model, codec="zip")
    with pytest.raises(StoreError, match="small letters"):
        PostgresIndex.open(dsn, schema='x"; DROP')
    with pytest.raises(StoreError, match=r"OperationalError") as refused:
        PostgresIndex.open("postgresql://someone:secret@127.0.0.1:1/db")
    assert "secret" not in str(refused.value)
    PostgresIndex.create(dsn, make().model, codec="float32").close()
    with pytest.raises(IndexMismatchError):
        PostgresIndex.open(dsn, smart("cls"))


def test_damaged_blobs_are_named(pair):
    _, exported = pair
    with exported.store.connections.writing() as connection:
        flip = "set_byte(blob, 40, (get_byte(blob, 40) + 1) % 256)"
        connection.execute(f"UPDATE documents SET blob = {flip} WHERE id = 'd0007'")
    with pytest.raises(SmartError, match="checksum"):
        exported.search(topics(1, 5, 1))


def test_the_command_exports(pair, dsn):
    index, _ = pair
    result = loaded(run("export", "postgres", dsn, index.path, "--schema", "shop", "--json"))
    assert result["documents"] == 700
    assert result["schema"] == "shop"
    with PostgresIndex.open(dsn, schema="shop") as opened:
        assert len(opened) == 700
    again = run("export", "postgres", dsn, index.path, "--schema", "shop")
    assert isinstance(again.exception, StoreError)
    assert "700 documents" in run("export", "postgres", dsn, index.path, "--schema", "shop", "--replace").stdout


def test_the_calibration_is_fixed_as_in_an_index(smart, tmp_path, dsn):
    """Once there are enough documents, measured on them, and then it stays."""
    model = smart("mean", preset="default")
    with (
        SmartIndex.create(tmp_path / "a.smart", model, codec="float16") as index,
        PostgresIndex.create(dsn, model, codec="float16") as created,
    ):
        for one in (index, created):
            one.add(ids=names(40), embeddings=documents(40, 1))
        assert created.calibration() == index.calibration()
        assert not created.store.manifest.calibration
        for one in (index, created):
            one.add(ids=names(40, "e"), embeddings=documents(40, 2))
        assert created.store.manifest.calibration == index.store.manifest.calibration != {}
        assert created.info()["calibration"]["of"] == "collection"
        for one in (index, created):
            one.delete(where="id like 'e%'")
        assert created.calibration() == index.calibration()
        assert created.calibration().documents == 80
        assert_same(created.search(documents(1, 5))[0], index.search(documents(1, 5))[0])
