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
