"""LanceIndex: an index in LanceDB, and the export of an index into one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Self, cast

from ...index.creation import GivenCodec
from ...index.encoder import load_model
from ...index.smart_index import DEFAULT_MODEL, SmartIndex
from ..engine_store import EngineStore, export_to, make_store
from ..index import StoreIndex
from ..rows import fitted_manifest
from .engine import LanceEngine

if TYPE_CHECKING:
    from ...model.smart_model import SmartModel

TABLE = "smart"
# Documents from which ``optimize`` makes an approximate index of anchors.
INDEXED_FROM = 20_000


class LanceIndex(StoreIndex):
    """An index in LanceDB: a table of anchors, codes and documents in a folder or a bucket.

    It has the methods of :class:`~smart_retrieval.SmartIndex` and gives the same scores. Filters are exact, and keep a
    copy of the metadata in memory. There may be one writer at a time, and any number of readers. Run :meth:`optimize`
    after large writes.

    Example:
        >>> with LanceIndex.open("docs.lancedb") as index:  # doctest: +SKIP
        ...     index.search("how do I rotate the logs", where="year > 2020")
    """

    store: EngineStore

    @classmethod
    def create(
        cls,
        uri: str | Path,
        model: SmartModel | str = DEFAULT_MODEL,
        *,
        codec: GivenCodec,
        table: str = TABLE,
        pooling: float = 1,
        replace: bool = False,
    ) -> Self:
        """Make a new, empty index.

        Args:
            uri: A folder, or a bucket such as ``"s3://bucket/docs"``.
            model: The model, or its name.
            codec: A fitted codec or its file (``smart codec fit``), or ``"float16"`` or ``"float32"``.
            table: The table to make; a small one, ``{table}_settings``, is made beside it.
            pooling: Merge similar token vectors of a document until 1 / ``pooling`` are left.
            replace: Delete such tables first.

        Raises:
            StoreError: There is such a table, or nothing can be written there.
            CodecError: The codec is not fitted, or does not fit the model.
        """
        smart = load_model(model) if isinstance(model, str) else model
        manifest, start = fitted_manifest(smart, codec, pooling)
        engine = LanceEngine(str(uri), table)
        engine.create(manifest.anchor_dim, replace=replace)
        return cls(make_store(engine, manifest, start), smart)

    @classmethod
    def open(cls, uri: str | Path, model: SmartModel | str | None = None, *, table: str = TABLE) -> Self:
        """Open an index.

        Args:
            uri: A folder or bucket.
            model: The model it was made with; loaded under its recorded name when it is first needed, if left out.
            table: The table.

        Raises:
            StoreError: There is no index.
            IndexMismatchError: The model differs from the one it was made with.
        """
        return cls(EngineStore(LanceEngine(str(uri), table)), model)

    @classmethod
    def export(
        cls,
        uri: str | Path,
        index: SmartIndex | str | Path,
        *,
        table: str = TABLE,
        replace: bool = False,
        progress: Callable[[int], object] = lambda done: None,
    ) -> Self:
        """Copy an index into LanceDB: codec, calibration and IDF counts with the documents.

        It becomes an index when all is there; one that was broken off is replaced with ``replace``.

        Args:
            uri: A folder or bucket.
            index: The index, or its folder.
            table: The table to make.
            replace: Delete such tables first.
            progress: Told how many documents were copied since the last call.

        Returns:
            The new index, open.

        Raises:
            StoreError: There is such a table, or nothing can be written there.
        """
        if not isinstance(index, SmartIndex):
            with SmartIndex.open(index, mode="r") as opened:
                return cls.export(uri, opened, table=table, replace=replace, progress=progress)
        engine = LanceEngine(str(uri), table)
        engine.create(index.store.newest_manifest().anchor_dim, replace=replace)
        exported = cls(export_to(engine, index, progress), index.encoder.loaded)
        exported.optimize()
        return exported

    def optimize(self, *, indexed_from: int = INDEXED_FROM) -> None:
        """Compact the tables and index what was added; what readers of the last hour see is kept.

        Args:
            indexed_from: Documents from which anchors get an approximate index; below, every search looks at all.
        """
        cast(LanceEngine, self.store.engine).optimize(indexed_from)
