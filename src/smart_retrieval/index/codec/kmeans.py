"""A small deterministic k-means (Lloyd 1982), in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...types import Array

_BLOCK = 8192


def kmeans(points: Array, count: int, *, seed: int = 0, iterations: int = 10) -> Array:
    """Centroids of clusters.

    Starts from points drawn without replacement and runs Lloyd's iterations; a cluster that lost all its points starts
    again at a point far from its centroid.

    Args:
        points: ``[n, p]`` float32, n >= 1.
        count: Clusters wanted.
        seed: Of the start.
        iterations: Lloyd iterations.

    Returns:
        ``[min(count, n), p]`` float32.

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
