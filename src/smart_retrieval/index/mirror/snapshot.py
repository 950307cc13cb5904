"""The vectors of one commit, and which of its positions a search may find."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from ...types import Array
from .ann import AnchorIndex
from .arrays import RowFile, rows_of

# Filters kept in memory: eight that let a million documents through, or thousands of small ones.
KEPT_BYTES = 64 << 20


class Segment(NamedTuple):
    """Rows one after another, ascending by rowid."""

    rowids: Array  # [n] int64
    anchors: Array  # [n, Da] float32 of unit length (a zero anchor stays zero)
    codes: Array  # [sum T, B] uint8
    offsets: Array  # [n + 1] int64 into codes, from 0
    file: RowFile | None = None  # reads single anchors, where they are mapped

    def anchors_of(self, rows: Array) -> Array:
        """Anchors of some rows, ``[k, Da]``."""
        return rows_of(self.anchors, rows) if self.file is None else self.file.take(rows)

    def places(self, rowids: Array) -> tuple[Array, Array]:
        """Which of some rowids are in it ``[k]`` bool, and the places of these."""
        if not len(self.rowids):
            return np.zeros(len(rowids), bool), np.zeros(0, np.int64)
        first, last = int(self.rowids[0]), int(self.rowids[-1])
        if last - first == len(self.rowids) - 1:  # none is missing between them
            here = (rowids >= first) & (rowids <= last)
            return here, rowids[here] - first
        at = np.minimum(np.searchsorted(self.rowids, rowids), len(self.rowids) - 1)
        here = self.rowids[at] == rowids
        return here, at[here]


@dataclass(frozen=True)
class Snapshot:
    """The rows of one commit: the memory-mapped base, then the tail of newer rows.

    Rows have *positions*, 0 to N - 1, base first; ascending positions are ascending rowids. Deleted rows keep their
    position and are not ``alive``. A snapshot never changes, whatever is written after it.
    """

    commit: int  # the commit it shows
    generation: int  # of the codec of its codes
    base: str  # name of the mapped files
    segments: tuple[Segment, ...]  # the base and, if there are newer rows, the tail
    alive: Array  # [N] bool
    documents: int  # how many are alive
    ann: AnchorIndex | None = None  # proposes positions among the first of the base; None: all anchors are read
    starts: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        starts = np.cumsum([0, *(len(segment.rowids) for segment in self.segments)])
        object.__setattr__(self, "starts", tuple(starts.tolist()))

    def __len__(self) -> int:
        """Positions, deleted ones included."""
        return self.starts[-1]

    def positions(self, rowids: Sequence[int] | Array) -> Array:
        """Positions of rows in the order given, ``[n]`` int64; -1 where a row is not in it or deleted."""
        wanted = np.asarray(rowids, np.int64)
        found = np.full(len(wanted), -1, np.int64)
        for segment, start in zip(self.segments, self.starts, strict=False):
            here, places = segment.places(wanted)
            found[here] = places + start
        found[found >= 0] = np.where(self.alive[found[found >= 0]], found[found >= 0], -1)
        return found

    @cached_property
    def everything(self) -> Selection:
        """All rows that are alive."""
        return Selection(self)

    def by_segment(self, positions: Array) -> Iterator[tuple[Segment, Array, Array]]:
        """Segments that hold some of the positions, which these are ``[n]`` bool, and their rows there."""
        for segment, start, stop in zip(self.segments, self.starts, self.starts[1:], strict=False):
            here = (positions >= start) & (positions < stop)
            if here.any():
                yield segment, here, positions[here] - start

    def anchors_at(self, positions: Array) -> Array:
        """Unit anchors, ``[n, Da]`` float32, in the order given."""
        taken = np.empty((len(positions), self.segments[0].anchors.shape[1]), np.float32)
        for segment, here, rows in self.by_segment(np.asarray(positions, np.int64)):
            if len(rows) == len(taken):
                return segment.anchors_of(rows)
            taken[here] = segment.anchors_of(rows)
        return taken

    def rowids_at(self, positions: Array) -> Array:
        """Rowids, ``[n]`` int64, in the order given."""
        taken = np.empty(len(positions), np.int64)
        for segment, here, rows in self.by_segment(np.asarray(positions, np.int64)):
            taken[here] = segment.rowids[rows]
        return taken

    def codes_at(self, positions: Array) -> tuple[Array, Array]:
        """Token codes ``[sum T, B]`` uint8 and offsets ``[n + 1]`` int64, in the order given."""
        begins, lengths = np.zeros(len(positions), np.int64), np.zeros(len(positions), np.int64)
        parts = list(self.by_segment(np.asarray(positions, np.int64)))
        for segment, here, rows in parts:
            begins[here] = segment.offsets[rows]
            lengths[here] = segment.offsets[rows + 1] - segment.offsets[rows]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        codes = np.empty((int(offsets[-1]), self.segments[0].codes.shape[1]), np.uint8)
        # Row r of the result is row (begin of its document) + (r - its offset in the result) of its segment.
        sources = np.repeat(begins - offsets[:-1], lengths) + np.arange(offsets[-1])
        for segment, here, _ in parts:
            if len(parts) == 1:
                np.take(segment.codes, sources, axis=0, out=codes)
            else:
                chosen = np.repeat(here, lengths)
                codes[chosen] = segment.codes[sources[chosen]]
        return codes, offsets


class Selection:
    """Positions that may be found: of the rows a filter lets through, in any order, or of all that are alive.

    Or the ``positions`` themselves, ascending, of rows that are alive. All of it is computed when it is first used.
    """

    def __init__(self, snapshot: Snapshot, rowids: Array | None = None, *, positions: Array | None = None) -> None:
        self.snapshot = snapshot
        self.filtered = rowids is not None or positions is not None
        if positions is not None:
            self.positions = positions
        elif rowids is not None:
            found = snapshot.positions(rowids)
            self.positions = np.sort(found[found >= 0])
        self.count = len(self.positions) if self.filtered else snapshot.documents

    @cached_property
    def positions(self) -> Array:
        """The positions, ``[n]`` int64 ascending."""
        return np.flatnonzero(self.snapshot.alive)

    @cached_property
    def rowids(self) -> Array | None:
        """Their rowids, ``[n]`` int64; None without a filter."""
        return self.snapshot.rowids_at(self.positions) if self.filtered else None

    def among(self, positions: Array) -> Array:
        """Those of some positions that may be found, in their order."""
        if not self.filtered:
            return positions[self.snapshot.alive[positions]]
        at = np.minimum(np.searchsorted(self.positions, positions), max(0, self.count - 1))
        return positions[self.positions[at] == positions] if self.count else positions[:0]

    def behind(self, start: int) -> Array:
        """Those from a position on, ``[n]`` int64 ascending."""
        if not self.filtered:
            return np.flatnonzero(self.snapshot.alive[start:]) + start
        return self.positions[np.searchsorted(self.positions, start) :]

    @cached_property
    def ann_mask(self) -> tuple[Array | None, int]:
        """Of the positions the anchor index covers: a bit each, little-endian (None: all), and how many of them."""
        rows = self.snapshot.ann.rows if self.snapshot.ann is not None else 0
        mask = self.snapshot.alive[:rows]
        if self.filtered:
            mask = np.zeros(rows, bool)
            mask[self.positions[: np.searchsorted(self.positions, rows)]] = True
        count = int(np.count_nonzero(mask))
        return (None if count == rows and not self.filtered else np.packbits(mask, bitorder="little")), count

    @property
    def nbytes(self) -> int:
        """Memory that it takes by now."""
        parts = [*vars(self).values(), *vars(self).get("ann_mask", ())]
        return 500 + sum(part.nbytes for part in parts if isinstance(part, np.ndarray))


class Filters:
    """What recent filters let through, kept until the next commit or until memory for them runs out."""

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self._kept_bytes = kept_bytes
        self._lock = threading.Lock()
        self._snapshot: Snapshot | None = None
        self._kept: OrderedDict[str, Selection] = OrderedDict()

    def get(self, snapshot: Snapshot, where: Any, select: Callable[[Snapshot, Any], Selection]) -> Selection:
        """What a filter lets through, by ``select`` where it is not kept."""
        if not isinstance(where, str):
            return select(snapshot, where)  # an expression, or refused where it is read
        with self._lock:
            if self._snapshot is not snapshot:
                self._snapshot, self._kept = snapshot, OrderedDict()
            kept = self._kept
            if where in kept:
                kept.move_to_end(where)
                return kept[where]
        selection = select(snapshot, where)
        with self._lock:
            kept[where] = selection  # of the snapshot it belongs to, whichever is current by now
            while len(kept) > 1 and sum(one.nbytes + 4 * len(name) for name, one in kept.items()) > self._kept_bytes:
                kept.popitem(last=False)
        return selection
