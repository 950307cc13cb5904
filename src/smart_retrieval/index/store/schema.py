"""The tables of ``index.sqlite``, the row that sums them up, and the checksums of rows.

``documents`` ends with the text, so that a filter which reads metadata does not read the text's overflow pages.
Token codes have a table of their own, so that ``optimize`` can write new ones beside the old and swap. Rowids are
never used twice: whatever mirrors a row by its rowid can only find that row or none.
"""

from __future__ import annotations

import secrets
import sqlite3
import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from typing import Any

from ...errors import IndexDamagedError

APPLICATION_ID = 0x534D5254  # "SMRT"
FORMAT_VERSION = 2
READABLE = (1, 2)  # 1, of version 0.1.0: anchors in float32
PAGE_SIZE = 8192  # a row of 2-4 kB wastes a third of a 4096-byte page

TABLES = """
CREATE TABLE manifest (key TEXT PRIMARY KEY, value TEXT NOT NULL, checksum INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE codec (generation INTEGER PRIMARY KEY, data BLOB NOT NULL, checksum INTEGER NOT NULL);
CREATE TABLE documents (
    rowid INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    added INTEGER NOT NULL,
    source TEXT,
    page INTEGER,
    heading TEXT,
    metadata TEXT NOT NULL,
    checksum INTEGER NOT NULL,
    text TEXT NOT NULL
);
CREATE INDEX documents_source ON documents (source) WHERE source IS NOT NULL;
CREATE TABLE vectors (
    rowid INTEGER PRIMARY KEY REFERENCES documents ON DELETE CASCADE,
    n_ids INTEGER NOT NULL,
    anchor BLOB NOT NULL,
    ids BLOB NOT NULL,
    checksum INTEGER NOT NULL
);
CREATE TABLE idf (token INTEGER PRIMARY KEY, df INTEGER NOT NULL);
CREATE TABLE files (
    path TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, sha256 TEXT NOT NULL,
    checksum INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE tombstones (rowid INTEGER PRIMARY KEY, deleted INTEGER NOT NULL);
CREATE INDEX tombstones_deleted ON tombstones (deleted);
CREATE TABLE commits (number INTEGER PRIMARY KEY, token INTEGER NOT NULL);
CREATE TABLE state (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    number INTEGER NOT NULL,
    documents INTEGER NOT NULL,
    tokens INTEGER NOT NULL,
    last_rowid INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    updated TEXT NOT NULL
);
"""


def codes_table(name: str) -> str:
    """The statement that creates a table of token codes; ``name`` is ``codes`` or ``codes_next``."""
    return (
        f"CREATE TABLE {name} (rowid INTEGER PRIMARY KEY REFERENCES documents ON DELETE CASCADE, "
        "n_tokens INTEGER NOT NULL, codes BLOB NOT NULL, checksum INTEGER NOT NULL)"
    )


def now() -> str:
    """This moment, ISO 8601 in UTC to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass
class State:
    """The sums kept with every commit, so that none of them ever needs a scan."""

    number: int = 0  # commits so far
    documents: int = 0  # N of the IDF table
    tokens: int = 0  # token codes of all documents
    last_rowid: int = 0  # the largest ever given
    generation: int = 1  # of the codec and its codes; ``optimize`` may raise it
    updated: str = ""  # time of the last commit

    @classmethod
    def read(cls, connection: sqlite3.Connection) -> State:
        """The state of the commit that the connection's transaction sees."""
        row = connection.execute(
            "SELECT number, documents, tokens, last_rowid, generation, CAST(updated AS TEXT) FROM state"
        ).fetchone()
        if row is None or not all(isinstance(value, int) and 0 <= value < 1 << 62 for value in row[:5]):
            raise IndexDamagedError("the row that sums up the index is missing or damaged; restore a copy")
        return cls(*row)

    def write(self, connection: sqlite3.Connection) -> None:
        """Store it as commit ``number``, under a random token.

        The token tells this commit from one of the same number in a copy that was restored and went another way.
        """
        self.updated = now()
        connection.execute("INSERT OR REPLACE INTO state VALUES (1, ?, ?, ?, ?, ?, ?)", astuple(self))
        connection.execute("INSERT INTO commits VALUES (?, ?)", (self.number, secrets.randbits(62)))


