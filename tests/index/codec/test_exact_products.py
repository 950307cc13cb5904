"""Products in whole numbers: exact, the same in NumPy and Numba, wherever a row stands."""

import os
import platform
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smart_retrieval.core.vectors import unit_rows
from smart_retrieval.index.codec import kernels
from smart_retrieval.index.codec.kernels import exact_products, load_kernels


def vectors(seed: int, count: int, dims: int) -> np.ndarray:
    return unit_rows(np.random.default_rng(seed).standard_normal((count, dims)))


def columns(seed: int, dims: int, filled: int, width: int, length: float) -> np.ndarray:
    found = np.zeros((dims, width), np.float32)
    found[:, :filled] = length * vectors(seed, filled, dims).T
    return found


@given(st.integers(0, 99), st.integers(1, 9), st.integers(1, 40), st.integers(0, 7), st.floats(1e-3, 50))
@settings(max_examples=30, deadline=None)
def test_with_numba_and_without_they_are_the_same(seed: int, count: int, dims: int, filled: int, length: float) -> None:
    if load_kernels() is None:
        pytest.skip("Numba is not installed")
    rows, asked = vectors(seed, count, dims), columns(seed, dims, filled, 7, length)
    halves, used = (rows * 0.7).astype(np.float16), np.arange(0, count, 2)
    with pytest.MonkeyPatch.context() as patch:
        fast = *exact_products(rows, [asked]), *exact_products(halves, [asked], used, 0.75)
        patch.setattr(kernels, "compiled_kernels", lambda: None)
        plain = *exact_products(rows, [asked]), *exact_products(halves, [asked], used, 0.75)
    for one, other in zip(fast, plain, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(fast[0], rows @ asked, atol=2e-4 * length)
    np.testing.assert_allclose(fast[1], halves[used].astype(np.float32) @ asked, atol=2e-4 * length)
    assert not fast[0][:, filled:].any()


def test_the_worst_case_fits_into_32_bits() -> None:
    load_kernels()
    one = np.zeros((3, 4096), np.float32)
    one[0, 5], one[1], one[2] = 1, 1 / 64, -1 / 64
    (found,) = exact_products(one, [np.ascontiguousarray(one[[0, 1, 2, 1]].T)])
    np.testing.assert_allclose(found, one @ one[[0, 1, 2, 1]].T, atol=2e-4)


def test_every_float16_is_read_right(monkeypatch: pytest.MonkeyPatch) -> None:
    if load_kernels() is None:
        pytest.skip("Numba is not installed")
    halves = np.arange(65536, dtype=np.uint16).view(np.float16)
    halves = np.where(np.isfinite(halves), halves, 0)[:, None]
    used, asked = np.arange(65536)[::-1], np.ones((1, 3), np.float32)
    for longest in (65504.0, 2.0**-15):  # and the smallest
        some = used[np.abs(halves[used, 0]) <= longest]
        (fast,) = exact_products(halves, [asked], some, longest)
        with monkeypatch.context() as patch:
            patch.setattr(kernels, "compiled_kernels", lambda: None)
            np.testing.assert_array_equal(exact_products(halves, [asked], some, longest)[0], fast)
        np.testing.assert_allclose(fast[:, 2], halves[some, 0].astype(np.float64), atol=longest / 32000)


def test_nothing_asked_is_nothing() -> None:
    (nothing,) = exact_products(vectors(1, 2, 8), [np.zeros((8, 8), np.float32)])
    assert nothing.tolist() == [[0.0] * 8] * 2
    (nothing,) = exact_products(vectors(1, 0, 8), [np.ones((8, 8), np.float32)])
    assert nothing.shape == (0, 8)


@pytest.mark.parametrize("features", ["+avx2,+fma", "+sse4.2"])
def test_processors_with_narrower_vectors_give_the_same(features: str) -> None:
    if platform.machine() != "x86_64" or load_kernels() is None:
        pytest.skip("compiles for x86-64")
    code = (
        "from index.codec.test_exact_products import some_products\n"
        "from smart_retrieval.core.maxsim.kernels_numba import LANES\n"
        "print(LANES, some_products().tobytes().hex())\n"
    )
    names = {"NUMBA_CPU_NAME": "haswell" if "avx2" in features else "nehalem", "NUMBA_CPU_FEATURES": features}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(["tests", *sys.path]), **names}
    out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert out.stdout.split() == ["8", some_products().tobytes().hex()], out.stderr


def some_products() -> np.ndarray:
    """Of 101 float16 rows of 37 dimensions with two groups of columns, by the compiled kernels."""
    assert load_kernels() is not None
    rows = (vectors(3, 201, 37) * 0.7).astype(np.float16)
    asked = [columns(4, 37, 11, 16, 3.0), columns(5, 37, 30, 32, 0.1)]
    return np.concatenate(exact_products(rows, asked, np.arange(0, 201, 2), 0.75), axis=1)
