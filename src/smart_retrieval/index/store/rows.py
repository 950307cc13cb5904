"""Records to rows, and rows to documents and vectors, with their checksums; inside transactions."""

from __future__ import annotations

import json
import math
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from ...errors import DuplicateIdError, IndexDamagedError, SmartError
from ...types import Array
from ..codec.payload import MOST_TOKENS, pack_token_ids, unpack_token_ids
from . import pictures
from .anchors import anchor_bytes, pack_anchor, unpack_anchors
from .connections import Connections, Handle
from .lexical import FullText
from .manifest import Manifest
from .records import MOST_ID, Added, Document, Record, Vectors, pack_metadata
from .schema import RawText, blob_checksum, checksum, json_list

CHUNK = 1000
_SURROGATE = re.compile("[\ud800-\udfff]")
# Columns of a document and of its vectors; each group ends with its checksum.
DOCUMENT = "d.rowid, d.id, d.added, d.source, d.page, d.heading, d.metadata, d.text, d.checksum"
VECTORS = "v.n_ids, v.anchor, v.ids, v.checksum"
JOINED = "LEFT JOIN vectors AS v ON v.rowid = d.rowid LEFT JOIN codes AS c ON c.rowid = d.rowid"
LISTED = "json_each(?) AS j CROSS JOIN documents AS d ON d.rowid = j.value"


@contextmanager
def raw_text(connection: sqlite3.Connection) -> Iterator[None]:
    """TEXT comes back as :class:`RawText`, whatever bytes it holds."""
    before = connection.text_factory
    connection.text_factory = RawText
    try:
        yield
    finally:
        connection.text_factory = before


# -- writing -----------------------------------------------------------------------------------------------------------


class PackedRecord(NamedTuple):
    """A record that fits the index, with its parts as bytes."""

    record: Record
    page: int | None
    metadata: str
    anchor: bytes
    token_ids: bytes
    codes: bytes


def pack(record: Record, manifest: Manifest) -> PackedRecord:
    """Check a record against the index and turn its parts into bytes."""
    if not isinstance(record.id, str) or not record.id or "\0" in record.id:
        raise SmartError(f"found document id {record.id!r}, expected a non-empty string without NUL")
    anchor, anchor_dim, code_width = np.asarray(record.anchor, np.float32), manifest.anchor_dim, manifest.code_width
    codes = np.ascontiguousarray(record.codes)
    ids = np.asarray(record.token_ids)
    if anchor.shape != (anchor_dim,) or codes.ndim != 2 or codes.shape[1] != code_width or codes.dtype != np.uint8:
        raise SmartError(
            f"document {record.id!r}: found an anchor of shape {anchor.shape} and {codes.dtype} codes of shape "
            f"{codes.shape}, expected ({anchor_dim},) and uint8 (tokens, {code_width})"
        )
    if ids.ndim != 1 or (ids.size and (ids.dtype.kind not in "iu" or ids.min() < -1 or ids.max() > MOST_ID)):
        raise SmartError(f"document {record.id!r}: expected token ids as one row of integers from -1 to {MOST_ID}")
    if (most := max(ids.size, len(codes))) > MOST_TOKENS:
        raise SmartError(f"document {record.id!r}: found {most:,} tokens, expected at most {MOST_TOKENS:,}")
    if not math.isfinite(float(np.abs(anchor).sum(dtype=np.float64))):
        raise SmartError(f"document {record.id!r}: its anchor holds NaN or infinity")
    page = None if record.page is None else int(record.page)
    if page is not None and not -(2**63) <= page < 2**63:
        raise SmartError(f"document {record.id!r}: found page {page}, expected a page number")
    for part in (record.id, record.text, record.source or "", record.heading or ""):
        if not isinstance(part, str) or _SURROGATE.search(part):
            raise SmartError(f"document {record.id!r}: found {part[:40]!r}, expected Unicode text")
    metadata = pack_metadata(record.metadata, record.id)
    return PackedRecord(
        record, page, metadata, pack_anchor(anchor, manifest.anchors), pack_token_ids(ids), codes.tobytes()
    )


def existing(connection: sqlite3.Connection, ids: Sequence[str]) -> dict[str, int]:
    """The rowids of those ids that are in the index."""
    found: dict[str, int] = {}
    ids = [id for id in ids if not _SURROGATE.search(id)]  # which SQLite does not take
    for start in range(0, len(ids), CHUNK):
        part = ids[start : start + CHUNK]
        marks = ",".join("?" * len(part))
        found.update(connection.execute(f"SELECT id, rowid FROM documents WHERE id IN ({marks})", part))
    return found


