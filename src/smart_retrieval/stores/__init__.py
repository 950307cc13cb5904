"""Indexes on engines that people run already: documents and codes there, the scores of SMART here.

The public names are imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy_names

if TYPE_CHECKING:
    from .base import Near as Near
    from .base import SearchStore as SearchStore
    from .engine import Engine as Engine
    from .engine import Row as Row
    from .engine import RowFilter as RowFilter
    from .engine_store import EngineStore as EngineStore
    from .engine_store import export_to as export_to
    from .engine_store import make_store as make_store
    from .index import StoreIndex as StoreIndex
    from .lance.index import LanceIndex as LanceIndex
    from .opening import open_index as open_index
    from .postgres.index import PostgresIndex as PostgresIndex
    from .qdrant.index import QdrantIndex as QdrantIndex
    from .qdrant.points import read_points as read_points
    from .qdrant.query import anchor_query as anchor_query
    from .qdrant.query import hybrid_query as hybrid_query
    from .qdrant.where import compile_filter as compile_filter

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "base": ("Near", "SearchStore"),
        "engine": ("Engine", "Row", "RowFilter"),
        "engine_store": ("EngineStore", "export_to", "make_store"),
        "index": ("StoreIndex",),
        "lance.index": ("LanceIndex",),
        "opening": ("open_index",),
        "postgres.index": ("PostgresIndex",),
        "qdrant.index": ("QdrantIndex",),
        "qdrant.points": ("read_points",),
        "qdrant.query": ("anchor_query", "hybrid_query"),
        "qdrant.where": ("compile_filter",),
    },
)
