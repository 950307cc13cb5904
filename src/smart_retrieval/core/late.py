"""Late interaction: for every query token the best document token, averaged over the query. The reference."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from ..embeddings import SmartEmbeddings
from ..errors import ScoringError
from ..types import Array
from .maxsim.kernels import best_products, usable
from .maxsim.precision import Precision, RoundedRows, check_precision, float32_rows
from .maxsim.prepared import PreparedDocuments
from .vectors import expect_embeddings

# The token similarity block is the one large intermediate; 128 MiB keeps matrix products efficient on any machine.
DEFAULT_MEMORY = 128 * 2**20


class QueryTokenWeights(Protocol):
    """Anything that can weigh the tokens of queries."""

    def weights(self, queries: SmartEmbeddings) -> Array:
        """``[sum T_q]`` non-negative weights."""
        ...


QueryWeights = QueryTokenWeights | ArrayLike | None


def late_scores(
    queries: SmartEmbeddings,
    documents: SmartEmbeddings | PreparedDocuments,
    *,
    weights: QueryWeights = None,
    floor: float | None = None,
    memory: int = DEFAULT_MEMORY,
    precision: Precision | None = None,
) -> Array:
    """Weighted mean MaxSim of every query against every document, exact and ragged.

    ``late(q, d) = sum_i w_i f(max_j <q_i, d_j>) / sum_i w_i`` (arXiv 2605.24938 with w = 1 and f the identity). A
    document without token vectors scores 0, and so does every document for a query without any, or whose weights are
    all 0: what has no content is the anchor's alone.

    After a quarter of a second of such work a process uses compiled kernels (extra ``fast``), if they are faster on its
    processor than NumPy. Their scores do not depend on ``memory``, on threads or on where a document stands, to the
    bit; they and NumPy's are within 2e-7 of each other for unit vectors.

    Args:
        queries: Nq queries, token vectors of width Dt.
        documents: Nd documents, token vectors of width Dt; or the same prepared for many calls.
        weights: ``[sum T_q]`` non-negative weights, an object that gives them, or None for equal ones.
        floor: Similarities up to here count as none: ``f(s) = max(0, (s - floor) / (1 - floor))``, so that an equal
            vector still gives 1. Any two contextual vectors have some similarity, and a long document offers many;
            a floor takes that background out. None for the plain score.
        memory: Bytes the largest intermediate may take.
        precision: What token vectors are rounded to, in queries and documents, before exact products: ``"bfloat16"``
            (scores of unit vectors within 5e-4) or ``"int8"``, each vector in 127ths of its largest value (within
            1.1e-3); one similarity of many may be off by three times that. Faster where the processor multiplies such
            numbers (x86-64 with AVX-512 BF16 or VNNI, and the extra ``fast``), most of all with
            :class:`PreparedDocuments`; elsewhere the rounded vectors are multiplied in float32, and nothing is gained.
            None for float32, or for what documents were prepared in.

    Returns:
        ``[Nq, Nd]`` float32.

    Raises:
        ScoringError: Widths differ, weights are negative, not finite or of another length, the floor is not below 1, or
            the precision has no such name or is not the documents'.

    Example:
        >>> one = SmartEmbeddings([[1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]], [0, 2])
        >>> two = SmartEmbeddings([[1.0, 0.0]], [[0.6, 0.8]], [0, 1])
        >>> late_scores(one, two).round(2).tolist()
        [[0.7]]
    """
    expect_embeddings(queries, documents)
    if queries.token_dim != documents.token_dim:
        raise ScoringError(
            f"found token vectors of {queries.token_dim} dimensions in the queries and {documents.token_dim} in the "
            "documents, expected the same: encode both with one model and one readout"
        )
    shares, offsets = token_shares(queries, weights), documents.offsets
    rows, chosen = _rows_and_precision(documents, precision)
    scores = np.zeros((len(queries), len(documents)), np.float32)
    # Settled once, so that equal documents have equal scores.
    kernel = usable(chosen, queries.token_vectors.size * len(rows))
    # Rows of another kind are made float32, a block at a time.
    as_is = isinstance(rows, np.ndarray) and rows.dtype == np.float32 and chosen == "float32"
    converted = 0 if as_is else documents.token_dim
    # Enough query tokens for an efficient matrix product, few enough that a document block stays large.
    for q in document_blocks(queries.offsets, 256):
        asked = queries[q]
        block = np.asarray(asked.token_vectors, np.float32)
        share = shares[queries.offsets[q.start] : queries.offsets[q.stop]]
        for d in document_blocks(offsets, max(1, memory // (4 * max(1, len(block) + converted)))):
            start, stop = int(offsets[d.start]), int(offsets[d.stop])
            best = best_of_rows(block, rows[start:stop], offsets[d.start : d.stop + 1] - start, chosen, kernel)
            scores[q, d] = query_sums(weighted_parts(best, share, floor), asked.offsets)
    return scores


def _rows_and_precision(
    documents: SmartEmbeddings | PreparedDocuments, precision: Precision | None
) -> tuple[Array | RoundedRows, Precision]:
    if precision is not None:
        check_precision(precision)
    if isinstance(documents, SmartEmbeddings):
        return documents.token_vectors, precision or "float32"
    if precision not in (None, documents.precision):
        raise ScoringError(
            f"precision: found {precision!r} for documents that were prepared in {documents.precision!r}; leave it out"
        )
    return documents.rows, documents.precision


def query_sums(parts: Array, offsets: Array) -> Array:
    """Sums over each query's rows of ``[Tq, Nd]``, as ``[Nq, Nd]``; 0 for a query without any."""
    # reduceat wants the starts of non-empty runs only.
    filled = np.diff(offsets) > 0
    sums = np.zeros((len(filled), parts.shape[1]), parts.dtype)
    if filled.any():
        sums[filled] = np.add.reduceat(parts, offsets[:-1][filled], axis=0)
    return sums


