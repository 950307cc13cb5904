"""Rows of the store as arrays and documents, checked against their checksums, inside a read transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import IndexDamagedError
from . import media_rows
from .manifest import Manifest
from .records import Document, Vectors, blob_checksum, checksum, unpack_token_ids
from .writing import json_list

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
