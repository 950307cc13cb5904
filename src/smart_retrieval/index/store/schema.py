"""The tables of ``index.sqlite``, and the one row that sums them up.

``documents`` ends with the text, so that a filter which reads metadata does not read the text's overflow pages.
Token codes have a table of their own, so that ``optimize`` can write new ones beside the old and swap. Rowids are
never used twice: whatever mirrors a row by its rowid can only find that row or none.
"""

from __future__ import annotations

import secrets
import sqlite3
from dataclasses import astuple, dataclass
from datetime import UTC, datetime

APPLICATION_ID = 0x534D5254  # "SMRT"
FORMAT_VERSION = 1
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
    """The sums kept with every commit, so that none of them ever needs a scan.

    Args:
        number: Commits so far.
        documents: Documents in the index; N of the IDF table.
        tokens: Token codes of all documents.
        last_rowid: The largest rowid ever given.
        generation: Of the codec and its codes; ``optimize`` may raise it.
        updated: Time of the last commit.
    """

    number: int = 0
    documents: int = 0
    tokens: int = 0
    last_rowid: int = 0
    generation: int = 1
    updated: str = ""

    @classmethod
    def read(cls, connection: sqlite3.Connection) -> State:
        """The state of the commit that the connection's transaction sees."""
        row = connection.execute(
            "SELECT number, documents, tokens, last_rowid, generation, updated FROM state"
        ).fetchone()
        return cls(*row)

    def write(self, connection: sqlite3.Connection) -> None:
        """Store it as commit ``number``, under a random token.

        The token tells this commit from one of the same number in a copy that was restored and went another way.
        """
        self.updated = now()
        connection.execute("INSERT OR REPLACE INTO state VALUES (1, ?, ?, ?, ?, ?, ?)", astuple(self))
        connection.execute("INSERT INTO commits VALUES (?, ?)", (self.number, secrets.randbits(62)))
