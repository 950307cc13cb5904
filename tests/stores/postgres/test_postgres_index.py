"""An index in PostgreSQL gives what the index it was exported from gives."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from fixtures.commands import loaded, run
from fixtures.indexes import DIM, PLAIN, documents, names, topics

from smart_retrieval import SmartIndex
from smart_retrieval.errors import CodecError, IndexDamagedError, IndexMismatchError, StoreError
from smart_retrieval.index.codec.factory import fit_codec
from smart_retrieval.stores.postgres.index import PostgresIndex


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
    items = topics(300, 8, 3)
    index = make(codec=fit_codec("anchored+3vq+norm", documents(300, 1)))
    metadata = [{"year": 2000 + n % 20, "tags": ["even" if n % 2 == 0 else "odd"], "n": n} for n in range(300)]
    index.add(ids=names(300), embeddings=items, metadata=metadata, sources=[f"{n % 7}.md" for n in range(300)])
    with PostgresIndex.export(dsn, index) as exported:
        yield index, exported


def test_a_large_table_is_searched_by_its_graph(pair, dsn, monkeypatch):
    """The same hits from HNSW, with filters that let much, little or nothing through."""
    from smart_retrieval.index.search import searcher
    from smart_retrieval.stores import search
    from smart_retrieval.stores.postgres import store

    index, _ = pair
    monkeypatch.setattr(store, "_COUNTED", 0)
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
        assert exported.store.state().documents == 300
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
    assert len(exported) == 300
    index.delete(where="n > 9")
    with PostgresIndex.export(dsn, index, replace=True) as again:
        assert len(again) == 10
    with PostgresIndex.export(dsn, index.path, schema="other") as other:
        assert len(other) == 10


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
    with pytest.raises(IndexDamagedError, match="document 'd0007': found a checksum that does not match"):
        exported.search(topics(1, 5, 1))
    with exported.store.connections.writing() as connection:
        connection.execute("UPDATE documents SET exact = 'x' WHERE id = 'd0007'")
    with pytest.raises(IndexDamagedError, match="document 'd0007': found an anchor of 1 bytes"):
        exported.search(topics(1, 5, 1))


def test_an_index_of_a_newer_version_is_named_whatever_else_it_has(make, dsn):
    with PostgresIndex.create(dsn, make().model, codec="float32") as created:
        with created.store.connections.writing() as connection:
            connection.execute("UPDATE state SET format = 2")
            connection.execute("DELETE FROM manifest")
        with pytest.raises(StoreError, match="found format 2, expected 1: another version"):
            PostgresIndex.open(dsn)


def test_two_exports_at_once(make, dsn):
    """Neither fails for what both make: pgvector and the role of tenants; of one schema, one is refused by name."""
    index = make(documents(20, 1), codec="float16")

    def work(schema):
        try:
            PostgresIndex.export(dsn, index, schema=schema, tenant_field="team").close()
        except StoreError as error:
            return str(error)
        return schema

    with ThreadPoolExecutor(4) as pool:
        found = sorted(pool.map(work, ["one", "two", "three", "three"]))
    assert found == ["one", "schema 'three': found one of that name; take another, or replace it", "three", "two"]


def test_the_command_exports(pair, dsn):
    index, _ = pair
    result = loaded(run("export", "postgres", dsn, index.path, "--schema", "shop", "--json"))
    assert result["documents"] == 300
    assert result["schema"] == "shop"
    with PostgresIndex.open(dsn, schema="shop") as opened:
        assert len(opened) == 300
    again = run("export", "postgres", dsn, index.path, "--schema", "shop")
    assert isinstance(again.exception, StoreError)
    assert "300 documents" in run("export", "postgres", dsn, index.path, "--schema", "shop", "--replace").stdout


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
