"""An index by its address, whatever keeps it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from ..errors import StoreError
from ..index.shards import sharded_index
from ..index.shards.sharded_index import ShardedIndex
from ..index.smart_index import SmartIndex
from .index import StoreIndex

if TYPE_CHECKING:
    from ..model.smart_model import SmartModel

AnyIndex: TypeAlias = SmartIndex | ShardedIndex | StoreIndex

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://")


def open_index(
    address: str | Path, model: SmartModel | str | None = None, *, mode: Literal["r", "w"] = "w"
) -> AnyIndex:
    """Open an index: its folder, that of its shards, or one in a database; see their ``open``.

    Args:
        address: A folder, of an index or its shards; one of LanceDB or of Qdrant's client, or a bucket of LanceDB
            (``s3://...``); a Qdrant server, ``http://...``; or ``postgresql://...``, those of several servers with
            spaces between them. Behind an address with ``://`` stands ``#name`` where schema, table or collection are
            not ``smart``.
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
        if any(Path(address).glob("*.lance")):
            from .lance.index import LanceIndex

            return LanceIndex.open(address, model)
        if all((Path(address) / name).exists() for name in ("meta.json", "collection")):
            from .qdrant.index import QdrantIndex

            return QdrantIndex.open(str(address), model)
        return sharded_index.open_index(address, model, mode=mode)
    found = [one.partition("#")[::2] for one in address.split()]
    schemes, names = {one.partition("://")[0] for one, _ in found}, {name or "smart" for _, name in found}
    if len(names) == 1 and schemes <= {"postgresql", "postgres"}:
        from .postgres.index import PostgresIndex

        return PostgresIndex.open([dsn for dsn, _ in found], model, schema=names.pop())
    if len(found) == 1 and schemes <= {"http", "https"}:
        from .qdrant.index import QdrantIndex

        return QdrantIndex.open(found[0][0], model, collection=names.pop())
    if len(found) == 1 and schemes <= {"s3", "gs", "az"}:
        from .lance.index import LanceIndex

        return LanceIndex.open(found[0][0], model, table=names.pop())
    scheme = address.partition("://")[0]  # the rest may hold a password
    raise StoreError(
        f"found an address that begins with {scheme}://, expected postgresql://..., all of one schema, "
        "one of http://... (Qdrant), or of s3://..., gs://..., az://... (LanceDB)"
    )
