"""The metrics against cases worked out by hand, in both modes."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smart_retrieval.errors import ScoringError
from smart_retrieval.evaluation.mmeb.metrics import NAMES, mean_of_columns, score_ranking

LOG3, LOG4, LOG5 = math.log2(3), math.log2(4), math.log2(5)


def mean_scores(scores):
    return mean_of_columns({name: [one[name] for one in scores] for name in NAMES})


def at(values, cut):
    return {name.partition("@")[0]: value for name, value in values.items() if name.endswith(f"@{cut}")}


def test_one_label_in_third_place():
    values = score_ranking(["x", "y", "a", "z"], ["a"])
    assert at(values, 1) == dict.fromkeys(at(values, 1), 0.0)
    assert at(values, 5) == {
        "hit": 1.0,
        "precision": 1 / 5,
        "recall": 1.0,
        "f1": 2 * 0.2 / 1.2,
        "map": 1 / 3,
        "mrr": 1 / 3,
        "ndcg_linear": 1 / LOG4,
        "ndcg_exponential": 1 / LOG4,
    }


def test_several_labels():
    # Three right ones, two of them found, in places 1 and 4.
    values = score_ranking(["a", "x", "y", "b", "z", "u"], ["a", "b", "c"])
    assert at(values, 1) == {
        "hit": 1.0,
        "precision": 1.0,
        "recall": 1 / 3,
        "f1": 2 * (1 / 3) / (1 + 1 / 3),
        "map": 1.0,  # of one place, the one that can be right is
        "mrr": 1.0,
        "ndcg_linear": 1.0,
        "ndcg_exponential": 1.0,
    }
    five = at(values, 5)
    assert five["map"] == (1 + 2 / 4) / 3
    assert five["precision"] == 2 / 5
    assert five["recall"] == 2 / 3
    assert five["f1"] == 2 * (2 / 5) * (2 / 3) / (2 / 5 + 2 / 3)
    assert five["ndcg_linear"] == (1 + 1 / LOG5) / (1 + 1 / LOG3 + 1 / LOG4)


def test_more_labels_than_places():
    labels = [f"l{number}" for number in range(12)]
    values = score_ranking(labels[:10], labels)
    assert values["recall@10"] == 10 / 12
    assert values["precision@10"] == values["map@10"] == values["ndcg_linear@10"] == 1.0


def test_grades():
    # Grades 3, 2, 1; found in the order 1, 3, other, 2.
    values = score_ranking(["one", "three", "x", "two"], ["three", "two", "one"], [3, 2, 1])
    linear = (1 + 3 / LOG3 + 2 / LOG5) / (3 + 2 / LOG3 + 1 / LOG4)
    exponential = (1 + 7 / LOG3 + 3 / LOG5) / (7 + 3 / LOG3 + 1 / LOG4)
    assert values["ndcg_linear@5"] == pytest.approx(linear, abs=1e-15)
    assert values["ndcg_exponential@5"] == pytest.approx(exponential, abs=1e-15)
    assert values["ndcg_linear@1"] == 1 / 3
    assert values["ndcg_exponential@1"] == 1 / 7
    assert values["map@5"] == pytest.approx((1 + 1 + 3 / 4) / 3)


def test_fewer_candidates_than_the_cut():
    values = score_ranking(["x", "a"], ["a"])
    assert values["precision@10"] == 1 / 10
    assert values["mrr@10"] == values["map@10"] == 1 / 2
    assert values["hit@10"] == values["recall@10"] == 1.0
    nothing = score_ranking([], ["a"])
    assert set(nothing.values()) == {0.0}


def test_a_candidate_ranked_twice():
    ranking = ["a", "a", "b"]
    correct = score_ranking(ranking, ["a", "b"])
    assert correct["map@5"] == correct["ndcg_linear@5"] == 1.0
    official = score_ranking(ranking, ["a", "b"], mode="official-compatible")
    # The code counts each time it stands there.
    assert official["map@5"] == (1 + 1 + 1) / 2
    assert official["ndcg_linear@5"] == (1 + 1 / LOG3 + 1 / LOG4) / (1 + 1 / LOG3)
    assert official["precision@5"] == 2 / 5


def test_a_label_named_twice_counts_once_by_its_higher_grade():
    twice = score_ranking(["b", "a"], ["a", "b", "a"], [1, 1, 2])
    assert twice == score_ranking(["b", "a"], ["a", "b"], [2, 1])
    assert score_ranking(["b", "a"], ["a", "b", "a"]) == score_ranking(["b", "a"], ["a", "b"])
    assert score_ranking(["b", "a"], ["a", "b", "a"], mode="official-compatible") == score_ranking(
        ["b", "a"], ["a", "b"]
    )


def test_grades_of_zero_and_below_are_no_labels():
    assert score_ranking(["b", "a"], ["a", "b", "c"], [1, 0, -1]) == score_ranking(["b", "a"], ["a"], [1])


def test_the_official_pairing_of_grades_on_average():
    # In one process a perfect ranking of grades 2, 1 scores 1.0, in another 0.8597: here the mean of the two.
    right = score_ranking(["a", "b"], ["a", "b"], [2, 1])
    assert right["ndcg_linear@5"] == right["ndcg_exponential@5"] == 1.0
    official = score_ranking(["a", "b"], ["a", "b"], [2, 1], mode="official-compatible")
    unlucky = (1 + 2 / LOG3) / (2 + 1 / LOG3)
    assert unlucky == pytest.approx(0.8597, abs=1e-4)
    assert official["ndcg_linear@5"] == pytest.approx((1 + unlucky) / 2, abs=1e-15)
    assert official["ndcg_exponential@5"] == pytest.approx((1 + (1 + 3 / LOG3) / (3 + 1 / LOG3)) / 2, abs=1e-15)
    # At 1, the grade of the first is 2 or 1.
    assert official["ndcg_linear@1"] == 3 / 4


def shuffled_official(ranking, labels, grades, cut):
    """The official nDCG under every pairing of labels and grades, by the formula."""
    from itertools import permutations

    values = []
    for order in permutations(labels):
        graded = dict(zip(order, grades, strict=True))
        ideal = sum(g / math.log2(i + 2) for i, g in enumerate(sorted(grades, reverse=True)[:cut]))
        reached = sum(graded.get(name, 0) / math.log2(i + 2) for i, name in enumerate(ranking[:cut]))
        values.append(reached / ideal if ideal else 0.0)
    return sum(values) / len(values)


@given(st.data())
def test_the_official_mode_is_the_mean_over_all_pairings(data):
    names = "abcdef"
    labels = data.draw(st.lists(st.sampled_from(names), unique=True, min_size=1, max_size=4))
    grades = data.draw(st.lists(st.integers(0, 3), min_size=len(labels), max_size=len(labels)))
    ranking = data.draw(st.permutations(names))
    found = score_ranking(ranking, labels, grades, mode="official-compatible")
    for cut in (1, 5):
        assert found[f"ndcg_linear@{cut}"] == pytest.approx(shuffled_official(ranking, labels, grades, cut))


def test_equal_grades_are_the_same_in_both_modes():
    ranking, labels = ["x", "b", "a"], ["a", "b", "c"]
    official = score_ranking(ranking, labels, [2, 2, 2], mode="official-compatible")
    assert official == pytest.approx(score_ranking(ranking, labels, [2, 2, 2]))
    assert score_ranking(ranking, labels, mode="official-compatible") == score_ranking(ranking, labels)


def test_no_right_answer():
    official = score_ranking(["x"], [], mode="official-compatible")
    assert {name for name, value in official.items() if value} == {"recall@1", "recall@5", "recall@10"}
    for labels, grades in (([], None), (["a"], [0])):
        with pytest.raises(ScoringError, match="without a right answer"):
            score_ranking(["x"], labels, grades)


def test_wrong_arguments():
    with pytest.raises(ScoringError, match="2 grades for 1 labels"):
        score_ranking(["x"], ["a"], [1, 2])
    with pytest.raises(ScoringError, match="mode: found 'exact'"):
        score_ranking(["x"], ["a"], mode="exact")
    with pytest.raises(ScoringError, match="no query"):
        mean_scores([])


@given(
    st.lists(st.sampled_from("abcdefgh"), unique=True),
    st.lists(st.sampled_from("abcdefgh"), unique=True, min_size=1),
)
def test_values_lie_between_0_and_1_and_grow_with_the_cut(ranking, labels):
    values = score_ranking(ranking, labels)
    assert tuple(values) == NAMES
    assert all(0 <= value <= 1 for value in values.values())
    for metric in ("hit", "recall", "mrr"):
        assert values[f"{metric}@1"] <= values[f"{metric}@5"] <= values[f"{metric}@10"]


def test_mean_over_queries():
    scores = [score_ranking(["a"], ["a"]), score_ranking(["x", "a"], ["a"])]
    assert mean_scores(scores)["hit@1"] == 0.5
    assert mean_scores(scores)["mrr@5"] == 0.75
