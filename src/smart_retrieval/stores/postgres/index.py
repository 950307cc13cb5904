"""PostgresIndex: an index in PostgreSQL with pgvector, and the export of an index into one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Self
from uuid import uuid4

from ...errors import StoreError
from ...index.codec.base import Codec
from ...index.creation import GivenCodec
from ...index.encoder import load_model
from ...index.shards.split import as_shard, shard_of, stored_records
from ...index.smart_index import DEFAULT_MODEL, SmartIndex
from ...index.store.manifest import Manifest
from ...index.store.records import Record
from ..index import StoreIndex
from ..rows import EXPORT_BATCH, fitted_manifest
from ..shards.store import PATIENCE, ShardedStore
from . import tables
from .connections import Connections
from .store import EXACT_ROWS, PostgresStore, storable, write_settings

if TYPE_CHECKING:
    from ...model.smart_model import SmartModel

SCHEMA = "smart"


class PostgresIndex(StoreIndex):
    """An index in a PostgreSQL database with pgvector, in a schema of its own.

    It has the methods of :class:`~smart_retrieval.SmartIndex` and gives the same scores. Candidates come from an HNSW
    index over the anchors in half precision (of small tables, from all anchors); scores are computed here, from the
    exact anchors and the codes beside them. Every write is one transaction, IDF counts included.

    With a tenant field, row-level security keeps documents apart by that metadata field: opened with ``tenant=``, an
    index finds, reads, adds and deletes documents of that tenant only, whatever is asked of it. IDF counts and
    calibration are those of all tenants together.

    With the addresses of several servers, each holds a share of the documents, by their ids. A search asks all at once
    and scores with the IDF counts of all, so that the hits are those of one server. One that does not answer is left
    out, and the hits are marked ``partial``; if its address names a standby, too
    (``postgresql://one,other/docs``), the same search goes on there. Writes are one transaction on each server.

    Example:
        >>> with PostgresIndex.open("postgresql://localhost/docs") as index:  # doctest: +SKIP
        ...     index.search("how do I rotate the logs", where="year > 2020")
    """

    store: PostgresStore | ShardedStore

    @classmethod
    def create(
        cls,
        dsn: str | Sequence[str],
        model: SmartModel | str = DEFAULT_MODEL,
        *,
        codec: GivenCodec,
        schema: str = SCHEMA,
        pooling: float = 1,
        tenant_field: str | None = None,
        replace: bool = False,
    ) -> Self:
        """Make a new, empty index.

        Args:
            dsn: The database, as libpq takes it: ``"postgresql://user@host/name"``; or those of several servers.
            model: The model, or its name.
            codec: A fitted codec or its file (``smart codec fit``), or ``"float16"`` or ``"float32"``.
            schema: The PostgreSQL schema to make.
            pooling: Merge similar token vectors of a document until 1 / ``pooling`` are left.
            tenant_field: The metadata field that names a document's tenant; None for an index without tenants.
            replace: Delete what is in that schema first.

        Raises:
            StoreError: There is such a schema, or the server refuses.
            CodecError: The codec is not fitted, or does not fit the model.
        """
        smart = load_model(model) if isinstance(model, str) else model
        manifest, start = fitted_manifest(smart, codec, pooling)
        connections = [Connections(one, schema) for one in _addresses(dsn)]
        _make(connections, manifest, start, tenant_field, replace, [])
        return cls(_store(connections), smart)

    @classmethod
    def open(
        cls,
        dsn: str | Sequence[str],
        model: SmartModel | str | None = None,
        *,
        schema: str = SCHEMA,
        tenant: str | None = None,
        exact_rows: int = EXACT_ROWS,
        patience: float = PATIENCE,
    ) -> Self:
        """Open an index.

        Args:
            dsn: The database; or those of all its servers, in any order.
            model: The model it was made with; loaded under its recorded name when it is first needed, if left out.
            schema: Its schema.
            tenant: Whose documents these are to be; None for all.
            exact_rows: Documents up to which a search looks at every anchor instead of using HNSW, on each server.
            patience: Of several servers, seconds until one is left out of a search that has no deadline.

        Raises:
            StoreError: There is no index, it has no tenants, or the server cannot be reached.
            IndexMismatchError: The model differs from the one it was made with; or a server's share is missing.
        """
        connections = [Connections(one, schema, tenant) for one in _addresses(dsn)]
        try:
            return cls(_store(connections, exact_rows, patience), model)
        except BaseException:
            for one in connections:
                one.close()
            raise

    @classmethod
    def export(
        cls,
        dsn: str | Sequence[str],
        index: SmartIndex | str | Path,
        *,
        schema: str = SCHEMA,
        tenant_field: str | None = None,
        replace: bool = False,
        progress: Callable[[int], object] = lambda done: None,
    ) -> Self:
        """Copy an index into a database, in one transaction: codec, calibration and IDF counts with the documents.

        Args:
            dsn: The database; or those of several servers, each of which takes a share of the documents.
            index: The index, or its folder.
            schema: The PostgreSQL schema to make.
            tenant_field: The metadata field that names a document's tenant.
            replace: Delete what is in that schema first.
            progress: Told how many documents were copied since the last call.

        Returns:
            The new index, open.

        Raises:
            StoreError: There is such a schema, or the server refuses; nothing was changed then.
        """
        if not isinstance(index, SmartIndex):
            with SmartIndex.open(index, mode="r") as opened:
                return cls.export(
                    dsn, opened, schema=schema, tenant_field=tenant_field, replace=replace, progress=progress
                )
        connections = [Connections(one, schema) for one in _addresses(dsn)]
        with index.store.reading():
            codec, manifest = index.codec(), index.store.newest_manifest()
            if len(connections) > 1 and len(index):  # a share alone could not tell what holds for all
                manifest = dataclasses.replace(manifest, calibration=index.calibration().to_dict())
            _make(
                connections,
                manifest,
                codec,
                tenant_field,
                replace,
                stored_records(index.store, batch=EXPORT_BATCH),
                progress,
            )
        return cls(_store(connections), index.encoder.loaded)

    def _settle(self) -> None:
        # A tenant sees too little to measure what holds for all.
        if self.store.tenant is None:
            super()._settle()


def _addresses(dsn: str | Sequence[str]) -> list[str]:
    found = [dsn] if isinstance(dsn, str) else list(dsn)
    if not found or len(set(found)) < len(found):
        raise StoreError(f"found {len(found)} addresses of servers, expected one or more, each once")
    return found


def _store(
    connections: Sequence[Connections], exact_rows: int = EXACT_ROWS, patience: float = PATIENCE
) -> PostgresStore | ShardedStore:
    """The store of one server; or that of several, in the order of their shares."""
    stores = [PostgresStore(one, exact_rows) for one in connections]
    if len(stores) == 1:
        return stores[0]
    return ShardedStore(sorted(stores, key=lambda store: store.manifest.limits.get("shard", [0])[0]), patience)


def _make(
    connections: Sequence[Connections],
    manifest: Manifest,
    codec: Codec,
    tenant_field: str | None,
    replace: bool,
    batches: Iterable[Sequence[Record]],
    progress: Callable[[int], object] = lambda done: None,
) -> None:
    """Make the tables and fill them, in a transaction on each server that ends when all of them are filled."""
    if tenant_field is not None and not (tenant_field and storable(tenant_field)):
        raise StoreError(f"tenant field: found {tenant_field!r}, expected the name of a metadata field")
    count, whole = len(connections), uuid4().hex
    try:
        for one in connections:
            with one.writing() as connection:
                tables.prepare(connection, one.schema, tenants=tenant_field is not None)
        with ExitStack() as stack:
            opened = [(one, stack.enter_context(one.writing())) for one in connections]
            for number, (one, connection) in enumerate(opened):
                own = manifest if count == 1 else as_shard(manifest, whole, number, count)
                tables.create(connection, one.schema, manifest.anchor_dim, tenant_field, replace=replace)
                write_settings(connection, own, codec.hash, codec.to_bytes(), tenant_field)
            stores = [PostgresStore(one) for one in connections]
            for batch in batches:
                for number, (store, (_, connection)) in enumerate(zip(stores, opened, strict=True)):
                    part = [record for record in batch if shard_of(record.id, count) == number]
                    store.insert(connection, part, 1)
                progress(len(batch))
            for _, connection in opened:
                tables.index_anchors(connection, manifest.anchor_dim)
                connection.execute("ANALYZE documents")
    finally:
        for one in connections:
            one.close()
