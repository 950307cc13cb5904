"""The figures of a probe: means with intervals, gain by length, queries helped and hurt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
from numpy.typing import ArrayLike

from ...errors import ScoringError
from ...types import Array
from ..significance import paired_comparison

_RESAMPLINGS = 2_000  # resamplings behind the interval of one point; the comparisons that are tested take more
_SAME = 1e-12  # differences below this are rounding


class Point(TypedDict):
    """A mean over queries and its 95 % interval, None for a single query."""

    value: float
    ci_low: float | None
    ci_high: float | None


def point(values: ArrayLike) -> Point:
    """The mean and its percentile bootstrap interval, for which every point is resampled with the same queries."""
    own = np.asarray(values, np.float64)
    # The interval of a difference from 0; the p-value that comes with it is not used.
    found = paired_comparison(np.zeros_like(own), own, permutations=1, bootstraps=_RESAMPLINGS)
    low, high = (None, None) if len(own) == 1 else (found.ci_low, found.ci_high)
    return {"value": float(own.mean()), "ci_low": low, "ci_high": high}


def length_bins(lengths: ArrayLike, anchor: ArrayLike, hybrid: ArrayLike, bins: int = 4) -> list[dict[str, Any]]:
    """The hybrid's gain over the anchor by length, from short to long, in bins of about as many queries each.

    Equal lengths share a bin, so there are fewer bins where many queries are of one length.
    """
    sizes, before, after = (np.asarray(values, np.float64) for values in (lengths, anchor, hybrid))
    if sizes.ndim != 1 or not (sizes.shape == before.shape == after.shape) or not len(sizes):
        raise ScoringError(
            f"found {sizes.shape} lengths and {before.shape} and {after.shape} values, expected one of each a query"
        )
    edges = np.unique(np.quantile(sizes, np.arange(1, bins) / bins))
    bin_of = np.searchsorted(edges, sizes, side="left")
    return [
        {
            "low": float(sizes[own].min()),
            "high": float(sizes[own].max()),
            "queries": int(own.sum()),
            "anchor": float(before[own].mean()),
            "hybrid": float(after[own].mean()),
            **point(after[own] - before[own]),
        }
        for own in (bin_of == number for number in np.unique(bin_of))
    ]


def helped_and_hurt(
    query_ids: Sequence[str], texts: Sequence[str], anchor: ArrayLike, hybrid: ArrayLike, listed: int = 5
) -> dict[str, Any]:
    """How many queries are better, the same and worse than by the anchor, and which ones the most (ties by id)."""
    before, after = np.asarray(anchor, np.float64), np.asarray(hybrid, np.float64)
    differences = after - before
    differences[np.abs(differences) < _SAME] = 0.0
    signs = {"helped": differences > 0, "unchanged": differences == 0, "hurt": differences < 0}

    def most(sign: int) -> list[dict[str, Any]]:
        moved = np.flatnonzero(sign * differences > 0).tolist()
        return [
            {
                "id": query_ids[place],
                "text": texts[place],
                "anchor": float(before[place]),
                "hybrid": float(after[place]),
                "difference": float(differences[place]),
            }
            for place in sorted(moved, key=lambda place: (-sign * differences[place], query_ids[place]))[:listed]
        ]

    counts = {name: {"count": int(own.sum()), "share": float(own.mean())} for name, own in signs.items()}
    return {**counts, "most_helped": most(1), "most_hurt": most(-1)}


def relevant_lengths(qrels: Mapping[str, Mapping[str, int]], document_ids: Sequence[str], lengths: Array) -> Array:
    """Mean length of each query's relevant documents, ``[queries]``; each query has one at least."""
    length = dict(zip(document_ids, lengths.tolist(), strict=True))
    relevant = ([length[name] for name, grade in grades.items() if grade > 0] for grades in qrels.values())
    return np.array([np.mean(own) for own in relevant], np.float64)
