"""The first stage of a search: the nearest anchors, and cosines that do not depend on where an anchor stands."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...core.vectors import unit_rows
from ...embeddings import SmartEmbeddings
from ...threads import in_threads
from ...types import Array
from ..mirror.arrays import release_pages
from ..mirror.snapshot import Segment, Selection, Snapshot

# Documents a filter lets through up to which all their anchors are read, one by one.
FEW = 4000
# Anchors copied together for exact cosines: 12 MB at 384 dimensions.
_ROWS_AT_ONCE = 8192
# Anchors multiplied together where they lie: 100 MB at 384 dimensions.
_ROWS_IN_PLACE = 65_536
# Between two ways to sum up one cosine in float32. BLAS chooses the way by where an anchor stands in the index.
_ROUNDING = 4e-6


def all_cosines(selection: Selection, queries: SmartEmbeddings, numbers: Sequence[int], wanted: int) -> Array | None:
    """Cosines of several queries' anchors with those of all positions, ``[n, N]`` float32: anchors are read once.

    None where that is of no use: the first stage reads few of them, or is for one query.
    """
    snapshot = selection.snapshot
    if len(numbers) < 2 or selection.count <= wanted or _reads_few(selection, wanted):
        return None
    asked = unit_rows(queries.anchors[numbers[0] : numbers[-1] + 1])
    cosines = np.empty((len(asked), len(snapshot)), np.float32)
    for segment, first in zip(snapshot.segments, snapshot.starts, strict=False):
        for row in range(0, len(segment.anchors), _ROWS_AT_ONCE):
            block = segment.anchors[row : row + _ROWS_AT_ONCE]
            cosines[:, first + row : first + row + len(block)] = asked @ block.T
            release_pages(segment.anchors)
    return cosines


def _reads_few(selection: Selection, wanted: int) -> bool:
    """Whether the first stage finds the nearest anchors without reading all."""
    ann = selection.snapshot.ann
    # Beyond a tenth of all, looking at everything is the shorter way.
    return (selection.filtered and selection.count <= FEW) or (ann is not None and wanted <= ann.rows // 10)


def candidates(
    snapshot: Snapshot,
    query: SmartEmbeddings,
    selection: Selection,
    wanted: int,
    more: Array,
    cosines: Array | None = None,
) -> tuple[Array, Array]:
    """The ``wanted`` nearest anchors' positions, best first, and their exact cosines, both ``[n]``.

    The positions ``more`` become candidates, too, where they may be found.
    """
    anchor = unit_rows(query.anchors)[0]
    positions, found = nearest(snapshot, anchor, selection, wanted, cosines)
    if len(more):
        more = np.setdiff1d(selection.among(more), positions)
        found = np.concatenate([found, exact_cosines(snapshot, anchor, more)])
        positions, found = by_cosine(np.concatenate([positions, more]), found)
    return positions, found


def nearest(
    snapshot: Snapshot, anchor: Array, selection: Selection, wanted: int, known: Array | None = None
) -> tuple[Array, Array]:
    """The ``wanted`` nearest anchors' positions, best first, and their exact cosines; ``known`` cosines are given."""
    positions, cosines = _near(snapshot, anchor, selection, wanted, known)
    positions, cosines = by_cosine(positions, cosines)
    return positions[:wanted], cosines[:wanted]


