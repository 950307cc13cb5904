"""Token matches: contributions add up to the late score, and each names the best document token."""

import numpy as np
import pytest
from fixtures.ragged import ragged
from hypothesis import given
from hypothesis import strategies as st

from smart_retrieval import SmartEmbeddings, late_scores
from smart_retrieval.core.matches import token_matches
from smart_retrieval.errors import ScoringError


@given(st.integers(1, 6), st.integers(1, 9), st.integers(0, 99), st.sampled_from([None, -0.2, 0.3]), st.booleans())
def test_contributions_add_up_to_the_late_score(query_tokens, document_tokens, seed, floor, weighted):
    query, document = ragged([query_tokens], seed=seed), ragged([document_tokens], seed=seed + 1)
    weights = np.random.default_rng(seed).random(query_tokens) + 0.1 if weighted else None
    matches = token_matches(query, document, weights, floor)
    late = late_scores(query, document, weights=weights, floor=floor)[0, 0]
    assert sum(match.contribution for match in matches) == pytest.approx(float(late), abs=1e-5)
    assert sum(match.share for match in matches) == pytest.approx(1, abs=1e-5)
    similarities = query.token_vectors @ document.token_vectors.T
    for row, match in enumerate(matches):
        assert match.query_index == row
        assert match.document_index == similarities[row].argmax()
        assert match.similarity == pytest.approx(float(similarities[row].max()), abs=1e-5)


def test_the_first_of_equal_tokens_is_named():
    query = SmartEmbeddings([[1.0]], [[1.0]], [0, 1])
    document = SmartEmbeddings([[1.0]], [[0.5], [1.0], [1.0]], [0, 3])
    assert token_matches(query, document)[0].document_index == 1


def test_a_document_without_tokens_answers_nothing():
    query, document = ragged([2]), ragged([0])
    matches = token_matches(query, document, [1.0, 3.0], 0.2)
    assert [(match.query_index, match.document_index, match.share) for match in matches] == [
        (0, -1, 0.25),
        (1, -1, 0.75),
    ]
    assert sum(match.contribution for match in matches) == late_scores(query, document)[0, 0] == 0


def test_a_query_without_tokens_asks_nothing():
    assert token_matches(ragged([0]), ragged([2])) == token_matches(ragged([0]), ragged([0])) == []


def test_inputs_without_matches_are_refused():
    one, two = ragged([2]), ragged([2, 2])
    for query, document in ((two, one), (one, two), (one, ragged([2], token_dim=9))):
        with pytest.raises(ScoringError):
            token_matches(query, document)
