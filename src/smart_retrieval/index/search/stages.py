"""Two stages: candidates by anchor (and words), then hybrid scores straight from the codes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ...core.late import token_shares, weighted_parts
from ...core.scoring import Scoring
from ...embeddings import SmartEmbeddings
from ...types import Array
from ..codec.base import Codec, QueryTables
from ..mirror.snapshot import Selection, Snapshot
from .candidates import candidates, everything

# Called with a limit and rowids (or None for any); gives rowids and BM25 scores, best first.
Words = Callable[[int, Array | None], tuple[Array, Array]]

# Anchors find 99 % of the exact hybrid's first ten within so many candidates (benchmarks/results/index_quality.json).
DEFAULT_CANDIDATES = 400
# Products of query and document tokens up to which everything is scored: some 20 ms on one core.
EXHAUSTIVE_PRODUCTS = 8_000_000
# Candidates scored between two checks of the deadline.
_AT_ONCE = 256
# Candidates scored together without a deadline: their anchors are 100 MB at 384 dimensions.
_MOST_AT_ONCE = 65_536
# BM25 has no upper end; s / (s + this) brings it to 0..1 by a rule that knows neither query nor result list.
LEXICAL_HALF = 10.0
# Weight of ``s / (s + 10)`` beside SMART's score. Mean nDCG@10 of Cranfield, CACM and the standard library's
# documentation (MiniLM, preset default): .4826 without, .4834 / .4873 / .4871 / .4858 / .4838 / .4769 with
# .1 / .2 / .3 / .4 / .5 / 1; at .2 no collection loses more than .001.
LEXICAL_WEIGHT = 0.2


@dataclass(frozen=True)
class Settings:
    """How to score; see :meth:`~smart_retrieval.index.smart_index.SmartIndex.search`."""

    k: int
    candidates: int = DEFAULT_CANDIDATES
    exact: bool = False
    scoring: Scoring = field(default_factory=Scoring)
    lexical_weight: float = 0.0
    deadline: float | None = None  # time.perf_counter() at which scoring stops


@dataclass(frozen=True)
class Scored:
    """Scores of candidates, all ``[n]``; positions are the snapshot's."""

    positions: Array
    scores: Array
    anchor: Array
    late: Array
    lexical: Array
    searched: int
    partial: bool


def search_snapshot(
    snapshot: Snapshot,
    codec: Codec,
    query: SmartEmbeddings,
    settings: Settings,
    selection: Selection,
    words: Words | None = None,
) -> Scored:
    """Score one query, by itself, so that a batch gives what its queries give alone."""
    wanted = max(settings.candidates, settings.k)
    if settings.exact or selection.count <= wanted or _cheap(snapshot, selection.count, query):
        chosen, anchor = everything(snapshot, query, selection)
    else:
        found = np.zeros(0, np.int64)
        if words is not None:
            best, _ = words(wanted, None)
            found = snapshot.positions(best)
        chosen, anchor = candidates(snapshot, query, selection, wanted, found[found >= 0])
    late, done = late_stage(snapshot, codec, query, chosen, settings)
    partial = done < len(chosen)
    chosen, anchor, late = chosen[:done], anchor[:done], late[:done]
    scores = settings.scoring.combine(anchor, late)
    lexical = np.zeros(len(chosen), np.float32)
    if words is not None:
        lexical = _lexical(snapshot, words, chosen)
        scores = scores + np.float32(settings.lexical_weight) * lexical
    return Scored(chosen, scores, anchor, late, lexical, selection.count, partial)


def _lexical(snapshot: Snapshot, words: Words, chosen: Array) -> Array:
    """BM25 of these positions brought to 0..1, ``[n]`` float32; 0 without any of the words."""
    rowids = snapshot.rowids_at(chosen)
    found, scores = words(len(chosen), rowids)
    order = np.argsort(rowids)
    places = order[np.searchsorted(rowids, found, sorter=order)]
    lexical = np.zeros(len(chosen), np.float32)
    lexical[places] = scores / (scores + LEXICAL_HALF)
    return lexical


def _cheap(snapshot: Snapshot, documents: int, query: SmartEmbeddings) -> bool:
    tokens = sum(len(segment.codes) for segment in snapshot.segments)
    mean = tokens / max(1, len(snapshot))
    return documents * mean * len(query.token_vectors) <= EXHAUSTIVE_PRODUCTS


def late_stage(
    snapshot: Snapshot, codec: Codec, query: SmartEmbeddings, chosen: Array, settings: Settings
) -> tuple[Array, int]:
    """Late scores of positions ``[n]`` float32, and how many of them were done before the deadline."""
    late = np.zeros(len(chosen), np.float32)
    scoring = settings.scoring
    if not scoring.lambda_late or not len(query.token_vectors):
        return late, len(chosen)
    tables = codec.prepare(np.asarray(query.token_vectors, np.float32))
    shares = token_shares(query, scoring.query_weights)
    step = _MOST_AT_ONCE if settings.deadline is None else _AT_ONCE
    for start in range(0, len(chosen), step):
        # The first part is always scored: some hits after the deadline are better than none.
        if start and settings.deadline is not None and time.perf_counter() > settings.deadline:
            return late, start
        part = chosen[start : start + step]
        parts = weighted_parts(_best(snapshot, codec, tables, part), shares, scoring.floor)
        late[start : start + step] = parts.sum(axis=0)
    return late, len(chosen)


def _best(snapshot: Snapshot, codec: Codec, tables: QueryTables, positions: Array) -> Array:
    """``[Tq, n]`` best similarities, read from the mapped codes of each segment."""
    best = np.empty((len(tables.queries), len(positions)), np.float32)
    parts = list(snapshot.by_segment(positions))
    if len(parts) > 1 and codec.shares_products:
        # In one call, so that the scores do not change when the tail becomes part of the base.
        codes, offsets = snapshot.codes_at(positions)
        anchors = snapshot.anchors_at(positions) if codec.anchor_dim is not None else None
        best[:] = codec.best_similarities(tables, codes, offsets, anchors=anchors)
        return best
    for segment, here, rows in parts:
        best[:, here] = codec.best_similarities(
            tables,
            segment.codes,
            segment.offsets[rows],
            segment.offsets[rows + 1],
            anchors=segment.anchors_of(rows) if codec.anchor_dim is not None else None,
        )
    return best


def best_k(scored: Scored, ids_of: Callable[[Array], list[str]], k: int) -> Array:
    """Places (within ``scored``) of the k best, ties by the id that ``ids_of`` gives of a position."""
    if not len(scored.scores) or k < 1:
        return np.zeros(0, np.int64)
    k = min(k, len(scored.scores))
    last = np.partition(scored.scores, len(scored.scores) - k)[len(scored.scores) - k]
    # Everything that ties with the last place competes for it.
    running: Array = np.flatnonzero(scored.scores >= last)
    names = ids_of(scored.positions[running])
    order = sorted(range(len(running)), key=lambda i: (-float(scored.scores[running[i]]), names[i]))[:k]
    return running[order]
