"""The hybrid is the weighted sum of the anchors' cosine and the late score."""

import numpy as np
import pytest
from fixtures.ragged import batches, ragged
from hypothesis import given
from hypothesis import strategies as st

from smart_retrieval import SmartEmbeddings, anchor_scores, hybrid_scores, late_scores
from smart_retrieval.errors import ScoringError

QUERIES = ragged([3, 1, 0, 2], seed=1)
DOCUMENTS = ragged([4, 0, 1, 5, 2], seed=2)


def naive_cosines(queries, documents):
    return np.array(
        [
            [float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b))) for b in documents.anchors.astype(np.float64)]
            for a in queries.anchors.astype(np.float64)
        ]
    )


def test_anchor_scores_are_cosines_whatever_the_anchors_length():
    assert (np.abs(np.linalg.norm(DOCUMENTS.anchors, axis=1) - 1) > 0.5).all()
    scores = anchor_scores(QUERIES, DOCUMENTS)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, naive_cosines(QUERIES, DOCUMENTS), atol=1e-6)


def test_anchor_scores_equal_sentence_transformers():
    from sentence_transformers.util import cos_sim

    np.testing.assert_allclose(
        anchor_scores(QUERIES, DOCUMENTS), cos_sim(QUERIES.anchors, DOCUMENTS.anchors).numpy(), atol=1e-6
    )


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("anchor", "late"), [(1, 1), (1, 2), (0.3, 0.7), (0, 1), (-1, 0.5)])
def test_the_hybrid_is_the_weighted_sum(anchor, late, weighted):
    weights = np.random.default_rng(0).random(len(QUERIES.token_vectors)) if weighted else None
    found = hybrid_scores(QUERIES, DOCUMENTS, lambda_anchor=anchor, lambda_late=late, weights=weights)
    expected = anchor * naive_cosines(QUERIES, DOCUMENTS) + late * late_scores(QUERIES, DOCUMENTS, weights=weights)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_floor_is_for_the_late_part():
    found = hybrid_scores(QUERIES, DOCUMENTS, lambda_late=2, floor=0.4)
    expected = naive_cosines(QUERIES, DOCUMENTS) + 2 * late_scores(QUERIES, DOCUMENTS, floor=0.4)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert not np.allclose(found, hybrid_scores(QUERIES, DOCUMENTS, lambda_late=2))


@pytest.mark.parametrize("late", [0, 3])
def test_what_has_no_tokens_is_the_anchors_alone(late):
    found = hybrid_scores(QUERIES, DOCUMENTS, lambda_anchor=2, lambda_late=late)
    cosines = 2 * naive_cosines(QUERIES, DOCUMENTS)
    np.testing.assert_allclose(found[:, 1], cosines[:, 1], atol=1e-5)
    np.testing.assert_allclose(found[2], cosines[2], atol=1e-5)
    assert np.allclose(found, cosines, atol=1e-5) == (late == 0)


def test_an_anchor_of_zeros_scores_zero():
    zero = SmartEmbeddings([[0.0, 0.0], [3.0, 4.0]], [[1.0], [1.0]], [0, 1, 2])
    assert anchor_scores(zero, zero).tolist() == [[0.0, 0.0], [0.0, 1.0]]
    assert hybrid_scores(zero, zero).tolist() == [[1.0, 1.0], [1.0, 2.0]]


def test_float16_anchors_are_scored_in_float32():
    half = SmartEmbeddings(DOCUMENTS.anchors.astype(np.float16), DOCUMENTS.token_vectors, DOCUMENTS.offsets)
    scores = anchor_scores(QUERIES, half)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, naive_cosines(QUERIES, half), atol=1e-6)


def test_widths_must_agree():
    with pytest.raises(ScoringError, match=r"6 dimensions.*4 in the documents"):
        anchor_scores(QUERIES, ragged([1], anchor_dim=4))
    with pytest.raises(ScoringError, match="anchors"):
        hybrid_scores(QUERIES, ragged([1], anchor_dim=4))
    with pytest.raises(ScoringError, match="token vectors"):
        hybrid_scores(QUERIES, ragged([1], token_dim=4))


@pytest.mark.parametrize("memory", [0, 1, 64])
def test_a_small_budget_changes_nothing(memory):
    np.testing.assert_allclose(
        hybrid_scores(QUERIES, DOCUMENTS, memory=memory), hybrid_scores(QUERIES, DOCUMENTS), atol=1e-6
    )


@given(batches(min_items=1, max_items=4), batches(min_items=1), st.floats(0.125, 8), st.floats(0.125, 8))
def test_bounds_and_scale(queries, documents, anchor, late):
    scores = hybrid_scores(queries, documents, lambda_anchor=anchor, lambda_late=late)
    assert not np.isnan(scores).any()
    assert (scores <= anchor + late + 1e-4).all()
    assert (scores[np.isfinite(scores)] >= -(anchor + late) - 1e-4).all()
    # Anchors count by their direction only.
    longer = SmartEmbeddings(documents.anchors * 7, documents.token_vectors, documents.offsets)
    np.testing.assert_allclose(
        hybrid_scores(queries, longer, lambda_anchor=anchor, lambda_late=late), scores, atol=1e-4
    )


@pytest.mark.parametrize("scores", [anchor_scores, late_scores, hybrid_scores])
@pytest.mark.parametrize("given", ["a text", ["a text"], QUERIES.anchors])
def test_texts_and_arrays_are_refused_by_name(scores, given):
    for pair in ((given, DOCUMENTS), (QUERIES, given)):
        with pytest.raises(ScoringError, match=f"found {type(given).__name__}, expected embeddings"):
            scores(*pair)


def test_embeddings_are_not_one_array():
    from smart_retrieval.errors import EmbeddingsError

    with pytest.raises(EmbeddingsError, match=r"take \.anchors"):
        np.asarray(DOCUMENTS)
