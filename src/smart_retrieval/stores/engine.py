"""The few things an engine must do to keep an index; :class:`EngineStore` makes a store of them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

from ..index.store.where import add_functions, compile_where
from ..types import Array

#: What is read of a row: its vectors (``anchor`` and ``blob``), or its ``document``.
Part: TypeAlias = Literal["vectors", "document"]


@dataclass(frozen=True, slots=True)
class Row:
    """One document as an engine keeps it.

    Args:
        key: Made of the id; 0 to 2^63 - 1. A row replaces the one of the same key.
        id: The document's.
        anchor: ``[Da]`` float32 of unit length; None where only the document was read.
        blob: Its codes, see :meth:`~smart_retrieval.Codec.encode_blobs`.
        document: A JSON object: ``id``, ``text``, ``source``, ``page``, ``heading``, ``metadata`` and more. Filters are
            about these fields. Empty where only vectors were read.
    """

    key: int
    id: str
    anchor: Array | None = None
    blob: bytes = b""
    document: Mapping[str, Any] = field(default_factory=dict)


class Engine(Protocol):
    """An engine that finds near anchors among the rows that pass a filter, and keeps bytes beside them.

    Nothing more is asked of it: no transactions, no multi-vectors, no scores of its own. Every method may be called
    from several threads. A filter is text in the grammar of ``where``; what an engine cannot express exactly, it
    refuses with :class:`~smart_retrieval.errors.FilterError`. For one without filters there is :class:`RowFilter`.
    """

    @property
    def name(self) -> str:
        """What messages call it; never a password."""
        ...

    def put(self, rows: Sequence[Row]) -> None:
        """Write whole rows, in place of those of the same keys; visible when it returns."""
        ...

    def remove(self, keys: Sequence[int]) -> None:
        """Delete rows; keys that are not there are passed over."""
        ...

    def fetch(self, keys: Sequence[int], part: Part) -> list[Row]:
        """The rows that are there, in any order."""
        ...

    def near(
        self, anchor: Array, limit: int | None, where: str | None, *, exact: bool = False, timeout: float | None = None
    ) -> list[Row]:
        """The ``limit`` rows that pass a filter with the largest dot product of anchors, with vectors; all if None.

        Args:
            anchor: ``[Da]`` float32 of unit length.
            limit: How many.
            where: The filter.
            exact: Look at every anchor.
            timeout: Seconds; raises TimeoutError if it takes longer and the engine can tell.
        """
        ...

    def select(self, where: str | None, among: Sequence[int] | None = None) -> list[int]:
        """Keys of the rows that pass a filter, of all or of some."""
        ...

    def count(self, where: str) -> int | None:
        """How many rows pass a filter; None where counting them takes as long as a search of all."""
        ...

    def load(self, name: str) -> bytes | None:
        """A value that :meth:`save` kept; None if there is none."""
        ...

    def save(self, name: str, value: bytes) -> None:
        """Keep some bytes beside the rows: a dozen names in all, most of a few kB, the codec's up to 100 MB."""
        ...

    def close(self) -> None:
        """Give connections back."""
        ...


class RowFilter:
    """Filters for an engine that has none, in a SQLite table in memory: id, source, page, heading and metadata.

    Example:
        >>> rows = RowFilter()
        >>> rows.put([Row(1, "a", document={"id": "a", "metadata": {"year": 2020}})])
        >>> rows.select("year > 2000"), rows.select("year > 2020")
        ([1], [])
    """

    def __init__(self) -> None:
        self._rows = sqlite3.connect(":memory:", check_same_thread=False)
        add_functions(self._rows)
        columns = "key INTEGER PRIMARY KEY, id TEXT, source TEXT, page INTEGER, heading TEXT, metadata TEXT"
        self._rows.execute(f"CREATE TABLE documents ({columns})")

    def put(self, rows: Iterable[Row]) -> None:
        """Know these rows."""
        values = []
        for row in rows:
            found = row.document
            metadata = json.dumps(found.get("metadata", {}), ensure_ascii=False)
            values.append((row.key, row.id, found.get("source"), found.get("page"), found.get("heading"), metadata))
        self._rows.executemany("INSERT OR REPLACE INTO documents VALUES (?, ?, ?, ?, ?, ?)", values)

    def remove(self, keys: Iterable[int]) -> None:
        """Forget these."""
        self._rows.executemany("DELETE FROM documents WHERE key = ?", [(int(key),) for key in keys])

    def select(self, where: str | None, among: Sequence[int] | None = None) -> list[int]:
        """Keys of the rows that pass a filter, ascending."""
        sql, parameters = compile_where(where)
        if among is not None:
            sql, parameters = (
                f"key IN (SELECT value FROM json_each(?)) AND {sql}",
                [json.dumps([int(key) for key in among]), *parameters],
            )
        found = self._rows.execute(f"SELECT key FROM documents WHERE {sql} ORDER BY key", parameters)
        return [key for (key,) in found]

    def close(self) -> None:
        """Give the memory back."""
        self._rows.close()
