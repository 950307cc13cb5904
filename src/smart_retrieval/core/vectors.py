"""Rows of vectors."""

from __future__ import annotations

import numpy as np

from ..embeddings import SmartEmbeddings
from ..errors import ScoringError
from ..types import Array


def expect_embeddings(*given: object) -> None:
    """Refuse texts and plain arrays, which would fail somewhere inside."""
    for value in given:
        if not isinstance(value, SmartEmbeddings) and not hasattr(value, "anchors"):
            raise ScoringError(
                f"found {type(value).__name__}, expected embeddings as encode_query and encode_document return them"
            )


def unit_rows(vectors: Array) -> Array:
    """Rows of unit length, float32; rows of zeros stay zeros."""
    rows = np.asarray(vectors, np.float32)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Array = rows / np.where(norms > 0, norms, 1)
    return unit


def frozen(array: Array) -> Array:
    """A contiguous read-only view, so that a kernel is compiled once, for memory-mapped and plain arrays alike."""
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view
