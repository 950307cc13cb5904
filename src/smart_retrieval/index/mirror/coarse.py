"""Anchors in 16 bits: what a search that reads all of them reads instead, at half the memory traffic.

Products of whole numbers of 16 bits are added up in vector instructions of every processor, without any error, so how
far a cosine may be off is known beforehand. Who wants the nearest takes all that may be among them, and their exact
cosines: these are the same rows as without.
"""

from __future__ import annotations

import math

import numpy as np

from ...core.vectors import frozen
from ...threads import in_threads
from ...types import Array
from ..codec.kernels import compiled_kernels

# Of the largest number of a unit vector: whole numbers of 16 bits, whose products with another unit vector's add up to
# no more than 2^30 and a little, whichever of them are added.
_STEPS = 32767
# Rows worth a thread of their own, and rounded together.
_ROWS_AT_ONCE = 65_536


class CoarseAnchors:
    """Unit anchors ``[n, Da]`` float32, rounded.

    Example:
        >>> coarse = CoarseAnchors.of(np.eye(2, dtype=np.float32))
        >>> coarse.numbers.tolist(), coarse.error < 1e-4
        ([[32767, 0], [0, 32767]], True)
    """

    def __init__(self, numbers: Array) -> None:
        self.numbers = numbers
        #: What a cosine is off at most. Of either vector a number is off by half a step, and a little in float32, so
        #: the vector by half a step times the root of Da; and the other vector is not longer than 1 and this. Written
        #: as float32, a cosine is off by 2^-24 more.
        self.error = 1.01 * math.sqrt(numbers.shape[1]) / _STEPS + 2.0**-23

    @classmethod
    def of(cls, anchors: Array) -> CoarseAnchors | None:
        """Round anchors; None where these are no unit vectors, or of more dimensions than the bound holds for."""
        if anchors.shape[1] > 4096:
            return None
        numbers = np.empty(anchors.shape, np.int16)
        for start in range(0, len(anchors), _ROWS_AT_ONCE // 16):
            block = anchors[start : start + _ROWS_AT_ONCE // 16]
            lengths = np.einsum("nd,nd->n", block, block)
            if not (lengths < 1.0001).all():  # damaged, or no numbers at all
                return None
            np.rint(block * np.float32(_STEPS), out=numbers[start : start + len(block)], casting="unsafe")
        return cls(numbers)

    def cosines(self, anchor: Array, out: Array) -> bool:
        """Put the cosines with a unit anchor ``[Da]`` into ``out`` ``[n]`` float32; False where that cannot be done."""
        fast = compiled_kernels()
        if fast is None or not float(anchor @ anchor) < 1.0001:
            return False
        asked = frozen(np.rint(anchor * np.float32(_STEPS)).astype(np.int16))

        def multiply(row: int) -> None:
            part = slice(row, row + _ROWS_AT_ONCE)
            fast.int16_products(frozen(self.numbers[part]), asked, out[part])

        in_threads(multiply, range(0, len(out), _ROWS_AT_ONCE))
        out *= np.float32(1 / _STEPS**2)
        return True
