"""Documents, anchors, codes, statistics and settings of one index in PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ...errors import (
    DuplicateIdError,
    FilterError,
    IndexDamagedError,
    SmartError,
    StoreError,
    UnknownIdError,
    one_of,
)
from ...files import typed_name
from ...index.codec.payload import pack_blob
from ...index.mirror.files import unit_anchors
from ...index.store.anchors import anchor_bytes, unpack_anchors
from ...index.store.manifest import Manifest
from ...index.store.pictures import Media, PlacedGrid
from ...index.store.records import Added, Document, Record, Vectors
from ...index.store.rows import pack
from ...index.store.schema import State
from ...index.store.where import nfc
from ...types import Array
from ..base import Near
from ..rows import unpacked
from . import tables
from .connections import Connections, HalfVector, named_errors
from .where import compile_where, filtered_json

if TYPE_CHECKING:
    from psycopg import Connection

_VECTORS = "rowid, exact, blob"
_DOCUMENT = "rowid, id, text, source, page, heading, metadata, added, media"
_INSERT = (
    "INSERT INTO documents (id, added, source, page, heading, metadata, text, media, thumbnail, anchor, exact, blob) "
    "VALUES (%s, %s, %s, %s, %s, %s::jsonb, %s, %s::jsonb, %s, %s::halfvec, %s, %s) RETURNING rowid"
)
# HNSW looks at so many at most by itself, which is its own limit.
_MOST_EF = 1000
# Documents up to which every anchor is looked at, which takes as long as HNSW does: some 4 ms at 384 dimensions.
EXACT_ROWS = 5_000
# Documents up to which those that pass a filter are counted before a search.
_COUNTED = 20_000
_CHUNK = 1000
# More than are wanted.
_SPARE = 16
_TUNE = "SELECT set_config('hnsw.iterative_scan', 'strict_order', true), set_config('hnsw.ef_search', %s, true)"


class PostgresStore:
    """The store of :class:`PostgresIndex`; safe to use from several threads and processes.

    Args:
        connections: To the index.
        exact_rows: Documents up to which every search looks at every anchor.
    """

    def __init__(self, connections: Connections, exact_rows: int = EXACT_ROWS) -> None:
        self.connections, self.exact_rows = connections, exact_rows
        self.generation = 1
        self._idf: tuple[int, tuple[int, Array, Array]] | None = None
        self.tenant_field: str | None = None
        self.manifest: Manifest
        self.reload()
        if connections.tenant is not None and self.tenant_field is None:
            raise StoreError(f"index {self.path}: it was made without a tenant field, so it has no tenants")

    @property
    def path(self) -> str:
        """What messages call it."""
        return self.connections.name

    @property
    def tenant(self) -> str | None:
        """Whose documents are seen; None for all."""
        return self.connections.tenant

    def close(self) -> None:
        """Close the connections."""
        self.connections.close()

    def reading(self) -> AbstractContextManager[Connection[Any]]:
        """Everything this thread reads inside sees one and the same commit."""
        return self.connections.reading()

    # -- settings and sums -------------------------------------------------------------------------------------

    def reload(self) -> None:
        """Read the manifest again."""
        with self.reading() as connection:
            # First of all, and alone: another version may keep everything else in another way.
            row = connection.execute("SELECT format FROM state").fetchone()
            if row is None or row[0] != tables.FORMAT:
                raise StoreError(
                    f"index {self.path}: found format {row and row[0]}, expected {tables.FORMAT}: another version of "
                    "this package made it; use that one, or export the index again"
                )
            self.manifest = self.newest_manifest()
            row = connection.execute("SELECT tenant_field, documents, hash FROM state, codec").fetchone()
        if row is None:
            raise IndexDamagedError(f"index {self.path}: found no codec; export it again")
        self.tenant_field, self._documents, self._codec_hash = row[0], int(row[1]), str(row[2])

    def newest_manifest(self) -> Manifest:
        """The manifest of the commit that is read."""
        with self.connections.asking() as connection:
            return Manifest.from_texts(dict(connection.execute("SELECT key, value FROM manifest").fetchall()))

    def state(self) -> State:
        """Number and sums of the newest commit."""
        with self.connections.asking() as connection:
            seen = self.connections.seen()  # within one view, it stays as it is
            row = seen.get("state")
            if row is None:
                row = connection.execute("SELECT number, documents, tokens, updated FROM state").fetchone()
                if connection.read_only:
                    seen["state"] = row
        if row is None:
            raise IndexDamagedError(f"index {self.path}: found no row that sums it up; export it again")
        self._documents = row[1]
        return State(row[0], row[1], row[2], generation=self.generation, updated=row[3].isoformat(timespec="seconds"))

    def codec(self) -> bytes:
        """The codec's bytes."""
        with self.reading() as connection:
            row = connection.execute("SELECT data FROM codec", binary=True).fetchone()
        return bytes(row[0]) if row else b""

    def idf(self) -> tuple[int, Array, Array]:
        """N, vocabulary ids ascending and the documents that hold each."""
        with self.reading() as connection:
            state = self.state()
            if self._idf is None or self._idf[0] != state.number:
                rows = connection.execute("SELECT token, df FROM idf ORDER BY token", binary=True).fetchall()
                table = np.array(rows, np.int64).reshape(-1, 2)
                self._idf = state.number, (state.documents, table[:, 0].copy(), table[:, 1].copy())
            return self._idf[1]

    def keep_calibration(self, calibration: Mapping[str, Any], *, again: bool) -> None:
        """Keep a calibration, unless there is one and it is not ``again``."""
        with self._writing() as connection:
            if (
                again
                or not Manifest.from_texts(
                    dict(connection.execute("SELECT key, value FROM manifest").fetchall())
                ).calibration
            ):
                row = json.dumps(dict(calibration)), "calibration"
                connection.execute("UPDATE manifest SET value = %s WHERE key = %s", row)
                connection.execute("UPDATE state SET number = number + 1, updated = now()")
        self.reload()

    def info(self) -> dict[str, Any]:
        """Counts and sizes."""
        with self.reading() as connection:
            state, tenant = self.state(), self.tenant
            size = connection.execute("SELECT pg_total_relation_size('documents')").fetchone()
            # Of a tenant its own; how much the others have is none of its business.
            own = {} if tenant is not None else {"tokens": state.tokens, "bytes": size[0] if size else 0}
            return {
                "path": self.path,
                "documents": state.documents if tenant is None else self.counted(None, everything=True),
                **own,
                "commit": state.number,
                "updated": state.updated,
                "tenant_field": self.tenant_field,
                "tenant": tenant,
            }

    # -- reading -----------------------------------------------------------------------------------------------

    def counted(self, where: str | None, *, everything: bool = False) -> int | None:
        """Documents that pass a filter; None of a large index, unless ``everything`` is to be counted."""
        with self.reading() as connection:
            documents = self.state().documents
            if where is None and self.tenant is None:
                return documents
            sql, parameters = compile_where(where)
            if documents > max(self.exact_rows, _COUNTED) and not everything:
                return None
            row = self._filtered(connection, f"SELECT count(*) FROM documents WHERE {sql}", parameters)[0]
            return int(row[0])

    def select(self, where: str | None = None) -> Array:
        """Rowids of the documents that a filter chooses, ascending."""
        sql, parameters = compile_where(where)
        with self.reading() as connection:
            rows = self._filtered(connection, f"SELECT rowid FROM documents WHERE {sql} ORDER BY rowid", parameters)
        return np.array([row[0] for row in rows], np.int64)

    def passes(self, rowid: int, where: str | None) -> bool:
        """Whether a document passes a filter."""
        sql, parameters = compile_where(where)
        with self.reading() as connection:
            query = f"SELECT 1 FROM documents WHERE rowid = %s AND {sql}"
            return bool(self._filtered(connection, query, [int(rowid), *parameters]))

    def near(
        self,
        anchor: Array,
        wanted: int | None,
        where: str | None,
        *,
        exact: bool = False,
        timeout: float | None = None,
    ) -> Near:
        """See :class:`SearchStore`."""
        sql, parameters = compile_where(where)
        if timeout is None:
            with self.connections.asking(together=True) as connection:
                return self._near(connection, anchor, wanted, sql, parameters, exact)
        # A savepoint: what else is read of this commit can be read after the time was over, too.
        with self.reading() as connection, named_errors(self.path), connection.transaction():
            limit = str(max(1, int(timeout * 1000)))
            connection.execute("SELECT set_config('statement_timeout', %s, true)", (limit,))
            found = self._near(connection, anchor, wanted, sql, parameters, exact)
            connection.execute("SET LOCAL statement_timeout = 0")
            return found

    def _near(
        self, connection: Connection[Any], anchor: Array, wanted: int | None, sql: str, parameters: list[Any], all: bool
    ) -> Near:
        documents, point = self._documents, HalfVector.of(anchor)  # as many as there were a moment ago
        # Half precision may take the last ones for one another.
        limit = None if wanted is None else wanted + max(_SPARE, wanted // 32)
        if limit is not None and not all and documents > self.exact_rows:
            connection.execute(_TUNE, (str(min(_MOST_EF, limit)),))
            order = "anchor <#> %s::halfvec"
            query = f"SELECT {_VECTORS} FROM documents WHERE {sql} ORDER BY {order} LIMIT %s"
            rows = self._filtered(connection, query, [*parameters, point, limit])
            if len(rows) >= min(limit, documents):
                return self._found(rows, documents)
        # A sum that no index knows. Also where a filter lets through few of those that HNSW looks at.
        near = f"SELECT rowid FROM documents WHERE {sql} ORDER BY (anchor <#> %s::halfvec) + 0, rowid LIMIT %s"
        # Row by row: sorting them, or reading the table again to join it, would move all that they hold.
        one = "SELECT exact, blob FROM documents WHERE rowid = near.rowid OFFSET 0"
        query = f"WITH near AS MATERIALIZED ({near}) SELECT {_VECTORS} FROM near, LATERAL ({one}) AS found"
        rows = self._filtered(connection, query, [*parameters, point, limit])
        passing = len(rows) if limit is None or len(rows) < limit else documents
        return self._found(rows, passing)

    def _found(self, rows: Sequence[Any], passing: int) -> Near:
        rowids, exact, blobs = zip(*rows, strict=True) if rows else ((), (), ())
        return Near(np.array(rowids, np.int64), self._anchors(rowids, exact), list(blobs), passing)

    def _filtered(self, connection: Connection[Any], query: str, parameters: Sequence[Any]) -> list[Any]:
        """Rows of a query that holds a filter, which may be more than the server takes."""
        import psycopg

        try:
            return connection.execute(query, parameters, binary=True).fetchall()
        except (psycopg.errors.StatementTooComplex, psycopg.errors.ProgramLimitExceeded) as error:
            raise FilterError("where: the server cannot take so large a filter; use in (…)") from error

    def read_vectors(self, rowids: Sequence[int] | Array) -> Vectors:
        """Vectors of rows, in the order given."""
        wanted = [int(rowid) for rowid in rowids]
        with self.connections.asking() as connection:
            query = f"SELECT {_VECTORS} FROM documents WHERE rowid = ANY(%s)"
            found = {row[0]: row for row in connection.execute(query, (wanted,), binary=True)}
        if len(found) < len(set(wanted)):
            raise UnknownIdError(f"index {self.path}: found {len(found)} of {len(wanted)} rows asked for")
        return self._vectors([found[rowid] for rowid in wanted])

    def _vectors(self, rows: Sequence[Any]) -> Vectors:
        found = self._found(rows, len(rows))
        width, ids = self.manifest.code_width, lambda: self.ids_of(found.rowids)
        return Vectors(*found[:2], *unpacked(found.blobs, self._codec_hash, width, self.path, ids))

    def _anchors(self, rowids: Sequence[int], exact: Sequence[bytes]) -> Array:
        kind, dim = self.manifest.anchors, self.manifest.anchor_dim
        width = anchor_bytes(kind, dim)
        for rowid, anchor in zip(rowids, exact, strict=True) if set(map(len, exact)) - {width} else ():
            if len(anchor) != width:
                (id,) = self.ids_of([rowid])
                raise IndexDamagedError(f"document {id!r}: found an anchor of {len(anchor)} bytes, expected {width}")
        return unpack_anchors(b"".join(exact), kind, dim)

    def rowids(self, ids: Sequence[str]) -> Array:
        """Rowids of documents by id, in the order given."""
        names = [typed_name(str(id)) for id in ids]
        known = self.known(names)
        absent = [name for name in names if name not in known]
        if absent:
            more = f" (and {len(absent) - 1} more)" if len(absent) > 1 else ""
            raise UnknownIdError(f"index {self.path}: found no document {absent[0]!r}{more}")
        return np.array([known[name] for name in names], np.int64)

    def known(self, ids: Sequence[str]) -> dict[str, int]:
        """Rowids by id, of those documents that are there."""
        with self.reading() as connection:
            known = self._known(connection, ids)
            for name in ids:
                # Letters with their accents composed or decomposed are the same to Unicode.
                if name not in known and not name.isascii() and storable(name):
                    query = "SELECT rowid FROM documents WHERE normalize(id, NFC) = %s LIMIT 2"
                    found = connection.execute(query, (nfc(name),)).fetchall()
                    known |= {name: found[0][0]} if len(found) == 1 else {}
        return known

    @staticmethod
    def _known(connection: Connection[Any], ids: Iterable[str]) -> dict[str, int]:
        names = [id for id in ids if storable(id)]
        found = connection.execute("SELECT id, rowid FROM documents WHERE id = ANY(%s) ORDER BY rowid DESC", (names,))
        return dict(found.fetchall())

    def ids_of(self, rowids: Sequence[int] | Array) -> list[str | None]:
        """Ids by rowid, in the order given."""
        wanted = [int(rowid) for rowid in rowids]
        with self.connections.asking() as connection:
            rows = connection.execute("SELECT rowid, id FROM documents WHERE rowid = ANY(%s)", (wanted,)).fetchall()
        names = dict(rows)
        return [names.get(rowid) for rowid in wanted]

    def documents(self, rowids: Sequence[int] | Array) -> list[Document]:
        """Documents of rows, in the order given; rows that are gone are left out."""
        wanted = [int(rowid) for rowid in rowids]
        found: dict[int, Document] = {}
        with self.connections.asking() as connection:
            query = f"SELECT {_DOCUMENT} FROM documents WHERE rowid = ANY(%s)"
            for rowid, id, text, source, page, heading, metadata, added, media in connection.execute(query, (wanted,)):
                shown = self._media(rowid, media)
                found[rowid] = Document(rowid, id, text, source, page, heading, metadata, added, shown)
        return [found[rowid] for rowid in wanted if rowid in found]

    def _media(self, rowid: int, media: dict[str, Any] | None) -> Media | None:
        if media is None:
            return None
        grids = tuple(PlacedGrid.from_list(grid) for grid in media["grids"])
        load = partial(self._thumbnail, rowid)
        return Media(media["kind"], media["width"], media["height"], tuple(media["times"]), grids, load=load)

    def _thumbnail(self, rowid: int) -> bytes:
        with self.reading() as connection:
            query = "SELECT thumbnail FROM documents WHERE rowid = %s"
            row = connection.execute(query, (rowid,), binary=True).fetchone()
        return bytes(row[0]) if row and row[0] else b""

    # -- writing -----------------------------------------------------------------------------------------------

    def _writing(self) -> AbstractContextManager[Connection[Any]]:
        return self.connections.writing()

    def add(self, batch: Iterable[Record], on_duplicate: Literal["error", "replace", "skip"] = "error") -> Added:
        """Add documents in one transaction."""
        if on_duplicate not in ("error", "replace", "skip"):
            raise SmartError(f"on_duplicate: {one_of(on_duplicate, ('error', 'replace', 'skip'))}")
        records = [self._owned(record) for record in batch]
        unique: dict[str, Record] = {}
        for record in records:
            pack(record, self.manifest)  # refuses what does not fit
            if record.id in unique and on_duplicate == "error":
                raise DuplicateIdError(f"found id {record.id!r} twice in one batch; pass on_duplicate='replace'")
            if record.id not in unique or on_duplicate == "replace":
                unique[record.id] = record
        with self._writing() as connection:
            number = self._locked(connection) + 1
            known = self._known(connection, unique)
            if known and on_duplicate == "error":
                first = next(id for id in unique if id in known)
                raise DuplicateIdError(
                    f"found id {first!r} in the index already ({len(known)} of {len(unique)} are); "
                    "pass on_duplicate='replace' or 'skip'"
                )
            if on_duplicate == "skip":
                unique = {id: record for id, record in unique.items() if id not in known}
            elif known:
                self._delete(connection, list(known.values()))
            rowids = self.insert(connection, list(unique.values()), number)
        replaced = len(known) if on_duplicate == "replace" else 0
        return Added(rowids, replaced, len(records) - len(unique), number)

    def _owned(self, record: Record) -> Record:
        """A record of a tenant names it."""
        tenant, name = self.tenant, self.tenant_field
        if tenant is None or name is None:
            return record
        if record.metadata.get(name, tenant) != tenant:
            raise StoreError(
                f"document {record.id!r}: found {name} {record.metadata[name]!r}, expected the tenant's, {tenant!r}"
            )
        return replace(record, metadata={**record.metadata, name: tenant})

    @staticmethod
    def _locked(connection: Connection[Any]) -> int:
        """The number of the last commit; no other writer goes on until this transaction ends."""
        row = connection.execute("SELECT number FROM state FOR UPDATE").fetchone()
        if row is None:
            raise IndexDamagedError("found no row that sums the index up; export it again")
        return int(row[0])

    def insert(self, connection: Connection[Any], records: Sequence[Record], number: int) -> list[int]:
        """Insert records that are not there, and count them, as commit ``number``."""
        rowids: list[int] = []
        if records:
            units = unit_anchors(np.stack([np.asarray(record.anchor, np.float32) for record in records]))
            rows = [self._row(record, unit, number) for record, unit in zip(records, units, strict=True)]
            with connection.cursor() as cursor:
                cursor.executemany(_INSERT, rows, returning=True)
                while True:
                    rowids.extend(row[0] for row in cursor.fetchall())
                    if not cursor.nextset():
                        break
        tokens = sum(len(record.codes) for record in records)
        self._count(connection, [np.asarray(record.token_ids) for record in records], 1)
        self._sum(connection, number, len(records), tokens)
        return rowids

    def _row(self, record: Record, unit: Array, number: int) -> tuple[Any, ...]:
        packed = pack(record, self.manifest)
        media = record.media
        shown = thumbnail = None
        if media is not None:
            grids = [grid.to_list() for grid in media.grids]
            facts = {"kind": media.kind, "width": media.width, "height": media.height, "times": list(media.times)}
            shown, thumbnail = json.dumps({**facts, "grids": grids}), media.thumbnail()
        return (
            record.id,
            number,
            _text(record.source),
            packed.page,
            _text(record.heading),
            filtered_json(packed.metadata),
            _text(record.text),
            shown,
            thumbnail,
            HalfVector.of(unit),
            packed.anchor,
            pack_blob(self._codec_hash, record.codes, np.asarray(record.token_ids)),
        )

    def delete(self, ids: Sequence[str] | None, where: str | None) -> int:
        """Delete documents by id or by filter in one transaction."""
        with self._writing() as connection:
            number = self._locked(connection) + 1
            rowids = self.rowids(ids) if ids is not None else self.select(where)
            deleted = self._delete(connection, np.unique(rowids).tolist())
            if deleted:
                self._sum(connection, number, 0, 0)
        return deleted

    def _delete(self, connection: Connection[Any], rowids: Sequence[int]) -> int:
        deleted = 0
        for start in range(0, len(rowids), _CHUNK):
            part = list(rowids[start : start + _CHUNK])
            query = f"DELETE FROM documents WHERE rowid = ANY(%s) RETURNING {_VECTORS}"
            rows = connection.execute(query, (part,), binary=True).fetchall()
            vectors = self._vectors(rows)
            self._count(connection, np.split(vectors.token_ids, vectors.id_offsets[1:-1]), -1)
            row = (len(rows), len(vectors.codes))
            connection.execute("UPDATE state SET documents = documents - %s, tokens = tokens - %s", row)
            deleted += len(rows)
        return deleted

    @staticmethod
    def _count(connection: Connection[Any], token_ids: Sequence[Array], sign: int) -> None:
        """Move the document frequencies by documents that come (+1) or go (-1)."""
        each = [np.unique(ids[ids >= 0]).astype(np.int64) for ids in token_ids]
        tokens, counts = np.unique(np.concatenate([np.zeros(0, np.int64), *each]), return_counts=True)
        if not len(tokens):
            return
        connection.execute(
            "INSERT INTO idf SELECT * FROM unnest(%s::int[], %s::bigint[]) "
            "ON CONFLICT (token) DO UPDATE SET df = idf.df + excluded.df",
            (tokens.tolist(), (counts * sign).tolist()),
        )
        if sign < 0:
            connection.execute("DELETE FROM idf WHERE df <= 0")

    @staticmethod
    def _sum(connection: Connection[Any], number: int, documents: int, tokens: int) -> None:
        row = (number, documents, tokens)
        connection.execute(
            "UPDATE state SET number = %s, documents = documents + %s, tokens = tokens + %s, updated = now()", row
        )


def write_settings(
    connection: Connection[Any], manifest: Manifest, codec_hash: str, codec: bytes, tenant_field: str | None
) -> None:
    """Fill the tables of settings of a new index."""
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO manifest VALUES (%s, %s)", list(manifest.to_texts().items()))
    connection.execute("INSERT INTO codec VALUES (1, %s, %s)", (codec_hash, codec))
    connection.execute("INSERT INTO state VALUES (1, %s, 0, 0, 0, %s, now())", (tables.FORMAT, tenant_field))


def _text(value: str | None) -> str | None:
    """Without NUL, which the server does not keep."""
    return None if value is None else value.replace("\0", " ")


def storable(id: str) -> bool:
    """Whether the server can keep a text at all."""
    return "\0" not in id and not any("\ud800" <= letter <= "\udfff" for letter in id)
