"""Anchors as they are kept: in float32, or as whole numbers of 16 bits times a power of two of each document's own."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import numpy as np

from ...types import Array

AnchorType: TypeAlias = Literal["float32", "int16"]
ANCHOR_TYPES: tuple[AnchorType, ...] = get_args(AnchorType)
_BITS, _MOST = 15, 32767


def anchors_beside(family: str) -> AnchorType:
    """How an index keeps anchors beside token codes of a family: uncompressed ones leave them as they are."""
    return "float32" if family == "float32" else "int16"


def rounded_anchors(anchors: Array) -> Array:
    """Anchors ``[n, Da]`` as they come back from 16 bits: float32, each number within 1/32,768 of the row's largest.

    Cosines move by less than 2e-5. What is rounded already stays as it is, and so does a row with NaN or infinity.

    Example:
        >>> rounded_anchors(np.array([[1, 0.1]])).round(6).tolist() == [[1.0, np.float32(0.099976)]]
        True
    """
    given = np.asarray(anchors, np.float32)
    finite = np.isfinite(given).all(axis=1, keepdims=True)
    found: Array = np.where(finite, _from_whole(_whole(np.where(finite, given, 0.0))), given)
    return found


def pack_anchor(anchor: Array, kind: AnchorType) -> bytes:
    """One anchor ``[Da]`` of finite numbers as bytes."""
    if kind == "float32":
        return np.ascontiguousarray(anchor, "<f4").tobytes()
    return _whole(np.asarray(anchor, np.float32)[None]).astype("<i2", copy=False).tobytes()


def unpack_anchors(joined: bytes, kind: AnchorType, dim: int) -> Array:
    """Anchors ``[n, Da]`` float32 from their joined bytes; those of a damaged exponent are not finite."""
    if kind == "float32":
        return np.frombuffer(joined, "<f4").reshape(-1, dim)
    return _from_whole(np.frombuffer(joined, "<i2").reshape(-1, dim + 1))


def anchor_bytes(kind: AnchorType, dim: int) -> int:
    """Bytes of one anchor."""
    return 4 * dim if kind == "float32" else 2 * (dim + 1)


def _whole(anchors: Array) -> Array:
    """``[n, 1 + Da]`` int16: the exponent of a row's power of two, and its numbers."""
    rows = np.empty((len(anchors), anchors.shape[1] + 1), np.int16)
    exponents = np.frexp(np.abs(anchors).max(axis=1, initial=0.0))[1] - _BITS
    rows[:, 0] = exponents
    # The largest may round up to 32,768, which is the one number that 16 bits do not hold.
    np.clip(np.rint(np.ldexp(anchors, -exponents[:, None])), -_MOST, _MOST, out=rows[:, 1:], casting="unsafe")
    return rows


def _from_whole(rows: Array) -> Array:
    with np.errstate(over="ignore"):
        found: Array = np.ldexp(rows[:, 1:].astype(np.float32), rows[:, :1].astype(np.int32))
    return found
