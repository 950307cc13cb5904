"""What a filter lets through of a snapshot: by columns of metadata where the base has them, by SQL in newer rows."""

from __future__ import annotations

import sqlite3
import warnings
from contextlib import suppress
from dataclasses import replace

import numpy as np

from ...errors import SmartWarning
from ...locks import ForkLock
from ...progress import progress
from ..store.lock import file_lock
from ..store.store import Store
from ..store.where import Expression, parse
from . import column_files
from .column_files import COLUMN_ROWS, ColumnsStamp
from .columns import Part
from .files import DamagedFileError, MirrorFiles, Stamp
from .snapshot import Selection, Snapshot

_BAR_FROM = 200_000


class MetadataFilter:
    """Filters over a store; its columns are made when a filter first needs them. Safe to use from several threads."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._lock = ForkLock()
        self._base = ""
        self._parts: list[tuple[ColumnsStamp | None, Part]] = []  # those of the base, from its first row on
        self._gave_up = False

    def select(self, files: MirrorFiles, snapshot: Snapshot, where: str | Expression) -> Selection:
        """What a filter lets through of a snapshot; to be called while its commit is read."""
        rows = len(snapshot.segments[0].rowids)
        if rows < COLUMN_ROWS or self._gave_up or not isinstance(where, str | Expression):
            return Selection(snapshot, self.store.select(where))
        node = parse(where) if isinstance(where, str) else where
        try:
            parts = self._covering(files, snapshot)
            found = [np.flatnonzero(part.mask(node, self.store.select)) + part.start for part in parts]
        except ValueError as error:  # a file that is not what was written
            self._gave_up, self._parts = True, []
            message = f"index {str(self.store.path)!r}: {error}; filters read the database"
            warnings.warn(message, SmartWarning, stacklevel=2)
            return Selection(snapshot, self.store.select(node))
        last = int(parts[-1].rowids[-1]) if parts else 0
        newer = snapshot.positions(self.store.select(node, last))
        positions = np.concatenate([np.zeros(0, np.int64), *found])
        return Selection(snapshot, positions=np.append(positions[snapshot.alive[positions]], newer[newer >= 0]))

    def prepare(self, files: MirrorFiles, snapshot: Snapshot) -> None:
        """Make the columns before a filter needs them; to be called while the snapshot's commit is read."""
        if len(snapshot.segments[0].rowids) >= COLUMN_ROWS and not self._gave_up:
            with suppress(ValueError):  # a damaged file, which the first filter will name
                self._covering(files, snapshot)

    def _covering(self, files: MirrorFiles, snapshot: Snapshot) -> list[Part]:
        """Columns of the first positions of the base, and of all but a few where they can be made."""
        rows = len(snapshot.segments[0].rowids)
        with self._lock.held:
            if self._base != snapshot.base:
                self._base, self._parts = snapshot.base, []
            if rows - self._covered() >= COLUMN_ROWS:
                self._load(files, snapshot)
            if rows - self._covered() >= COLUMN_ROWS:
                self._make(files, snapshot)
            # A snapshot of another thread may be an older one.
            return [part for _, part in self._parts if part.start + len(part.rowids) <= rows]

    def _covered(self) -> int:
        return sum(len(part.rowids) for _, part in self._parts)

    def _stamp(self, files: MirrorFiles) -> Stamp | None:
        with suppress(OSError, DamagedFileError):
            stamp = files.stamp()
            return stamp if stamp is not None and stamp.name == self._base else None
        return None

    def _load(self, files: MirrorFiles, snapshot: Snapshot) -> None:
        """Take what another process, or an earlier one, has made."""
        stamp, rowids = self._stamp(files), snapshot.segments[0].rowids
        known = {made.file: part for made, part in self._parts if made is not None}
        found: list[tuple[ColumnsStamp | None, Part]] = []
        for made in stamp.columns if stamp is not None else ():
            end = sum(len(part.rowids) for _, part in found)
            if made.start != end or made.start + made.rows > len(rowids) or not files.check_beside(made):
                break
            part = known.get(made.file) or column_files.load(
                files.folder / made.file, made, rowids[made.start : made.start + made.rows]
            )
            found.append((made, part))
        if sum(len(part.rowids) for _, part in found) > self._covered():
            self._parts = found

    def _make(self, files: MirrorFiles, snapshot: Snapshot) -> None:
        """Read the documents, and keep their columns in files where that is possible."""
        try:
            with file_lock(files.folder / "lock", 0) as held:
                if held:  # else another process is writing: it may be the same
                    self._read(files, snapshot)
        except OSError:
            self._read(None, snapshot)

    def _read(self, files: MirrorFiles | None, snapshot: Snapshot) -> None:
        rowids = snapshot.segments[0].rowids
        kept, fresh = column_files.ranges([(part.start, len(part.rowids)) for _, part in self._parts], len(rowids))
        parts, total = self._parts[:kept], sum(rows for _, rows in fresh)
        with (
            progress("Reading metadata", total, None if total >= _BAR_FROM else False) as advance,
            self.store.reading() as connection,
        ):
            for start, rows in fresh:
                own = rowids[start : start + rows]
                try:
                    arrays, about = column_files.make(connection, own)
                except sqlite3.Error:  # text that is none, for one: SQL may pass over it
                    self._gave_up = True
                    return
                made = None
                if files is not None:
                    with suppress(OSError):  # no room
                        made = column_files.write(files.folder, self._base, start, rows, (arrays, about))
                if made is not None and files is not None:
                    part = column_files.load(files.folder / made.file, made, own)
                else:
                    part = column_files.part_of(start, own, arrays.__getitem__, about)
                parts.append((made, part))
                advance(rows)
        self._parts = parts
        if files is not None and (stamp := self._stamp(files)) is not None:
            written = [made for made, _ in parts]
            whole = tuple(made for made in written if made is not None)
            if len(whole) == len(written):
                files.put(replace(stamp, columns=whole))
