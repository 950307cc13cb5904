"""Metrics against cases worked out by hand, and the ranking against a plain sort."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from smart_retrieval.errors import NonFiniteError, ScoringError
from smart_retrieval.evaluation.metrics import METRICS, per_query_metrics, rank


def log_discount(place: int) -> float:
    return 1 / math.log2(place + 1)


def test_graded_ndcg_has_linear_gain():
    # Ranking: grade 0, 3, unjudged, 1. Ideal: 3, 2, 1. An exponential gain would give 7 and 3 for grades 3 and 2.
    qrels = {"q": {"three": 3, "two": 2, "one": 1, "zero": 0}}
    values = per_query_metrics(qrels, {"q": ["zero", "three", "unjudged", "one"]})
    gained = 3 * log_discount(2) + 1 * log_discount(4)
    ideal = 3 * log_discount(1) + 2 * log_discount(2) + 1 * log_discount(3)
    assert values["ndcg@10"][0] == pytest.approx(gained / ideal, abs=1e-12)
    assert values["mrr@10"][0] == pytest.approx(1 / 2)
    assert values["recall@100"][0] == pytest.approx(2 / 3)
    assert values["map"][0] == pytest.approx((1 / 2 + 2 / 4) / 3)


def test_negative_grades_are_not_relevant_and_cost_nothing():
    with_negative = per_query_metrics({"q": {"a": 2, "b": -1}}, {"q": ["b", "a"]})
    with_zero = per_query_metrics({"q": {"a": 2, "b": 0}}, {"q": ["b", "a"]})
    assert {name: value.tolist() for name, value in with_negative.items()} == {
        name: value.tolist() for name, value in with_zero.items()
    }
    assert with_negative["ndcg@10"][0] == pytest.approx(log_discount(2))


def test_cut_offs():
    others = [f"x{place}" for place in range(200)]
    qrels = {"at 10": {"a": 1}, "at 11": {"a": 1}, "at 100": {"a": 1}, "at 101": {"a": 1}}
    ranking = {query: [*others[: int(query[3:]) - 1], "a", *others[int(query[3:]) :]] for query in qrels}
    values = per_query_metrics(qrels, ranking)
    assert values["mrr@10"] == pytest.approx([1 / 10, 0, 0, 0])
    assert values["ndcg@10"] == pytest.approx([log_discount(10), 0, 0, 0])
    assert values["recall@100"].tolist() == [1, 1, 1, 0]
    assert values["map"] == pytest.approx([1 / 10, 1 / 11, 1 / 100, 1 / 101])


def test_queries_without_a_ranking_score_zero_in_the_order_of_the_qrels():
    qrels = {"z": {"a": 1}, "missing": {"a": 1}, "empty": {"a": 1}, "b": {"a": 1}}
    values = per_query_metrics(qrels, {"b": ["x", "a"], "empty": [], "z": ["a"], "not judged": ["a"]})
    assert list(values) == list(METRICS)
    assert values["mrr@10"].tolist() == [1, 0, 0, 0.5]
    for metric in METRICS:
        assert values[metric].shape == (4,)
        assert values[metric].dtype == np.float64


def test_the_order_given_is_the_order_judged():
    # trec_eval orders equal scores by id; a list is not to be reordered whichever way its ids run.
    qrels = {"q": {"m": 1}}
    assert per_query_metrics(qrels, {"q": ["z", "y", "m", "a"]})["mrr@10"][0] == pytest.approx(1 / 3)
    assert per_query_metrics(qrels, {"q": ["a", "b", "m", "z"]})["mrr@10"][0] == pytest.approx(1 / 3)


def test_a_document_listed_twice_is_refused():
    with pytest.raises(ScoringError, match="twice in the ranking of query 'q'"):
        per_query_metrics({"q": {"a": 1}}, {"q": ["a", "b", "a"]})


def test_ties_go_by_id_at_the_boundary_too():
    scores = np.array([[1.0, 1.0, 1.0, 2.0, 1.0], [0.0, -0.0, 0.0, 0.0, -1.0]], dtype=np.float32)
    ids = ["d", "b", "c", "e", "a"]
    assert rank(scores, ids, depth=3) == [["e", "a", "b"], ["b", "c", "d"]]
    # Ids are strings: "10" stands before "9".
    assert rank(np.zeros((1, 2)), ["9", "10"], depth=1) == [["10"]]


def test_minus_infinity_is_not_listed_and_depth_beyond_the_end_lists_all():
    assert rank(np.array([[0.5, 1.0, 0.5]]), ["b", "c", "a"], depth=9) == [["c", "a", "b"]]
    for depth in (1, 2, 3, 9):
        assert rank(np.array([[-np.inf, 1.0, -np.inf]]), ["b", "c", "a"], depth) == [["c"]]
        assert rank(np.full((1, 3), -np.inf), ["b", "c", "a"], depth) == [[]]


def test_integer_scores_do_not_overflow():
    lowest = np.iinfo(np.int32).min
    assert rank(np.array([[lowest, 5, lowest]], dtype=np.int32), ["b", "c", "a"], depth=3) == [["c", "a", "b"]]


def test_nan_is_refused_and_named():
    with pytest.raises(NonFiniteError, match=r"document 'b' \(query number 1\)"):
        rank(np.array([[0.0, 1.0], [0.0, np.nan]]), ["a", "b"], depth=1)


@pytest.mark.parametrize(
    ("scores", "depth"), [(np.zeros((1, 3)), 1), (np.zeros(2), 1), (np.zeros((1, 2)), 0), (np.zeros((1, 2)), -1)]
)
def test_shapes_and_depth_are_checked(scores, depth):
    with pytest.raises(ScoringError):
        rank(scores, ["a", "b"], depth)


@given(
    data=st.data(),
    ids=st.lists(st.text(max_size=3), min_size=1, max_size=12, unique=True),
    queries=st.integers(0, 3),
    depth=st.integers(1, 14),
)
def test_rank_is_a_plain_sort(data, ids, queries, depth):
    # Few distinct values, so that ties are everywhere.
    values = st.sampled_from([-np.inf, -1.0, -0.0, 0.0, 0.5, 1.0, np.inf])
    scores = data.draw(arrays(np.float32, (queries, len(ids)), elements=values))
    listed = [sorted(np.flatnonzero(row > -np.inf), key=lambda j, row=row: (-row[j], ids[j])) for row in scores]
    expected = [[ids[j] for j in places][:depth] for places in listed]
    assert rank(scores, ids, depth) == expected
