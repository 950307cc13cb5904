"""Indexes on engines that people run already: documents and codes there, the scores of SMART here.

The public names are imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy_names

if TYPE_CHECKING:
    from .base import Near as Near
    from .base import SearchStore as SearchStore
    from .index import StoreIndex as StoreIndex
    from .postgres.index import PostgresIndex as PostgresIndex

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "base": ("Near", "SearchStore"),
        "index": ("StoreIndex",),
        "postgres.index": ("PostgresIndex",),
    },
)