def _near(
    snapshot: Snapshot, anchor: Array, selection: Selection, wanted: int, known: Array | None
) -> tuple[Array, Array]:
    """At least ``wanted`` positions with the nearest anchors among them, and their exact cosines."""

    def with_cosines(positions: Array) -> tuple[Array, Array]:
        return positions, exact_cosines(snapshot, anchor, positions)

    if selection.count <= wanted or (selection.filtered and selection.count <= FEW):
        return with_cosines(selection.positions)
    ann = snapshot.ann
    if ann is not None and _reads_few(selection, wanted):
        bits, count = selection.ann_mask
        found = ann.nearest(anchor, wanted, bits, count) if count else np.zeros(0, np.int64)
        if found is not None:
            newer = selection.behind(ann.rows)
            scores, off = anchor_stage(snapshot, anchor, ann.rows)
            return with_cosines(np.concatenate([found, newer[best_places(scores[newer - ann.rows], wanted, 2 * off)]]))
    scores, off = anchor_stage(snapshot, anchor) if known is None else (known, _ROUNDING)
    among = selection.positions if selection.count < len(snapshot) else None
    scores = scores if among is None else scores[among]
    last = _of_rank(scores, wanted)
    first = np.flatnonzero(scores >= last)
    positions, cosines = with_cosines(first if among is None else among[first])
    if len(first) < wanted:  # there are some that are no numbers, which sort as the largest
        return positions, cosines
    # So many are as near as this; whatever is nearer cannot seem farther than it by more than the scores are off.
    least = _of_rank(cosines, wanted) - np.float32(1.001 * off)
    more = np.flatnonzero((scores >= least) & (scores < last))
    others = with_cosines(more if among is None else among[more])
    return np.concatenate([positions, others[0]]), np.concatenate([cosines, others[1]])


def best_places(scores: Array, wanted: int, margin: float = 0.0) -> Array:
    """Places of the best scores, ascending, and of all that tie with the last of them (within a margin)."""
    if len(scores) <= wanted:
        return np.arange(len(scores))
    return np.flatnonzero(scores >= _of_rank(scores, wanted) - np.float32(margin))


def _of_rank(scores: Array, rank: int) -> np.float32:
    """The score that ``rank - 1`` others are no less than."""
    found: np.float32 = np.partition(scores, len(scores) - rank)[len(scores) - rank]
    return found


def by_cosine(positions: Array, cosines: Array) -> tuple[Array, Array]:
    """Both in the order of the cosines, the best first, and of the positions where they tie."""
    order = np.lexsort((positions, -cosines))
    return positions[order], cosines[order]


def anchor_stage(snapshot: Snapshot, anchor: Array, start: int = 0) -> tuple[Array, float]:
    """Cosine of a unit anchor ``[Da]`` with those of all positions from ``start`` on, ``[N - start]`` float32.

    And how far these may be off from the exact ones.
    """
    scores, off = np.empty(max(0, len(snapshot) - start), np.float32), _ROUNDING
    for segment, first in zip(snapshot.segments, snapshot.starts, strict=False):
        anchors = segment.anchors[max(0, start - first) :]
        out = scores[max(first, start) - start :][: len(anchors)]
        coarse = segment.file.coarse() if segment.file is not None and start <= first else None
        error = None if coarse is None else coarse.cosines(anchor, out)
        if error is not None:
            off = max(off, _ROUNDING + error)
            continue

        def multiply(row: int, segment: Segment = segment, anchors: Array = anchors, out: Array = out) -> None:
            block = anchors[row : row + _ROWS_AT_ONCE]
            np.dot(block, anchor, out=out[row : row + len(block)])
            if row % _ROWS_IN_PLACE == 0:
                release_pages(segment.anchors)

        in_threads(multiply, range(0, len(anchors), _ROWS_AT_ONCE))
    return scores, off


def exact_cosines(snapshot: Snapshot, anchor: Array, positions: Array) -> Array:
    """Cosines ``[n]`` float32 with a unit anchor ``[Da]`` that depend on the two vectors alone.

    A matrix product rounds a row by where it stands in its block: equal documents would differ in their last bit, and
    an index would rank other ties first after it was optimized.
    """
    cosines = np.empty(len(positions), np.float32)
    for start in range(0, len(positions), _ROWS_AT_ONCE):
        part = positions[start : start + _ROWS_AT_ONCE]
        cosines[start : start + _ROWS_AT_ONCE] = np.einsum("nd,d->n", snapshot.anchors_at(part), anchor)
    return cosines
