"""The compiled kernels against NumPy, and their independence of blocks, threads and places."""

import os
import platform
import subprocess
import sys

import numpy as np
import pytest
from fixtures.ragged import batches, ragged
from hypothesis import given
from hypothesis import strategies as st

from smart_retrieval import PreparedDocuments, SmartEmbeddings, late_scores
from smart_retrieval.core.late import best_of_rows, best_similarities
from smart_retrieval.core.maxsim import kernels
from smart_retrieval.core.maxsim.precision import RoundedRows
from smart_retrieval.errors import SmartWarning

pytest.importorskip("numba")

PRECISIONS = ("float32", "bfloat16", "int8")
LENGTHS = [4, 0, 1, 37, 0, 0, 400, 2, 12, 0]


@pytest.fixture
def at_once(monkeypatch):
    """Kernels from the first product on, wherever they are faster."""
    monkeypatch.setattr(kernels, "PATIENCE", 0)
    monkeypatch.setattr(kernels, "_fastest", lambda call: float(call.__name__ == "reference"))
    monkeypatch.setattr(kernels, "_settled", {})


@pytest.fixture
def never(monkeypatch):
    monkeypatch.setattr(kernels, "PATIENCE", float("inf"))
    monkeypatch.setattr(kernels, "_settled", {})


def needs(precision):
    kernels.load(precision)
    if not kernels._kernels.has_unit(precision):
        pytest.skip(f"no instructions for {precision}")


def reference(tokens, rows, offsets, precision):
    return best_of_rows(tokens, rows, offsets, precision, None)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
@pytest.mark.parametrize(("tokens", "dim"), [(1, 1), (5, 3), (16, 128), (17, 64), (33, 300), (70, 601)])
def test_kernels_equal_numpy(at_once, precision, dtype, tokens, dim):
    needs(precision)
    queries, documents = ragged([tokens], 1, token_dim=dim), ragged(LENGTHS, 2, token_dim=dim).astype(dtype)
    rows, offsets = documents.token_vectors, documents.offsets
    found = kernels.best_products(queries.token_vectors, rows, offsets, precision)
    expected = reference(queries.token_vectors, rows, offsets, precision)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=3e-7)
    assert np.isneginf(found[:, documents.lengths == 0]).all()
    if precision != "float32":
        rounded = kernels.best_products(queries.token_vectors, RoundedRows.of(rows, precision), offsets, precision)
        assert np.array_equal(found, rounded)


