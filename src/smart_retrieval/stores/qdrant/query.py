"""Queries as Qdrant's client takes them: candidates by anchor, or anchor and tokens scored by the server."""

from __future__ import annotations

from typing import Any, TypedDict

import numpy as np

from ...core.late import token_shares
from ...core.scoring import Scoring
from ...core.vectors import unit_rows
from ...embeddings import SmartEmbeddings
from ...errors import ScoringError
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
    Weights of query tokens are multiplied into the query's rows, so that MaxSim is their weighted mean.

    Args:
        query: One encoded query.
        scoring: With numbers for its weights, see :meth:`~smart_retrieval.Scoring.fitted`. A floor cannot be expressed.
        limit: Hits.
        candidates: Documents whose tokens are compared.
        where: A filter.
        exact: Look at every anchor.

    Returns:
        What ``client.query_points(collection, **...)`` takes, for a collection exported with token vectors.

    Raises:
        ScoringError: The scoring has a floor, or names where numbers are needed.
        FilterError: The filter cannot be read, or Qdrant cannot express it exactly.

    Example:
        >>> one = SmartEmbeddings([[3.0, 4.0]], [[1.0, 0.0]], [0, 1])
        >>> hybrid_query(one, Scoring(lambda_late=2.0))["prefetch"][1].using
        'tokens'
    """
    from qdrant_client import models

    if scoring.late_floor is not None:
        raise ScoringError(
            f"floor: found {scoring.late_floor:g}, expected none: Qdrant sums similarities as they are. Search with "
            "floor=None, or the codes, which know it"
        )
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
    shares = token_shares(query, scoring.query_weights)
    if scoring.late_weight and (shares > 0).any():
        rows = (np.asarray(query.token_vectors, np.float32) * shares[:, None])[shares > 0]
        prefetch.append(models.Prefetch(prefetch=[nearest], query=rows.tolist(), using=TOKENS, limit=wanted))
        sums.append(models.MultExpression(mult=[float(scoring.late_weight), "$score[1]"]))
    defaults = {f"$score[{place}]": 0.0 for place in range(len(prefetch))}
    return {
        "prefetch": prefetch,
        "query": models.FormulaQuery(formula=models.SumExpression(sum=sums), defaults=defaults),
        "limit": limit,
        "with_payload": models.PayloadSelectorExclude(exclude=["codes"]),
        "with_vectors": [ANCHOR],
    }


def _one(query: SmartEmbeddings) -> SmartEmbeddings:
    if len(query) != 1:
        raise ScoringError(f"found {len(query)} queries, expected one")
    return query
