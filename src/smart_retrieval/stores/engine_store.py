"""The store of an index in any :class:`Engine`: what engines lack, made of what they have."""

from __future__ import annotations

import json
import secrets
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal

import numpy as np

from ..errors import DuplicateIdError, IndexDamagedError, SmartError, StoreError, UnknownIdError, one_of
from ..files import typed_name
from ..index.codec.base import Codec
from ..index.shards.split import stored_records
from ..index.smart_index import SmartIndex
from ..index.store.manifest import Manifest
from ..index.store.records import Added, Document, Record, Vectors
from ..index.store.rows import pack
from ..index.store.schema import State, now
from ..types import Array
from .base import Near
from .engine import Engine, Part, Row
from .rows import EXPORT_BATCH, anchors_of, document_of, key_of, row_of, spellings, vectors_of

FORMAT = 1
_CHUNK = 500
# Seconds after which a write that has not ended is taken for one whose process died.
_GIVEN_UP = 60


@dataclass
class _Write:
    """A write that has begun: the sums that it goes on from, and whether anything was written."""

    head: dict[str, Any]
    changed: bool = False


class EngineStore:
    """Documents, codes and statistics of one index in an engine without transactions.

    Each document is written in one piece, so none is ever half there. IDF counts and sums are written after the
    documents they count: a mark is set before, and a writer that finds a mark left by one that died counts everything
    again. There may be one writer at a time, and any number of readers.

    Args:
        engine: The engine.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.generation = 1
        self.manifest: Manifest
        self._reading = threading.local()
        self._writing = threading.RLock()
        self._mark = ""  # of the last write here
        self._idf: tuple[int, tuple[int, Array, Array]] | None = None
        self.reload()

    @property
    def path(self) -> str:
        """What messages call it."""
        return self.engine.name

    def close(self) -> None:
        """Close the engine."""
        self.engine.close()

    # -- settings and sums -------------------------------------------------------------------------------------

    @contextmanager
    def reading(self) -> Iterator[None]:
        """The sums are read once inside. Documents that another process deletes meanwhile are missing then."""
        local = self._reading
        local.depth = getattr(local, "depth", 0) + 1
        if local.depth == 1:
            local.head, local.ids = None, {}
        try:
            yield
        finally:
            local.depth -= 1

    def _head(self) -> dict[str, Any]:
        local = self._reading
        if not getattr(local, "depth", 0):
            return _read_head(self.engine)
        if local.head is None:
            local.head = _read_head(self.engine)
        return dict(local.head)

    def reload(self) -> None:
        """Read the manifest again."""
        self._codec_hash = str(_read_head(self.engine)["codec_hash"])
        self.manifest = self.newest_manifest()

    def newest_manifest(self) -> Manifest:
        """The manifest."""
        return Manifest.from_texts(_object(self.engine, "manifest"))

    def state(self) -> State:
        """Number and sums of the last write."""
        head = self._head()
        return State(head["number"], head["documents"], head["tokens"], updated=head["updated"])

    def codec(self) -> bytes:
        """The codec's bytes."""
        return self.engine.load("codec") or b""

    def idf(self) -> tuple[int, Array, Array]:
        """N, vocabulary ids ascending and the documents that hold each."""
        head = self._head()
        if self._idf is None or self._idf[0] != head["number"]:
            table = _unpack_counts(self.engine.load("idf") or b"")
            self._idf = head["number"], (head["documents"], np.array(list(table), np.int64), _values(table))
        return self._idf[1]

    def keep_calibration(self, calibration: Mapping[str, Any], *, again: bool) -> None:
        """Keep a calibration, unless there is one and it is not ``again``."""
        with self._write() as write:
            found = self.newest_manifest()
            if again or not found.calibration:
                manifest = replace(found, calibration=dict(calibration))
                self.engine.save("manifest", json.dumps(manifest.to_texts()).encode())
                write.changed = True
        self.reload()

    def info(self) -> dict[str, Any]:
        """Counts."""
        state = self.state()
        return {
            "path": self.path,
            "documents": state.documents,
            "tokens": state.tokens,
            "commit": state.number,
            "updated": state.updated,
        }

    # -- reading -----------------------------------------------------------------------------------------------

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
        # The engine's precision may take the last ones for one another.
        limit = None if wanted is None else wanted + max(32, wanted // 8)
        with self.reading():
            rows = self.engine.near(anchor, limit, where, exact=exact, timeout=timeout)
            self._reading.ids.update((row.key, row.id) for row in rows)
            passing = len(rows) if limit is None or len(rows) < limit else self.state().documents
            rowids, blobs = np.array([row.key for row in rows], np.int64), [row.blob for row in rows]
            return Near(rowids, anchors_of(rows, self.manifest.anchor_dim), blobs, passing)

    def counted(self, where: str | None) -> int | None:
        """Documents that pass a filter; None where the engine cannot tell quickly."""
        return self.state().documents if where is None else self.engine.count(where)

    def select(self, where: str | None = None) -> Array:
        """Rowids of the documents that a filter chooses, ascending."""
        return np.array(sorted(self.engine.select(where)), np.int64)

    def passes(self, rowid: int, where: str | None) -> bool:
        """Whether a document passes a filter."""
        return bool(self.engine.select(where, [int(rowid)]))

    def _fetch(self, keys: Sequence[int], part: Part) -> dict[int, Row]:
        found: dict[int, Row] = {}
        for start in range(0, len(keys), _CHUNK):
            found.update((row.key, row) for row in self.engine.fetch(keys[start : start + _CHUNK], part))
        return found

    def _vectors(self, rows: Sequence[Row]) -> Vectors:
        return vectors_of(rows, self.manifest, self._codec_hash, self.path)

    def read_vectors(self, rowids: Sequence[int] | Array) -> Vectors:
        """Vectors of rows, in the order given."""
        wanted = [int(rowid) for rowid in rowids]
        found = self._fetch(list(dict.fromkeys(wanted)), "vectors")
        if len(found) < len(set(wanted)):
            raise UnknownIdError(f"index {self.path}: found {len(found)} of {len(wanted)} rows asked for")
        return self._vectors([found[rowid] for rowid in wanted])

    def rowids(self, ids: Sequence[str]) -> Array:
        """Rowids of documents by id, in the order given."""
        names = [typed_name(str(id)) for id in ids]
        spelt = {name: spellings(name) for name in names}
        rows = self._fetch([key_of(one) for some in spelt.values() for one in some], "document")
        there = {row.id: row.key for row in rows.values()}
        known = {name: [there[one] for one in some if one in there] for name, some in spelt.items()}
        absent = [name for name in names if not known[name]]
        if absent:
            more = f" (and {len(absent) - 1} more)" if len(absent) > 1 else ""
            raise UnknownIdError(f"index {self.path}: found no document {absent[0]!r}{more}")
        return np.array([known[name][0] for name in names], np.int64)

    def ids_of(self, rowids: Sequence[int] | Array) -> list[str | None]:
        """Ids by rowid, in the order given."""
        wanted = [int(rowid) for rowid in rowids]
        with self.reading():
            known: dict[int, str] = self._reading.ids  # of what was found within this read
            unknown = [rowid for rowid in wanted if rowid not in known]
            known.update((row.key, row.id) for row in self._fetch(unknown, "document").values())
            return [known.get(rowid) for rowid in wanted]

    def documents(self, rowids: Sequence[int] | Array) -> list[Document]:
        """Documents of rows, in the order given; rows that are gone are left out."""
        wanted = [int(rowid) for rowid in rowids]
        found = self._fetch(wanted, "document")
        return [document_of(found[rowid]) for rowid in wanted if rowid in found]

    # -- writing -----------------------------------------------------------------------------------------------

    @contextmanager
    def _write(self) -> Iterator[_Write]:
        """Marks the index as being written, and keeps the sums afterwards if it is ``changed``."""
        with self._writing:
            head = _read_head(self.engine)
            if left := head["writing"]:
                age = (datetime.now(UTC) - datetime.fromisoformat(left["since"])).total_seconds()
                if left["by"] != self._mark and 0 <= age < _GIVEN_UP:
                    raise StoreError(
                        f"index {self.path}: found another process writing since {left['since']}, expected one writer "
                        f"at a time; if that one died, write again {_GIVEN_UP} seconds later"
                    )
                head |= self._recounted()
            self._mark, before = secrets.token_hex(8), dict(head)
            self._save_head({**head, "writing": {"by": self._mark, "since": now()}})
            if (_read_head(self.engine)["writing"] or {}).get("by") != self._mark:
                raise StoreError(f"index {self.path}: another process began to write, expected one writer at a time")
            write = _Write(head)
            try:
                yield write
            except BaseException:
                if not write.changed:
                    self._save_head({**before, "writing": None})
                raise  # or else the mark stays, and the next writer counts
            if write.changed:
                head |= {"number": head["number"] + 1, "updated": now()}
            self._save_head({**head, "writing": None})

    def _save_head(self, head: Mapping[str, Any]) -> None:
        self.engine.save("head", json.dumps(dict(head)).encode())
        if getattr(self._reading, "depth", 0):
            self._reading.head = None

    def _recounted(self) -> dict[str, Any]:
        """The sums of all documents, counted one by one; the counts of their words are saved."""
        counts: dict[int, int] = {}
        keys, tokens = self.engine.select(None), 0
        for start in range(0, len(keys), _CHUNK):
            vectors = self._vectors(list(self._fetch(keys[start : start + _CHUNK], "vectors").values()))
            _count(counts, vectors, 1)
            tokens += len(vectors.codes)
        self.engine.save("idf", _pack_counts(counts))
        return {"documents": len(keys), "tokens": tokens}

    def add(self, batch: Iterable[Record], on_duplicate: Literal["error", "replace", "skip"] = "error") -> Added:
        """Add documents; each is there as a whole or not at all."""
        if on_duplicate not in ("error", "replace", "skip"):
            raise SmartError(f"on_duplicate: {one_of(on_duplicate, ('error', 'replace', 'skip'))}")
        records = list(batch)
        unique: dict[str, Record] = {}
        for record in records:
            pack(record, self.manifest)  # refuses what does not fit
            if record.id in unique and on_duplicate == "error":
                raise DuplicateIdError(f"found id {record.id!r} twice in one batch; pass on_duplicate='replace'")
            if record.id not in unique or on_duplicate == "replace":
                unique[record.id] = record
        keys = {key_of(id): id for id in unique}
        with self._write() as write:
            known = self._fetch(list(keys), "vectors")
            for key, row in known.items():
                if row.id != keys[key]:
                    raise StoreError(f"found ids {row.id!r} and {keys[key]!r}, which have the same key: rename one")
            if known and on_duplicate == "error":
                raise DuplicateIdError(
                    f"found id {next(iter(known.values())).id!r} in the index already ({len(known)} of {len(unique)} "
                    "are); pass on_duplicate='replace' or 'skip'"
                )
            if on_duplicate == "skip":
                unique = {id: record for id, record in unique.items() if key_of(id) not in known}
            replaced = list(known.values()) if on_duplicate == "replace" else []
            number = write.head["number"] + 1
            rows = [row_of(one, self.manifest, self._codec_hash, number) for one in unique.values()]
            if rows:
                self._change(write, rows, replaced, lambda: self.engine.put(rows))
        return Added(
            [row.key for row in rows], len(replaced), len(records) - len(unique), number if rows else number - 1
        )

    def delete(self, ids: Sequence[str] | None, where: str | None) -> int:
        """Delete documents by id or by filter."""
        with self._write() as write:
            keys = [int(key) for key in np.unique(self.rowids(ids) if ids is not None else self.select(where))]
            for start in range(0, len(keys), _CHUNK):
                part = keys[start : start + _CHUNK]
                gone = list(self._fetch(part, "vectors").values())
                self._change(write, [], gone, partial(self.engine.remove, part))
        return len(keys)

    def _change(self, write: _Write, new: list[Row], gone: list[Row], act: Callable[[], None]) -> None:
        """Write documents, and then what they change of the sums."""
        counts, sums = _unpack_counts(self.engine.load("idf") or b""), {"documents": 0, "tokens": 0}
        for rows, sign in ((new, 1), (gone, -1)):
            vectors = self._vectors(rows)
            _count(counts, vectors, sign)
            sums["documents"] += sign * len(rows)
            sums["tokens"] += sign * len(vectors.codes)
        write.changed = True
        act()
        self.engine.save("idf", _pack_counts(counts))
        write.head |= {name: write.head[name] + value for name, value in sums.items()}


def make_store(engine: Engine, manifest: Manifest, codec: Codec) -> EngineStore:
    """A new, empty index in an engine that has none."""
    _save_settings(engine, manifest, codec)
    _save_sums(engine, codec, {}, 0, 0)
    return EngineStore(engine)


def export_to(engine: Engine, index: SmartIndex, progress: Callable[[int], object] = lambda done: None) -> EngineStore:
    """Copy an index into an engine that has none: an index once all is there, and none until then."""
    counts: dict[int, int] = {}
    documents = tokens = 0
    with index.store.reading():
        codec, manifest = index.codec(), index.store.newest_manifest()
        _save_settings(engine, manifest, codec)
        for batch in stored_records(index.store, batch=EXPORT_BATCH):
            rows = [row_of(record, manifest, codec.hash, 1) for record in batch]
            engine.put(rows)
            _count(counts, vectors_of(rows, manifest, codec.hash, engine.name), 1)
            documents, tokens = documents + len(rows), tokens + sum(len(record.codes) for record in batch)
            progress(len(rows))
        _save_sums(engine, codec, counts, documents, tokens)
    return EngineStore(engine)


def _save_settings(engine: Engine, manifest: Manifest, codec: Codec) -> None:
    engine.save("manifest", json.dumps(manifest.to_texts()).encode())
    engine.save("codec", codec.to_bytes())


def _save_sums(engine: Engine, codec: Codec, counts: Mapping[int, int], documents: int, tokens: int) -> None:
    engine.save("idf", _pack_counts(counts))
    head = {"format": FORMAT, "codec_hash": codec.hash, "number": 1 if documents else 0, "documents": documents}
    engine.save("head", json.dumps({**head, "tokens": tokens, "updated": now(), "writing": None}).encode())


def _read_head(engine: Engine) -> dict[str, Any]:
    """What is read first of an index, and written last of a new one."""
    head = _object(engine, "head")
    if head.get("format") != FORMAT:
        raise StoreError(f"index {engine.name}: found format {head.get('format')}, expected {FORMAT}")
    return head


def _object(engine: Engine, name: str) -> dict[str, Any]:
    data = engine.load(name)
    if data is None:
        raise StoreError(f"index {engine.name}: found no index there, or an export that did not end; export one")
    try:
        return dict(json.loads(data))
    except (ValueError, TypeError) as error:
        raise IndexDamagedError(f"index {engine.name}: its {name} cannot be read ({error}); export it again") from error


def _values(table: Mapping[int, int]) -> Array:
    return np.array(list(table.values()), np.int64)


def _count(counts: dict[int, int], vectors: Vectors, sign: int) -> None:
    """Move document frequencies by documents that come (+1) or go (-1)."""
    each = [np.unique(ids[ids >= 0]) for ids in np.split(vectors.token_ids, vectors.id_offsets[1:-1])]
    tokens, found = np.unique(np.concatenate([np.zeros(0, np.int32), *each]), return_counts=True)
    for token, count in zip(tokens.tolist(), found.tolist(), strict=True):
        left = counts.get(token, 0) + sign * count
        if left > 0:
            counts[token] = left
        else:
            counts.pop(token, None)


def _pack_counts(counts: Mapping[int, int]) -> bytes:
    ordered = dict(sorted(counts.items()))
    return zlib.compress(np.array([list(ordered), list(ordered.values())], "<i8").tobytes(), 1)


def _unpack_counts(data: bytes) -> dict[int, int]:
    try:
        tokens, counts = np.frombuffer(zlib.decompress(data), "<i8").reshape(2, -1)
    except (zlib.error, ValueError) as error:
        raise IndexDamagedError(f"found IDF counts that cannot be read ({error}); export the index again") from error
    return dict(zip(tokens.tolist(), counts.tolist(), strict=True))
