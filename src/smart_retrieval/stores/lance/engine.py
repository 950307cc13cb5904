"""LanceDB as an engine: a table of documents, and a small one beside it for settings."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ...errors import SmartError, StoreError
from ...extras import require
from ...types import Array
from ..engine import Part, Row, RowFilter

if TYPE_CHECKING:
    from lancedb.table import Table

_READ = {"vectors": ["key", "id", "anchor", "codes"], "document": ["key", "id", "document"]}
_KEYS = 2000  # that one filter names
_FIELDS = ("source", "page", "heading", "metadata")


class LanceEngine:
    """An index in two tables, ``name`` and ``name_settings``.

    Filters are those of SQLite, over a copy of the metadata in memory that is made anew when another process wrote.

    Args:
        uri: A folder or bucket.
        table: The name.
    """

    def __init__(self, uri: str, table: str) -> None:
        lancedb = require("lancedb", "lancedb")
        self.table = table
        self._uri = uri
        self._filter: tuple[int, RowFilter] | None = None
        self._lock = threading.RLock()
        self._tables: dict[str, Table] = {}
        with self._errors():
            # Every read sees what other processes have written.
            self._database = lancedb.connect(uri, read_consistency_interval=timedelta(0))

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"{self._uri}, table {self.table}"

    def _open(self, name: str) -> Table:
        with self._lock, self._errors():
            if name not in self._tables:
                self._tables[name] = self._database.open_table(name)
            return self._tables[name]

    @property
    def _rows(self) -> Table:
        return self._open(self.table)

    @property
    def _settings(self) -> Table:
        return self._open(f"{self.table}_settings")

    def create(self, anchor_dim: int, *, replace: bool) -> None:
        """Make both tables."""
        import pyarrow as pa

        with self._errors():
            there = {self.table, f"{self.table}_settings"} & set(self._database.list_tables(limit=100_000).tables)
            if there and not replace:
                raise StoreError(f"{self.name}: found one of that name; take another, or replace it")
            self._tables.clear()
            # Settings first: without them there is no index.
            for name in sorted(there, key=len, reverse=True):
                self._database.drop_table(name)
            anchor = pa.list_(pa.float32(), anchor_dim)
            columns = {"key": pa.int64(), "id": pa.string(), "anchor": anchor, "codes": pa.binary()}
            columns |= {"fields": pa.string(), "document": pa.string()}
            self._database.create_table(self.table, schema=pa.schema(list(columns.items())))
            settings = pa.schema([("name", pa.string()), ("value", pa.large_binary())])
            self._database.create_table(f"{self.table}_settings", schema=settings)

    def put(self, rows: Sequence[Row]) -> None:
        """See :class:`Engine`."""
        import pyarrow as pa

        table = self._rows
        anchors = np.concatenate([np.zeros(0, np.float32), *(np.asarray(row.anchor, np.float32) for row in rows)])
        fields = [{name: row.document.get(name) for name in _FIELDS} for row in rows]
        columns = {
            "key": [row.key for row in rows],
            "id": [row.id for row in rows],
            "anchor": pa.FixedSizeListArray.from_arrays(
                pa.array(anchors), list_size=table.schema.field("anchor").type.list_size
            ),
            "codes": [row.blob for row in rows],
            "fields": [_json(one) for one in fields],
            "document": [_json(dict(row.document)) for row in rows],
        }
        with self._lock, self._errors():
            known = self._known()
            merge = table.merge_insert("key").when_matched_update_all().when_not_matched_insert_all()
            merge.execute(pa.table(columns, schema=table.schema))
            if known is not None:
                known.put(rows)
                self._filter = table.version, known

    def remove(self, keys: Sequence[int]) -> None:
        """See :class:`Engine`."""
        with self._lock, self._errors():
            known = self._known()
            for some in _pieces(keys):
                self._rows.delete(_in(some))
            if known is not None:
                known.remove(keys)
                self._filter = self._rows.version, known

    def fetch(self, keys: Sequence[int], part: Part) -> list[Row]:
        """See :class:`Engine`."""
        with self._errors():
            found = []
            for some in _pieces(keys):
                found += _rows(self._rows.search().where(_in(some)).select(_READ[part]).limit(len(some)).to_arrow())
            return found

    def near(
        self, anchor: Array, limit: int | None, where: str | None, *, exact: bool = False, timeout: float | None = None
    ) -> list[Row]:
        """See :class:`Engine`."""
        keys = None if where is None else self.select(where)
        with self._errors():
            if limit is None or (keys is not None and len(keys) <= limit):
                return self.fetch(self.select(None) if keys is None else keys, "vectors")
            if keys is None:
                return self._nearest(anchor, limit, exact=exact, timeout=timeout)
            if len(keys) <= _KEYS:
                return self._nearest(anchor, limit, _in(keys), exact=exact, timeout=timeout)
            # So many pass that there are enough among the nearest.
            passing, wanted, total = set(keys), 2 * limit, self._rows.count_rows()
            while True:
                rows = self._nearest(anchor, wanted, exact=exact, timeout=timeout)
                rows = [row for row in rows if row.key in passing][:limit]
                if len(rows) == limit or wanted >= total:
                    return rows
                wanted *= 4

    def _nearest(self, anchor: Array, limit: int, where: str = "", *, exact: bool, timeout: float | None) -> list[Row]:
        search = cast(Any, self._rows.search(anchor, vector_column_name="anchor"))  # its stubs know less than it can
        search = search.distance_type("dot").limit(limit).select([*_READ["vectors"], "_distance"])
        if where:
            search = search.where(where, prefilter=True)
        # An index quantises; this many are compared by their vectors.
        search = search.bypass_vector_index() if exact else search.refine_factor(2)
        return _rows(search.to_arrow(timeout=None if timeout is None else timedelta(seconds=timeout)))

    def select(self, where: str | None, among: Sequence[int] | None = None) -> list[int]:
        """See :class:`Engine`."""
        with self._lock, self._errors():
            if where is None and among is None:
                return list(self._rows.search().select(["key"]).limit(None).to_arrow()["key"].to_pylist())
            known = self._known()
            if known is None:
                known, table = RowFilter(), self._rows
                version = table.version
                for batch in table.search().select(["key", "id", "fields"]).limit(None).to_batches():
                    rows = batch.to_pylist()
                    known.put(Row(row["key"], row["id"], document=json.loads(row["fields"])) for row in rows)
                self._filter = version, known
            return known.select(where, among)

    def _known(self) -> RowFilter | None:
        """The copy of the metadata, if it is the newest."""
        return self._filter[1] if self._filter is not None and self._filter[0] == self._rows.version else None

    def count(self, where: str) -> int | None:
        """See :class:`Engine`."""
        return len(self.select(where))

    def load(self, name: str) -> bytes | None:
        """See :class:`Engine`."""
        with self._errors():
            found = self._settings.search().where(f"name = '{name}'").limit(1).to_arrow()["value"]
            return bytes(found[0].as_py()) if len(found) else None

    def save(self, name: str, value: bytes) -> None:
        """See :class:`Engine`."""
        import pyarrow as pa

        with self._errors():
            table = self._settings
            merge = table.merge_insert("name").when_matched_update_all().when_not_matched_insert_all()
            merge.execute(pa.table({"name": [name], "value": [value]}, schema=table.schema))

    def optimize(self, indexed_from: int) -> None:
        """Compact both tables, and make or extend their indexes."""
        from lancedb.index import BTree, HnswSq

        with self._lock, self._errors():
            table = self._rows
            there = {column for index in table.list_indices() for column in index.columns}
            if "key" not in there and table.count_rows():
                table.create_index("key", config=BTree())
            if "anchor" not in there and table.count_rows() >= indexed_from:
                table.create_index("anchor", config=HnswSq(distance_type="dot"))
            table.optimize(cleanup_older_than=timedelta(hours=1))
            self._settings.optimize(cleanup_older_than=timedelta(hours=1))

    def close(self) -> None:
        """See :class:`Engine`."""
        with self._lock:
            if self._filter is not None:
                self._filter[1].close()
            self._filter = None
            self._tables.clear()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """The library's errors as ours, in one line."""
        try:
            yield
        except (SmartError, TimeoutError):
            raise
        except (ValueError, OSError, RuntimeError) as error:
            line = (str(error).splitlines() or [""])[0][:200]
            if "not found" in line:
                raise StoreError(f"index {self.name}: found no index there; export one") from error
            if "timeout" in line.lower():
                raise TimeoutError(f"index {self.name}: the time was over") from error
            raise StoreError(f"index {self.name}: {type(error).__name__}: {line}") from error


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _pieces(keys: Sequence[int]) -> Iterator[Sequence[int]]:
    return (keys[start : start + _KEYS] for start in range(0, len(keys), _KEYS))


def _in(keys: Sequence[int]) -> str:
    return f"key IN ({', '.join(str(int(key)) for key in keys)})"


def _rows(table: Any) -> list[Row]:
    columns = {name: table[name] for name in table.column_names}
    keys, ids = columns["key"].to_pylist(), columns["id"].to_pylist()
    if "document" in columns:
        texts = columns["document"].to_pylist()
        return [Row(key, id, document=json.loads(text)) for key, id, text in zip(keys, ids, texts, strict=True)]
    width = table.schema.field("anchor").type.list_size
    anchors = columns["anchor"].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
    blobs = columns["codes"].to_pylist()
    return [Row(key, id, own, blob) for key, id, own, blob in zip(keys, ids, anchors, blobs, strict=True)]
