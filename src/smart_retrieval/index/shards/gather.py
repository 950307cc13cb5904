"""One result list of several shards: what they are asked, round by round, and what is made of their answers."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np

from ...core.collection import CollectionStatistics
from ...core.scoring import Scoring
from ...core.weights import IdfWeights
from ...embeddings import SmartEmbeddings
from ...types import Array, counted_elsewhere
from ..mirror.files import unit_anchors
from ..search.boosts import POOL, boost
from ..search.hits import Hit, Hits
from ..search.options import SCORING_OPTIONS, Refinements, SearchOptions
from ..search.searcher import CollectionWords, Settings, settings_of
from ..smart_index import SmartIndex
from ..store.lexical import WordCounts


class Question(Protocol):
    """What all shards are asked in one round."""

    def answer(self, shard: SmartIndex, deadline: float | None) -> Any:
        """One shard's answer; the deadline is of its process's ``time.perf_counter()``."""
        ...


@dataclass(frozen=True)
class CountWords:
    """What BM25 counts for each of the texts."""

    texts: Sequence[str]

    def answer(self, shard: SmartIndex, deadline: float | None) -> list[WordCounts]:
        """One for each text."""
        return [shard.store.word_counts(text) for text in self.texts]


@dataclass(frozen=True)
class BestBm25:
    """Each text's best BM25, by what all shards have counted."""

    counts: Mapping[str, WordCounts]

    def answer(self, shard: SmartIndex, deadline: float | None) -> dict[str, float]:
        """By text."""
        return {
            text: float(shard.store.bm25_scores(text, counts)[1].max(initial=0.0))
            for text, counts in self.counts.items()
        }


class Found(NamedTuple):
    """One shard's hits of each query, and their unit anchors ``[n, Da]`` where they are asked for."""

    hits: list[Hits]
    anchors: list[Array] | None


@dataclass(frozen=True)
class Search:
    """The hits of each query."""

    queries: SmartEmbeddings
    texts: Sequence[str] | None
    settings: Settings
    where: str | None
    anchors: bool = False

    def answer(self, shard: SmartIndex, deadline: float | None) -> Found:
        """One shard's."""
        settings = replace(self.settings, deadline=deadline)
        with counted_elsewhere(), shard.store.reading():  # a filter may pass nothing in one of them
            hits = shard.searcher.search(self.queries, self.texts, settings, where=self.where)
            if not self.anchors:
                return Found(hits, None)
            rows = [shard.store.rowids([hit.id for hit in one]) for one in hits]
            return Found(hits, [unit_anchors(shard.store.read_vectors(one).anchors) for one in rows])


#: Asks a question a round, is sent the answers that came in time, and returns each query's hits.
Rounds: TypeAlias = Generator[Question, Sequence[Any], list[Hits]]


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


def shard_settings(options: SearchOptions, k: int, scoring: Scoring, statistics: CollectionStatistics) -> Settings:
    """How all shards score, in numbers that are the same for all.

    Args:
        options: The search's.
        k: Hits wanted.
        scoring: That of the shards, where the options name no other.
        statistics: IDF and calibration of all documents.
    """
    given: dict[str, Any] = {
        name: value for name, value in options.items() if name in SCORING_OPTIONS and name != "scoring"
    }
    settled = (options.get("scoring") or scoring).override(**given).fitted(statistics)
    spread = statistics.calibration.anchor_spread if options.get("lexical_weight") else 0.0
    return replace(settings_of(options, settled, spread), k=k, device=options.get("device", "cpu"))


def gather(
    queries: SmartEmbeddings, texts: Sequence[str] | None, settings: Settings, where: str | None, shards: int
) -> Rounds:
    """Search shards as one index: sum what BM25 counts, find each query's best hit for the feedback, then all hits.

    Args:
        queries: The encoded queries.
        texts: Their texts, for BM25.
        settings: Of :func:`shard_settings`.
        where: The filter.
        shards: How many are asked; hits are partial where fewer have answered in one of the rounds.
    """
    added, k, fewest = settings.refinements, settings.k, shards
    if settings.lexical_weight and texts is not None:
        unique = tuple(dict.fromkeys(texts))
        counted = yield CountWords(unique)
        fewest = min(fewest, len(counted))
        counts = {text: WordCounts.sum([one[number] for one in counted]) for number, text in enumerate(unique)}
        bests = (yield BestBm25(counts)) if counted else []
        fewest = min(fewest, len(bests))
        best = {text: max((one[text] for one in bests), default=0.0) for text in unique}
        settings = replace(settings, words={text: CollectionWords(counts[text], best[text]) for text in unique})
    # Of a pool's hits each may come to stand before those beyond it, and no more than these.
    more = POOL if added.neighbours else 0
    first: Sequence[Found] = []
    like: Array | None = None
    if added.feedback or added.neighbours:
        plain = replace(settings, k=max(1, k + more), refinements=Refinements())
        first = yield Search(queries, texts, plain, where, anchors=True)
        fewest = min(fewest, len(first))
    if added.feedback:
        like = np.stack([_best_anchor(first, number, queries) for number in range(len(queries))])
    if added.feedback or not added.neighbours:
        final = replace(settings, k=k + more, refinements=Refinements(added.feedback), like=like)
        found = yield Search(queries, texts, final, where, anchors=bool(more))
        fewest = min(fewest, len(found))
    else:
        found = first
    results = []
    for number in range(len(queries)):
        lists = [one.hits[number] for one in found]
        hits = merged_hits(lists, k + more, partial=fewest < shards)
        if more:
            known = {hit.id: (hit, unit) for part in (found, first) for hit, unit in _with_anchors(part, number)}
            hits = replace(hits, hits=_boosted(list(known.values()), added)[:k])
        best_hit = merged_hits([one.hits[number] for one in first], 1) if added.feedback else ()
        own = queries[number] if hits.query is None else hits.query
        results.append(replace(hits, best=best_hit[0].id if best_hit else None, query=own))
    return results


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


def _with_anchors(found: Sequence[Found], number: int) -> list[tuple[Hit, Array]]:
    return [
        pair
        for one in found
        if one.anchors is not None
        for pair in zip(one.hits[number], one.anchors[number], strict=True)
    ]


def _best_anchor(found: Sequence[Found], number: int, queries: SmartEmbeddings) -> Array:
    """The anchor of a query's best hit; where nothing is found, it does not matter which."""
    pairs = _with_anchors(found, number)
    if not pairs:
        return np.asarray(queries.anchors[number], np.float32)
    return min(pairs, key=lambda pair: (-pair[0].score, pair[0].id))[1]


def _boosted(pairs: Sequence[tuple[Hit, Array]], added: Refinements) -> tuple[Hit, ...]:
    """Hits in the order of their scores with what is added to the hybrid's."""
    if not pairs:
        return ()
    hybrid = [(hit.score - added.feedback * (hit.feedback or 0.0), hit, unit) for hit, unit in pairs]
    hybrid.sort(key=lambda one: (-one[0], one[1].id))
    units = np.stack([unit for _, _, unit in hybrid])
    plain = np.array([score for score, _, _ in hybrid], np.float32)
    scores, parts = boost(
        plain,
        added.feedback,
        added.neighbours,
        lambda best: np.einsum("nd,d->n", units, units[best]),
        lambda places: units[places],
    )
    hits = []
    for place, (_, hit, _) in enumerate(hybrid):
        found: dict[str, Any] = {"score": float(scores[place]), **parts.at(place)}
        hits.append(replace(hit, **found))
    return tuple(sorted(hits, key=lambda hit: (-hit.score, hit.id)))
