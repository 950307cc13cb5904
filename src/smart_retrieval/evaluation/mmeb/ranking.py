"""Scores of a task's queries and candidates, block by block from the store, for several weights in one pass."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core.collection import CollectionStatistics
from ...core.late import late_scores
from ...core.scoring import LateWeight, Scoring
from ...core.vectors import unit_rows
from ...core.weights import IdfWeights
from ...embeddings import SmartEmbeddings
from ...errors import NonFiniteError, ScoringError, one_of
from ...types import Array
from .metrics import Ranked
from .store import EncodingStore
from .task_data import TaskData

TIES = ("official", "name")
#: Scores of one kind held at once: 32 MiB.
SCORES_AT_ONCE = 1 << 23
#: Bytes of token vectors in float32 held at once, of queries and of candidates each.
VECTORS_AT_ONCE = 64 * 2**20
#: Bytes of similarities at once: a block that stays in the processor's cache takes a third less time than a large one.
_SIMILARITIES = 8 * 2**20
#: Above this share of wanted pairs a block is scored as a whole: one large product beats many small ones.
_DENSE = 0.25


def settings_for(lambda_anchor: float, lambdas_late: Sequence[LateWeight]) -> dict[str, Scoring]:
    """By name: the anchor alone, late interaction alone, and the hybrid for each lambda but 0."""
    hybrids = {
        f"hybrid-{late if isinstance(late, str) else format(late, 'g')}": Scoring("uniform", lambda_anchor, late)
        for late in dict.fromkeys(lambdas_late)
        if late
    }
    return {"anchor": Scoring("uniform", 1.0, 0.0), "late": Scoring("uniform", 0.0, 1.0), **hybrids}


def rank_task(
    data: TaskData,
    store: EncodingStore,
    query_keys: Sequence[str],
    candidate_keys: Sequence[str],
    settings: Mapping[str, Scoring],
    scoring: Scoring,
    *,
    depth: int = 100,
    ties: str = "official",
    scores_at_once: int = SCORES_AT_ONCE,
    vectors_at_once: int = VECTORS_AT_ONCE,
) -> Iterator[dict[str, Ranked]]:
    """Rank the candidates of every query by the lambdas of each setting, and the weights and floor of ``scoring``."""
    anchors = unit_rows(store.anchors("document", candidate_keys))
    blocks = list(_blocks(store.lengths("document", candidate_keys), store.smart.token_dim, vectors_at_once))
    statistics = _statistics(store, candidate_keys, blocks)
    scoring = scoring.override(lambda_late=1.0).fitted(statistics)  # the settings have the lambdas
    settings = {name: one.fitted(statistics) for name, one in settings.items()}
    for rows in _query_blocks(store, query_keys, len(candidate_keys), scores_at_once, vectors_at_once):
        queries = store.gather("query", query_keys[rows])
        # A task ranks all candidates for each of its queries, or each query's own.
        own = [case.candidates for case in data.cases[rows] if case.candidates is not None]
        anchor = unit_rows(queries.anchors) @ anchors.T
        late = np.full(anchor.shape, -np.inf, np.float32)
        for columns in blocks:
            _fill(late, queries, store, candidate_keys, columns, own, scoring)
        for number in range(len(queries)):
            names = [data.names[place] for place in own[number]] if own else data.names
            pick = own[number] if own else slice(None)
            order = tie_order(ties, data.task.name, rows.start + number)
            ranked = {}
            for name, lambdas in settings.items():
                scores = lambdas.combine(anchor[number, pick], late[number, pick])
                best = best_places(scores, names, depth, order)
                ranked[name] = Ranked(tuple(names[place] for place in best), tuple(scores[best].tolist()))
            yield ranked
        # Otherwise they would be held until those of the next block exist.
        del queries, anchor, late


def _fill(
    late: Array,
    queries: SmartEmbeddings,
    store: EncodingStore,
    keys: Sequence[str],
    columns: slice,
    own: Sequence[NDArray[np.int32]],
    scoring: Scoring,
) -> None:
    """Late scores of a block of queries and a block of candidates; where queries have their own, those at least."""

    def score(some: SmartEmbeddings, part: SmartEmbeddings) -> Array:
        return late_scores(some, part, weights=scoring.query_weights, floor=scoring.late_floor, memory=_SIMILARITIES)

    # Candidates in float32 at once: scoring goes over them for every few queries.
    if not own:
        late[:, columns] = score(queries, store.gather("document", keys[columns], dtype="float32"))
        return
    wanted = [places[(places >= columns.start) & (places < columns.stop)] for places in own]
    rows = [number for number, places in enumerate(wanted) if len(places)]
    if not rows:
        return
    used = np.unique(np.concatenate(wanted))
    documents = store.gather("document", [keys[place] for place in used.tolist()], dtype="float32")
    if sum(map(len, wanted)) >= _DENSE * len(rows) * len(used):
        late[np.array(rows)[:, None], used] = score(queries[rows], documents)
        return
    for row in rows:
        late[row, wanted[row]] = score(queries[row], documents[np.searchsorted(used, wanted[row])])[0]


def _blocks(lengths: NDArray[np.int64], width: int, budget: int) -> Iterator[slice]:
    """Consecutive items whose token vectors fit the budget in float32; a larger one is a block of its own."""
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


def _statistics(store: EncodingStore, keys: Sequence[str], blocks: Sequence[slice]) -> CollectionStatistics:
    """Those of a task's candidates, read block by block."""

    def idf() -> IdfWeights:
        weights = IdfWeights()
        for block in blocks:
            weights.add(store.gather("document", keys[block], vectors=False))
        return weights

    def read(places: Array) -> SmartEmbeddings:
        return store.gather("document", [keys[place] for place in places.tolist()])

    statistics = CollectionStatistics(
        idf, lambda: store.smart.calibrator.calibrate(len(keys), read, lambda: statistics.idf)
    )
    return statistics


# -- the best candidates, and the order of those that score the same --------------------------------------------------


def tie_key(task: str, row: int, name: str) -> int:
    """A candidate's rank among equals in SMART's evaluation: another order for every query, the same in every run."""
    text = f"{task}:{row}\0{name}\0"
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def tie_order(kind: str, task: str, row: int) -> Callable[[str], Any]:
    """The key by which equal candidates of a query (by its number) are sorted: :func:`tie_key`, or the name."""
    if kind not in TIES:
        raise ScoringError(f"ties: {one_of(kind, TIES)}")
    return (lambda name: tie_key(task, row, name)) if kind == "official" else (lambda name: name)


def best_places(
    scores: NDArray[Any], names: Sequence[str], depth: int, order: Callable[[str], Any]
) -> NDArray[np.int64]:
    """Positions of the best candidates: score falling, equal ones in the given order, at the last place too."""
    if np.isnan(scores).any():
        name = names[int(np.isnan(scores).argmax())]
        raise NonFiniteError(f"found NaN as the score of candidate {name[:80]!r}, expected a number")
    if depth < len(scores):
        # A partition alone would keep an arbitrary few of those that share the last score let in.
        boundary = scores[np.argpartition(scores, len(scores) - depth)[len(scores) - depth]]
        kept = np.flatnonzero(scores >= boundary)
    else:
        kept = np.arange(len(scores))
    kept = kept[np.argsort(-scores[kept], kind="stable")]
    ordered: list[int] = []
    for _, equals in groupby(kept.tolist(), key=lambda place: float(scores[place])):
        run = list(equals)
        ordered += run if len(run) == 1 else sorted(run, key=lambda place: order(names[place]))
    return np.array(ordered[:depth], np.int64)
