"""Rows of the store as arrays and documents, checked against their checksums, inside a read transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import DuplicateIdError, IndexDamagedError
from . import lexical
from . import pictures as media_rows
from .checksums import RawText, blob_checksum, checksum
from .connections import Handle
from .manifest import Manifest
from .records import Added, Document, Row, Vectors, unpack_token_ids

CHUNK = 1000


def json_list(values: Iterable[Any]) -> str:
    """Rowids as a JSON text, to be bound as one parameter of ``json_each(?)``."""
    return "[" + ",".join(map(str, map(int, values))) + "]"


@contextmanager
def raw_text(connection: sqlite3.Connection) -> Iterator[None]:
    """TEXT comes back as :class:`RawText`, whatever bytes it holds."""
    before = connection.text_factory
    connection.text_factory = RawText
    try:
        yield
    finally:
        connection.text_factory = before


def existing(connection: sqlite3.Connection, ids: Sequence[str]) -> dict[str, int]:
    """The rowids of those ids that are in the index."""
    found: dict[str, int] = {}
    for start in range(0, len(ids), CHUNK):
        part = ids[start : start + CHUNK]
        marks = ",".join("?" * len(part))
        found.update(connection.execute(f"SELECT id, rowid FROM documents WHERE id IN ({marks})", part))
    return found


def add_rows(handle: Handle, rows: Sequence[Row], on_duplicate: str, *, with_lexical: bool) -> Added:
    """Add rows in order.

    Args:
        handle: Of the write transaction.
        rows: The rows.
        on_duplicate: ``"error"``, ``"replace"`` (of two in one batch the later wins) or ``"skip"`` (the earlier).
        with_lexical: Whether there is a full-text index to keep.

    Raises:
        DuplicateIdError: An id is in the index, or twice in the batch, and ``on_duplicate`` is ``"error"``.
    """
    connection, state = handle.connection, handle.state
    assert state is not None
    unique: dict[str, Row] = {}
    for row in rows:
        if row.id in unique and on_duplicate == "error":
            raise DuplicateIdError(f"found id {row.id!r} twice in one batch; pass on_duplicate='replace' or 'skip'")
        if row.id not in unique or on_duplicate == "replace":
            unique[row.id] = row
    known = existing(connection, list(unique))
    if known and on_duplicate == "error":
        first = next(id for id in unique if id in known)
        raise DuplicateIdError(
            f"found id {first!r} in the index already ({len(known)} of {len(unique)} are); "
            "pass on_duplicate='replace' or 'skip'"
        )
    if on_duplicate == "skip":
        unique = {id: row for id, row in unique.items() if id not in known}
    elif known:
        delete_rows(handle, list(known.values()), with_lexical=with_lexical)
    added = Added(
        rowids=list(range(state.last_rowid + 1, state.last_rowid + 1 + len(unique))),
        replaced=len(known) if on_duplicate == "replace" else 0,
        skipped=len(rows) - len(unique),
        commit=state.number,
    )
    if not unique:
        return added
    pairs = list(zip(added.rowids, unique.values(), strict=True))
    connection.executemany(
        "INSERT INTO documents (rowid, id, added, source, page, heading, metadata, text, checksum) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (row.document_values(rowid, state.number) for rowid, row in pairs),
    )
    connection.executemany(
        "INSERT INTO vectors (rowid, n_ids, anchor, ids, checksum) VALUES (?, ?, ?, ?, ?)",
        (row.vector_values(rowid) for rowid, row in pairs),
    )
    connection.executemany(
        "INSERT INTO codes (rowid, n_tokens, codes, checksum) VALUES (?, ?, ?, ?)",
        (row.code_values(rowid) for rowid, row in pairs),
    )
    media_rows.insert(connection, ((rowid, row.id, row.media) for rowid, row in pairs))
    if with_lexical:
        lexical.add(connection, ((rowid, row.document[-1]) for rowid, row in pairs))
    _count(connection, [row.unique_ids for _, row in pairs], 1)
    state.documents += len(pairs)
    state.tokens += sum(row.n_tokens for _, row in pairs)
    state.last_rowid += len(pairs)
    handle.dirty = True
    return added


def _count(connection: sqlite3.Connection, unique_ids: Sequence[NDArray[Any]], sign: int) -> None:
    """Move the document frequencies by documents that come (+1) or go (-1)."""
    tokens, counts = np.unique(np.concatenate([np.zeros(0, np.int64), *unique_ids]), return_counts=True)
    rows = zip(tokens.tolist(), (counts * sign).tolist(), strict=True)
    connection.executemany(
        "INSERT INTO idf VALUES (?, ?) ON CONFLICT (token) DO UPDATE SET df = df + excluded.df", rows
    )
    if sign < 0:
        connection.executemany("DELETE FROM idf WHERE token = ? AND df <= 0", ((token,) for token in tokens.tolist()))


def delete_rows(handle: Handle, rowids: Sequence[int], *, with_lexical: bool) -> int:
    """Delete rows; rowids that are not there are passed over.

    A damaged row is deleted too: what it should be taken out of is then counted anew from the rows that stay.

    Returns:
        How many were there.
    """
    deleted, damaged = 0, False
    for start in range(0, len(rowids), CHUNK):
        part = json_list(rowids[start : start + CHUNK])
        found, sound = _delete_chunk(handle, part, with_lexical=with_lexical)
        deleted += found
        damaged |= not sound
    if damaged:
        recount(handle.connection)
        if with_lexical:
            handle.connection.execute("INSERT INTO lexical (lexical) VALUES ('rebuild')")
    return deleted


def _delete_chunk(handle: Handle, rowids: str, *, with_lexical: bool) -> tuple[int, bool]:
    connection, state = handle.connection, handle.state
    assert state is not None
    with raw_text(connection):
        rows = connection.execute(
            "SELECT d.rowid, d.id, d.added, d.source, d.page, d.heading, d.metadata, d.text, d.checksum, "
            "v.n_ids, v.anchor, v.ids, v.checksum, c.n_tokens FROM json_each(?) AS j "
            "CROSS JOIN documents AS d ON d.rowid = j.value LEFT JOIN vectors AS v ON v.rowid = d.rowid "
            "LEFT JOIN codes AS c ON c.rowid = d.rowid",
            (rowids,),
        ).fetchall()
    unique, texts, sound = [], [], True
    for rowid, id, *rest in rows:
        document, stored, vector, vector_stored = rest[:6], rest[6], rest[7:10], rest[10]
        try:
            if checksum(rowid, id, *document) != stored or blob_checksum(rowid, id, *vector) != vector_stored:
                raise IndexDamagedError("its checksum differs")
            unique.append(np.unique(unpack_token_ids(vector[2], vector[0])).astype(np.int64))
            texts.append((rowid, document[-1].decode()))
        except (IndexDamagedError, TypeError, ValueError):
            sound = False
    if not rows:
        return 0, True
    if sound:
        _count(connection, [ids[ids >= 0] for ids in unique], -1)
        if with_lexical:
            lexical.remove(connection, texts)
    numbers = [(row[0], state.number) for row in rows]
    # vectors, codes (those that optimize is writing, too) and media go with their document.
    connection.executemany("DELETE FROM documents WHERE rowid = ?", ((number,) for number, _ in numbers))
    connection.executemany("INSERT OR REPLACE INTO tombstones VALUES (?, ?)", numbers)
    state.documents -= len(rows)
    state.tokens -= sum(row[-1] for row in rows if isinstance(row[-1], int))
    handle.dirty = True
    return len(rows), sound


def recount(connection: sqlite3.Connection) -> None:
    """Count the document frequencies anew, from the rows that can be read."""
    counts: dict[int, int] = {}
    for n_ids, blob in connection.execute("SELECT n_ids, ids FROM vectors"):
        try:
            ids = unpack_token_ids(blob, n_ids)
        except (IndexDamagedError, TypeError, ValueError):
            continue
        for token in np.unique(ids[ids >= 0]).tolist():
            counts[token] = counts.get(token, 0) + 1
    connection.execute("DELETE FROM idf")
    connection.executemany("INSERT INTO idf VALUES (?, ?)", counts.items())


_VECTORS = (
    "SELECT d.rowid, d.id, v.n_ids, v.anchor, v.ids, v.checksum, c.n_tokens, c.codes, c.checksum FROM {first} "
    "LEFT JOIN vectors AS v ON v.rowid = d.rowid LEFT JOIN codes AS c ON c.rowid = d.rowid {rest}"
)
_DOCUMENTS = (
    "SELECT d.rowid, d.id, d.added, d.source, d.page, d.heading, d.metadata, d.text, d.checksum "
    "FROM json_each(?) AS j CROSS JOIN documents AS d ON d.rowid = j.value"
)


def damaged(rowid: int, id: object) -> IndexDamagedError:
    """The error for a row that does not match its checksum."""
    return IndexDamagedError(
        f"document {id!r} (row {rowid}) does not match its checksum; run verify, then delete it or restore a copy"
    )


def vectors_of(connection: sqlite3.Connection, manifest: Manifest, rowids: Sequence[int] | NDArray[Any]) -> Vectors:
    """Vectors of these rows, in this order; rows that are not there are left out."""
    query = _VECTORS.format(first="json_each(?) AS j CROSS JOIN documents AS d ON d.rowid = j.value", rest="")
    return _vectors(connection.execute(query, (json_list(rowids),)).fetchall(), manifest)


def vectors_after(connection: sqlite3.Connection, manifest: Manifest, rowid: int, limit: int) -> Vectors:
    """Vectors of the next rows above a rowid, ascending."""
    query = _VECTORS.format(first="documents AS d", rest="WHERE d.rowid > ? ORDER BY d.rowid LIMIT ?")
    return _vectors(connection.execute(query, (rowid, limit)).fetchall(), manifest)


def _vectors(rows: list[tuple[Any, ...]], manifest: Manifest) -> Vectors:
    ids: list[NDArray[Any]] = []
    for rowid, id, n_ids, anchor, packed, stored, n_tokens, codes, code_stored in rows:
        whole = None not in (anchor, packed, codes)
        if (
            not whole
            or blob_checksum(rowid, id, n_ids, anchor, packed) != stored
            or blob_checksum(rowid, id, n_tokens, codes) != code_stored
        ):
            raise damaged(rowid, id)
        ids.append(unpack_token_ids(packed, n_ids))
    codes = b"".join([row[7] for row in rows])
    return Vectors(
        rowids=np.array([row[0] for row in rows], np.int64),
        anchors=np.frombuffer(b"".join([row[3] for row in rows]), "<f4").reshape(-1, manifest.anchor_dim),
        codes=np.frombuffer(codes, np.uint8).reshape(sum(row[6] for row in rows), manifest.code_width),
        offsets=_offsets([row[6] for row in rows]),
        token_ids=np.concatenate([np.zeros(0, np.int32), *ids]),
        id_offsets=_offsets([row[2] for row in rows]),
    )


def _offsets(lengths: list[int]) -> NDArray[Any]:
    return np.cumsum([0, *lengths], dtype=np.int64)


def documents_of(
    connection: sqlite3.Connection,
    rowids: Sequence[int] | NDArray[Any],
    thumbnail: Callable[[int], bytes] | None = None,
) -> list[Document]:
    """Documents of these rows, in this order; rows that are not there are left out.

    Args:
        connection: Within a read transaction.
        rowids: The rows.
        thumbnail: Reads the thumbnail of a row later, when it is asked for.
    """
    wanted = json_list(rowids)
    media = media_rows.of_rows(connection, wanted, thumbnail)
    found: list[Document] = []
    for *values, text, stored in connection.execute(_DOCUMENTS, (wanted,)):
        if checksum(*values, text) != stored:
            raise damaged(values[0], values[1])
        rowid, id, commit, source, page, heading, metadata = values
        unpacked = json.loads(metadata)
        found.append(Document(rowid, id, text, source, page, heading, unpacked, commit, media.get(rowid)))
    return found
