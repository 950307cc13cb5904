"""An index by its address, whatever keeps it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..errors import StoreError
from ..index.shards import sharded_index
from ..index.shards.sharded_index import ShardedIndex
from ..index.smart_index import SmartIndex
from .index import StoreIndex

if TYPE_CHECKING:
    from ..model.smart_model import SmartModel

_POSTGRES = re.compile(r"(postgresql|postgres)://\S+")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://")


def open_index(
    address: str | Path, model: SmartModel | str | None = None, *, mode: Literal["r", "w"] = "w"
) -> SmartIndex | ShardedIndex | StoreIndex:
    """Open an index: its folder, that of its shards, or one in a database; see their ``open``.

    Args:
        address: A folder; or ``postgresql://...``, with ``#name`` behind it where the schema is not ``smart``; those of
            several servers with spaces between them.
        model: The model it was made with; loaded under its recorded name when it is first needed, if left out.
        mode: Of a folder, ``"r"`` also works where it cannot be written to.

    Raises:
        StoreError: There is no such kind of address, or the server cannot be reached.
        IndexFormatError: There is no index.

    Example:
        >>> with open_index("postgresql://localhost/docs", mode="r") as index:  # doctest: +SKIP
        ...     index.search("how do I rotate the logs")
    """
    if isinstance(address, Path) or not _SCHEME.match(address):
        return sharded_index.open_index(address, model, mode=mode)
    from .postgres.index import SCHEMA, PostgresIndex

    found = [one.partition("#")[::2] for one in address.split()]
    schemas = {schema or SCHEMA for _, schema in found}
    if not all(_POSTGRES.fullmatch(dsn) for dsn, _ in found) or len(schemas) > 1:
        scheme = address.partition("://")[0]  # the rest may hold a password
        raise StoreError(f"found an address that begins with {scheme}://, expected postgresql://..., all of one schema")
    return PostgresIndex.open([dsn for dsn, _ in found], model, schema=schemas.pop())
