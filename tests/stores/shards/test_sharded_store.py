"""An index over several servers gives what one index gives, and goes on without a server that is gone."""

import threading
import time
from urllib.parse import quote

import numpy as np
import pytest
from fixtures.commands import loaded, run
from fixtures.indexes import PLAIN, documents, names, topics

from smart_retrieval import open_index
from smart_retrieval.errors import (
    DuplicateIdError,
    FilterError,
    IndexMismatchError,
    StoreError,
    StoreUnreachableError,
    UnknownIdError,
)
from smart_retrieval.index.codec.factory import fit_codec
from smart_retrieval.stores import search
from smart_retrieval.stores.postgres.index import PostgresIndex
from smart_retrieval.stores.shards import lane as lanes

psycopg = pytest.importorskip("psycopg")
TEAMS = "ab"


@pytest.fixture(scope="module")
def whole(make_shared):
    """An index of 300 documents about topics, only to be read."""
    return topical(make_shared)


def topical(make):
    index = make(codec=fit_codec("anchored+3vq+norm", documents(300, 1)))
    metadata = [{"year": 2000 + n % 20, "n": n, "team": TEAMS[n % 2]} for n in range(300)]
    index.add(
        ids=names(300), embeddings=topics(300, 8, 3), metadata=metadata, sources=[f"{n % 7}.md" for n in range(300)]
    )
    return index


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert [hit.id for hit in one] == [hit.id for hit in other]
        assert [hit.score for hit in one] == pytest.approx([hit.score for hit in other], abs=1e-6)
        assert [hit.metadata for hit in one] == [hit.metadata for hit in other]
        assert one.searched == other.searched
        assert not one.partial


OPTIONS = [
    {},
    {"exact": True},
    {"candidates": 40},
    {"where": "year > 2010", "candidates": 20},
    {"where": "n = 3 or n = 5"},
    {"weights": "idf", "lambda_late": 2.0},
    {"feedback": 0.3, "neighbours": 0.2, "candidates": 40},
]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_hits_are_those_of_the_whole_index(whole, databases, count, monkeypatch):
    from smart_retrieval.index.search import searcher

    dsns, queries = databases(count), topics(4, 5, 11)
    with PostgresIndex.export(dsns, whole) as index:
        assert len(index) == 300
    with PostgresIndex.open(dsns[::-1], whole.model) as index:  # in any order
        for whole_rule in (True, False):
            if not whole_rule:
                for module in (searcher, search):
                    monkeypatch.setattr(module, "EXHAUSTIVE_PRODUCTS", 0)
            for options in OPTIONS:
                assert_same(index.search(queries, 10, **options), whole.search(queries, 10, **options))
        (hits,) = index.search(queries[0], 3, feedback=0.3)
        why = index.explain(queries[0], hits[0].id, feedback=0.3)
        assert why.score == pytest.approx(hits[0].score, abs=5e-5)
        assert [document.id for document in index.get(["d0009", "d0001"])] == ["d0009", "d0001"]
        assert index.calibration() == whole.calibration()
        info = index.info()
        assert info["documents"] == index.count() == 300
        assert index.count("year = 2003") == whole.count("year = 2003")
        assert info["tokens"] == whole.info()["tokens"]
        assert count == 1 or sum(part["documents"] for part in info["shards"]) == 300


def test_a_shard_with_all_the_nearest_is_asked_for_more(whole, databases, monkeypatch):
    """All candidates lie on one server, as chance does not do it."""
    from smart_retrieval.index.search import searcher
    from smart_retrieval.stores.postgres import index as exporting

    for module in (searcher, search):
        monkeypatch.setattr(module, "EXHAUSTIVE_PRODUCTS", 0)
    query = topics(1, 5, 11)
    near = {hit.id for hit in whole.search(query, 150, lambda_late=0.0, exact=True)[0]}
    monkeypatch.setattr(exporting, "shard_of", lambda id, count: 0 if id in near or count == 1 else 1)
    with PostgresIndex.export(databases(2), whole, schema="skewed") as index:
        assert [len(store.select()) for store in index.store.stores] == [150, 150]
        asked = []
        for store in index.store.stores:
            own = store.near
            monkeypatch.setattr(
                store,
                "near",
                lambda anchor, wanted, where, own=own, **more: (
                    asked.append(wanted) or own(anchor, wanted, where, **more)
                ),
            )
        assert_same(
            index.search(query, 100, candidates=120, **PLAIN), whole.search(query, 100, candidates=120, **PLAIN)
        )
        assert sorted(asked) == [77, 77, 120]


