"""Is every byte still the one that was written? Checksums of all rows, sums against rows, SQLite's own checks."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...errors import SmartError
from ...types import Array
from ..codec.payload import unpack_token_ids
from . import pictures
from .anchors import unpack_anchors
from .connections import Handle
from .manifest import Manifest
from .records import MOST_ID
from .rows import DOCUMENT, JOINED, VECTORS, anchor_fits, codes_fit, metadata_of, raw_text
from .schema import RawText, State, blob_checksum, checksum


@dataclass(frozen=True, slots=True)
class Damage:
    """One row that is not what was written.

    Args:
        rowid: The row.
        id: Its document id, as far as it can be read.
        part: ``"document"`` (text, metadata, source, ...), ``"vectors"`` (anchor, token ids), ``"codes"`` or
            ``"media"`` (a picture's size, grid, thumbnail).
    """

    rowid: int
    id: str
    part: str


@dataclass
class VerifyReport:
    """What :meth:`Store.verify` found.

    Args:
        documents: Rows looked at.
        damaged: Rows that do not match their checksums.
        problems: Everything else, in words.
        notes: What could not be checked.
    """

    documents: int = 0
    damaged: list[Damage] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Nothing was found."""
        return not self.damaged and not self.problems


def verify(connection: sqlite3.Connection) -> VerifyReport:
    """Check everything that one read transaction sees."""
    report = VerifyReport()
    for part in (_settings, _rows, _media, _integrity):
        try:
            with raw_text(connection):
                part(connection, report)
        except (sqlite3.DatabaseError, SmartError, ValueError, TypeError) as error:
            report.problems.append(f"the database cannot be read on: {error}")
    return report


def _settings(connection: sqlite3.Connection, report: VerifyReport) -> None:
    try:
        _manifest(connection)
    except (SmartError, sqlite3.DatabaseError, ValueError) as error:
        report.problems.append(str(error))
    for table, columns in (("codec", "generation, data"), ("files", "path, size, mtime_ns, sha256")):
        for *values, stored in connection.execute(f"SELECT {columns}, checksum FROM {table}"):
            if checksum(*values) != stored:
                report.problems.append(f"{table} {values[0]!r} does not match its checksum")


def _manifest(connection: sqlite3.Connection) -> Manifest:
    raw, connection.text_factory = connection.text_factory, str
    try:
        return Manifest.read(connection)
    finally:
        connection.text_factory = raw


def _rows(connection: sqlite3.Connection, report: VerifyReport) -> None:
    state, manifest = State.read(connection), None
    with suppress(SmartError, sqlite3.DatabaseError, ValueError):  # a problem that was said already
        manifest = _manifest(connection)
    frequencies = np.zeros(0, np.int64)  # documents that hold a token id
    tokens = last = 0
    columns = f"{DOCUMENT}, {VECTORS}, c.n_tokens, c.codes, c.checksum"
    for row in connection.execute(f"SELECT {columns} FROM documents AS d {JOINED} ORDER BY d.rowid"):
        (rowid, id, added), vector, code = row[:3], row[9:13], row[13:]
        if rowid <= last:
            report.problems.append(f"found row {rowid} after row {last}: rows do not ascend")
            return
        report.documents, last = report.documents + 1, rowid
        sound = {
            "document": checksum(*row[:8]) == row[8] and _is_document(row[:8]) and added <= state.number,
            "vectors": _matches(rowid, id, vector) and (manifest is None or _is_anchor(manifest, vector[1], vector[0])),
            "codes": _matches(rowid, id, code) and (manifest is None or codes_fit(manifest, code[1], code[0])),
        }
        report.damaged += [Damage(rowid, _name(id), part) for part, whole in sound.items() if not whole]
        if sound["vectors"]:
            unique = np.unique(unpack_token_ids(vector[2], vector[0]))
            unique = unique[unique >= 0]
            if unique.size and unique[-1] > MOST_ID:
                report.problems.append(f"row {rowid}: found vocabulary id {unique[-1]}, expected at most {MOST_ID}")
                unique = unique[unique <= MOST_ID]
            if unique.size and unique[-1] >= len(frequencies):
                frequencies = np.pad(frequencies, (0, int(unique[-1]) + 1 - len(frequencies)))
            frequencies[unique] += 1
        if sound["codes"]:
            tokens += code[0]
    report.problems.extend(_sums(connection, report, state, tokens, last, frequencies))


def _media(connection: sqlite3.Connection, report: VerifyReport) -> None:
    for rowid, id in pictures.damaged_rows(connection):
        report.damaged.append(Damage(rowid, _name(id), "media"))


def _name(id: Any) -> str:
    return id.decode(errors="replace") if isinstance(id, bytes) else repr(id)


def _matches(rowid: int, id: Any, row: Sequence[Any]) -> bool:
    """Whether a count, blobs and their checksum belong together."""
    try:
        return bool(blob_checksum(rowid, id, *row[:-1]) == row[-1])
    except TypeError:  # a missing row, or a value of another type
        return False


def _is_document(row: Sequence[Any]) -> bool:
    """Whether a row with the right checksum can be read as a document."""
    try:
        metadata_of([value.decode() if isinstance(value, RawText) else value for value in row])
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _is_anchor(manifest: Manifest, anchor: bytes, n_ids: Any) -> bool:
    fits = anchor_fits(manifest, anchor, n_ids)
    return fits and bool(np.isfinite(unpack_anchors(anchor, manifest.anchors, manifest.anchor_dim)).all())


def _sums(
    connection: sqlite3.Connection, report: VerifyReport, state: State, tokens: int, last: int, frequencies: Array
) -> Iterator[str]:
    def single(query: str) -> Any:
        return connection.execute(query).fetchone()[0]

    for table in ("vectors", "codes"):
        if (found := single(f"SELECT count(*) FROM {table}")) != report.documents:
            yield f"found {found} rows in {table} for {report.documents} documents"
    if state.documents != report.documents or last > state.last_rowid:
        counted = f"{state.documents} up to {state.last_rowid}"
        yield f"found {report.documents} documents up to row {last}, the index counts {counted}"
    if not report.damaged:
        if tokens != state.tokens:
            yield f"found {tokens} token codes, the index counts {state.tokens}"
        stored = dict(connection.execute("SELECT token, df FROM idf"))
        expected = {int(token): int(frequencies[token]) for token in np.flatnonzero(frequencies)}
        if stored != expected:
            wrong = {token for token in stored.keys() | expected.keys() if stored.get(token) != expected.get(token)}
            yield f"the IDF table is wrong for {len(wrong)} tokens, {min(wrong)} for one"
    if single("SELECT max(number) FROM commits") != state.number and state.number:
        yield "the log of commits does not end with the last one"
    if single("SELECT count(*) FROM codec") != 1 or single("SELECT max(generation) FROM codec") != state.generation:
        yield f"found no codec of generation {state.generation}"
    if single("SELECT count(*) FROM tombstones JOIN documents USING (rowid)") or (
        (single("SELECT max(deleted) FROM tombstones") or 0) > state.number
    ):
        yield "the log of deleted rows names rows that are there"


def _integrity(connection: sqlite3.Connection, report: VerifyReport) -> None:
    for (line,) in connection.execute("PRAGMA integrity_check"):
        text = line.decode(errors="replace")
        if text != "ok":
            report.problems.append(f"SQLite: {text}")
    for row in connection.execute("PRAGMA foreign_key_check"):
        report.problems.append(f"SQLite: row {row[1]} of {row[0]!r} belongs to no document")


def verify_lexical(handle: Handle, report: VerifyReport) -> None:
    """Compare the full-text index with the texts. FTS5 offers this only as a (changeless) write."""
    try:
        handle.connection.execute("INSERT INTO lexical (lexical, rank) VALUES ('integrity-check', 1)")
    except sqlite3.DatabaseError as error:
        report.problems.append(f"the full-text index does not match the texts ({error})")