@pytest.mark.parametrize("precision", PRECISIONS[1:])
@given(st.data())
def test_kernels_round_as_numpy_does(precision, data):
    needs(precision)
    dim = data.draw(st.integers(1, 70))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**16)))
    vectors = (rng.standard_normal((9, dim)) * 10.0 ** rng.integers(-8, 8, (9, 1))).astype(np.float32)
    vectors[3] = 0
    vectors[4, ::2] = np.float32(1.00390625)  # between two bfloat16 numbers
    found = RoundedRows.empty(9, dim, precision)
    kernels.round_rows(vectors, found)
    expected = RoundedRows.of(vectors, precision)
    assert np.array_equal(found.numbers, expected.numbers)
    assert np.array_equal(found.steps, expected.steps)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_equal_documents_score_equally_wherever_they_stand(at_once, monkeypatch, precision):
    needs(precision)
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 60, 80)
    lengths[::9] = 23
    documents, queries = ragged(lengths, 1, token_dim=96), ragged([7, 20, 3], 2, token_dim=96)
    vectors = documents.token_vectors
    for start in documents.offsets[:-1][::9]:
        vectors[start : start + 23] = vectors[:23]
    plain = late_scores(queries, documents, precision=precision)
    assert (plain[:, ::9] == plain[:, :1]).all()
    monkeypatch.setattr(kernels, "_CACHED", 1)
    for memory in (1, 3000, 10**6):
        assert np.array_equal(late_scores(queries, documents, precision=precision, memory=memory), plain)
    monkeypatch.setattr(kernels, "_THREAD_WORK", 1)
    for threads in ("1", "3", "200"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        assert np.array_equal(late_scores(queries, documents, precision=precision), plain)
    assert np.array_equal(np.hstack([late_scores(queries, one, precision=precision) for one in documents]), plain)


@given(batches(max_items=4), batches())
def test_ragged_batches(queries, documents):
    needs("float32")
    found = kernels.best_products(queries.token_vectors, documents.token_vectors, documents.offsets, "float32")
    expected = reference(queries.token_vectors, documents.token_vectors, documents.offsets, "float32")
    np.testing.assert_allclose(found, expected, rtol=0, atol=3e-7)


def test_many_dimensions_are_summed_exactly(at_once):
    needs("float32")
    documents, queries = ragged([50] * 20, 1, token_dim=2048), ragged([32], 2, token_dim=2048)
    exact = queries.token_vectors.astype(np.float64) @ documents.token_vectors.astype(np.float64).T
    expected = np.maximum.reduceat(exact, documents.offsets[:-1], axis=1).mean(axis=0)
    np.testing.assert_allclose(late_scores(queries, documents)[0], expected, rtol=0, atol=6e-8)


def test_memory_mapped_and_strided_documents(at_once, tmp_path):
    needs("float32")
    documents, queries = ragged(LENGTHS, 1, token_dim=64), ragged([9], 2, token_dim=64)
    mapped = SmartEmbeddings.load(documents.save(tmp_path / "emb"), mmap=True)
    assert np.array_equal(late_scores(queries, mapped), late_scores(queries, documents))
    wide = np.repeat(documents.token_vectors, 2, axis=1)[:, ::2]
    strided = SmartEmbeddings(documents.anchors, wide, documents.offsets)
    assert not strided.token_vectors.flags.c_contiguous
    assert np.array_equal(late_scores(queries, strided), late_scores(queries, documents))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_what_is_not_a_number_stays_so(at_once, precision):
    needs(precision)
    documents, queries = ragged([5, 30, 4], 1, token_dim=32), ragged([3], 2, token_dim=32)
    documents.token_vectors[12, 5] = np.nan
    found = kernels.best_products(queries.token_vectors, documents.token_vectors, documents.offsets, precision)
    assert np.isnan(found).tolist() == [[False, True, False]] * 3


@pytest.mark.parametrize("precision", PRECISIONS)
def test_query_tokens_of_zeros(at_once, precision):
    needs(precision)
    documents = ragged([5, 0], 1, token_dim=32)
    found = kernels.best_products(np.zeros((2, 32), np.float32), documents.token_vectors, documents.offsets, precision)
    assert found.tolist() == [[0.0, -np.inf]] * 2


def test_sums_of_narrower_processors_are_the_same():
    if platform.machine() != "x86_64":
        pytest.skip("compiles for x86-64")
    needs("float32")
    code = (
        "import sys, numpy as np\n"
        "from fixtures.ragged import ragged\n"
        "from smart_retrieval.core.maxsim import kernels\n"
        "kernels.load('float32')\n"
        "q, d = ragged([37], 1, token_dim=300), ragged([40, 0, 3], 2, token_dim=300)\n"
        "best = kernels.best_products(q.token_vectors, d.token_vectors, d.offsets, 'float32')\n"
        "print(kernels.load('bfloat16'), kernels.load('int8'), best.tobytes().hex())\n"
    )
    paths = os.pathsep.join(sys.path)
    environment = {**os.environ, "PYTHONPATH": paths, "NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+fma"}
    out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    queries, documents = ragged([37], 1, token_dim=300), ragged([40, 0, 3], 2, token_dim=300)
    own = kernels.best_products(queries.token_vectors, documents.token_vectors, documents.offsets, "float32")
    assert out.stdout.split() == ["False", "False", own.tobytes().hex()]


# -- when they are used --------------------------------------------------------------------------------------------


def test_little_work_is_done_by_numpy(monkeypatch):
    monkeypatch.setattr(kernels, "_settled", {})
    monkeypatch.setattr(kernels, "_done", 0)
    monkeypatch.setattr(kernels, "PATIENCE", 1000)
    monkeypatch.setattr(kernels, "_wins", lambda precision: True)
    assert kernels.usable("float32", 600) is None
    assert kernels.usable("float32", 600) == "float32"
    assert kernels.usable("float32", 0) == "float32"


def test_what_numpy_does_faster_is_left_to_it(at_once, monkeypatch):
    monkeypatch.setattr(kernels, "_fastest", lambda call: float(call.__name__ == "own"))
    assert kernels.usable("float32", 1) is None
    queries, documents = ragged([3], 1), ragged([4, 0], 2)
    expected = reference(queries.token_vectors, documents.token_vectors, documents.offsets, "float32")
    assert np.array_equal(best_similarities(queries.token_vectors, documents), expected)


@pytest.mark.parametrize("precision", PRECISIONS[1:])
def test_without_such_instructions_rounded_vectors_are_multiplied_in_float32(at_once, monkeypatch, precision):
    needs("float32")
    queries, documents = ragged([3, 5], 1, token_dim=40), ragged([4, 0, 60], 2, token_dim=40)
    expected = late_scores(queries, documents, precision=precision)
    monkeypatch.setattr(kernels._kernels, "has_unit", lambda name: name == "float32")
    monkeypatch.setattr(kernels, "_settled", {})
    assert kernels.usable(precision, 1) == "float32"
    for given_documents in (documents, PreparedDocuments(documents, precision)):
        found = late_scores(queries, given_documents, precision=precision)
        np.testing.assert_allclose(found, expected, rtol=0, atol=3e-7)


def test_wrong_products_are_a_warning_and_not_used(at_once, monkeypatch):
    monkeypatch.setattr(kernels, "best_products", lambda tokens, *_: np.zeros((len(tokens), 16), np.float32))
    with pytest.warns(SmartWarning, match=r"float32.*NumPy: its products differ"):
        assert kernels.usable("float32", 1) is None


def test_without_numba(never, monkeypatch):
    monkeypatch.setattr(kernels, "PATIENCE", 0)
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.setattr(kernels.importlib.util, "find_spec", lambda name: None)
    queries, documents = ragged([3, 5], 1), ragged([4, 0, 6], 2)
    assert kernels.usable("int8", 1) is None
    assert np.abs(late_scores(queries, documents) - late_scores(queries, documents, precision="int8")).max() < 0.02


@pytest.mark.parametrize("unit", [True, False])
def test_every_float16_number_becomes_the_same_float32(monkeypatch, unit: bool) -> None:
    from numba import njit

    from smart_retrieval.core.maxsim import kernels_numba

    if unit and not kernels_numba.FEATURES.get("f16c"):
        pytest.skip("this processor has no instruction for it")
    monkeypatch.setitem(kernels_numba.FEATURES, "f16c", unit)

    @njit
    def widened(bits, out):
        for i in range(len(bits)):
            out[i] = kernels_numba.from_half(bits[i])

    bits = np.arange(65536).astype(np.uint16)
    out = np.empty(len(bits), np.float32)
    widened(bits, out)
    np.testing.assert_array_equal(out, bits.view(np.float16).astype(np.float32))
    assert (np.signbit(out) == np.signbit(bits.view(np.float16)))[np.isfinite(out)].all()
