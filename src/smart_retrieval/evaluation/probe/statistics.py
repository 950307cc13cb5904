"""What a probe counts: means with intervals, gain by length, queries helped and hurt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...errors import ScoringError
from ..significance import paired_comparison

#: Resamplings behind the interval of one point; the comparisons that are tested take more.
_RESAMPLINGS = 2_000

#: Differences below this are rounding.
_SAME = 1e-12

#: Quantile bins of a length.
BINS = 4

#: Queries listed as most helped and most hurt.
LISTED = 5


def point(values: ArrayLike) -> dict[str, Any]:
    """A mean over queries and its 95 % percentile bootstrap interval.

    Every point of a probe is resampled with the same queries, so that curves over one collection can be compared.

    Args:
        values: ``[queries]``, one at least.

    Returns:
        ``value``, ``ci_low``, ``ci_high``; the ends are None for a single query, which says nothing about others.

    Example:
        >>> point([0.5, 0.5])
        {'value': 0.5, 'ci_low': 0.5, 'ci_high': 0.5}
    """
    own = np.asarray(values, np.float64)
    # The interval of a difference from nothing; the test that comes with it is not asked.
    found = paired_comparison(np.zeros_like(own), own, permutations=1, bootstraps=_RESAMPLINGS)
    alone = len(own) == 1
    return {
        "value": float(own.mean()),
        "ci_low": None if alone else found.ci_low,
        "ci_high": None if alone else found.ci_high,
    }


def length_bins(lengths: ArrayLike, anchor: ArrayLike, hybrid: ArrayLike, bins: int = BINS) -> list[dict[str, Any]]:
    """The hybrid's gain over the anchor by length, in bins that hold about as many queries each.

    Equal lengths are never parted, so there are fewer bins where many queries are of one length, and one where all are.

    Args:
        lengths: ``[queries]``.
        anchor: The anchor's metric, ``[queries]``.
        hybrid: The hybrid's.
        bins: Most bins.

    Returns:
        From short to long: ``low`` and ``high`` (shortest and longest in the bin), ``queries``, the means ``anchor``
        and ``hybrid``, and their difference as `point` gives it.

    Raises:
        ScoringError: The three are not of one length, or there are no queries.

    Example:
        >>> [(b["low"], b["high"], b["queries"], b["value"]) for b in length_bins([3, 9, 4], [0, 0, 0], [1, 0, 1], 2)]
        [(3.0, 4.0, 2, 1.0), (9.0, 9.0, 1, 0.0)]
    """
    sizes, before, after = (np.asarray(values, np.float64) for values in (lengths, anchor, hybrid))
    if sizes.ndim != 1 or not (sizes.shape == before.shape == after.shape) or not len(sizes):
        raise ScoringError(
            f"found {sizes.shape} lengths and {before.shape} and {after.shape} values, expected one of each a query"
        )
    edges = np.unique(np.quantile(sizes, np.arange(1, bins) / bins))
    places = np.searchsorted(edges, sizes, side="left")
    found = []
    for place in np.unique(places):
        own = places == place
        found.append(
            {
                "low": float(sizes[own].min()),
                "high": float(sizes[own].max()),
                "queries": int(own.sum()),
                "anchor": float(before[own].mean()),
                "hybrid": float(after[own].mean()),
                **point(after[own] - before[own]),
            }
        )
    return found


def helped_and_hurt(
    query_ids: Sequence[str], texts: Sequence[str], anchor: ArrayLike, hybrid: ArrayLike, listed: int = LISTED
) -> dict[str, Any]:
    """How many queries are better, the same and worse than by the anchor, and which ones the most.

    Args:
        query_ids: Ids.
        texts: The queries.
        anchor: The anchor's metric, ``[queries]``.
        hybrid: The hybrid's.
        listed: Most queries named of each kind.

    Returns:
        ``helped``, ``unchanged``, ``hurt`` (``count`` and ``share`` each), ``most_helped`` and ``most_hurt`` (``id``,
        ``text``, ``anchor``, ``hybrid``, ``difference``; equal ones in the order of their ids).

    Example:
        >>> found = helped_and_hurt(["a", "b"], ["x", "y"], [0.5, 0.5], [1.0, 0.5])
        >>> found["helped"], found["most_helped"][0]["id"], found["most_hurt"]
        ({'count': 1, 'share': 0.5}, 'a', [])
    """
    before, after = np.asarray(anchor, np.float64), np.asarray(hybrid, np.float64)
    differences = after - before
    differences[np.abs(differences) < _SAME] = 0.0
    kinds = {"helped": differences > 0, "unchanged": differences == 0, "hurt": differences < 0}

    def most(sign: int) -> list[dict[str, Any]]:
        moved = np.flatnonzero(sign * differences > 0)
        order = sorted(moved.tolist(), key=lambda place: (-sign * differences[place], query_ids[place]))
        return [
            {
                "id": query_ids[place],
                "text": texts[place],
                "anchor": float(before[place]),
                "hybrid": float(after[place]),
                "difference": float(differences[place]),
            }
            for place in order[:listed]
        ]

    counts = {name: {"count": int(own.sum()), "share": float(own.mean())} for name, own in kinds.items()}
    return {**counts, "most_helped": most(1), "most_hurt": most(-1)}


def relevant_lengths(
    qrels: dict[str, dict[str, int]], document_ids: Sequence[str], lengths: NDArray[Any]
) -> NDArray[np.float64]:
    """Mean length of each query's relevant documents, ``[queries]``.

    Args:
        qrels: Grades by query and document id, each query with a relevant document.
        document_ids: Ids of the documents.
        lengths: ``[documents]``.

    Example:
        >>> relevant_lengths({"q": {"a": 1, "b": 2, "c": 0}}, ["a", "b", "c"], np.array([2, 4, 9])).tolist()
        [3.0]
    """
    place = {name: position for position, name in enumerate(document_ids)}
    return np.array(
        [
            np.mean([lengths[place[document]] for document, grade in grades.items() if grade > 0])
            for grades in qrels.values()
        ],
        np.float64,
    )
