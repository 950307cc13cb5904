"""What shards are searched with, and one result list of theirs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...core.weights import IdfWeights
from ..search.hits import Hits


def summed_idf(parts: Sequence[IdfWeights]) -> IdfWeights:
    """The IDF weights of all documents of several collections, none of them in two.

    With weights of its own, each shard would rank by another scoring.

    Example:
        >>> summed_idf([IdfWeights(2, np.array([1, 0])), IdfWeights(3, np.array([2]))]).frequencies.tolist()
        [3, 0]
    """
    frequencies = np.zeros(max((len(part.frequencies) for part in parts), default=0), np.int64)
    for part in parts:
        frequencies[: len(part.frequencies)] += part.frequencies
    unseen = max((part.unseen for part in parts), default=1)
    return IdfWeights(sum(part.documents for part in parts), frequencies, unseen=unseen)


def merged_hits(found: Sequence[Hits], k: int, *, partial: bool = False) -> Hits:
    """One list of several shards' lists for one query: the ``k`` best, ties by id.

    Args:
        found: Each shard's hits, under one scoring.
        k: Hits wanted.
        partial: Whether a shard's list is missing.
    """
    hits = sorted((hit for one in found for hit in one), key=lambda hit: (-hit.score, hit.id))
    return Hits(
        tuple(hits[:k]),
        sum(one.candidates for one in found),
        sum(one.searched for one in found),
        partial or any(one.partial for one in found),
        next((one.query for one in found if one.query is not None), None),
    )
