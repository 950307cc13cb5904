"""Connections to a PostgreSQL server, one a thread, and the transactions on them."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import IndexDamagedError, StoreError, StoreUnreachableError
from ...extras import require
from ...types import Array

if TYPE_CHECKING:
    from psycopg import Connection
    from psycopg.abc import Dumper

# Seconds to connect, and until a connection counts as dead; libpq has its own words for them.
_GIVE_UP = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,39}")


class Connections:
    """Connections of this process to one index.

    Args:
        dsn: Of the database, as libpq takes it.
        schema: The index's schema, in which its tables are.
        tenant: Whose documents are seen; None for all.
    """

    def __init__(self, dsn: str, schema: str, tenant: str | None = None) -> None:
        require("psycopg", "postgres")
        if not _NAME.fullmatch(schema):
            raise StoreError(f"schema {schema!r}: expected a name of small letters, digits and _, of at most 40")
        self.dsn, self.schema, self.tenant = dsn, schema, tenant
        self._local = threading.local()
        self._open: list[tuple[int, Connection[Any]]] = []
        self._lock = threading.Lock()

    @cached_property
    def name(self) -> str:
        """The index without password."""
        import psycopg

        try:
            parts = psycopg.conninfo.conninfo_to_dict(self.dsn)
        except psycopg.Error:
            return f"postgresql, schema {self.schema}"
        place = f"{parts.get('host', '')}:{parts['port']}" if parts.get("port") else parts.get("host", "")
        return f"postgresql://{place}/{parts.get('dbname', '')}, schema {self.schema}"

    def close(self) -> None:
        """Close those of all threads."""
        with self._lock:
            for pid, connection in self._open:
                if pid == os.getpid():  # a fork shares its parent's sockets, and must not say good-bye on them
                    with suppress(Exception):
                        connection.close()
            self._open.clear()
        self._local = threading.local()

    def _defaults(self, write: bool) -> dict[str, Any]:
        """What the address leaves open: a host that does not answer is given up, and standbys take no writes."""
        import psycopg

        own = {"target_session_attrs": "read-write"} if write else {}
        return own | {
            name: value for name, value in _GIVE_UP.items() if name not in psycopg.conninfo.conninfo_to_dict(self.dsn)
        }

    def _connection(self, write: bool) -> Connection[Any]:
        """This thread's; a new one after a fork, after the server closed it, or to write where it is a standby's."""
        found = getattr(self._local, "connection", None)
        if found is not None and self._local.pid == os.getpid():
            standby = write and found.info.parameter_status("in_hot_standby") == "on"
            if not found.closed and (self._local.depth or not standby):
                return found  # type: ignore[no-any-return]
            found.close()
        import psycopg

        connection = psycopg.connect(self.dsn, autocommit=True, **self._defaults(write))
        # Statements are planned with their values: a plan for any filter and limit reads the whole table.
        connection.prepare_threshold = None
        connection.adapters.register_dumper(HalfVector, _dumper())
        try:
            # Names are found in the index's schema first, then in pgvector's, and nowhere else.
            row = connection.execute(
                "SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace "
                "WHERE extname = 'vector'"
            ).fetchone()
            path = psycopg.sql.SQL(", ").join(map(psycopg.sql.Identifier, [self.schema, *(row or ())]))
            connection.execute(psycopg.sql.SQL("SET search_path TO {}").format(path))
            if self.tenant is not None:
                # Row-level security does not hold for owners and superusers, but for this role.
                role = psycopg.sql.Identifier(tenant_role(self.schema))
                connection.execute("SELECT set_config('smart.tenant', %s, false)", (self.tenant,))
                connection.execute(psycopg.sql.SQL("SET ROLE {}").format(role))
        except BaseException:
            connection.close()
            raise
        self._local.connection, self._local.pid, self._local.depth = connection, os.getpid(), 0
        with self._lock:
            self._open = [one for one in self._open if not one[1].closed] + [(os.getpid(), connection)]
        return connection

    @contextmanager
    def asking(self, *, together: bool = False) -> Iterator[Connection[Any]]:
        """For one statement, which sees one commit by itself, or some sent ``together``; joins a transaction."""
        with named_errors(self.name):
            connection = self._connection(write=False)
            with connection.pipeline() if together and not self._local.depth else nullcontext():
                yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection[Any]]:
        """One view of one commit; joins a transaction that this thread is in."""
        with self._transaction(write=False) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection[Any]]:
        """A transaction that becomes one commit, or none."""
        with self._transaction(write=True) as connection:
            yield connection

    @contextmanager
    def _transaction(self, *, write: bool) -> Iterator[Connection[Any]]:
        import psycopg

        with named_errors(self.name):
            connection = self._connection(write)
            if self._local.depth:
                if write and connection.read_only:
                    raise StoreError("found a write within a read; end the read first")
                yield connection
                return
            level = psycopg.IsolationLevel
            connection.isolation_level = level.READ_COMMITTED if write else level.REPEATABLE_READ
            connection.read_only = not write
            self._local.depth, self._local.seen = 1, {}
            try:
                # A read begins with its first question, not a round trip before it.
                with nullcontext() if write else connection.pipeline(), connection.transaction():
                    yield connection
            finally:
                self._local.depth, self._local.seen = 0, {}

    def seen(self) -> dict[str, Any]:
        """What this thread keeps of the view it reads, until that ends."""
        found: dict[str, Any] = self._local.seen if self._local.depth else {}
        return found


class HalfVector(bytes):
    """A ``halfvec`` as the server reads it in binary."""

    @classmethod
    def of(cls, vector: Array) -> HalfVector:
        """A vector ``[D]`` in half precision."""
        return cls(np.array([len(vector), 0], ">u2").tobytes() + np.asarray(vector, ">f2").tobytes())


@cache
def _dumper() -> type[Dumper]:
    import psycopg

    class Binary(psycopg.adapt.Dumper):
        format = psycopg.pq.Format.BINARY

        def dump(self, obj: HalfVector) -> bytes:
            return obj

    return Binary


def tenant_role(schema: str) -> str:
    """The role that reads and writes with row-level security."""
    return f"{schema}_tenant"


@contextmanager
def named_errors(name: str) -> Iterator[None]:
    """The server's errors as ours, in one line, without what was sent."""
    import psycopg

    try:
        yield
    except psycopg.errors.QueryCanceled as error:
        raise TimeoutError(f"index {name}: the time was over") from error
    except psycopg.errors.UndefinedTable as error:
        raise StoreError(f"index {name}: found no index there ({_line(error)}); export one") from error
    except psycopg.errors.DataCorrupted as error:
        raise IndexDamagedError(f"index {name}: {_line(error)}; restore a copy") from error
    except psycopg.errors.InsufficientPrivilege as error:
        raise StoreError(f"index {name}: the server refuses this to the user or tenant ({_line(error)})") from error
    except psycopg.OperationalError as error:
        # No state at all, or one of the classes of connections: it went down, or is not up yet.
        gone = (error.sqlstate or "08").startswith(("08", "57P"))
        kind = StoreUnreachableError if gone else StoreError
        raise kind(f"index {name}: {type(error).__name__}: {_line(error)}") from error
    except psycopg.Error as error:
        raise StoreError(f"index {name}: {type(error).__name__}: {_line(error)}") from error


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0][:200]
