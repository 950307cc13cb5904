"""All vectors of one commit as arrays, for searching."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from .allowed import Allowed
from .ann import AnchorIndex
from .mapped import RowFile
from .records import Array


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
