"""K-means, and quantisers that keep what is left of a vector after its centroid in a few bytes.

Both quantisers share an orthonormal ``basis [D, p]`` from a PCA and turn ``[T, p]`` coordinates into ``[T, groups]``
bytes such that a reconstruction is a sum over bytes, ``sum_g table_g[byte_g]``; products with a query are then sums of
table look-ups.

- :class:`ScalarBits`: B bits a coordinate, levels by Lloyd's algorithm a coordinate (Lloyd, "Least squares quantization
  in PCM", 1982; every level is the conditional mean of its cell).
- :class:`VectorStages`: a byte a stage picks one of 256 vectors for what the stages before it left (residual vector
  quantisation: Chen, Guan, Wang, "Approximate nearest neighbor search by residual vector quantization", 2010).
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from ...errors import CodecError
from ...types import Array

#: Directions that residual vectors may use; the rest of the space holds too little to be worth a stage's bits.
VQ_DIMS = 128

_POINTS_PER_VECTOR = 12
_BLOCK = 8192


def kmeans(points: Array, count: int, *, seed: int = 0, iterations: int = 10) -> Array:
    """Centroids ``[min(count, n), p]`` float32 of points ``[n, p]``, n >= 1, by Lloyd's iterations; deterministic.

    It starts from points drawn without replacement; a cluster that lost all its points starts again at a point far from
    its centroid.

    Example:
        >>> kmeans(np.array([[0.0], [0.5], [9.0], [9.5]], np.float32), 2).ravel().tolist()
        [0.25, 9.25]
    """
    total = len(points)
    count = min(count, total)
    rng = np.random.default_rng(seed)
    centroids = np.array(points[np.sort(rng.choice(total, count, replace=False))], np.float32)
    for _ in range(iterations):
        owner = nearest(points, centroids)
        sums, sizes = grouped_sums(points, owner, count, np.float32)
        empty = sizes == 0
        centroids = np.where(empty[:, None], centroids, sums / np.maximum(sizes, 1)[:, None]).astype(np.float32)
        if empty.any():
            distance = ((points - centroids[owner]) ** 2).sum(axis=1)
            centroids[empty] = points[np.argsort(-distance, kind="stable")[: int(empty.sum())]]
    return centroids


def nearest(points: Array, centroids: Array) -> Array:
    """Index of the nearest centroid of each point, ``[n]`` int64; the lowest of equals."""
    half = (centroids.astype(np.float32) ** 2).sum(axis=1) / 2
    transposed = np.ascontiguousarray(centroids.T, np.float32)
    found = np.empty(len(points), np.int64)
    for start in range(0, len(points), _BLOCK):
        # argmin |x - c|^2 = argmax <x, c> - |c|^2 / 2
        products = points[start : start + _BLOCK] @ transposed
        products -= half
        found[start : start + _BLOCK] = products.argmax(axis=1)
    return found


def grouped_sums(
    points: Array, owners: Array, count: int, dtype: type[np.floating[Any]] = np.float64
) -> tuple[Array, Array]:
    """Sum of the points of each owner ``[count, p]`` of ``dtype``, and how many they are ``[count]`` int64."""
    order = np.argsort(owners, kind="stable")
    sizes = np.bincount(owners, minlength=count)
    sums = np.zeros((count, points.shape[1]), dtype)
    filled = sizes > 0
    if len(points):
        starts = (np.cumsum(sizes) - sizes)[filled]
        sums[filled] = np.add.reduceat(points[order].astype(dtype, copy=False), starts, axis=0)
    return sums, sizes


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


class ScalarBits:
    """1, 2 or 4 bits a coordinate: the nearest of its levels ``[p, 2 ** bits]`` float32, ascending."""

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
        """Coordinates ``[T, p]`` as bytes ``[T, groups]``, packed from the lowest bits up."""
        padded = np.zeros((len(coordinates), self.groups * self.per_byte), np.uint8)
        for level in range(self._thresholds.shape[1]):
            padded[:, : len(self.levels)] += coordinates > self._thresholds[:, level]
        shifts = (self.bits * np.arange(self.per_byte)).astype(np.uint8)
        packed: Array = (padded.reshape(len(padded), self.groups, self.per_byte) << shifts).sum(axis=2, dtype=np.uint8)
        return packed

    def decode(self, codes: Array) -> Array:
        """The levels ``[T, p]`` that bytes ``[T, groups]`` stand for."""
        digits = self._digits[codes].reshape(len(codes), self.groups * self.per_byte)[:, : len(self.levels)]
        values: Array = self.levels[np.arange(len(self.levels)), digits]
        return values

    def tables(self, coordinates: Array) -> Array:
        """Products ``[groups, 256, P]`` float32 of every value of every byte with query coordinates ``[P, p]``."""
        result = np.zeros((self.groups, 256, len(coordinates)), np.float32)
        for dim, levels in enumerate(self.levels):
            group, place = divmod(dim, self.per_byte)
            result[group] += levels[self._digits[:, place]][:, None] * coordinates[:, dim]
        return result

    def to_arrays(self) -> dict[str, Array]:
        """What :func:`residual_from_arrays` reads."""
        return {"basis": self.basis, "levels": self.levels}


class VectorStages:
    """A byte a stage: one of its 256 vectors; ``stages`` is ``[groups, 256, p]`` float32."""

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
        """Coordinates ``[T, p]`` as bytes ``[T, groups]``: the nearest vector, stage by stage."""
        left = np.array(coordinates, np.float32)
        codes = np.empty((len(left), self.groups), np.uint8)
        for stage, vectors in enumerate(self.stages):
            chosen = nearest(left, vectors)
            codes[:, stage] = chosen
            left -= vectors[chosen]
        return codes

    def decode(self, codes: Array) -> Array:
        """The sum of the stages' vectors, ``[T, p]``."""
        total = np.zeros((len(codes), self.basis.shape[1]), np.float32)
        for stage, vectors in enumerate(self.stages):
            total += vectors[codes[:, stage]]
        return total

    def tables(self, coordinates: Array) -> Array:
        """See :meth:`ScalarBits.tables`."""
        products: Array = self.stages.reshape(-1, self.basis.shape[1]) @ coordinates.T
        return products.reshape(self.groups, 256, len(coordinates))

    def to_arrays(self) -> dict[str, Array]:
        """What :func:`residual_from_arrays` reads."""
        return {"basis": self.basis, "stages": self.stages}


Residual: TypeAlias = ScalarBits | VectorStages


def residual_from_arrays(arrays: dict[str, Array]) -> Residual | None:
    """The quantiser that some arrays hold, or None when they hold none."""
    if "basis" not in arrays:
        return None
    if "levels" in arrays:
        return ScalarBits(arrays["basis"], arrays["levels"])
    if "stages" in arrays:
        return VectorStages(arrays["basis"], arrays["stages"])
    raise CodecError(f"found a residual basis without levels or stages among {sorted(arrays)}")
