"""Rows of vectors."""

from __future__ import annotations

import numpy as np

from ..types import Array


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
