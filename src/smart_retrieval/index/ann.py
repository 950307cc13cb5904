"""The anchor index: nearest anchors among hundreds of thousands, by faiss."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .ann_build import CALIBRATED_FOR, fetched
from .records import Array

# Rows from which on an index is worth its building; below, all anchors are read for every query.
ANN_ROWS = 200_000


class AnchorIndex:
    """A faiss IVF,SQ8 index over the first rows of the mapped base.

    It only proposes: cosines are taken again from the anchors themselves, and whatever it says that cannot be is passed
    over. Safe to use from several threads.

    Args:
        faiss: The module.
        index: Its index; ids are positions.
        rows: Positions it covers, from 0.
        probes: Lists to look into for :data:`~smart_retrieval.index.ann_build.CALIBRATED_FOR` candidates.
    """

    def __init__(self, faiss: Any, index: Any, rows: int, probes: int) -> None:
        self._faiss = faiss
        self._index = index
        self.rows = rows
        self.probes = probes

    def nearest(self, anchor: Array, wanted: int, allowed: Array | None, available: int) -> Array | None:
        """Positions near a query, in no order, at least ``wanted`` of them unless fewer are allowed.

        Args:
            anchor: ``[Da]`` float32 of unit length.
            wanted: How many.
            allowed: One bit a position, little-endian, of those that may be found; None for all.
            available: How many bits are set.

        Returns:
            ``[n]`` int64; None where it finds fewer than there are, which an exact scan will not.
        """
        fetch = min(fetched(wanted), available)
        # A filter thins the lists out: to see as many allowed rows, more of them are looked into.
        probes = self.probes * max(1.0, wanted / CALIBRATED_FOR) * self.rows / max(1, available)
        lists = int(self._index.nlist)
        while True:
            found = self._search(anchor, fetch, min(lists, math.ceil(probes)), allowed)
            if len(found) >= fetch:
                return found
            if probes >= lists:
                return found if len(found) >= min(wanted, available) else None
            probes *= 4

    def _search(self, anchor: Array, fetch: int, probes: int, allowed: Array | None) -> Array:
        selector = None if allowed is None else self._faiss.IDSelectorBitmap(allowed)
        parameters = self._faiss.SearchParametersIVF(sel=selector, nprobe=probes)
        _, found = self._index.search(np.ascontiguousarray(anchor, np.float32)[None], fetch, params=parameters)
        ids: Array = np.unique(found[0])
        return ids[(ids >= 0) & (ids < self.rows)]
