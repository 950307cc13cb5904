"""Documents whose token vectors are rounded once, for many calls of ``late_scores``."""

from __future__ import annotations

from typing import Literal

import numpy as np

from ...embeddings import SmartEmbeddings
from ...types import Array
from .kernels import load, round_rows
from .precision import RoundedRows, check_precision

# Token vectors that are rounded at a time.
_BLOCK = 8192


class PreparedDocuments:
    """Documents for many calls of :func:`~smart_retrieval.late_scores`, token vectors in half or a quarter of float32.

    Args:
        documents: Nd documents; may be memory-mapped.
        precision: ``"bfloat16"``, or ``"int8"`` with a step of its own for each token vector; their errors are those
            that :func:`~smart_retrieval.late_scores` states.

    Attributes:
        precision: As given.
        anchors: ``[Nd, Da]``, the documents' own.
        offsets: ``[Nd + 1]`` int64; document i owns rows ``offsets[i]:offsets[i + 1]``.
        rows: Its token vectors, rounded.

    Raises:
        ScoringError: The precision has no such name.

    Example:
        >>> from smart_retrieval import SmartEmbeddings, late_scores
        >>> query = SmartEmbeddings([[1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]], [0, 2])
        >>> documents = SmartEmbeddings([[1.0, 0.0]], [[0.6, 0.8]], [0, 1])
        >>> late_scores(query, PreparedDocuments(documents, "int8")).round(2).tolist()
        [[0.7]]
    """

    def __init__(self, documents: SmartEmbeddings, precision: Literal["bfloat16", "int8"] = "bfloat16") -> None:
        check_precision(precision, rounded=True)
        vectors = documents.token_vectors
        self.precision = precision
        self.anchors: Array = np.asarray(documents.anchors)
        self.offsets: Array = documents.offsets
        self.rows = RoundedRows.empty(len(vectors), documents.token_dim, precision)
        compiled = len(vectors) > _BLOCK and load(precision)
        for start in range(0, len(vectors), _BLOCK):
            block, into = vectors[start : start + _BLOCK], self.rows[start : start + _BLOCK]
            if compiled:
                round_rows(block, into)
            else:
                into.take(block)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def anchor_dim(self) -> int:
        """Da."""
        return int(self.anchors.shape[1])

    @property
    def token_dim(self) -> int:
        """Dt."""
        return self.rows.dim

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return self.anchors.nbytes + self.offsets.nbytes + self.rows.numbers.nbytes + self.rows.steps.nbytes
