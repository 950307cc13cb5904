"""Which document token answered which query token, and what that was worth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..embeddings import SmartEmbeddings
from ..errors import ScoringError
from .late import QueryWeights, above_floor, token_shares


@dataclass(frozen=True)
class TokenMatch:
    """One query token and the document token that answers it best."""

    query_index: int  # among the query's token vectors
    document_index: int  # among the document's; the first of equals; -1 where the document has no token vectors
    similarity: float  # their dot product; 0 without one
    share: float  # the query token's weight, divided by the sum of all weights
    contribution: float  # share times the similarity above the floor; they add up to the late score


def token_matches(
    query: SmartEmbeddings, document: SmartEmbeddings, weights: QueryWeights = None, floor: float | None = None
) -> list[TokenMatch]:
    """Take the late score of one query and one document apart: one match for each query token, in the query's order.

    Example:
        >>> one = SmartEmbeddings([[1.0]], [[1.0], [-1.0]], [0, 2])
        >>> [(m.document_index, m.contribution) for m in token_matches(one, one)]
        [(0, 0.5), (1, 0.5)]
    """
    if len(query) != 1 or len(document) != 1:
        raise ScoringError(f"found {len(query)} queries and {len(document)} documents, expected one of each")
    if query.token_dim != document.token_dim:
        raise ScoringError(f"found widths {query.token_dim} and {document.token_dim}, expected the same")
    shares = token_shares(query, weights)
    if not len(document.token_vectors):
        return [TokenMatch(place, -1, 0.0, share, 0.0) for place, share in enumerate(shares.tolist())]
    similarities = np.asarray(query.token_vectors, np.float32) @ np.asarray(document.token_vectors, np.float32).T
    best = similarities.argmax(axis=1)
    values = similarities[np.arange(len(best)), best]
    counted = above_floor(values, floor)
    return [
        TokenMatch(i, int(best[i]), float(values[i]), float(shares[i]), float(shares[i] * counted[i]))
        for i in range(len(best))
    ]
