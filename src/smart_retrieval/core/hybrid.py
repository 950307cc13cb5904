"""The hybrid score: cosine of the anchors plus late interaction of the tokens."""

from __future__ import annotations

from ..embeddings import SmartEmbeddings
from ..errors import ScoringError
from ..types import Array
from .late import DEFAULT_MEMORY, QueryWeights, late_scores
from .maxsim.precision import Precision
from .maxsim.prepared import PreparedDocuments
from .scoring import Scoring
from .vectors import expect_embeddings, unit_rows


def anchor_scores(queries: SmartEmbeddings, documents: SmartEmbeddings | PreparedDocuments) -> Array:
    """Cosine of every query's anchor with every document's.

    Args:
        queries: Nq items, anchors of width Da.
        documents: Nd items, anchors of width Da.

    Returns:
        ``[Nq, Nd]`` float32; 0 where an anchor is all zeros.

    Raises:
        ScoringError: Something else is given, or the anchors' widths differ.
    """
    expect_embeddings(queries, documents)
    if queries.anchor_dim != documents.anchor_dim:
        raise ScoringError(
            f"found anchors of {queries.anchor_dim} dimensions in the queries and {documents.anchor_dim} in the "
            "documents, expected the same: encode both with one model"
        )
    scores: Array = unit_rows(queries.anchors) @ unit_rows(documents.anchors).T
    return scores


def hybrid_scores(
    queries: SmartEmbeddings,
    documents: SmartEmbeddings | PreparedDocuments,
    *,
    lambda_anchor: float = 1.0,
    lambda_late: float = 1.0,
    weights: QueryWeights = None,
    floor: float | None = None,
    memory: int = DEFAULT_MEMORY,
    precision: Precision | None = None,
) -> Array:
    """``lambda_anchor * cosine(anchors) + lambda_late * late`` for every query and document (arXiv 2605.24938).

    Args:
        queries: Nq queries.
        documents: Nd documents.
        lambda_anchor: Weight of the anchors' cosine.
        lambda_late: Weight of :func:`~smart_retrieval.core.late.late_scores`; 0 skips that work.
        weights: Query-token weights, see :func:`~smart_retrieval.core.late.late_scores`.
        floor: Similarities that count as none, see :func:`~smart_retrieval.core.late.late_scores`.
        memory: Bytes the largest intermediate may take.
        precision: What token vectors are rounded to, with errors of the late score of up to 5e-4 (``"bfloat16"``) or
            1.1e-3 (``"int8"``), see :func:`~smart_retrieval.core.late.late_scores`; anchors are not.

    Returns:
        ``[Nq, Nd]`` float32.

    Raises:
        ScoringError: Widths, weights or the precision do not fit.

    Example:
        >>> item = SmartEmbeddings([[1.0, 0.0]], [[0.0, 1.0]], [0, 1])
        >>> hybrid_scores(item, item, lambda_late=2.0).tolist()
        [[3.0]]
    """
    scoring = Scoring(weights, lambda_anchor, lambda_late, floor)
    anchor = anchor_scores(queries, documents)
    if not lambda_late:
        return scoring.combine(anchor, anchor)
    late = late_scores(
        queries, documents, weights=scoring.query_weights, floor=floor, memory=memory, precision=precision
    )
    return scoring.combine(anchor, late)
