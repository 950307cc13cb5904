"""Anchors in 8 bits: what a search that reads all of them reads instead, at a quarter of the memory traffic.

Products of whole numbers are added up in vector instructions of every processor, without any error, so how far a cosine
may be off is known beforehand. Who wants the nearest takes all that may be among them, and their exact cosines: these
are the same rows as without. (Approximate distances first, exact ones of those that remain: Weber, Schek, Blott, "A
quantitative analysis and performance study for similarity-search methods in high-dimensional spaces", 1998.)
"""

from __future__ import annotations

import numpy as np

from ...core.vectors import frozen
from ...threads import in_threads
from ...types import Array
from ..codec.kernels import compiled_kernels

# Rows worth a thread of their own, and rounded together.
_ROWS_AT_ONCE = 65_536
_ROUNDED_AT_ONCE = 4096
_MOST = 127


class CoarseAnchors:
    """Unit anchors ``[n, Da]`` float32, rounded: number ``h`` of dimension d stands for ``middle[d] + h * step[d]``.

    Args:
        numbers: ``[n, Da]`` int8.
        middle: ``[Da]`` float32, halfway between the smallest and the largest number of each dimension.
        step: ``[Da]`` float32.
        error: No row is farther from what its numbers stand for.

    Example:
        >>> coarse = CoarseAnchors.of(np.eye(2, dtype=np.float32))
        >>> coarse.numbers.tolist(), coarse.error < 1e-4
        ([[127, -127], [-127, 127]], True)
    """

    def __init__(self, numbers: Array, middle: Array, step: Array, error: float) -> None:
        self.numbers, self.middle, self.step, self.error = numbers, middle, step, error

    @classmethod
    def of(cls, anchors: Array) -> CoarseAnchors | None:
        """Round anchors; None where these are no unit vectors, or of more dimensions than sums have room for."""
        lengths = np.einsum("nd,nd->n", anchors, anchors)
        if not len(anchors) or anchors.shape[1] > 16_384 or not (lengths < 1.0001).all():  # damaged, or no numbers
            return None
        low, high = anchors.min(axis=0), anchors.max(axis=0)
        middle, step = (low + high) / 2, np.maximum((high - low) / (2 * _MOST), np.float32(1e-12))
        numbers, farthest = np.empty(anchors.shape, np.int8), 0.0
        for start in range(0, len(anchors), _ROUNDED_AT_ONCE):
            block = anchors[start : start + _ROUNDED_AT_ONCE]
            rounded = np.clip(np.rint((block - middle) / step), -_MOST, _MOST)
            numbers[start : start + len(block)] = rounded
            left = block - (middle + rounded * step)
            farthest = max(farthest, float(np.einsum("nd,nd->n", left, left).max()))
        return cls(numbers, middle, step, 1.001 * farthest**0.5 + 1e-6)

    def cosines(self, anchor: Array, out: Array) -> float | None:
        """Put the cosines with a unit anchor ``[Da]`` into ``out`` ``[n]`` float32.

        Returns:
            How far they may be off, or None where they cannot be computed.
        """
        fast = compiled_kernels()
        if fast is None or not float(anchor @ anchor) < 1.0001:
            return None
        scaled = anchor.astype(np.float64) * self.step
        # As fine as 16 bits and sums of 32 bits allow.
        widest, total = max(np.abs(scaled).max(), 1e-30), max(np.abs(scaled).sum(), 1e-30)
        factor = min(32767 / widest, (2**31 - 2**20) / (_MOST * total))
        asked = np.rint(scaled * factor)
        off = _MOST * float(np.abs(scaled - asked / factor).sum())
        offset, whole = np.float32(anchor.astype(np.float64) @ self.middle), frozen(asked.astype(np.int16))

        def multiply(row: int) -> None:
            part = slice(row, row + _ROWS_AT_ONCE)
            fast.int8_products(frozen(self.numbers[part]), whole, np.float32(1 / factor), offset, out[part])

        in_threads(multiply, range(0, len(out), _ROWS_AT_ONCE))
        # Both vectors are no longer than 1.00005, and sums are written as float32.
        return 1.0001 * self.error + off + 1e-6
