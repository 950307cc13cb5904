"""What shards are searched with, and one result list of theirs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from ...core.collection import CollectionStatistics
from ...core.scoring import Scoring
from ...core.weights import IdfWeights
from ...errors import SmartError
from ..search.hits import Hits
from ..search.options import SCORING_OPTIONS, SearchOptions

# What needs the words or the candidates of all shards in one place.
_NEEDS_ALL = ("lexical_weight", "feedback", "neighbours")


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


def shard_options(options: SearchOptions, scoring: Scoring, statistics: CollectionStatistics) -> SearchOptions:
    """A search's options for every shard, with a scoring in numbers that is the same for all.

    Args:
        options: The search's.
        scoring: That of the shards, where the options name no other.
        statistics: IDF and calibration of all documents.

    Raises:
        SmartError: An option needs all shards in one place.
    """
    for name in _NEEDS_ALL:
        if options.get(name):
            raise SmartError(f"{name}: found shards, which cannot weigh it alone; expected 0, or a merged index")
    given: dict[str, Any] = {
        name: value for name, value in options.items() if name in SCORING_OPTIONS and name != "scoring"
    }
    settled = (options.get("scoring") or scoring).override(**given).fitted(statistics)
    own = {name: value for name, value in options.items() if name in ("where", "candidates", "exact", "device")}
    return cast("SearchOptions", {**own, "scoring": settled})


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
