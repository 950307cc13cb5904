"""Threads, processes, broken connections, and what is seen while others write."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from fixtures.indexes import PLAIN, documents, names

from smart_retrieval.errors import StoreError
from smart_retrieval.stores.postgres.connections import Connections, named_errors
from smart_retrieval.stores.postgres.index import PostgresIndex


@pytest.fixture
def index(make, dsn):
    with PostgresIndex.create(dsn, make().model, codec="float16") as created:
        created.add(ids=names(50), embeddings=documents(50, 1))
        yield created


def found(index, query):
    return [(hit.id, hit.score) for hit in index.search(query, 5, **PLAIN)[0]]


def test_threads_search_and_write_at_once(index):
    query = documents(1, 9)
    before = found(index, query)

    def work(number):
        if number % 4 == 0:
            index.add(ids=names(5, f"t{number}-"), embeddings=documents(5, number))
            return index.delete(names(5, f"t{number}-"))
        return len(index.search(query, 5)[0])

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(work, range(24))) == {5}
    assert found(index, query) == before
    assert len(index) == 50
    assert index.store.idf()[0] == 50


def test_one_commit_is_seen_throughout(index):
    with index.store.reading():
        before = index.store.state()
        writer = threading.Thread(target=lambda: index.delete(names(10)))
        writer.start()
        writer.join()
        assert index.store.state() == before
        assert len(index.store.select()) == 50
        with pytest.raises(StoreError, match="write within a read"):
            index.delete(names(1))
    assert len(index.store.select()) == index.store.state().documents == 40


def test_a_batch_is_whole_or_not_there(index, monkeypatch):
    monkeypatch.setattr(index.store, "_sum", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        index.add(ids=["a", "b"], embeddings=documents(2, 3))
    with pytest.raises(ZeroDivisionError):
        index.delete(names(3))
    monkeypatch.undo()
    assert "a" not in index
    assert len(index.store.select()) == index.store.idf()[0] == 50


def test_a_connection_that_the_server_closed_is_made_again(index):
    query = documents(1, 9)
    before = found(index, query)
    with index.store.reading() as connection:
        (pid,) = connection.execute("SELECT pg_backend_pid()").fetchone()
    others = Connections(index.store.connections.dsn, "other")
    with others.reading() as other:
        other.execute("SELECT pg_terminate_backend(%s)", (pid,))
    others.close()
    assert found(index, query) == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_has_connections_of_its_own(index):
    query = documents(1, 9)
    before = found(index, query)
    child = os.fork()
    if not child:
        try:
            code = 0 if found(index, query) == before else 1
        except BaseException:
            code = 2
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert found(index, query) == before


def test_errors_do_not_tell_what_was_sent(index):
    import psycopg

    with pytest.raises(StoreError) as caught, named_errors("here"):
        raise psycopg.errors.UniqueViolation("duplicate key\nDETAIL: Key (id)=(secret)")
    assert str(caught.value) == "index here: UniqueViolation: duplicate key"
    assert Connections("no dsn at all", "x").name == "postgresql, schema x"


def test_a_missing_driver_is_named(monkeypatch):
    import sys

    from smart_retrieval.errors import MissingExtraError

    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtraError, match=r"smart-retrieval\[postgres\]"):
        PostgresIndex.open("postgresql://nowhere/db")
