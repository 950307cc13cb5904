"""Which positions of a snapshot a search may find, and the filters of late, kept."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from .records import Array

if TYPE_CHECKING:
    from .snapshot import Snapshot

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
