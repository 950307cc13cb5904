"""PostgresIndex: an index in PostgreSQL with pgvector, and the export of an index into one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Self

from ...errors import StoreError
from ...index.codec.base import Codec
from ...index.creation import GivenCodec
from ...index.encoder import load_model
from ...index.smart_index import DEFAULT_MODEL, SmartIndex
from ...index.store.manifest import Manifest
from ..index import StoreIndex
from ..rows import fitted_manifest, records_of
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

    Example:
        >>> with PostgresIndex.open("postgresql://localhost/docs") as index:  # doctest: +SKIP
        ...     index.search("how do I rotate the logs", where="year > 2020")
    """

    store: PostgresStore

    @classmethod
    def create(
        cls,
        dsn: str,
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
            dsn: The database, as libpq takes it: ``"postgresql://user@host/name"``.
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
        connections = Connections(dsn, schema)
        _make(connections, manifest, start, tenant_field, replace, lambda store: None)
        return cls(PostgresStore(connections), smart)

    @classmethod
    def open(
        cls,
        dsn: str,
        model: SmartModel | str | None = None,
        *,
        schema: str = SCHEMA,
        tenant: str | None = None,
        exact_rows: int = EXACT_ROWS,
    ) -> Self:
        """Open an index.

        Args:
            dsn: The database.
            model: The model it was made with; loaded under its recorded name when it is first needed, if left out.
            schema: Its schema.
            tenant: Whose documents these are to be; None for all.
            exact_rows: Documents up to which a search looks at every anchor instead of using HNSW.

        Raises:
            StoreError: There is no index, it has no tenants, or the server cannot be reached.
            IndexMismatchError: The model differs from the one it was made with.
        """
        connections = Connections(dsn, schema, tenant)
        try:
            return cls(PostgresStore(connections, exact_rows), model)
        except BaseException:
            connections.close()
            raise

    @classmethod
    def export(
        cls,
        dsn: str,
        index: SmartIndex | str | Path,
        *,
        schema: str = SCHEMA,
        tenant_field: str | None = None,
        replace: bool = False,
        progress: Callable[[int], object] = lambda done: None,
    ) -> Self:
        """Copy an index into a database, in one transaction: codec, calibration and IDF counts with the documents.

        Args:
            dsn: The database.
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
        connections = Connections(dsn, schema)
        with index.store.reading():
            codec, manifest = index.codec(), index.store.newest_manifest()

            def fill(store: PostgresStore) -> None:
                with connections.writing() as connection:
                    for batch in records_of(index):
                        store.insert(connection, batch, 1)
                        progress(len(batch))

            _make(connections, manifest, codec, tenant_field, replace, fill)
        return cls(PostgresStore(connections), index.encoder.loaded)

    def _settle(self) -> None:
        # A tenant sees too little to measure what holds for all.
        if self.store.connections.tenant is None:
            super()._settle()


def _make(
    connections: Connections,
    manifest: Manifest,
    codec: Codec,
    tenant_field: str | None,
    replace: bool,
    fill: Callable[[PostgresStore], None],
) -> None:
    if tenant_field is not None and not (tenant_field and storable(tenant_field)):
        raise StoreError(f"tenant field: found {tenant_field!r}, expected the name of a metadata field")
    try:
        with connections.writing() as connection:
            tables.create(connection, connections.schema, manifest.anchor_dim, tenant_field, replace=replace)
            write_settings(connection, manifest, codec.hash, codec.to_bytes(), tenant_field)
            fill(PostgresStore(connections))
            tables.index_anchors(connection, manifest.anchor_dim)
            connection.execute("ANALYZE documents")
    except BaseException:
        connections.close()
        raise
    connections.close()
