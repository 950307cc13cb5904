"""The first stage: documents near the query's anchor, with the exact cosines of theirs."""

from __future__ import annotations

import numpy as np

from ...core.hybrid import unit_rows
from ...embeddings import SmartEmbeddings
from ...types import Array
from ..mirror.arrays import release_pages
from ..mirror.snapshot import Selection, Snapshot

# Documents a filter lets through up to which all their anchors are read, one by one.
FEW = 4000
# Anchors copied together for exact cosines: 12 MB at 384 dimensions.
_ROWS_AT_ONCE = 8192
# Anchors multiplied together where they lie: 100 MB at 384 dimensions.
_ROWS_IN_PLACE = 65_536
# Between two ways to sum up one cosine in float32. BLAS chooses the way by where an anchor stands in the index.
_ROUNDING = np.float32(4e-6)


def everything(snapshot: Snapshot, query: SmartEmbeddings, selection: Selection) -> tuple[Array, Array]:
    """All positions that may be found, best anchors first, and their exact cosines, both ``[n]``."""
    return _sorted(selection.positions, exact_cosines(snapshot, query, selection.positions))


def candidates(
    snapshot: Snapshot, query: SmartEmbeddings, selection: Selection, wanted: int, more: Array
) -> tuple[Array, Array]:
    """The ``wanted`` nearest anchors' positions, best first, and their exact cosines, both ``[n]``.

    The positions ``more`` become candidates, too, where they may be found.
    """
    positions = _near(snapshot, unit_rows(query.anchors)[0], selection, wanted)
    positions, cosines = _sorted(positions, exact_cosines(snapshot, query, positions))
    positions, cosines = positions[:wanted], cosines[:wanted]
    if len(more):
        more = np.setdiff1d(selection.among(more), positions)
        cosines = np.concatenate([cosines, exact_cosines(snapshot, query, more)])
        positions, cosines = _sorted(np.concatenate([positions, more]), cosines)
    return positions, cosines


def _near(snapshot: Snapshot, anchor: Array, selection: Selection, wanted: int) -> Array:
    """At least ``wanted`` positions, ascending, with the nearest anchors among them."""
    if selection.filtered and selection.count <= FEW:
        return selection.positions
    ann = snapshot.ann
    # Beyond a tenth of all, looking at everything is the shorter way.
    if ann is not None and wanted <= ann.rows // 10:
        bits, count = selection.ann_mask
        found = ann.nearest(anchor, wanted, bits, count) if count else np.zeros(0, np.int64)
        if found is not None:
            newer = selection.behind(ann.rows)
            scores = anchor_stage(snapshot, anchor, ann.rows)[newer - ann.rows]
            return np.concatenate([found, newer[_best(scores, wanted)]])
    scores = anchor_stage(snapshot, anchor)
    if selection.count < len(snapshot):
        return selection.positions[_best(scores[selection.positions], wanted)]
    return _best(scores, wanted)


def _best(scores: Array, wanted: int) -> Array:
    """Places of the best scores, ascending, and of all that may be as good but for rounding."""
    if len(scores) <= wanted:
        return np.arange(len(scores))
    last = np.partition(scores, len(scores) - wanted)[len(scores) - wanted]
    return np.flatnonzero(scores >= last - _ROUNDING)


def _sorted(positions: Array, cosines: Array) -> tuple[Array, Array]:
    order = np.lexsort((positions, -cosines))
    return positions[order], cosines[order]


def anchor_stage(snapshot: Snapshot, anchor: Array, start: int = 0) -> Array:
    """Cosine of a unit anchor ``[Da]`` with those of all positions from ``start`` on, ``[N - start]`` float32."""
    scores = np.empty(max(0, len(snapshot) - start), np.float32)
    for segment, first in zip(snapshot.segments, snapshot.starts, strict=False):
        anchors = segment.anchors[max(0, start - first) :]
        at = max(first, start) - start
        for row in range(0, len(anchors), _ROWS_IN_PLACE):
            block = anchors[row : row + _ROWS_IN_PLACE]
            np.dot(block, anchor, out=scores[at + row : at + row + len(block)])
            release_pages(segment.anchors)
    return scores


def exact_cosines(snapshot: Snapshot, query: SmartEmbeddings, positions: Array) -> Array:
    """Cosines ``[n]`` float32 that depend on the two vectors alone.

    A matrix product rounds a row by where it stands in its block: equal documents would differ in their last bit, and
    an index would rank other ties first after it was optimized.
    """
    anchor = unit_rows(query.anchors)[0]
    cosines = np.empty(len(positions), np.float32)
    for start in range(0, len(positions), _ROWS_AT_ONCE):
        part = positions[start : start + _ROWS_AT_ONCE]
        cosines[start : start + _ROWS_AT_ONCE] = np.einsum("nd,d->n", snapshot.anchors_at(part), anchor)
    return cosines