def equivalent(connection: sqlite3.Connection, ids: Sequence[str]) -> dict[str, int]:
    """The rowids of ids that Unicode holds equal to these: letters with their accents composed, or decomposed."""
    found: dict[str, int] = {}
    for id in ids:
        # Of ASCII there is one spelling, and a lone half of a character is in no index.
        if not id.isascii() and not _SURROGATE.search(id):
            query = "SELECT rowid FROM documents WHERE smart_nfc(id) = smart_nfc(?) LIMIT 2"
            rows = connection.execute(query, (id,)).fetchall()
            if len(rows) == 1:
                found[id] = rows[0][0]
    return found


def add_rows(handle: Handle, rows: Sequence[PackedRecord], on_duplicate: str, full_text: FullText | None) -> Added:
    """Add records in order.

    Of two with one id in a batch, the later wins with ``on_duplicate="replace"`` and the earlier with ``"skip"``.
    """
    connection, state = handle.connection, handle.state
    unique: dict[str, PackedRecord] = {}
    for row in rows:
        id = row.record.id
        if id in unique and on_duplicate == "error":
            raise DuplicateIdError(f"found id {id!r} twice in one batch; pass on_duplicate='replace' or 'skip'")
        if id not in unique or on_duplicate == "replace":
            unique[id] = row
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
        delete_rows(handle, list(known.values()), full_text)
    added = Added(
        rowids=list(range(state.last_rowid + 1, state.last_rowid + 1 + len(unique))),
        replaced=len(known) if on_duplicate == "replace" else 0,
        skipped=len(rows) - len(unique),
        commit=state.number,
    )
    if unique:
        _insert(handle, list(zip(added.rowids, unique.values(), strict=True)), full_text)
    return added


def _insert(handle: Handle, rows: list[tuple[int, PackedRecord]], full_text: FullText | None) -> None:
    connection, state = handle.connection, handle.state
    documents, vectors, codes = [], [], []
    for rowid, (record, page, metadata, anchor, ids, blob) in rows:
        head = (rowid, record.id, state.number, record.source, page, record.heading, metadata, record.text)
        documents.append((*head, checksum(*head)))
        n_ids, n_tokens = len(record.token_ids), len(record.codes)
        vectors.append((rowid, n_ids, anchor, ids, blob_checksum(rowid, record.id, n_ids, anchor, ids)))
        codes.append((rowid, n_tokens, blob, blob_checksum(rowid, record.id, n_tokens, blob)))
        state.tokens += n_tokens
    connection.executemany(
        "INSERT INTO documents (rowid, id, added, source, page, heading, metadata, text, checksum) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        documents,
    )
    connection.executemany("INSERT INTO vectors (rowid, n_ids, anchor, ids, checksum) VALUES (?, ?, ?, ?, ?)", vectors)
    connection.executemany("INSERT INTO codes (rowid, n_tokens, codes, checksum) VALUES (?, ?, ?, ?)", codes)
    pictures.insert(connection, ((rowid, row.record.id, row.record.media) for rowid, row in rows))
    if full_text:
        full_text.add(connection, {rowid: row.record.text for rowid, row in rows})
    _count(connection, [_unique(row.record.token_ids) for _, row in rows], 1)
    state.documents += len(rows)
    state.last_rowid += len(rows)
    handle.dirty = True


def _unique(token_ids: Any) -> Array:
    ids = np.unique(np.asarray(token_ids)).astype(np.int64)
    return ids[ids >= 0]


def _count(connection: sqlite3.Connection, unique_ids: Sequence[Array], sign: int) -> None:
    """Move the document frequencies by documents that come (+1) or go (-1)."""
    tokens, counts = np.unique(np.concatenate([np.zeros(0, np.int64), *unique_ids]), return_counts=True)
    rows = zip(tokens.tolist(), (counts * sign).tolist(), strict=True)
    connection.executemany(
        "INSERT INTO idf VALUES (?, ?) ON CONFLICT (token) DO UPDATE SET df = df + excluded.df", rows
    )
    if sign < 0:
        connection.executemany("DELETE FROM idf WHERE token = ? AND df <= 0", ((token,) for token in tokens.tolist()))


