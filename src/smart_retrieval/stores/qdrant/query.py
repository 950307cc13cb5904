"""Queries as Qdrant's client takes them: candidates by anchor, or anchor and tokens scored by the server."""

from __future__ import annotations

from typing import Any, TypedDict

import numpy as np

from ...core.late import token_shares
from ...core.scoring import Scoring
from ...core.vectors import unit_rows
from ...embeddings import SmartEmbeddings
from ...errors import ScoringError
from ...types import Array
from .where import compile_filter

#: Names of the two vectors of a point.
ANCHOR, TOKENS = "anchor", "tokens"


class PointsQuery(TypedDict, total=False):
    """Keyword arguments of ``QdrantClient.query_points``, all but the collection's name."""

    query: Any
    using: str
    prefetch: Any
    query_filter: Any
    search_params: Any
    limit: int
    with_payload: Any
    with_vectors: Any


def anchor_query(query: SmartEmbeddings, limit: int, where: str | None = None, *, exact: bool = False) -> PointsQuery:
    """The query for candidates by anchor, with what their scores are computed from.

    Hand the points to :func:`read_points` and its anchors and blobs to
    :class:`~smart_retrieval.SmartReranker`; :meth:`QdrantIndex.search` does the same.

    Args:
        query: One encoded query.
        limit: Candidates.
        where: A filter.
        exact: Look at every anchor.

    Returns:
        What ``client.query_points(collection, **...)`` takes.

    Raises:
        FilterError: The filter cannot be read, or Qdrant cannot express it exactly.

    Example:
        >>> anchor_query(SmartEmbeddings([[3.0, 4.0]], [[1.0]], [0, 1]), 100)["limit"]
        100
    """
    from qdrant_client import models

    return {
        "query": unit_rows(_one(query).anchors)[0].tolist(),
        "using": ANCHOR,
        "query_filter": compile_filter(where),
        "search_params": models.SearchParams(exact=exact) if exact else None,
        "limit": limit,
        "with_payload": ["id", "codes"],
        "with_vectors": [ANCHOR],
    }


def hybrid_query(
    query: SmartEmbeddings,
    scoring: Scoring,
    limit: int = 10,
    *,
    candidates: int = 100,
    where: str | None = None,
    exact: bool = False,
) -> PointsQuery:
    """One query for the hybrid score, computed by the server from anchors and token vectors.

    Its stages: the nearest anchors that pass the filter; their MaxSim; ``lambda_anchor * anchor + lambda_late * late``.
    Weights of query tokens are multiplied into the query's rows, so that MaxSim is their weighted mean. A floor holds
    for each query token by itself: with one, every token is a prefetch of its own, and the formula puts them together.

    Args:
        query: One encoded query.
        scoring: With numbers in the place of names, see :meth:`~smart_retrieval.Scoring.fitted`.
        limit: Hits.
        candidates: Documents whose tokens are compared.
        where: A filter.
        exact: Look at every anchor.

    Returns:
        What ``client.query_points(collection, **...)`` takes, for a collection exported with token vectors.

    Raises:
        ScoringError: The scoring has names where numbers are needed, or the query is not one.
        FilterError: The filter cannot be read, or Qdrant cannot express it exactly.

    Example:
        >>> one = SmartEmbeddings([[3.0, 4.0]], [[1.0, 0.0]], [0, 1])
        >>> hybrid_query(one, Scoring(lambda_late=2.0))["prefetch"][1].using
        'tokens'
    """
    from qdrant_client import models

    wanted = max(candidates, limit)
    nearest = models.Prefetch(
        query=unit_rows(_one(query).anchors)[0].tolist(),
        using=ANCHOR,
        filter=compile_filter(where),
        params=models.SearchParams(exact=exact) if exact else None,
        limit=wanted,
    )
    prefetch: list[Any] = [nearest]
    sums: list[Any] = [models.MultExpression(mult=[float(scoring.lambda_anchor), "$score[0]"])]
    defaults = {"$score[0]": 0.0}
    shares, weight, floor = token_shares(query, scoring.query_weights), scoring.late_weight, scoring.late_floor
    rows, shares = np.asarray(query.token_vectors, np.float32)[shares > 0], shares[shares > 0]
    if weight and len(rows) and floor is None:
        prefetch.append(_compared(nearest, rows * shares[:, None], wanted))
        sums.append(models.MultExpression(mult=[float(weight), "$score[1]"]))
        defaults["$score[1]"] = 0.0
    elif weight and floor is not None:
        for place, (row, share) in enumerate(zip(rows, shares.tolist(), strict=True), 1):
            prefetch.append(_compared(nearest, row[None], wanted))
            above = models.SumExpression(sum=[f"$score[{place}]", -float(floor)])
            # max(0, x) is (x + |x|) / 2, which servers older than 1.20 know, too.
            positive = models.SumExpression(sum=[above, models.AbsExpression(abs=above)])
            sums.append(models.MultExpression(mult=[float(weight) * share / (2 * (1 - floor)), positive]))
            defaults[f"$score[{place}]"] = float(floor)
    return {
        "prefetch": prefetch,
        "query": models.FormulaQuery(formula=models.SumExpression(sum=sums), defaults=defaults),
        "limit": limit,
        "with_payload": models.PayloadSelectorExclude(exclude=["codes"]),
        "with_vectors": [ANCHOR],
    }


def _compared(nearest: Any, rows: Array, limit: int) -> Any:
    """MaxSim of some rows with the tokens of the nearest documents."""
    from qdrant_client import models

    return models.Prefetch(prefetch=[nearest], query=rows.tolist(), using=TOKENS, limit=limit)


def _one(query: SmartEmbeddings) -> SmartEmbeddings:
    if len(query) != 1:
        raise ScoringError(f"found {len(query)} queries, expected one")
    return query