def write_codec(connection: sqlite3.Connection, generation: int, codec: bytes) -> None:
    """Store the codec's bytes in place of any other."""
    connection.execute("DELETE FROM codec")
    connection.execute("INSERT INTO codec VALUES (?, ?, ?)", (generation, codec, checksum(generation, codec)))


# What SQLite itself keeps.
_INTERNAL = {
    "sqlite_sequence": "CREATE TABLE sqlite_sequence(name,seq)",
    "sqlite_stat1": "CREATE TABLE sqlite_stat1(tbl,idx,stat)",
    "sqlite_stat4": "CREATE TABLE sqlite_stat4(tbl,idx,neq,nlt,ndlt,sample)",
}


def check_objects(connection: sqlite3.Connection, allowed: Mapping[str, set[str]]) -> None:
    """Refuse a database with a table, index, view or trigger that no index has, or a table of other columns.

    A view or trigger is a program that runs when the database is read or written.

    Args:
        connection: Reads nothing but the list of these.
        allowed: The statements that may have created each, as :func:`plain_sql` writes them, by name.
    """
    missing = {table for table in allowed if f"CREATE TABLE {table} " in TABLES} | {"codes"}
    for name, sql in connection.execute("SELECT name, sql FROM sqlite_master"):
        known = allowed.get(name, {plain_sql(_INTERNAL[name])} if name in _INTERNAL else set())
        automatic = sql is None and str(name).startswith("sqlite_autoindex_")
        if not automatic and (not isinstance(sql, str) or plain_sql(sql) not in known):
            raise IndexDamagedError(
                f"found {str(name)[:60]!r} in the database, or made in another way, which no index has; it was changed "
                "by something else: restore a copy, and open none that you do not trust"
            )
        missing.discard(name)
    if missing:
        raise IndexDamagedError(f"found no table {', '.join(sorted(missing))} in the database; restore a copy")


def plain_sql(sql: str) -> str:
    """A statement without quotes and with single blanks."""
    return " ".join(sql.replace('"', "").replace("'", "").split())


def json_list(rowids: Iterable[Any]) -> str:
    """Rowids as a JSON text, to be bound as one parameter of ``json_each(?)``."""
    return "[" + ",".join(map(str, map(int, rowids))) + "]"


class RawText(bytes):
    """TEXT as bytes. As a connection's ``text_factory`` it keeps damaged UTF-8 readable, and TEXT apart from BLOB."""


def checksum(*values: Any) -> int:
    """CRC-32 over values of any SQLite type, each with its type and length, so that no two rows read alike.

    CRC-32 finds every error within 32 neighbouring bits, so every flipped byte.
    """
    crc = 0
    for value in values:
        if value is None:
            head, body = b"n", b""
        elif isinstance(value, int):
            head, body = b"i", b"%d" % value
        elif isinstance(value, float):
            head, body = b"f", struct.pack("<d", value)
        elif isinstance(value, str | RawText):
            head, body = b"t", value.encode() if isinstance(value, str) else value
        else:
            head, body = b"b", value
        crc = zlib.crc32(body, zlib.crc32(b"%s%d:" % (head, len(body)), crc))
    return crc


def blob_checksum(rowid: int, id: str | bytes, count: int, *blobs: bytes) -> int:
    """Checksum of a ``vectors`` or ``codes`` row; it knows its document, so a row in the wrong place is found too."""
    name = id.encode() if isinstance(id, str) else bytes(id) if isinstance(id, bytes) else repr(id).encode()
    crc = zlib.crc32(b"%r" % ((rowid, name, count, [len(blob) for blob in blobs]),))
    for blob in blobs:
        crc = zlib.crc32(blob, crc)
    return crc
