"""Rounded token vectors: their errors, their sizes, and documents prepared in them."""

import numpy as np
import pytest
from fixtures.ragged import ragged

from smart_retrieval import PreparedDocuments, SmartEmbeddings, hybrid_scores, late_scores
from smart_retrieval.core.maxsim.precision import RoundedRows
from smart_retrieval.errors import ScoringError

ERRORS = {"bfloat16": 5e-4, "int8": 1.1e-3}


def alike(count, tokens, dim, seed):
    """Documents whose token vectors share a direction, as those of models do, and a query for some of them."""
    rng = np.random.default_rng(seed)

    def unit(rows):
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    vectors = unit(rng.standard_normal((count * tokens, dim)) + 0.7 * rng.standard_normal((1, dim)))
    asked = unit(vectors[rng.integers(0, len(vectors), 32)] + rng.standard_normal((32, dim)) * 0.5 / dim**0.5)
    documents = SmartEmbeddings(rng.standard_normal((count, 3)), vectors, np.arange(count + 1) * tokens)
    return SmartEmbeddings(rng.standard_normal((1, 3)), asked, [0, 32]), documents


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
@pytest.mark.parametrize("dim", [128, 384])
def test_errors_are_as_stated(precision, dim):
    queries, documents = alike(60, 100, dim, 0)
    plain, rounded = late_scores(queries, documents), late_scores(queries, documents, precision=precision)
    assert 0 < np.abs(plain - rounded).max() <= ERRORS[precision]
    products = queries.token_vectors @ documents.token_vectors.T
    single = RoundedRows.of(queries.token_vectors, precision).as_float32()
    single = single @ RoundedRows.of(documents.token_vectors, precision).as_float32().T
    assert np.abs(products - single).max() <= 4 * ERRORS[precision]


@pytest.mark.parametrize(("precision", "share"), [("bfloat16", 2), ("int8", 3.5)])
def test_prepared_documents_score_the_same_in_less_memory(precision, share):
    queries, documents = alike(20, 40, 64, 1)
    prepared = PreparedDocuments(documents, precision)
    assert (len(prepared), prepared.anchor_dim, prepared.token_dim) == (20, 3, 64)
    assert documents.token_vectors.nbytes / (prepared.rows.numbers.nbytes + prepared.rows.steps.nbytes) >= share
    assert prepared.nbytes > prepared.rows.numbers.nbytes
    weights = np.arange(32.0)
    for score in (late_scores, hybrid_scores):
        expected = score(queries, documents, weights=weights, floor=0.2, precision=precision)
        for chosen in (None, precision):
            found = score(queries, prepared, weights=weights, floor=0.2, precision=chosen)
            np.testing.assert_allclose(found, expected, rtol=0, atol=2e-7)


def test_widths_that_fill_no_word():
    queries, documents = ragged([3, 0], 1, token_dim=5), ragged([4, 0, 7], 2, token_dim=5)
    for precision in ERRORS:
        found = late_scores(queries, PreparedDocuments(documents, precision))
        np.testing.assert_allclose(found, late_scores(queries, documents), atol=0.02)
        assert (found[:, 1] == 0).all()
        assert (found[1] == 0).all()


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_nothing_to_prepare(precision):
    queries = ragged([2], 1)
    assert late_scores(queries, PreparedDocuments(ragged([]), precision)).shape == (1, 0)
    assert (late_scores(queries, PreparedDocuments(ragged([0, 0]), precision)) == 0).all()


def test_rounding_by_hand():
    values = np.array([[1.0, 1.00390625, 1.01171875, -1.0]], np.float32)  # the middle ones lie between two numbers
    assert RoundedRows.of(values, "bfloat16").as_float32().tolist() == [[1.0, 1.0, 1.015625, -1.0]]
    own = RoundedRows.of(np.array([[0.0, -2.0, 1.0], [0.0, 0.0, 0.0]], np.float32), "int8")
    assert own.numbers[:, :3].tolist() == [[128, 1, 192], [128, 128, 128]]  # 63.5 goes to the even 64
    np.testing.assert_allclose(own.as_float32(), [[0, -2, 128 / 127], [0, 0, 0]], rtol=1e-6)


def test_names_and_contradictions_are_refused():
    queries, documents = ragged([2], 1), ragged([3], 2)
    with pytest.raises(ScoringError, match=r"precision.*'float16'.*int8"):
        late_scores(queries, documents, precision="float16")
    with pytest.raises(ScoringError, match="precision"):
        PreparedDocuments(documents, "float32")
    with pytest.raises(ScoringError, match="prepared in 'int8'"):
        late_scores(queries, PreparedDocuments(documents, "int8"), precision="float32")
    with pytest.raises(ScoringError, match="dimensions"):
        late_scores(queries, PreparedDocuments(ragged([3], token_dim=9), "int8"))
