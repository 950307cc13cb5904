"""The best candidates, and the order of equal ones."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smart_retrieval.errors import NonFiniteError, ScoringError
from smart_retrieval.evaluation.mmeb.ordering import best_places, tie_key, tie_order


def test_the_official_key():
    digest = hashlib.blake2b(b"MSVD:7\0video 1\0", digest_size=8).digest()
    assert tie_key("MSVD", 7, "video 1") == int.from_bytes(digest, "big")


def test_unknown_ties():
    with pytest.raises(ScoringError, match="ties: found 'random'"):
        tie_order("random", "MSVD", 0)


def test_nan_names_its_candidate():
    with pytest.raises(NonFiniteError, match="candidate 'b'"):
        best_places(np.float32([1, np.nan]), ["a", "b"], 2, str)


@given(
    st.lists(st.sampled_from([0.0, -0.0, 0.25, 0.5, float("-inf")]), min_size=1, max_size=12),
    st.integers(1, 14),
    st.sampled_from(["official", "name"]),
)
def test_the_same_as_sorting_everything(values, depth, kind):
    names = [f"n{number}" for number in range(len(values))]
    order = tie_order(kind, "task", 3)
    expected = sorted(range(len(values)), key=lambda place: (-values[place], order(names[place])))[:depth]
    assert best_places(np.array(values, np.float32), names, depth, order).tolist() == expected


def test_official_ties_differ_from_query_to_query():
    names = [f"n{number}" for number in range(20)]
    scores = np.zeros(20, np.float32)
    orders = {tuple(best_places(scores, names, 20, tie_order("official", "t", row)).tolist()) for row in range(5)}
    assert len(orders) == 5