def test_writes_are_those_of_an_index(make, databases):
    whole = topical(make)
    with PostgresIndex.export(databases(3), whole) as index:
        for one in (whole, index):
            one.add(ids=["new", "newer", "newest"], embeddings=documents(3, 7), metadata=[{"a": n} for n in range(3)])
            one.upsert(ids=["d0003", "new"], embeddings=documents(2, 8))
            one.add(ids=["d0004", "last"], embeddings=documents(2, 9), on_duplicate="skip")
            assert one.delete(["d0001", "d0002"]) == 2
            assert one.delete(where="a = 2") == 1
            with pytest.raises(DuplicateIdError, match="'d0009'"):
                one.add(ids=["x", "d0009"], embeddings=documents(2, 9))
            with pytest.raises(UnknownIdError, match="d0001"):
                one.delete(["d0005", "d0001"])
            assert "x" not in one
            assert "d0005" in one
        ours, theirs = index.store.idf(), whole.store.idf()
        assert ours[0] == theirs[0] == len(index) == len(whole)
        assert all(np.array_equal(one, other) for one, other in zip(ours[1:], theirs[1:], strict=True))
        assert_same(index.search(documents(5, 20), weights="idf"), whole.search(documents(5, 20), weights="idf"))
        with pytest.raises(FilterError):
            index.search(documents(1, 1), where="year >")


def test_servers_that_do_not_belong_together(whole, make, databases):
    dsns = databases(3)
    PostgresIndex.export(dsns[:2], whole).close()
    PostgresIndex.export(dsns[2], make(codec="float16"), schema="smart").close()
    for wrong, why in (
        (dsns[:1] + dsns[2:], "differ in"),
        (dsns, "differ in"),
        ([dsns[0], dsns[0] + " "], "each once"),
    ):
        with pytest.raises(IndexMismatchError, match=why):
            PostgresIndex.open(wrong)
    for wrong in ([], [dsns[0]] * 2):
        with pytest.raises(StoreError, match="addresses"):
            PostgresIndex.open(wrong)
    (free,) = databases(1)
    with pytest.raises(StoreError, match="found one"):
        PostgresIndex.export([free, dsns[1]], whole)
    with pytest.raises(StoreError, match="no index there"):  # nothing was made on the one where it could be
        PostgresIndex.open(free)


def test_a_server_that_is_gone_is_flagged(whole, databases, line, monkeypatch):
    monkeypatch.setattr(lanes, "PAUSE", 0.3)
    dsns, query = databases(2), topics(1, 5, 11)
    PostgresIndex.export(dsns, whole).close()
    (here, _), (there, cable) = line(dsns[0]), line(dsns[1])
    with PostgresIndex.open([here, there], whole.model) as index:
        (before,) = index.search(query, 10)
        lost = set(index.store.stores[1].ids_of(index.store.stores[1].select()))
        cable.cut()
        for options in ({}, {"candidates": 20}, {"where": "year > 2003"}, {"deadline_ms": 2000}):
            (hits,) = index.search(query, 10, **options)
            assert hits.partial
            assert len(hits) == 10
            assert not {hit.id for hit in hits} & lost
        kept = {hit.id: hit.score for hit in before if hit.id not in lost}
        (hits,) = index.search(query, 10)
        found = {hit.id: hit.score for hit in hits}
        assert kept == {id: found[id] for id in kept}  # scored as before, with the counts of all
        with pytest.raises(StoreUnreachableError):
            index.add(ids=["new"], embeddings=documents(1, 1))
        with pytest.raises(StoreUnreachableError):
            index.delete(where="n = 1")
        with pytest.raises(StoreUnreachableError):
            len(index)
    with pytest.raises(StoreUnreachableError):
        PostgresIndex.open([here, there], whole.model)


def test_a_server_that_hangs_is_left_out_in_time(whole, databases, line):
    dsns, query = databases(2), topics(1, 5, 11)
    PostgresIndex.export(dsns, whole).close()
    there, cable = line(dsns[1])
    with PostgresIndex.open([dsns[0], there], whole.model, patience=0.5) as index:
        assert not index.search(query, 10)[0].partial
        cable.held.set()
        for options, limit in (({}, 3.0), ({"deadline_ms": 100}, 1.0)):
            started = time.perf_counter()
            (hits,) = index.search(query, 10, **options)
            assert hits.partial
            assert len(hits) == 10
            assert time.perf_counter() - started < limit
        cable.cut()


