"""Bins, counts and intervals against plain loops."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smart_retrieval import SmartEmbeddings
from smart_retrieval.core.roles import TokenRole
from smart_retrieval.errors import EmptyInputError, ScoringError
from smart_retrieval.evaluation.probe.statistics import helped_and_hurt, length_bins, point, relevant_lengths
from smart_retrieval.evaluation.probe.tokens import winner_report

values = st.integers(0, 8).map(lambda number: number / 8)
queries = st.lists(st.tuples(st.integers(1, 9), values, values), min_size=1, max_size=25)


def test_interval_of_a_known_case():
    """The mean of n fair coins has standard error 1 / (2 sqrt n): the interval is about two of them each way."""
    found = point([0.0, 1.0] * 200)
    assert found["value"] == 0.5
    assert found["ci_low"] == pytest.approx(0.5 - 1.96 * 0.025, abs=0.004)
    assert found["ci_high"] == pytest.approx(0.5 + 1.96 * 0.025, abs=0.004)


def test_interval_of_equal_values_is_that_value_and_of_one_query_is_none():
    assert point([0.25] * 9) == {"value": 0.25, "ci_low": 0.25, "ci_high": 0.25}
    assert point([0.25]) == {"value": 0.25, "ci_low": None, "ci_high": None}
    with pytest.raises(EmptyInputError):
        point([])


@given(queries, st.integers(1, 6))
def test_bins_part_the_queries_by_length(rows, most):
    lengths, anchor, hybrid = (np.array(column, float) for column in zip(*rows, strict=True))
    found = length_bins(lengths, anchor, hybrid, most)
    assert 1 <= len(found) <= most
    assert sum(one["queries"] for one in found) == len(rows)
    for one, following in pairwise(found):
        assert one["high"] < following["low"]
    for one in found:
        own = [(b, a) for size, b, a in rows if one["low"] <= size <= one["high"]]
        assert len(own) == one["queries"]
        assert one["anchor"] == pytest.approx(sum(b for b, _ in own) / len(own))
        assert one["value"] == pytest.approx(sum(a - b for b, a in own) / len(own))


def test_bins_are_even_where_lengths_allow_it():
    lengths = np.arange(1, 41)
    assert [one["queries"] for one in length_bins(lengths, lengths * 0, lengths * 0 + 1)] == [10, 10, 10, 10]
    assert [one["queries"] for one in length_bins([5] * 7, [0] * 7, [1] * 7)] == [7]
    with pytest.raises(ScoringError):
        length_bins([1, 2], [0], [0])
    with pytest.raises(ScoringError):
        length_bins([], [], [])


@given(queries)
def test_helped_and_hurt_are_counted_and_listed(rows):
    anchor, hybrid = [b for _, b, _ in rows], [a for _, _, a in rows]
    ids = [f"q{place}" for place in range(len(rows))]
    found = helped_and_hurt(ids, ids, anchor, hybrid, listed=3)
    helped = [place for place in range(len(rows)) if hybrid[place] > anchor[place]]
    hurt = [place for place in range(len(rows)) if hybrid[place] < anchor[place]]
    assert found["helped"] == {"count": len(helped), "share": len(helped) / len(rows)}
    assert found["hurt"] == {"count": len(hurt), "share": len(hurt) / len(rows)}
    assert found["unchanged"]["count"] == len(rows) - len(helped) - len(hurt)
    expected = sorted(helped, key=lambda place: (anchor[place] - hybrid[place], ids[place]))[:3]
    assert [row["id"] for row in found["most_helped"]] == [ids[place] for place in expected]
    expected = sorted(hurt, key=lambda place: (hybrid[place] - anchor[place], ids[place]))[:3]
    assert [row["id"] for row in found["most_hurt"]] == [ids[place] for place in expected]


def test_rounding_is_no_change():
    found = helped_and_hurt(["a"], ["x"], [0.1 + 0.2], [0.3])
    assert found["unchanged"]["count"] == 1


def test_relevant_lengths():
    qrels = {"q": {"b": 2, "a": 0}, "p": {"a": 1, "b": 1, "c": -1}}
    assert relevant_lengths(qrels, ["a", "b", "c"], np.array([10, 20, 99])).tolist() == [20.0, 15.0]


ragged = st.lists(st.lists(st.sampled_from([0, 1, 2, 3, 4]), max_size=5), min_size=1, max_size=4)


def embeddings(roles, seed):
    flat = [role for own in roles for role in own]
    vectors = np.random.default_rng(seed).normal(size=(len(flat), 3)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    offsets = np.concatenate([[0], np.cumsum([len(own) for own in roles])])
    return SmartEmbeddings(np.ones((len(roles), 2)), vectors, offsets, roles=flat)


@given(ragged, ragged, st.integers(0, 99))
def test_winners_are_those_of_a_naive_loop(query_roles, document_roles, seed):
    """Pictures' tokens (role 4) are counted like any other."""
    queries, documents = embeddings(query_roles, seed), embeddings(document_roles, seed + 1)
    found = winner_report(queries, documents)
    wins, score, ever = dict.fromkeys(TokenRole, 0), dict.fromkeys(TokenRole, 0.0), set()
    for q in range(len(queries)):
        own = queries[q]
        for d in range(len(documents)):
            other = documents[d]
            for vector in own.token_vectors:
                if len(other.token_vectors):
                    similarities = [float(vector @ token) for token in other.token_vectors]
                    best = max(range(len(similarities)), key=similarities.__getitem__)
                    role = TokenRole(other.roles[best])
                    wins[role] += 1
                    score[role] += similarities[best] / len(own.token_vectors)
                    ever.add((d, best))
    flat = [role for own in document_roles for role in own]
    total, scored = sum(wins.values()), sum(score.values())
    for role in TokenRole:
        name, count = role.name.lower(), flat.count(int(role))
        assert (name in found["wins"]) == (count > 0)
        if not count:
            continue
        assert found["document_tokens"][name] == pytest.approx(count / len(flat))
        assert found["wins"][name] == (pytest.approx(wins[role] / total) if total else None)
        if scored > 1e-3:
            assert found["score"][name] == pytest.approx(score[role] / scored, rel=1e-3, abs=1e-4)
        assert found["ever_win"][name] == pytest.approx(
            sum(document_roles[d][best] == role for d, best in ever) / count
        )
    assert found["ever_win"]["all"] == (pytest.approx(len(ever) / len(flat)) if flat else None)
