"""Per-query retrieval metrics, and the ranking they are computed from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from ..errors import NonFiniteError, ScoringError
from ..extras import require
from ..types import Array
from .results import MetricMeans

Metric: TypeAlias = Literal["ndcg@10", "recall@100", "mrr@10", "map"]

#: The metrics of every report, as users write them (here in lower case, as JSON keys).
METRICS: tuple[Metric, ...] = ("ndcg@10", "recall@100", "mrr@10", "map")

# How people write the stems of metrics.
_TITLES = {"ndcg": "nDCG", "recall": "Recall", "mrr": "MRR", "map": "MAP", "hit": "Hit", "precision": "Precision"}

DEPTH = 1000  #: how deep a ranking is judged: trec_eval's customary 1000, which only MAP reaches down to

#: How `trec_eval` calls the measures, by our name. MRR@10 is `recip_rank` over the first ten documents only.
_TREC_NAMES = {"ndcg@10": "ndcg_cut_10", "recall@100": "recall_100", "map": "map"}


def per_query_metrics(
    qrels: Mapping[str, Mapping[str, int]], ranking: Mapping[str, Sequence[str]]
) -> dict[str, NDArray[np.float64]]:
    """Judge ranked lists, query by query.

    nDCG has linear gain (a document of grade 3 gains 3) and trec_eval's discount, 1 / log2(rank + 1). A grade of 0
    or below is not relevant and gains nothing. MAP and recall divide by all relevant documents of the query, found or
    not.

    Args:
        qrels: Grade of each judged document, by query id and document id.
        ranking: Document ids of each query, best first, each at most once. Queries that `qrels` does not hold are
            ignored; a query of `qrels` without a ranking, or with an empty one, scores 0.

    Returns:
        One float64 array of shape [number of queries] for each name in `METRICS`, in the order of `qrels`.

    Raises:
        ScoringError: A ranking names a document twice.
        MissingExtraError: pytrec_eval is not installed.

    Example:
        >>> values = per_query_metrics({"q": {"a": 1, "b": 1}}, {"q": ["a", "x", "b"]})
        >>> {name: round(float(value[0]), 3) for name, value in values.items()}
        {'ndcg@10': 0.92, 'recall@100': 1.0, 'mrr@10': 1.0, 'map': 0.833}

    Source:
        Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", TOIS 2002, in the form
        of NIST's trec_eval, reached through pytrec_eval (Van Gysel and de Rijke, SIGIR 2018).
    """
    pytrec_eval: Any = require("pytrec_eval", "eval")
    grades = {query: {document: max(0, grade) for document, grade in judged.items()} for query, judged in qrels.items()}
    runs: dict[str, dict[str, float]] = {}
    for query in grades:
        documents = ranking.get(query, ())
        # trec_eval sorts by score and breaks ties by document id; scores that strictly fall keep our order as it is.
        runs[query] = {document: float(len(documents) - place) for place, document in enumerate(documents)}
        if len(runs[query]) != len(documents):
            raise ScoringError(f"found a document twice in the ranking of query {query!r}, expected each at most once")
    first_ten = {query: dict(list(run.items())[:10]) for query, run in runs.items()}
    found = pytrec_eval.RelevanceEvaluator(grades, set(_TREC_NAMES.values())).evaluate(runs)
    found_in_ten = pytrec_eval.RelevanceEvaluator(grades, {"recip_rank"}).evaluate(first_ten)

    def column(results: Mapping[str, Mapping[str, float]], name: str) -> NDArray[np.float64]:
        return np.array([results.get(query, {}).get(name, 0.0) for query in grades], dtype=np.float64)

    return {
        metric: column(found_in_ten, "recip_rank") if metric == "mrr@10" else column(found, _TREC_NAMES[metric])
        for metric in METRICS
    }


def metric_title(metric: str) -> str:
    """How people write a metric: ``nDCG@10``, ``MAP``, ``nDCG_linear@5``."""
    stem, at, cut = metric.partition("@")
    first, under, rest = stem.partition("_")
    return f"{_TITLES.get(first, first)}{under}{rest}{at}{cut}"


def mean_metrics(per_query: Mapping[str, Array]) -> MetricMeans:
    """The mean of each metric over the queries."""
    return cast(MetricMeans, {metric: float(per_query[metric].mean()) for metric in METRICS})


def rank(scores: Array, document_ids: Sequence[str], depth: int) -> list[list[str]]:
    """List the best documents of each query, equal scores in the order of the document ids.

    The tie rule makes a ranking a function of the scores alone: it depends neither on the order of the documents in
    their file nor on how a partial sort happens to move them, the boundary at `depth` included.

    Args:
        scores: Scores of shape [Nq, Nd]; minus infinity where a document is not to be listed.
        document_ids: The Nd ids of the columns, all different.
        depth: How many documents to list; all there are to list where these are fewer.

    Returns:
        For each of the Nq queries up to `depth` document ids: score falling, then id rising.

    Raises:
        NonFiniteError: A score is NaN.
        ScoringError: The shapes do not fit together, or `depth` is below 1.

    Example:
        >>> rank(np.array([[0.5, 0.9, 0.5]]), ["c", "b", "a"], depth=2)
        [['b', 'a']]
    """
    if scores.ndim != 2 or scores.shape[1] != len(document_ids):
        raise ScoringError(
            f"found scores of shape {scores.shape} for {len(document_ids)} document ids, "
            f"expected [queries, {len(document_ids)}]"
        )
    if depth < 1:
        raise ScoringError(f"found depth {depth}, expected 1 or more")
    if np.isnan(scores).any():
        query, document = (int(place) for place in np.argwhere(np.isnan(scores))[0])
        raise NonFiniteError(
            f"found NaN as the score of document {document_ids[document]!r} (query number {query}), expected a number: "
            "check the encodings of both"
        )
    # The place of each document among the sorted ids, so that ties are broken by comparing integers.
    id_order = np.empty(len(document_ids), dtype=np.int64)
    id_order[sorted(range(len(document_ids)), key=document_ids.__getitem__)] = np.arange(len(document_ids))
    ranking = []
    for row in scores:
        if depth < len(row):
            # argpartition alone would keep an arbitrary few of the documents that share the last score let in.
            boundary = row[np.argpartition(row, len(row) - depth)[len(row) - depth]]
            kept = np.flatnonzero((row >= boundary) & (row > -np.inf))
        else:
            kept = np.flatnonzero(row > -np.inf)
        # lexsort is stable and ascending, last key first; negated as floats, for the least integer has no negative.
        order = np.lexsort((id_order[kept], -row[kept].astype(np.float64)))[:depth]
        ranking.append([document_ids[place] for place in kept[order]])
    return ranking