def test_with_a_second_host_nothing_fails(whole, databases, line):
    """Under load, while the first host of an address goes down."""
    dsns, query = databases(2), topics(1, 5, 11)
    PostgresIndex.export(dsns, whole).close()
    (one, cable), (two, _) = line(dsns[1]), line(dsns[1])
    ports = [psycopg.conninfo.conninfo_to_dict(address)["port"] for address in (one, two)]
    both = psycopg.conninfo.make_conninfo(one, host="127.0.0.1,127.0.0.1", port=",".join(ports))
    with PostgresIndex.open([dsns[0], both], whole.model) as index, PostgresIndex.open(dsns[1]) as single:
        expected = [(hit.id, hit.score) for hit in index.search(query, 10)[0]]
        failed, done, stop = [], [], threading.Event()

        def work():
            while not stop.is_set():
                try:
                    (hits,) = index.search(query, 10)
                    assert [(hit.id, hit.score) for hit in hits] == expected
                    assert not hits.partial
                    done.append(1)
                except BaseException as error:
                    failed.append(error)

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        time.sleep(0.2)
        cable.cut()
        time.sleep(0.5)
        stop.set()
        for thread in threads:
            thread.join()
        assert not failed
        assert len(done) > 3
        assert len(single) < 300


def test_no_hit_is_lost_while_documents_are_replaced(whole, databases):
    dsns, query = databases(2), topics(1, 5, 11)
    with PostgresIndex.export(dsns, whole) as index:
        (before,) = index.search(query, 10)
        ids, stop, lists = [hit.id for hit in before], threading.Event(), []
        stored = whole.model and whole.get(ids)
        rows = [int(document.id[1:]) for document in stored]
        embeddings = topics(300, 8, 3)[rows]
        metadata = [document.metadata for document in stored]

        def replace():
            while not stop.is_set():
                index.upsert(ids=ids, embeddings=embeddings, metadata=metadata)

        writer = threading.Thread(target=replace)
        writer.start()
        for _ in range(15):
            lists.append([hit.id for hit in index.search(query, 10)[0]])
        stop.set()
        writer.join()
        assert [hit.id for hit in index.search(query, 10)[0]] == ids
        assert all(len(one) == 10 for one in lists)


def test_tenants_on_several_servers(whole, databases):
    dsns = databases(2)
    PostgresIndex.export(dsns, whole, tenant_field="team").close()
    with PostgresIndex.open(dsns, whole.model, tenant="a") as index:
        (hits,) = index.search(topics(1, 5, 11), 300, where="not team = 'a' or n >= 0")
        assert {hit.metadata["team"] for hit in hits} == {"a"}
        assert hits.searched == len(hits) == len(index) == 150
        assert "d0001" not in index
        assert not set(index.info()) & {"tokens", "bytes"}


def test_the_command_exports_to_several(whole, databases):
    dsns = databases(2)
    found = loaded(run("export", "postgres", *dsns, whole.path, "--json"))
    assert found["documents"] == sum(part["documents"] for part in found["shards"]) == 300
    with PostgresIndex.open(dsns, whole.model) as index:
        assert_same(index.search(topics(2, 5, 11)), whole.search(topics(2, 5, 11)))


def test_commands_take_addresses(make, databases):
    index, dsns = make(codec="float16"), databases(2)
    texts = ["Logs rotate nightly.", "Oak logs burn slowly.", "Tax is due."]
    index.add(texts, ids=names(3), metadata=[{"n": n} for n in range(3)])
    PostgresIndex.export(dsns, index).close()
    address, model = " ".join(map(url, dsns)), ("--model", index.model.name)
    with open_index(f"{url(dsns[0])}#smart {url(dsns[1])}") as opened:
        assert len(opened) == 3
    found = loaded(run("search", address, "oak logs", *model, "--json"))
    assert [hit["id"] for hit in found["hits"]] == [hit.id for hit in index.search("oak logs")]
    assert run("search", address, "oak logs", *model).stdout.count("d000") == 3
    why = loaded(run("explain", address, "oak logs", "d0001", *model, "--json"))
    assert why["score"] == pytest.approx(index.explain("oak logs", "d0001").score, abs=1e-5)
    shown = run("info", address).stdout
    assert "2, with" in shown
    assert "float16" in shown
    done = loaded(run("delete", address, "d0001", "--json"))
    assert done["deleted"] == 1
    assert "secret" not in done["index"]
    assert loaded(run("info", address, "--json"))["documents"] == 2


def url(dsn):
    """The address of a database as a URL, with a password."""
    parts = psycopg.conninfo.conninfo_to_dict(dsn)
    return f"postgresql://postgres:secret@/{parts['dbname']}?host={quote(parts['host'], safe='')}"


@pytest.mark.parametrize(
    "address",
    ["mysql://user:secret@host/db", "postgresql://a/db#one postgresql://b/db#two", "postgresql://a/db b/secret"],
)
def test_other_addresses_are_refused(address):
    with pytest.raises(StoreError, match=r"begins with \w+://, expected") as refused:
        open_index(address)
    assert "secret" not in str(refused.value)
