"""K-means, principal axes and the quantisers of residuals."""

from __future__ import annotations

import numpy as np
import pytest

from smart_retrieval.index.codec.quantize import ScalarBits, VectorStages, kmeans, nearest, principal_axes


def test_scalar_levels_are_conditional_means() -> None:
    rng = np.random.default_rng(0)
    sample = rng.normal(size=(4000, 8)).astype(np.float32)
    quantiser = ScalarBits.fit(sample, np.eye(8, dtype=np.float32), 1)
    values = sample[:, 0]
    cut = quantiser.levels[0].mean()
    assert quantiser.levels[0] == pytest.approx([values[values <= cut].mean(), values[values > cut].mean()], abs=1e-4)
    for bits in (1, 2, 4):
        quantiser = ScalarBits.fit(sample, np.eye(8, dtype=np.float32), bits)
        codes = quantiser.encode(sample)
        back = quantiser.decode(codes)
        assert codes.shape == (4000, bits)
        assert np.array_equal(quantiser.encode(back), codes)
        tables = quantiser.tables(np.ones((1, 8), np.float32))
        sums = sum(tables[group, codes[:, group], 0] for group in range(quantiser.groups))
        np.testing.assert_allclose(sums, back.sum(axis=1), rtol=1e-4, atol=1e-5)


def test_each_stage_reduces_the_error() -> None:
    sample = np.random.default_rng(0).normal(size=(2000, 8)).astype(np.float32)
    quantiser = VectorStages.fit(sample, np.eye(8, dtype=np.float32), 3, 0)
    codes = quantiser.encode(sample)
    errors = []
    for count in (1, 2, 3):
        short = VectorStages(quantiser.basis, quantiser.stages[:count])
        errors.append(float(((short.decode(codes[:, :count]) - sample) ** 2).sum()))
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


def test_axes_are_orthonormal_and_signed() -> None:
    sample = np.random.default_rng(0).normal(size=(100, 6)) * [3, 1, 1, 1, 1, 0.1]
    axes = principal_axes(sample, 4)
    np.testing.assert_allclose(axes.T @ axes, np.eye(4), atol=1e-6)
    assert abs(axes[0, 0]) > 0.9
    assert (axes[np.abs(axes).argmax(axis=0), np.arange(4)] > 0).all()


def test_kmeans_of_equal_and_of_few_points() -> None:
    same = np.ones((10, 3), np.float32)
    assert (kmeans(same, 4) == 1).all()
    assert len(kmeans(same[:2], 4)) == 2
    points = np.random.default_rng(0).normal(size=(500, 3)).astype(np.float32)
    found = kmeans(points, 20)
    assert (found == kmeans(points, 20)).all()
    assert len(np.unique(nearest(points, found))) == 20