def delete_rows(handle: Handle, rowids: Sequence[int], full_text: FullText | None) -> int:
    """Delete rows and say how many there were; rowids that are not there are passed over.

    A damaged row is deleted too: what it should be taken out of is then recounted from the rows that stay.
    """
    deleted, all_sound = 0, True
    for start in range(0, len(rowids), CHUNK):
        found, sound = _delete_chunk(handle, json_list(rowids[start : start + CHUNK]), full_text)
        deleted += found
        all_sound &= sound
    if not all_sound:
        _recount(handle.connection)
        if full_text:
            handle.connection.execute("INSERT INTO lexical (lexical) VALUES ('rebuild')")
    return deleted


def _delete_chunk(handle: Handle, rowids: str, full_text: FullText | None) -> tuple[int, bool]:
    """How many rows were there, and whether all of them matched their checksums."""
    connection, state = handle.connection, handle.state
    with raw_text(connection):
        rows = connection.execute(
            f"SELECT {DOCUMENT}, {VECTORS}, c.n_tokens FROM {LISTED} {JOINED}", (rowids,)
        ).fetchall()
    if not rows:
        return 0, True
    unique, sound = [], True
    for row in rows:
        document, stored, vector, vector_stored = row[:8], row[8], row[9:12], row[12]
        try:
            if checksum(*document) != stored or blob_checksum(*document[:2], *vector) != vector_stored:
                raise IndexDamagedError("its checksum differs")
            unique.append(_unique(unpack_token_ids(vector[2], vector[0])))
            document[-1].decode()
        except (IndexDamagedError, TypeError, ValueError):
            sound = False
    if sound:
        _count(connection, unique, -1)
        if full_text:
            full_text.remove(connection, rowids)
    # vectors, codes (those that optimize is writing, too) and media go with their document.
    connection.executemany("DELETE FROM documents WHERE rowid = ?", ((row[0],) for row in rows))
    connection.executemany("INSERT OR REPLACE INTO tombstones VALUES (?, ?)", ((row[0], state.number) for row in rows))
    state.documents -= len(rows)
    state.tokens -= sum(row[-1] for row in rows if isinstance(row[-1], int))
    handle.dirty = True
    return len(rows), sound


def _recount(connection: sqlite3.Connection) -> None:
    """Recount the document frequencies from the rows that can be read."""
    counts: dict[int, int] = {}
    for n_ids, blob in connection.execute("SELECT n_ids, ids FROM vectors"):
        try:
            ids = unpack_token_ids(blob, n_ids)
        except (IndexDamagedError, TypeError, ValueError):
            continue
        for token in _unique(ids).tolist():
            counts[token] = counts.get(token, 0) + 1
    connection.execute("DELETE FROM idf")
    connection.executemany("INSERT INTO idf VALUES (?, ?)", counts.items())


# -- reading -----------------------------------------------------------------------------------------------------------


def ids_of(connection: sqlite3.Connection, rowids: Sequence[int] | Array) -> list[str | None]:
    """Ids by rowid, in the order given; ``None`` where the row is gone."""
    query = "SELECT d.id FROM json_each(?) AS j LEFT JOIN documents AS d ON d.rowid = j.value ORDER BY j.key"
    return [row[0] for row in connection.execute(query, (json_list(rowids),))]


def vectors_of(connection: sqlite3.Connection, manifest: Manifest, rowids: Sequence[int] | Array) -> Vectors:
    """Vectors of these rows, in this order; rows that are not there are left out."""
    return _vectors(connection, manifest, LISTED, "", (json_list(rowids),))


def iterate(connections: Connections, manifest: Manifest, after: int, batch: int) -> Iterator[Vectors]:
    """Vectors of the rows above a rowid, ascending; each batch is one read."""
    while True:
        with connections.reading() as connection:
            condition = "WHERE d.rowid > ? ORDER BY d.rowid LIMIT ?"
            vectors = _vectors(connection, manifest, "documents AS d", condition, (after, batch))
        if not len(vectors.rowids):
            return
        if int(vectors.rowids[0]) <= after or (np.diff(vectors.rowids) <= 0).any():
            raise IndexDamagedError("found rows that do not ascend: the database is damaged; restore a copy")
        yield vectors
        after = int(vectors.rowids[-1])