def weighted_parts(best: Array, shares: Array, floor: float | None) -> Array:
    """What each query token adds to a document's late score, ``[Tq, Nd]``, from its best similarities and its share."""
    parts: Array = above_floor(best, floor) * shares[:, None]
    return parts


def best_similarities(query_tokens: Array, documents: SmartEmbeddings) -> Array:
    """For each query token and document the best dot product, ``[T_q, Nd]`` float32; ``-inf`` for empty documents."""
    rows = documents.token_vectors
    kernel = usable("float32", query_tokens.size * len(rows))
    return best_of_rows(query_tokens, rows, documents.offsets, "float32", kernel)


def best_of_rows(
    query_tokens: Array, rows: Array | RoundedRows, offsets: Array, precision: Precision, kernel: Precision | None
) -> Array:
    """The same of document rows ``[R, Dt]``, in a precision, by the kernel that :func:`usable` named or by NumPy."""
    if kernel == precision:
        return best_products(query_tokens, rows, offsets, precision)
    query_tokens, rows = float32_rows(query_tokens, precision), float32_rows(rows, precision)
    if kernel is not None:
        return best_products(query_tokens, rows, offsets, kernel)
    best = np.full((len(query_tokens), len(offsets) - 1), -np.inf, np.float32)
    filled = np.diff(offsets) > 0
    if len(query_tokens) and filled.any():
        similarities = query_tokens @ rows.T
        # reduceat wants the starts of non-empty runs only; empty documents own no columns between them.
        best[:, filled] = np.maximum.reduceat(similarities, offsets[:-1][filled], axis=1)
    return best


def above_floor(similarities: Array, floor: float | None) -> Array:
    """``max(0, (s - floor) / (1 - floor))``; 0 for the ``-inf`` of a document without tokens, with a floor or not."""
    if floor is not None and not -np.inf < floor < 1:
        raise ScoringError(f"floor: found {floor}, expected a finite number below 1")
    lifted: Array = (
        np.where(np.isneginf(similarities), np.float32(0), similarities)
        if floor is None
        else np.maximum(0, (similarities - np.float32(floor)) / np.float32(1 - floor))
    )
    return lifted


def token_shares(queries: SmartEmbeddings, weights: QueryWeights) -> Array:
    """Weights divided by their sum within each query, ``[sum T_q]`` float32; 0 where that sum is 0."""
    total = len(queries.token_vectors)
    if weights is None:
        values = np.ones(total, np.float64)
    else:
        given = weights.weights(queries) if hasattr(weights, "weights") else weights
        try:
            values = np.asarray(given, np.float64)
        except (TypeError, ValueError) as error:
            raise ScoringError(
                f"found weights {str(given)[:40]!r}, expected numbers, or an object such as IdfWeights.fit(documents)"
            ) from error
    if values.shape != (total,):
        raise ScoringError(f"found weights of shape {values.shape}, expected ({total},): one for each query token")
    if not np.isfinite(values).all() or (values < 0).any():
        raise ScoringError("found negative or non-finite query-token weights, expected numbers of 0 or more")
    items = np.repeat(np.arange(len(queries)), queries.lengths)
    sums = np.bincount(items, values, minlength=len(queries))
    shares: Array = (values / np.where(sums > 0, sums, 1.0)[items]).astype(np.float32)
    return shares


def document_blocks(offsets: Array, rows: int) -> Iterator[slice]:
    """Consecutive slices of items that own at most ``rows`` rows each; a larger item is a slice of its own."""
    start, total = 0, len(offsets) - 1
    while start < total:
        stop = int(np.searchsorted(offsets, offsets[start] + rows, side="right")) - 1
        stop = min(total, max(stop, start + 1))
        yield slice(start, stop)
        start = stop
