"""What is left of a vector after its centroid, in a few bytes: scalar bits after a rotation, or residual vectors.

Both quantisers share an orthonormal ``basis [D, p]`` from a PCA and turn ``[T, p]`` coordinates into ``[T, G]`` bytes
such that a reconstruction is a sum over bytes, ``sum_g table_g[byte_g]``; products with a query are then sums of table
look-ups.

- :class:`ScalarBits`: B bits a coordinate, levels by Lloyd's algorithm a coordinate (Lloyd, "Least squares quantization
  in PCM", 1982; every level is the conditional mean of its cell).
- :class:`VectorStages`: a byte a stage picks one of 256 vectors for what the stages before it left (residual vector
  quantisation: Chen, Guan, Wang, "Approximate nearest neighbor search by residual vector quantization", 2010).
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from ...errors import CodecError
from ...types import Array
from .kmeans import kmeans, nearest

#: Directions that residual vectors may use; the rest of the space holds too little to be worth a stage's bits.
VQ_DIMS = 128

_POINTS_PER_VECTOR = 12


class Residual(ABC):
    """A quantiser of ``[T, p]`` coordinates to ``[T, groups]`` bytes; ``basis`` is ``[D, p]`` float32, orthonormal."""

    basis: Array
    groups: int

    @abstractmethod
    def encode(self, coordinates: Array) -> Array:
        """``[T, p]`` float32 to ``[T, groups]`` uint8."""

    @abstractmethod
    def decode(self, codes: Array) -> Array:
        """``[T, groups]`` uint8 to ``[T, p]`` float32."""

    @abstractmethod
    def tables(self, coordinates: Array) -> Array:
        """Partial products of query coordinates ``[P, p]`` with every value of every byte: ``[groups, 256, P]``
        float32.
        """

    @abstractmethod
    def to_arrays(self) -> dict[str, Array]:
        """What was fitted."""


class ScalarBits(Residual):
    """``bits`` bits a coordinate.

    Args:
        basis: ``[D, p]`` float32.
        levels: ``[p, 2 ** bits]`` float32, ascending.
    """

    def __init__(self, basis: Array, levels: Array) -> None:
        self.basis, self.levels = np.asarray(basis, np.float32), np.asarray(levels, np.float32)
        if self.levels.ndim != 2 or self.levels.shape[1] not in (2, 4, 16) or self.basis.ndim != 2:
            raise CodecError(f"found levels of shape {self.levels.shape}, expected 2, 4 or 16 a coordinate")
        if self.basis.shape[1] != len(self.levels) or (np.diff(self.levels, axis=1) < 0).any():
            raise CodecError("found a basis and levels that do not fit together, or levels that do not ascend")
        self.bits = {2: 1, 4: 2, 16: 4}[self.levels.shape[1]]
        self.per_byte = 8 // self.bits
        self.groups = -(-len(self.levels) // self.per_byte)
        self._thresholds = (self.levels[:, 1:] + self.levels[:, :-1]) / 2
        digits = np.arange(256)[:, None] >> (self.bits * np.arange(self.per_byte))
        self._digits = digits & (self.levels.shape[1] - 1)  # [256, per_byte]

    @classmethod
    def fit(cls, sample: Array, basis: Array, bits: int) -> ScalarBits:
        """Levels of each coordinate of ``sample @ basis``; ``sample`` is ``[n, D]``, n >= 1."""
        coordinates = sample @ basis
        count = 2**bits
        levels = np.quantile(coordinates, (np.arange(count) + 0.5) / count, axis=0).T.astype(np.float64)
        for dim, values in enumerate(coordinates.T.astype(np.float64)):
            ordered = np.sort(values)
            sums = np.concatenate([[0.0], np.cumsum(ordered)])
            for _ in range(8 if bits == 1 else 30):
                cuts = np.searchsorted(ordered, (levels[dim, 1:] + levels[dim, :-1]) / 2)
                edges = np.concatenate([[0], cuts, [len(ordered)]])
                sizes = np.diff(edges)
                means = np.diff(sums[edges]) / np.maximum(sizes, 1)
                levels[dim] = np.sort(np.where(sizes > 0, means, levels[dim]))
        return cls(basis, levels.astype(np.float32))

    def encode(self, coordinates: Array) -> Array:
        """Nearest level of each coordinate, packed from the lowest bits up."""
        padded = np.zeros((len(coordinates), self.groups * self.per_byte), np.uint8)
        for level in range(self._thresholds.shape[1]):
            padded[:, : len(self.levels)] += coordinates > self._thresholds[:, level]
        shifts = (self.bits * np.arange(self.per_byte)).astype(np.uint8)
        packed: Array = (padded.reshape(len(padded), self.groups, self.per_byte) << shifts).sum(axis=2, dtype=np.uint8)
        return packed

    def decode(self, codes: Array) -> Array:
        """The levels."""
        digits = self._digits[codes].reshape(len(codes), self.groups * self.per_byte)[:, : len(self.levels)]
        values: Array = self.levels[np.arange(len(self.levels)), digits]
        return values

    def tables(self, coordinates: Array) -> Array:
        """See :meth:`Residual.tables`."""
        result = np.zeros((self.groups, 256, len(coordinates)), np.float32)
        for dim, levels in enumerate(self.levels):
            group, place = divmod(dim, self.per_byte)
            result[group] += levels[self._digits[:, place]][:, None] * coordinates[:, dim]
        return result

    def to_arrays(self) -> dict[str, Array]:
        """``basis`` and ``levels``."""
        return {"basis": self.basis, "levels": self.levels}


class VectorStages(Residual):
    """One of 256 vectors a stage.

    Args:
        basis: ``[D, p]`` float32.
        stages: ``[groups, 256, p]`` float32.
    """

    def __init__(self, basis: Array, stages: Array) -> None:
        self.basis, self.stages = np.asarray(basis, np.float32), np.ascontiguousarray(stages, np.float32)
        if self.basis.ndim != 2 or self.stages.ndim != 3 or self.stages.shape[1:] != (256, self.basis.shape[1]):
            raise CodecError(
                f"found basis {self.basis.shape} and stages {self.stages.shape}, expected [D, p], [G, 256, p]"
            )
        self.groups = len(self.stages)

    @classmethod
    def fit(cls, sample: Array, basis: Array, groups: int, seed: int) -> VectorStages:
        """K-means of what is left, stage by stage; ``sample`` is ``[n, D]``, n >= 1.

        Small samples get fewer vectors a stage, and every stage holds a zero, so that no stage makes a vector worse.
        """
        left = np.ascontiguousarray(sample @ basis, np.float32)
        stages = np.zeros((groups, 256, left.shape[1]), np.float32)
        for stage in range(groups):
            found = kmeans(left, min(255, -(-len(left) // _POINTS_PER_VECTOR)), seed=seed + stage, iterations=8)
            stages[stage, : len(found)] = found
            left -= stages[stage][nearest(left, stages[stage])]
        return cls(basis, stages)

    def encode(self, coordinates: Array) -> Array:
        """Greedy choice stage by stage."""
        left = np.array(coordinates, np.float32)
        codes = np.empty((len(left), self.groups), np.uint8)
        for stage, vectors in enumerate(self.stages):
            chosen = nearest(left, vectors)
            codes[:, stage] = chosen
            left -= vectors[chosen]
        return codes

    def decode(self, codes: Array) -> Array:
        """Sum of the stages' vectors."""
        total = np.zeros((len(codes), self.basis.shape[1]), np.float32)
        for stage, vectors in enumerate(self.stages):
            total += vectors[codes[:, stage]]
        return total

    def tables(self, coordinates: Array) -> Array:
        """See :meth:`Residual.tables`."""
        products: Array = self.stages.reshape(-1, self.basis.shape[1]) @ coordinates.T
        return products.reshape(self.groups, 256, len(coordinates))

    def to_arrays(self) -> dict[str, Array]:
        """``basis`` and ``stages``."""
        return {"basis": self.basis, "stages": self.stages}


def residual_from_arrays(arrays: dict[str, Array]) -> Residual | None:
    """The quantiser these arrays hold, or None when they hold none.

    Raises:
        CodecError: They do not fit together.
    """
    if "basis" not in arrays:
        return None
    if "levels" in arrays:
        return ScalarBits(arrays["basis"], arrays["levels"])
    if "stages" in arrays:
        return VectorStages(arrays["basis"], arrays["stages"])
    raise CodecError(f"found a residual basis without levels or stages among {sorted(arrays)}")


def principal_axes(sample: Array, count: int) -> Array:
    """Orthonormal directions of most second moment (about zero), ``[D, count]`` float32; more than D are zeros.

    The sign of each is fixed by its largest entry, so that equal moments give equal axes.
    """
    values = sample.astype(np.float64)
    _, vectors = np.linalg.eigh(values.T @ values)
    axes = vectors[:, ::-1][:, :count]
    largest = axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])]
    axes = axes * np.where(largest < 0, -1.0, 1.0)
    padded = np.zeros((sample.shape[1], count), np.float32)
    padded[:, : axes.shape[1]] = axes
    return padded