def _vectors(
    connection: sqlite3.Connection, manifest: Manifest, table: str, condition: str, parameters: tuple[Any, ...]
) -> Vectors:
    query = f"SELECT d.rowid, d.id, {VECTORS}, c.n_tokens, c.codes, c.checksum FROM {table} {JOINED} {condition}"
    rows = []
    for row in connection.execute(query, parameters):  # checked one by one: of too large ones, no two are in memory
        rowid, id, n_ids, anchor, packed, stored, n_tokens, codes, code_stored = row
        try:
            if (
                not (
                    isinstance(id, str)
                    and anchor_fits(manifest, anchor, n_ids)
                    and codes_fit(manifest, codes, n_tokens)
                )
                or blob_checksum(rowid, id, n_ids, anchor, packed) != stored
                or blob_checksum(rowid, id, n_tokens, codes) != code_stored
            ):
                raise _damaged(rowid, id)
        except (TypeError, ValueError) as error:  # a row that is missing, or a value of another type
            raise _damaged(rowid, id) from error
        rows.append(row)
    ids: list[Array] = []
    # Several documents' ids at once where they take as many bytes each: most of them do.
    for (width, rest), run in groupby(rows, lambda row: divmod(len(row[4]), row[2]) if row[2] > 0 else (0, 0)):
        packed_ids = [(row[4], row[2]) for row in run]
        if width and not rest:
            packed_ids = [(b"".join(blob for blob, _ in packed_ids), sum(count for _, count in packed_ids))]
        ids += [unpack_token_ids(blob, count, count) for blob, count in packed_ids]
    joined, all_codes = b"".join([row[3] for row in rows]), b"".join([row[7] for row in rows])
    anchors = unpack_anchors(joined, manifest.anchors, manifest.anchor_dim)
    if not math.isfinite(float(np.abs(anchors).sum(dtype=np.float64))):
        raise _damaged(*rows[int(np.argmin(np.isfinite(anchors).all(axis=1)))][:2])
    return Vectors(
        rowids=np.array([row[0] for row in rows], np.int64),
        anchors=anchors,
        codes=np.frombuffer(all_codes, np.uint8).reshape(sum(row[6] for row in rows), manifest.code_width),
        offsets=np.cumsum([0, *(row[6] for row in rows)], dtype=np.int64),
        token_ids=np.concatenate([np.zeros(0, np.int32), *ids]),
        id_offsets=np.cumsum([0, *(row[2] for row in rows)], dtype=np.int64),
    )


def documents_of(
    connection: sqlite3.Connection, rowids: Sequence[int] | Array, thumbnail: Callable[[int], bytes]
) -> list[Document]:
    """Documents of these rows, in this order; rows that are not there are left out.

    ``thumbnail`` reads the thumbnail of a row later, when it is used.
    """
    wanted = json_list(rowids)
    media = pictures.of_rows(connection, wanted, thumbnail)
    found: list[Document] = []
    for *values, stored in connection.execute(f"SELECT {DOCUMENT} FROM {LISTED}", (wanted,)):
        rowid, id, commit, source, page, heading, _, text = values
        try:
            if checksum(*values) != stored:
                raise _damaged(rowid, id)
            facts = metadata_of(values)
        except (TypeError, ValueError, RecursionError) as error:
            raise _damaged(rowid, id) from error
        found.append(Document(rowid, id, text, source, page, heading, facts, commit, media.get(rowid)))
    return found


def anchor_fits(manifest: Manifest, anchor: bytes, n_ids: Any) -> bool:
    """Whether an anchor is as long as the index's, and the count of its ids a count."""
    width = anchor_bytes(manifest.anchors, manifest.anchor_dim)
    return len(anchor) == width and isinstance(n_ids, int) and n_ids <= MOST_TOKENS


def codes_fit(manifest: Manifest, codes: bytes, n_tokens: Any) -> bool:
    """Whether codes are of so many tokens, which are no more than may be decoded at once."""
    return bool(n_tokens <= MOST_TOKENS and len(codes) == n_tokens * manifest.code_width)


def metadata_of(values: Sequence[Any]) -> dict[str, Any]:
    """The metadata of a ``documents`` row; it raises what the other values do that are of wrong types."""
    _, id, commit, source, page, heading, metadata, text = values
    facts = json.loads(metadata)
    texts = all(isinstance(part, str) for part in (id, text, source or "", heading or ""))
    if not (texts and isinstance(page, int | None) and isinstance(commit, int) and isinstance(facts, dict)):
        raise TypeError("found values of other types")
    return facts


def _damaged(rowid: int, id: object) -> IndexDamagedError:
    return IndexDamagedError(
        f"document {str(id)[:200]!r} (row {rowid}) does not match its checksum; run verify, then delete it or restore "
        "a copy"
    )
