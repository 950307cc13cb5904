"""Building a faiss index over anchors: IVF with 8-bit scalar codes, and as many probes as the anchors ask for."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .mapped import let_go
from .records import Array

# Queries of the calibration want as many as a search does by default, and miss at most one in a hundred.
CALIBRATED_FOR = 400
AIM = 0.995
_QUERIES = 96
_SEED = 20260523
_TRAIN_A_LIST = 64
_TRAIN_AT_MOST = 262_144
_AT_ONCE = 32_768

Advance = Callable[[int], None]


def lists_for(rows: int) -> int:
    """Inverted lists for so many rows: the power of two next to their square root, 8 at least."""
    return 1 << max(3, round(math.log2(max(1, rows)) / 2))


def build(faiss: Any, anchors: Array, advance: Advance) -> Any:
    """An IVF,SQ8 index over unit anchors, row number = id.

    It is trained on a sample of bounded size with a fixed seed.

    Args:
        faiss: The module.
        anchors: ``[n, Da]`` float32 of unit length.
        advance: Called with the number of rows done.
    """
    lists = lists_for(len(anchors))
    count = min(len(anchors), _TRAIN_A_LIST * lists, max(_TRAIN_AT_MOST, 40 * lists))
    chosen = np.sort(np.random.default_rng(_SEED).choice(len(anchors), count, replace=False))
    quantizer = faiss.IndexFlatIP(anchors.shape[1])
    index = faiss.IndexIVFScalarQuantizer(
        quantizer, anchors.shape[1], lists, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
    )
    index.cp.min_points_per_centroid = 1  # it would warn on stderr
    index.train(np.concatenate([_taken(anchors, part) for part in np.array_split(chosen, 32)]))
    extend(index, anchors, advance)
    return index


def _taken(anchors: Array, rows: Array) -> Array:
    taken: Array = anchors[rows]
    let_go(anchors)
    return taken


def extend(index: Any, anchors: Array, advance: Advance) -> None:
    """Add the rows that the index does not hold yet; ``anchors`` begins with those it does."""
    for start in range(int(index.ntotal), len(anchors), _AT_ONCE):
        block = np.ascontiguousarray(anchors[start : start + _AT_ONCE])
        index.add(block)
        let_go(anchors)
        advance(len(block))


def calibrate(faiss: Any, index: Any, anchors: Array) -> int:
    """The least number of probes that finds :data:`AIM` of the exact candidates.

    The queries are made from the anchors, as no others are known: half of them lie near one document, and half between
    two, where lists meet and more probes are needed.
    """
    rng = np.random.default_rng(_SEED + 1)
    first, second = anchors[rng.integers(0, len(anchors), _QUERIES)], anchors[rng.integers(0, len(anchors), _QUERIES)]
    share = np.where(np.arange(_QUERIES) % 2, 0.5, 0.75).astype(np.float32)[:, None]
    queries = np.ascontiguousarray(first * share + second * (1 - share))
    wanted = min(CALIBRATED_FOR, len(anchors))
    exact = _nearest(faiss, queries, anchors, wanted)
    let_go(anchors)
    probes = 1
    while probes < index.nlist:
        parameters = faiss.SearchParametersIVF(nprobe=probes)
        _, found = index.search(queries, fetched(wanted), params=parameters)
        hits = [len(np.intersect1d(a, b)) for a, b in zip(exact, found, strict=True)]
        if np.mean(hits) >= AIM * wanted:
            return probes
        probes = -(-probes * 3 // 2)
    return int(index.nlist)


def fetched(wanted: int) -> int:
    """How many to ask an index for: a few more, since 8 bits blur the order and the cosines are taken again exactly."""
    return wanted + max(16, wanted // 8)


def _nearest(faiss: Any, queries: Array, anchors: Array, wanted: int) -> Array:
    """The exact nearest rows of each query, ``[Q, wanted]``."""
    scores, rows = np.zeros((len(queries), 0), np.float32), np.zeros((len(queries), 0), np.int64)
    for start in range(0, len(anchors), _AT_ONCE):
        block = np.ascontiguousarray(anchors[start : start + _AT_ONCE])
        near, which = faiss.knn(queries, block, min(wanted, len(block)), metric=faiss.METRIC_INNER_PRODUCT)
        let_go(anchors)
        scores, rows = np.hstack([scores, near]), np.hstack([rows, which + start])
        if scores.shape[1] > wanted:
            best = np.argpartition(-scores, wanted - 1, axis=1)[:, :wanted]
            scores, rows = np.take_along_axis(scores, best, 1), np.take_along_axis(rows, best, 1)
    return rows
