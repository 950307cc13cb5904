"""Which positions of a snapshot a search may find, and the filters of late, kept."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from ...types import Array
from .ann import AnchorIndex
from .arrays import RowFile


class Segment(NamedTuple):
    """Rows one after another, ascending by rowid.

    Attributes:
        rowids: ``[n]`` int64.
        anchors: ``[n, Da]`` float32 of unit length (a zero anchor stays zero).
        codes: ``[sum T, B]`` uint8.
        offsets: ``[n + 1]`` int64 into ``codes``, from 0.
        file: Reads single anchors, where they are mapped.
    """

    rowids: Array
    anchors: Array
    codes: Array
    offsets: Array
    file: RowFile | None = None

    def anchors_of(self, rows: Array) -> Array:
        """Anchors of some rows, ``[k, Da]``."""
        return self.anchors[rows] if self.file is None else self.file.take(rows)


@dataclass(frozen=True)
class Snapshot:
    """The rows of one commit: the memory-mapped base, then the tail of newer rows.

    Rows have *positions*, 0 to N - 1, base first; ascending positions are ascending rowids. Deleted rows keep their
    position and are not ``alive``. A snapshot never changes, whatever is written after it.

    Args:
        commit: The commit it shows.
        generation: Codec generation of its codes.
        base: Name of the mapped files.
        segments: The base and, if there are newer rows, the tail.
        alive: ``[N]`` bool.
        documents: How many are alive.
        ann: Proposes positions among the first rows of the base; None where all anchors are read.
    """

    commit: int
    generation: int
    base: str
    segments: tuple[Segment, ...]
    alive: Array
    documents: int
    ann: AnchorIndex | None = None
    starts: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        starts = np.cumsum([0, *(len(segment.rowids) for segment in self.segments)])
        object.__setattr__(self, "starts", tuple(starts.tolist()))

    def __len__(self) -> int:
        """Positions, deleted ones included."""
        return self.starts[-1]

    @cached_property
    def rowids(self) -> Array:
        """Rowid of every position, ``[N]`` int64 ascending."""
        if len(self.segments) == 1:
            return self.segments[0].rowids
        return np.concatenate([np.zeros(0, np.int64), *(segment.rowids for segment in self.segments)])

    def positions(self, rowids: Sequence[int] | Array) -> Array:
        """Positions of rows in the order asked for, ``[n]`` int64; -1 where a row is not in it or deleted."""
        wanted = np.asarray(rowids, np.int64)
        found = np.full(len(wanted), -1, np.int64)
        for segment, start in zip(self.segments, self.starts, strict=False):
            if len(segment.rowids):
                at = np.minimum(np.searchsorted(segment.rowids, wanted), len(segment.rowids) - 1)
                here = segment.rowids[at] == wanted
                found[here] = at[here] + start
        found[found >= 0] = np.where(self.alive[found[found >= 0]], found[found >= 0], -1)
        return found

    @cached_property
    def everything(self) -> Allowed:
        """All rows that are alive."""
        return Allowed(self)

    def anchors_at(self, positions: Array) -> Array:
        """Unit anchors, ``[n, Da]`` float32, in the order asked for."""
        positions = np.asarray(positions, np.int64)
        taken = np.empty((len(positions), self.segments[0].anchors.shape[1]), np.float32)
        for segment, start, stop in zip(self.segments, self.starts, self.starts[1:], strict=False):
            here = (positions >= start) & (positions < stop)
            if here.all():
                return segment.anchors_of(positions - start)
            taken[here] = segment.anchors_of(positions[here] - start)
        return taken

    def rowids_at(self, positions: Array) -> Array:
        """Rowids, ``[n]`` int64, in the order asked for."""
        positions = np.asarray(positions, np.int64)
        taken = np.empty(len(positions), np.int64)
        for segment, start, stop in zip(self.segments, self.starts, self.starts[1:], strict=False):
            here = (positions >= start) & (positions < stop)
            taken[here] = segment.rowids[positions[here] - start]
        return taken

    def codes_at(self, positions: Array) -> tuple[Array, Array]:
        """Token codes ``[sum T, B]`` uint8 and offsets ``[n + 1]`` int64, in the order asked for."""
        positions = np.asarray(positions, np.int64)
        begins, lengths = np.zeros(len(positions), np.int64), np.zeros(len(positions), np.int64)
        parts = []
        for segment, start, stop in zip(self.segments, self.starts, self.starts[1:], strict=False):
            here = (positions >= start) & (positions < stop)
            local = positions[here] - start
            begins[here] = segment.offsets[local]
            lengths[here] = segment.offsets[local + 1] - segment.offsets[local]
            parts.append((segment, here))
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        codes = np.empty((int(offsets[-1]), self.segments[0].codes.shape[1]), np.uint8)
        # Row r of the result is row (begin of its document) + (r - its offset in the result) of its segment.
        rows = np.repeat(begins - offsets[:-1], lengths) + np.arange(offsets[-1])
        for segment, here in parts:
            if here.all():
                np.take(segment.codes, rows, axis=0, out=codes)
                break
            chosen = np.repeat(here, lengths)
            codes[chosen] = segment.codes[rows[chosen]]
        return codes, offsets


# Filters kept in memory: eight that let a million documents through, or thousands of small ones.
KEPT_BYTES = 64 << 20


class Allowed:
    """Positions that may be found; nothing of it costs anything until it is asked for.

    Args:
        snapshot: The snapshot.
        rowids: Rows a filter lets through, in any order; None for every row that is alive.
    """

    def __init__(self, snapshot: Snapshot, rowids: Array | None = None) -> None:
        self._snapshot = snapshot
        self.filtered = rowids is not None
        if rowids is not None:
            found = snapshot.positions(rowids)
            self.positions = np.sort(found[found >= 0])
        self.count = len(self.positions) if self.filtered else snapshot.documents

    @cached_property
    def positions(self) -> Array:
        """The positions, ``[n]`` int64 ascending."""
        return np.flatnonzero(self._snapshot.alive)

    @cached_property
    def rowids(self) -> Array | None:
        """Their rowids, ``[n]`` int64; None without a filter."""
        return self._snapshot.rowids_at(self.positions) if self.filtered else None

    def among(self, positions: Array) -> Array:
        """Those of some positions that may be found, in their order."""
        if not self.filtered:
            return positions[self._snapshot.alive[positions]]
        at = np.minimum(np.searchsorted(self.positions, positions), max(0, self.count - 1))
        return positions[self.positions[at] == positions] if self.count else positions[:0]

    def behind(self, start: int) -> Array:
        """Those from a position on, ``[n]`` int64 ascending."""
        if not self.filtered:
            return np.flatnonzero(self._snapshot.alive[start:]) + start
        return self.positions[np.searchsorted(self.positions, start) :]

    @cached_property
    def _mask(self) -> tuple[Array | None, int]:
        rows = self._snapshot.ann.rows if self._snapshot.ann is not None else 0
        if not self.filtered:
            mask = self._snapshot.alive[:rows]
            count = int(np.count_nonzero(mask))
            return (None if count == rows else np.packbits(mask, bitorder="little")), count
        inside = self.positions[: np.searchsorted(self.positions, rows)]
        mask = np.zeros(rows, bool)
        mask[inside] = True
        return np.packbits(mask, bitorder="little"), len(inside)

    @property
    def nbytes(self) -> int:
        """Memory that it takes by now."""
        parts = [*vars(self).values(), *vars(self).get("_mask", ())]
        return 500 + sum(part.nbytes for part in parts if isinstance(part, np.ndarray))

    @property
    def ann_bits(self) -> Array | None:
        """One bit for each position the anchor index covers, little-endian; None if all of them may be found."""
        return self._mask[0]

    @property
    def ann_count(self) -> int:
        """How many of the positions the anchor index covers may be found."""
        return self._mask[1]


class Filters:
    """What recent filters let through, kept until the next commit or until memory for them runs out.

    Args:
        kept_bytes: Memory for them.
    """

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self._kept_bytes = kept_bytes
        self._lock = threading.Lock()
        self._snapshot: Snapshot | None = None
        self._kept: OrderedDict[str, Allowed] = OrderedDict()

    def get(self, snapshot: Snapshot, where: Any, select: Callable[[Any], Array]) -> Allowed:
        """What a filter lets through.

        Args:
            snapshot: The snapshot to search.
            where: The filter.
            select: Gives its rowids in the snapshot's commit; called if they are not kept.
        """
        if not isinstance(where, str):
            return Allowed(snapshot, select(where))  # an expression, or refused where it is read
        with self._lock:
            if self._snapshot is not snapshot:
                self._snapshot, self._kept = snapshot, OrderedDict()
            kept = self._kept
            if where in kept:
                kept.move_to_end(where)
                return kept[where]
        allowed = Allowed(snapshot, select(where))
        with self._lock:
            kept[where] = allowed  # of the snapshot it belongs to, whichever is current by now
            while len(kept) > 1 and sum(one.nbytes + 4 * len(name) for name, one in kept.items()) > self._kept_bytes:
                kept.popitem(last=False)
        return allowed
