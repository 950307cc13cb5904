"""Scores of a task's queries and candidates, block by block from the store, for several weights in one pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...core.hybrid import unit_rows
from ...core.late import late_scores
from ...core.presets import Preset
from ...core.scoring import Scoring
from ...core.weights import IdfWeights
from ...embeddings import SmartEmbeddings
from ...types import Array
from .cases import TaskData
from .ordering import best_places, tie_order
from .store import EncodingStore

#: Scores of one kind held at once: 32 MiB.
SCORES_AT_ONCE = 1 << 23
#: Bytes of token vectors in float32 held at once, of queries and of candidates each.
VECTORS_AT_ONCE = 64 * 2**20
#: Bytes of similarities at once: a block that stays in the processor's cache takes a third less time than a large one.
_SIMILARITIES = 8 * 2**20
#: Above this share of wanted pairs a block is scored as a whole: one large product beats many small ones.
_DENSE = 0.25


@dataclass(frozen=True)
class Setting:
    """One way of weighing the two parts of the score: ``"anchor"``, ``"late"`` or ``"hybrid-…"``."""

    name: str
    scoring: Scoring


def settings_for(lambda_anchor: float, lambdas_late: Sequence[float]) -> tuple[Setting, ...]:
    """The anchor alone, late interaction alone, and the hybrid for each lambda but 0.

    Example:
        >>> [setting.name for setting in settings_for(1.0, [0, 0.5, 2])]
        ['anchor', 'late', 'hybrid-0.5', 'hybrid-2']
    """
    hybrids = {f"hybrid-{late:g}": (lambda_anchor, late) for late in dict.fromkeys(lambdas_late) if late}
    pairs = {"anchor": (1.0, 0.0), "late": (0.0, 1.0), **hybrids}
    return tuple(Setting(name, Scoring("uniform", *pair)) for name, pair in pairs.items())


@dataclass(frozen=True)
class Ranked:
    """The best candidates of one query, by one setting.

    Args:
        names: Best first.
        scores: Of each.
    """

    names: tuple[str, ...]
    scores: tuple[float, ...]


def rank_task(
    data: TaskData,
    store: EncodingStore,
    query_keys: Sequence[str],
    candidate_keys: Sequence[str],
    settings: Sequence[Setting],
    chosen: Preset,
    *,
    depth: int = 100,
    ties: str = "official",
    scores_at_once: int = SCORES_AT_ONCE,
    vectors_at_once: int = VECTORS_AT_ONCE,
) -> Iterator[dict[str, Ranked]]:
    """Rank the candidates of every query, all of them or its own alone.

    Args:
        data: The task.
        store: Where its inputs are encoded.
        query_keys: A key for each query.
        candidate_keys: A key for each candidate.
        settings: How the parts are weighed.
        chosen: Query-token weights and floor.
        depth: How many candidates are listed.
        ties: Order of equal candidates, see :func:`~smart_retrieval.evaluation.mmeb.ordering.tie_order`.
        scores_at_once: Scores of one kind held at once; bounds memory, changes no result.
        vectors_at_once: Bytes of token vectors held at once, of queries and of candidates each.

    Yields:
        For each query its ranking by each setting.

    Raises:
        NonFiniteError: A score is NaN.
        ScoringError: Weights or widths do not fit.
    """
    anchors = unit_rows(store.anchors("document", candidate_keys))
    blocks = list(_blocks(store.lengths("document", candidate_keys), store.smart.token_dim, vectors_at_once))
    weights = _idf(store, candidate_keys, blocks) if chosen.scoring.weights == "idf" else None
    for rows in _query_blocks(store, query_keys, len(candidate_keys), scores_at_once, vectors_at_once):
        queries = store.gather("query", query_keys[rows])
        own = [case.candidates for case in data.cases[rows]]
        anchor = unit_rows(queries.anchors) @ anchors.T
        late = np.full(anchor.shape, -np.inf, np.float32)
        for columns in blocks:
            _fill(late, queries, store, candidate_keys, columns, own, weights, chosen.scoring.floor)
        for number, places in enumerate(own):
            row = rows.start + number
            names = data.names if places is None else [data.names[place] for place in places]
            pick = slice(None) if places is None else places
            order = tie_order(ties, data.task.name, row)
            ranked = {}
            for setting in settings:
                scores = setting.scoring.combine(anchor[number, pick], late[number, pick])
                best = best_places(scores, names, depth, order)
                ranked[setting.name] = Ranked(
                    tuple(names[place] for place in best), tuple(float(scores[place]) for place in best)
                )
            yield ranked
        # Or they would stay until those of the next block are there.
        del queries, anchor, late


def _fill(
    late: Array,
    queries: SmartEmbeddings,
    store: EncodingStore,
    keys: Sequence[str],
    columns: slice,
    own: Sequence[NDArray[np.int32] | None],
    weights: IdfWeights | None,
    floor: float | None,
) -> None:
    """Late scores of a block of queries and a block of candidates, the wanted pairs at least."""
    wanted = [_within(places, columns) for places in own]
    rows = [number for number, places in enumerate(wanted) if places is None or len(places)]
    if not rows:
        return
    asked = [places for row in rows if (places := wanted[row]) is not None]
    if len(asked) < len(rows):
        used = np.arange(columns.start, columns.stop)
    else:
        used = np.unique(np.concatenate(asked))
    # In float32 at once: scoring goes over them for every few queries.
    documents = store.gather("document", [keys[place] for place in used.tolist()], dtype="float32")
    pairs = sum(len(places) for places in asked) + len(used) * (len(rows) - len(asked))
    if pairs >= _DENSE * len(rows) * len(used):
        chosen = queries if len(rows) == len(queries) else queries[rows]
        scores = late_scores(chosen, documents, weights=weights, floor=floor, memory=_SIMILARITIES)
        late[np.array(rows)[:, None], used] = scores
        return
    for row in rows:
        places = wanted[row]
        part = documents if places is None else documents[np.searchsorted(used, places)]
        target = used if places is None else places
        late[row, target] = late_scores(queries[row], part, weights=weights, floor=floor, memory=_SIMILARITIES)[0]


def _within(places: NDArray[np.int32] | None, columns: slice) -> NDArray[np.int32] | None:
    """The query's own candidates that lie in a block; None for all of it."""
    return None if places is None else places[(places >= columns.start) & (places < columns.stop)]


def _blocks(lengths: NDArray[np.int64], width: int, budget: int) -> Iterator[slice]:
    """Consecutive items whose token vectors fit the budget in float32; a larger one stands alone."""
    most = max(1, budget // (4 * max(1, width)))
    start = total = 0
    for place, length in enumerate(lengths.tolist()):
        if place > start and total + length > most:
            yield slice(start, place)
            start, total = place, 0
        total += length
    if start < len(lengths):
        yield slice(start, len(lengths))


def _query_blocks(
    store: EncodingStore, keys: Sequence[str], candidates: int, scores_at_once: int, vectors_at_once: int
) -> Iterator[slice]:
    most = max(1, scores_at_once // max(1, candidates))
    for block in _blocks(store.lengths("query", keys), store.smart.token_dim, vectors_at_once):
        for start in range(block.start, block.stop, most):
            yield slice(start, min(start + most, block.stop))


def _idf(store: EncodingStore, keys: Sequence[str], blocks: Sequence[slice]) -> IdfWeights:
    """Weights from the task's candidates: what most of them hold says little."""
    weights = IdfWeights()
    for block in blocks:
        weights.add(store.gather("document", keys[block], vectors=False))
    return weights
