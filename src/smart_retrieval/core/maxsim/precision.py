"""Numbers of fewer bits: what vectors become in bfloat16 and int8. The reference that the kernels equal to the bit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np

from ...errors import ScoringError, one_of
from ...types import Array

#: What token vectors are rounded to before their products.
Precision: TypeAlias = Literal["float32", "bfloat16", "int8"]

# How many numbers of a rounded vector fill a word of 32 bits, and their type.
_PACKED = {"bfloat16": (2, np.uint16), "int8": (4, np.uint8)}
_NONE = np.zeros(0, np.float32)


def check_precision(precision: str, *, rounded: bool = False) -> None:
    """Raise a ScoringError for a name that is none of :data:`Precision`, or of those that round."""
    names = get_args(Precision)[rounded:]
    if precision not in names:
        raise ScoringError(f"precision: {one_of(precision, names)}")


@dataclass(frozen=True)
class RoundedRows:
    """Vectors in bfloat16, or in int8 with a step for each: a 127th of its largest magnitude.

    ``numbers`` are bfloat16 bits as uint16, or int8 plus 128 as uint8, filled up with zeros to whole words of 32 bits.
    """

    precision: Precision
    dim: int
    numbers: Array  # [R, at least dim]
    steps: Array  # [R] float32, empty for bfloat16

    @classmethod
    def empty(cls, rows: int, dim: int, precision: Precision) -> RoundedRows:
        """Room for so many rows."""
        each, kind = _PACKED[precision]
        numbers = np.zeros((rows, -(-dim // each) * each), kind)
        return cls(precision, dim, numbers, np.zeros(rows, np.float32) if precision == "int8" else _NONE)

    def take(self, vectors: Array) -> None:
        """Round vectors ``[R, D]``, ties to even, into rows that are empty yet."""
        values = np.ascontiguousarray(vectors, np.float32)
        if self.precision == "bfloat16":
            bits = values.view(np.uint32)
            odd = (bits >> np.uint32(16)) & np.uint32(1)
            self.numbers[:, : self.dim] = (bits + np.uint32(0x7FFF) + odd) >> np.uint32(16)
        else:
            largest = np.abs(values).max(axis=1, initial=0)
            self.steps[:] = largest / np.float32(127)
            factors = np.divide(np.float32(127), largest, out=np.zeros_like(largest), where=largest > 0)
            self.numbers[:, : self.dim] = np.rint(values * factors[:, None]) + np.float32(128)

    @classmethod
    def of(cls, vectors: Array, precision: Precision) -> RoundedRows:
        """Vectors ``[R, D]`` rounded."""
        own = cls.empty(len(vectors), vectors.shape[1], precision)
        own.take(vectors)
        return own

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, rows: slice) -> RoundedRows:
        return RoundedRows(self.precision, self.dim, self.numbers[rows], self.steps[rows] if self.steps.size else _NONE)

    def as_float32(self) -> Array:
        """The values that they stand for, ``[R, D]``."""
        shown = self.numbers[:, : self.dim]
        if self.precision == "bfloat16":
            wide: Array = (shown.astype(np.uint32) << np.uint32(16)).view(np.float32)
        else:
            wide = (shown.astype(np.float32) - np.float32(128)) * self.steps[:, None]
        return wide


def float32_rows(rows: Array | RoundedRows, precision: Precision) -> Array:
    """The values that vectors have in a precision, ``[R, D]`` float32."""
    if precision != "float32" and not isinstance(rows, RoundedRows):
        rows = RoundedRows.of(rows, precision)
    return rows.as_float32() if isinstance(rows, RoundedRows) else np.asarray(rows, np.float32)
