"""Row-level security: whatever a tenant asks, it sees and changes what is its own."""

import json
import warnings

import numpy as np
import pytest
from fixtures.indexes import documents, names, topics
from hypothesis import given
from hypothesis import strategies as st

from smart_retrieval.errors import DuplicateIdError, SmartWarning, StoreError, UnknownIdError
from smart_retrieval.stores.postgres.index import PostgresIndex

FILTERS = st.recursive(
    st.sampled_from(
        [
            "team = 'a'", "team = 'b'", "team != 'a'", "team exists", "not team exists", "team is null", "n >= 0",
            "team in ('a', 'b')", "team like '%'", "team contains ''", "id like 'd%'", "id = 'd0001'", "n < 5",
            "source is null", "tenant = 'b'", "metadata.team = 'b'",
        ]
    ),
    lambda parts: st.one_of(
        parts.map(lambda part: f"not ({part})"),
        st.tuples(parts, st.sampled_from(["and", "or"]), parts).map(lambda three: f"({' '.join(three)})"),
    ),
    max_leaves=5,
)  # fmt: skip


@pytest.fixture(scope="module")
def shared(server, tmp_path_factory, smart):
    """An index of two tenants and of documents that are nobody's; its address and that of its tenants."""
    import psycopg
    from fixtures.indexes import Indexes

    make = Indexes(tmp_path_factory.mktemp("tenants"), smart("mean"))
    index = make(codec="float16")
    teams = [{"team": "ab"[n % 2], "n": n} if n % 5 else {"n": n} for n in range(100)]
    index.add(ids=names(100), embeddings=topics(100, 4, 1), metadata=teams)
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("CREATE DATABASE tenants ENCODING 'UTF8' TEMPLATE template0")
    dsn = psycopg.conninfo.make_conninfo(server, dbname="tenants")
    PostgresIndex.export(dsn, index, tenant_field="team").close()
    opened = {tenant: PostgresIndex.open(dsn, index.model, tenant=tenant) for tenant in ("a", "b", "nobody")}
    yield dsn, opened, index
    for one in opened.values():
        one.close()
    make.close()


def team_of(hit):
    return hit.metadata.get("team")


@given(where=FILTERS, tenant=st.sampled_from(["a", "b", "nobody"]), exact=st.booleans())
def test_no_filter_finds_what_is_anothers(shared, where, tenant, exact):
    _, opened, index = shared
    query = topics(1, 3, 5)
    (hits,) = opened[tenant].search(query, 100, where=where, exact=exact, feedback=0.1)
    assert {team_of(hit) for hit in hits} <= {tenant}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SmartWarning)
        (expected,) = index.search(query, 100, where=f"({where}) and team = '{tenant}'", feedback=0.1)
    assert [hit.id for hit in hits] == [hit.id for hit in expected]
    assert hits.searched == len(hits)


def test_a_tenant_reads_its_own(shared):
    _, opened, index = shared
    own = index.store.ids("team = 'a'")
    assert len(opened["a"]) == len(own)
    assert [document.id for document in opened["a"].get(own)] == own
    for id in ("d0005", index.store.ids("team = 'b'")[0]):
        assert id not in opened["a"]
        for call in (opened["a"].get, opened["a"].delete, lambda id: opened["a"].explain(topics(1, 3, 5), id)):
            with pytest.raises(UnknownIdError):
                call(id)
    with opened["b"].store.reading() as connection:
        assert connection.execute("SELECT DISTINCT metadata ->> 'team' FROM documents").fetchall() == [("b",)]
    rows = opened["a"].store
    theirs = opened["b"].store.select()
    assert not len(rows.documents(theirs))
    assert rows.ids_of(theirs[:1]) == [None]
    assert not set(opened["a"].info()) & {"tokens", "bytes"}


def test_a_tenant_writes_its_own(make, dsn):
    index = make(documents(10, 1), codec="float16")
    PostgresIndex.export(dsn, index, tenant_field="team").close()
    with (
        PostgresIndex.open(dsn, index.model, tenant="a") as one,
        PostgresIndex.open(dsn, index.model, tenant="b") as other,
        PostgresIndex.open(dsn, index.model) as whole,
    ):
        one.add(ids=["x", "y"], embeddings=documents(2, 2))
        # The same id of another tenant is another document.
        other.add(ids=["x"], embeddings=documents(1, 3), metadata=[{"v": 2}])
        with pytest.raises(DuplicateIdError):
            other.add(ids=["x"], embeddings=documents(1, 3))
        assert one.get("x")[0].metadata == {"team": "a"}
        with pytest.raises(StoreError, match=r"'z': found team 'b', expected the tenant's, 'a'"):
            one.add(ids=["z"], embeddings=documents(1, 3), metadata=[{"team": "b"}])
        assert other.upsert(ids=["x", "d0001"], embeddings=documents(2, 4)) == ["x", "d0001"]
        assert other.delete(where="not n = 1") == 2
        assert (len(one), len(other), len(whole)) == (2, 0, 12)
        assert whole.store.idf()[0] == 12
        expected = [np.unique(ids[ids >= 0]) for ids in _token_ids(whole)]
        assert whole.store.idf()[2].sum() == sum(map(len, expected))


def _token_ids(index):
    vectors = index.store.read_vectors(index.store.select())
    return np.split(vectors.token_ids, vectors.id_offsets[1:-1])


def test_what_the_server_itself_refuses(shared):
    """Were there a way round our own checks, row-level security would still hold."""
    _, opened, _ = shared
    row = json.dumps({"team": "b"})
    for statement in (
        f"INSERT INTO documents (id, added, metadata, text, anchor, exact, blob) SELECT 'q', 1, '{row}', '', anchor, "
        "exact, blob FROM documents LIMIT 1",
        f"UPDATE documents SET metadata = '{row}'",
        "DELETE FROM manifest",
        "UPDATE codec SET hash = ''",
        "DROP TABLE documents",
        "ALTER TABLE documents DISABLE ROW LEVEL SECURITY",
    ):
        with pytest.raises(StoreError), opened["a"].store.connections.writing() as connection:
            connection.execute(statement)


def test_an_index_without_tenants_has_none(make, dsn):
    PostgresIndex.create(dsn, make().model, codec="float32").close()
    with pytest.raises(StoreError, match=r"without a tenant field|does not exist|no index there|refuses"):
        PostgresIndex.open(dsn, tenant="a")
    for field in ("", "lone\ud800"):
        with pytest.raises(StoreError, match="tenant field"):
            PostgresIndex.create(dsn, make().model, codec="float32", schema="other", tenant_field=field)
