"""The mirror: the database's vectors as memory-mapped arrays, brought up to date before every search.

It is never needed for correctness and never trusted over the database. Files that are missing, of another index,
another codec or another history, or damaged, are rewritten; of a small index there are none, since reading its database
into memory takes no longer than a glance. Rows newer than the files are kept in memory, and are appended to the files
when there are many of them.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import SmartError, SmartWarning
from ...locks import ForkLock
from ...progress import progress
from ...types import Array
from ..store.lock import file_lock
from ..store.records import Vectors
from ..store.schema import State
from ..store.store import Store
from ..store.where import Expression
from . import ann
from .files import BATCH, MirrorFiles, Stamp, empty_stamp, unit_anchors
from .filters import MetadataFilter
from .snapshot import Segment, Selection, Snapshot

FOLD_ROWS = 20_000
BUILD_TIMEOUT = 3600.0
#: An index of at most so many documents, and so many bytes of anchors and codes, is read into memory on opening.
SMALL_DOCUMENTS, SMALL_BYTES = 4000, 8 << 20


class Mirror:
    """Snapshots of a store for searching. Safe to use from several threads.

    Args:
        store: The store.
        fold_rows: Rows newer than the files that are kept in memory; beyond, they are appended to the files.

    Example:
        >>> import tempfile
        >>> from smart_retrieval.index.store.manifest import Manifest
        >>> from smart_retrieval.index.store.records import Record
        >>> manifest = Manifest(model={"name": "minilm"}, codec="int8", anchor_dim=2, code_width=1)
        >>> with Store.create(Path(tempfile.mkdtemp()) / "a.smart", manifest) as store:
        ...     mirror = Mirror(store)
        ...     _ = store.add([Record("a", np.ones(2), np.zeros((3, 1), np.uint8), np.arange(3))])
        ...     snapshot = mirror.snapshot()
        ...     snapshot.documents, snapshot.anchors_at(np.array([0])).tolist() == [[np.float32(0.5**0.5)] * 2]
        (1, True)
    """

    def __init__(self, store: Store, *, fold_rows: int = FOLD_ROWS) -> None:
        self.store = store
        self.fold_rows = fold_rows
        self._lock = ForkLock()
        self._files = MirrorFiles(store.path / "derived")
        self._filter = MetadataFilter(store)
        self._private: Callable[[], object] | None = None  # removes the private copy
        self._token: int | None = None
        self._ann: ann.AnchorIndex | None = None
        self._ann_file = ""
        self._ann_gave_up = False
        with store.reading():
            found = self._files.load(store)
        with self._lock.held, store.reading():
            state = store.state()
            # Twice, because files that another process brought up to a newer commit look foreign to an older one.
            found = self._files.load(store) if found is None else found
            self._load(state, found)
            self._refresh(state)

    def close(self) -> None:
        """Remove the private copy, if the index's folder could not be written to; snapshots stay valid on POSIX."""
        if self._private is not None:
            self._private()
            self._private = None

    @property
    def stamp(self) -> Stamp:
        """What the mapped files mirror."""
        return self._stamp

    def snapshot(self) -> Snapshot:
        """The vectors of the newest commit; costs one row read when nothing was written since the last call."""
        state = self.store.state()
        current = self._snapshot
        if current.commit == state.number and current.generation == state.generation:
            return current
        if current.commit > state.number and self.store.connections.in_transaction():
            return current  # the caller's own transaction is older than what another thread has mapped
        with self._lock.held, self.store.reading():
            state = self.store.state()
            if state.generation != self.store.generation:
                self.store.reload()
            current = self._snapshot
            known = self.store.commit_token(current.commit) == self._token
            if state.generation != current.generation or not known:
                self._load(state, self._files.load(self.store))
            self._refresh(state)
            return self._snapshot

    def rebuild(self) -> None:
        """Rewrite the files, without the deleted rows and with the columns that filters read."""
        with self._lock.held, self.store.reading():
            state = self.store.state()
            self._build(state, reuse=False)
            self._use_ann()
            self._refresh(state)
            self._filter.prepare(self._files, self._snapshot)

    def verify(self) -> list[str]:
        """What is wrong with the files, in words: see :meth:`MirrorFiles.verify`. :meth:`rebuild` repairs it."""
        return self._files.verify(self.store)

    # -- from files --------------------------------------------------------------------------------------------

    def _load(self, state: State, found: tuple[Stamp, Segment, Array] | None) -> None:
        """Take the files as they were mapped, or write them first."""
        if found is None or self._wasteful(found[0], found[2]):
            self._build(state)
        else:
            self._take(*found)
        self._use_ann()

    def _wasteful(self, stamp: Stamp, dead: Array) -> bool:
        return stamp.rows > 10_000 and len(dead) > stamp.rows // 2

    def _is_small(self, state: State) -> bool:
        manifest = self.store.manifest
        size = 4 * manifest.anchor_dim * state.documents + manifest.code_width * state.tokens
        return state.documents <= SMALL_DOCUMENTS and size <= SMALL_BYTES

    def _read(self, state: State) -> None:
        """Take all rows into memory, and no files."""
        self._say_damaged("it is deleted, as an index this small is read from the database")
        stamp = empty_stamp(self.store, state)
        rows = _Tail(stamp.anchor_dim, stamp.code_width)
        for vectors in self.store.iterate(BATCH):
            rows.extend(vectors)
        base = rows.segment()
        self._files.clear()
        stamp = replace(stamp, commit=state.number, token=self.store.commit_token(state.number) or 0)
        stamp = replace(stamp, rows=len(base.rowids), tokens=len(base.codes), last_rowid=state.last_rowid)
        self._take(stamp, base, np.zeros(0, np.int64))
        self._mapped = False

    def _build(self, state: State, *, reuse: bool = True) -> None:
        if self._is_small(state):
            return self._read(state)
        try:
            self._files.folder.mkdir(exist_ok=True)
            with file_lock(self._files.folder / "lock", BUILD_TIMEOUT) as held:
                if not held:
                    raise SmartError(f"{str(self._files.folder)!r}: another process writes it and does not finish")
                found = self._files.load(self.store) if reuse else None  # another process may have written it meanwhile
                if found is None:
                    self._say_damaged()
                if found is None or self._wasteful(found[0], found[2]):
                    bar = None if state.documents >= ann.ANN_ROWS else False
                    with progress("Writing search files", state.documents, bar) as advance:
                        self._files.write(self.store, state, advance=advance)
                    found = self._files.load(self.store)
        except OSError:
            if self._private is not None:
                raise
            # No permission or no space beside the database: a private copy elsewhere serves as well.
            folder = tempfile.mkdtemp(prefix="smart-derived-")
            self._private = weakref.finalize(self, _remove, folder, os.getpid())
            self._files = MirrorFiles(Path(folder))
            return self._build(state, reuse=False)
        if found is None:
            raise SmartError(f"{str(self._files.folder)!r}: cannot be read back; check the disk")
        return self._take(*found)

    def _say_damaged(self, then: str = "it is written anew from the database") -> None:
        if self._files.problem:
            message = f"index {str(self.store.path)!r}: {self._files.problem}; {then}"
            warnings.warn(message, SmartWarning, stacklevel=2)

    def _take(self, stamp: Stamp, base: Segment, dead: Array) -> None:
        self._stamp, self._base, self._mapped = stamp, base, True
        self._tail = _Tail(stamp.anchor_dim, stamp.code_width)
        self._alive = np.ones(stamp.rows, bool)
        self._alive[dead] = False
        self._seen, self._token, self._last_rowid = stamp.commit, stamp.token, stamp.last_rowid

    # -- the anchor index --------------------------------------------------------------------------------------

    def _use_ann(self) -> None:
        """Map the anchor index of a large base; build or extend it first if that is due.

        Where that cannot be done, searches read all anchors. To be called when nothing newer than the files is taken.
        """
        before = self._ann
        self._ann = None
        if not self._mapped or self._stamp.rows < ann.ANN_ROWS or (faiss := ann.faiss_module()) is None:
            return
        self._ann = self._loaded_ann(faiss, before)
        if self._ann_gave_up or not self._ann_due():
            return
        try:
            # Without any, whoever comes second waits for the first; an extension is not waited for.
            with file_lock(self._files.folder / "lock", 0 if self._ann is not None else BUILD_TIMEOUT) as held:
                found = self._files.load(self.store) if held else None
                if found is not None and found[0] != self._stamp and found[0].generation == self._stamp.generation:
                    self._take(*found)  # another process has been at it
                    self._ann = self._loaded_ann(faiss, None)
                if found is not None and self._ann_due():
                    usable = self._stamp.ann if self._ann is not None else None
                    made = ann.write(faiss, self._files.folder, self._stamp.name, self._base.anchors, usable)
                    self._stamp = replace(self._stamp, ann=made)
                    self._files.put(self._stamp)
                    self._ann = self._loaded_ann(faiss, None)
        except OSError as error:
            self._ann_gave_up = True
            if self._ann is None:
                message = f"index {str(self.store.path)!r}: every search reads all anchors, since {error}"
                warnings.warn(f"{message}; run optimize where there is room and permission", SmartWarning, stacklevel=2)

    def _loaded_ann(self, faiss: Any, before: ann.AnchorIndex | None) -> ann.AnchorIndex | None:
        stamp = self._stamp.ann
        if stamp is None or stamp.rows > self._stamp.rows:
            return None
        if before is not None and self._ann_file == stamp.file:
            return before
        self._ann_file = stamp.file
        if not self._files.check_beside(stamp):
            self._say_damaged()
            return None
        return ann.load(faiss, self._files.folder, stamp, self._stamp.anchor_dim)

    def _ann_due(self) -> bool:
        rows = self._stamp.rows
        if rows < ann.ANN_ROWS:
            return False
        # Rows that it does not cover are read one and all, so it follows; in steps, as each rewrites it.
        return self._ann is None or rows - self._ann.rows >= max(self.fold_rows, self._ann.rows // 64)

    def select(self, snapshot: Snapshot, where: str | Expression) -> Selection:
        """What a filter lets through of a snapshot; to be called while its commit is read."""
        return self._filter.select(self._files, snapshot, where)

    # -- from the database -------------------------------------------------------------------------------------

    def _refresh(self, state: State) -> None:
        """Catch up with the commit that the read transaction sees; costs what changed."""
        if self._seen < state.number:
            self._mark_deleted(self.store.deleted_since(self._seen))
            newer = state.last_rowid - self._stamp.last_rowid
            if newer > self.fold_rows:
                self._fold(state, newer)
            for vectors in self.store.iterate(BATCH, after=self._last_rowid):
                self._tail.extend(vectors)
                self._alive = np.concatenate([self._alive, np.ones(len(vectors.rowids), bool)])
            self._seen, self._last_rowid = state.number, state.last_rowid
            self._token = self.store.commit_token(state.number)
        tail = self._tail.segment()
        self._alive.setflags(write=False)
        self._snapshot = Snapshot(
            commit=self._seen,
            generation=self._stamp.generation,
            base=self._stamp.name,
            segments=(self._base, tail) if len(tail.rowids) else (self._base,),
            alive=self._alive,
            documents=int(np.count_nonzero(self._alive)),
            ann=self._ann,
        )

    def _mark_deleted(self, rowids: Array) -> None:
        """In a new mask: older snapshots keep theirs."""
        if len(rowids):
            self._alive = self._alive.copy()
            self._alive[self._base.places(rowids)[1]] = False
            self._alive[self._tail.segment().places(rowids)[1] + len(self._base.rowids)] = False

    def _fold(self, state: State, newer: int) -> None:
        """Append the newer rows to the files and map them; if that is not possible now, leave everything as it is."""
        dead = np.flatnonzero(~self._alive[: self._stamp.rows])
        held, found = not self._mapped, None
        try:
            if self._mapped:
                with file_lock(self._files.folder / "lock", 0) as held:
                    found = self._files.load(self.store) if held else None
                    # Filters may have put columns beside them since.
                    if found is not None and found[0] == replace(self._stamp, columns=found[0].columns):
                        self._files.write(self.store, state, found[0], dead)
                        found = self._files.load(self.store)
        except OSError:
            if newer > 5 * self.fold_rows:  # too much to keep in memory: a private copy
                self._build(state, reuse=False)
                self._use_ann()
            return
        if found is not None:
            self._take(*found)  # perhaps another process's work, which may stop at an earlier commit than this one
        elif held:  # there are no files, or not any more
            self._build(state)
        else:
            return
        self._use_ann()
        self._mark_deleted(self.store.deleted_since(self._seen))


def _remove(folder: str, pid: int) -> None:
    if os.getpid() == pid:  # a forked child leaves it to its parent
        shutil.rmtree(folder, ignore_errors=True)


class _Tail:
    """Rows in memory that can grow while snapshots look at what was there before."""

    def __init__(self, anchor_dim: int, code_width: int) -> None:
        self._rows = self._tokens = 0
        self._rowids = np.empty(0, np.int64)
        self._anchors = np.empty((0, anchor_dim), np.float32)
        self._codes = np.empty((0, code_width), np.uint8)
        self._offsets = np.zeros(1, np.int64)

    def extend(self, vectors: Vectors) -> None:
        """Take more rows. Written behind what snapshots see, or into larger arrays."""
        rows, tokens = self._rows + len(vectors.rowids), self._tokens + len(vectors.codes)
        self._rowids = _extended(self._rowids, self._rows, vectors.rowids)
        self._anchors = _extended(self._anchors, self._rows, unit_anchors(vectors.anchors))
        self._codes = _extended(self._codes, self._tokens, vectors.codes)
        self._offsets = _extended(self._offsets, self._rows + 1, vectors.offsets[1:] + self._tokens)
        self._rows, self._tokens = rows, tokens

    def segment(self) -> Segment:
        """What is there now, as views."""
        rows, tokens = self._rows, self._tokens
        return Segment(self._rowids[:rows], self._anchors[:rows], self._codes[:tokens], self._offsets[: rows + 1])


def _extended(array: Array, used: int, more: Array) -> Array:
    needed = used + len(more)
    if needed > len(array):
        larger = np.empty((max(needed, 2 * len(array)), *array.shape[1:]), array.dtype)
        larger[:used] = array[:used]
        array = larger
    array[used:needed] = more
    return array
