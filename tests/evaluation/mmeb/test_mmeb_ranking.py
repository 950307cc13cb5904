"""Ranking in blocks against the formula, pair by pair; and the order of equal candidates."""

import hashlib
import tracemalloc

import numpy as np
import pytest
from fixtures.fake_encoder import FakeEncoder, words_as_vectors
from fixtures.reference import naive_late, unit
from hypothesis import given
from hypothesis import strategies as st

from smart_retrieval import IdfWeights
from smart_retrieval.core.scoring import Scoring
from smart_retrieval.errors import NonFiniteError, ScoringError
from smart_retrieval.evaluation.mmeb.ranking import best_places, rank_task, settings_for, tie_key, tie_order
from smart_retrieval.evaluation.mmeb.store import EncodingStore
from smart_retrieval.evaluation.mmeb.task_data import Missing, TaskData
from smart_retrieval.evaluation.mmeb.tasks import choose
from smart_retrieval.inputs import Item

QUERIES = ["red fish", "one two three four", "blue", "two two", "a b c d e f g"]
CANDIDATES = [f"word{n % 5} {'two ' * (n % 3)}blue{n}" for n in range(13)] + ["red fish"]


def task_data(scope, own=None):
    (task,) = choose(["MSVD" if scope == "global" else "WebQA"])
    data = TaskData(task, Missing())
    for text in CANDIDATES:
        data.add_candidate(f"name of {text}", Item(text))
    for number, text in enumerate(QUERIES):
        candidates = None if own is None else own[number]
        data.add_query(Item(text), [data.names[0 if own is None else own[number][0]]], candidates=candidates)
    return data


def stored(tmp_path):
    store = EncodingStore(tmp_path, FakeEncoder(), shard_items=3)
    store.ensure("query", QUERIES, [Item(text) for text in QUERIES])
    store.ensure("document", CANDIDATES, [Item(text) for text in CANDIDATES])
    return store


def expected(chosen, lambdas, places, row, data, depth):
    queries, documents = words_as_vectors(QUERIES, "query"), words_as_vectors(CANDIDATES)
    weights = IdfWeights.fit(documents).weights(queries) if chosen.weights == "idf" else None
    late = naive_late(queries, documents, weights, chosen.floor)
    anchor = unit(queries.anchors) @ unit(documents.anchors).T
    scores = lambdas.lambda_anchor * anchor + lambdas.lambda_late * late
    order = sorted(places, key=lambda place: (-round(scores[row, place], 9), tie_key(data.task.name, row, data.names[place])))  # fmt: skip # noqa: E501
    return [data.names[place] for place in order][:depth], [scores[row, place] for place in order][:depth]


LOCAL = [[3, 1, 12], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13], [5], [13, 0], [7, 2, 11, 4]]


@pytest.mark.parametrize("chosen", [Scoring(), Scoring("idf", floor=0.1)])
@pytest.mark.parametrize(("scores_at_once", "vectors_at_once"), [(1 << 24, 1 << 28), (1, 1), (30, 200)])
@pytest.mark.parametrize("own", [None, LOCAL], ids=["global", "local"])
def test_blocks_of_any_size_give_the_formula(tmp_path, chosen, scores_at_once, vectors_at_once, own):
    data = task_data("global" if own is None else "local", own)
    settings = settings_for(1.0, [0, 0.5, 2])
    ranked = list(
        rank_task(
            data, stored(tmp_path), QUERIES, CANDIDATES, settings, chosen,
            depth=10, scores_at_once=scores_at_once, vectors_at_once=vectors_at_once,
        )
    )  # fmt: skip
    assert len(ranked) == len(QUERIES)
    for row, by_setting in enumerate(ranked):
        assert list(by_setting) == ["anchor", "late", "hybrid-0.5", "hybrid-2"]
        places = range(len(CANDIDATES)) if own is None else own[row]
        for name, lambdas in settings.items():
            names, scores = expected(chosen, lambdas, places, row, data, 10)
            assert list(by_setting[name].names) == names
            np.testing.assert_allclose(by_setting[name].scores, scores, atol=1e-5)


def test_settings():
    found = settings_for(0.5, [1, 1, 0])
    assert [(name, own.lambda_anchor, own.lambda_late) for name, own in found.items()] == [
        ("anchor", 1.0, 0.0),
        ("late", 0.0, 1.0),
        ("hybrid-1", 0.5, 1.0),
    ]


def test_equal_inputs_score_equal_and_are_ordered_by_the_official_key(tmp_path):
    data = task_data("global")
    keys = ["red fish"] * len(CANDIDATES)  # every candidate is the same input under another name
    store = stored(tmp_path)
    (first, *_) = rank_task(data, store, QUERIES, keys, settings_for(1.0, [1]), Scoring())
    by_key = sorted(data.names, key=lambda name: tie_key("MSVD", 0, name))
    assert all(list(ranked.names) == by_key for ranked in first.values())
    (first, *_) = rank_task(data, store, QUERIES, keys, settings_for(1.0, [1]), Scoring(), ties="name")
    assert list(first["late"].names) == sorted(data.names)


def test_only_pairs_that_are_wanted_are_scored(tmp_path, monkeypatch):
    from smart_retrieval.evaluation.mmeb import ranking

    pairs = []
    real = ranking.late_scores

    def counting(queries, documents, **options):
        pairs.append(len(queries) * len(documents))
        return real(queries, documents, **options)

    monkeypatch.setattr(ranking, "late_scores", counting)
    own = [[0], [3], [6], [9], [12]]
    data = task_data("local", own)
    list(rank_task(data, stored(tmp_path), QUERIES, CANDIDATES, settings_for(1.0, [1]), Scoring()))
    assert sum(pairs) == 5


def test_memory_grows_neither_with_queries_nor_with_candidates(tmp_path):
    (task,) = choose(["MSVD"])
    queries = [f"q{number} and two" for number in range(60)]
    documents = [" ".join(f"word{number}" for number in range(start, start + 40)) for start in range(400)]
    store = EncodingStore(tmp_path, FakeEncoder(), shard_items=16)
    for side, texts in (("query", queries), ("document", documents)):
        store.ensure(side, texts, [Item(text) for text in texts])

    def peak(asked, candidates):
        data = TaskData(task, Missing())
        for text in candidates:
            data.add_candidate(text, Item(text))
        for text in asked:
            data.add_query(Item(text), [candidates[0]])
        settings, chosen = settings_for(1.0, [1]), Scoring()
        tracemalloc.start()
        try:
            for _ in rank_task(data, store, asked, candidates, settings, chosen, scores_at_once=2000, vectors_at_once=1 << 16):  # fmt: skip # noqa: E501
                pass
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(queries[:5], documents[:50])
    small, wide, long = peak(queries[:6], documents[:200]), peak(queries[:6], documents), peak(queries, documents)
    # A candidate's 40 vectors take 800 bytes; what is kept of each is its anchor, its length and its place in lists.
    assert wide - small < 200 * 300
    assert long - wide < 54 * 300
    assert long < 64 * 2**20 * 0.02


# -- the order of equal candidates ------------------------------------------------------------------------------------


def test_the_official_key():
    digest = hashlib.blake2b(b"MSVD:7\0video 1\0", digest_size=8).digest()
    assert tie_key("MSVD", 7, "video 1") == int.from_bytes(digest, "big")


def test_unknown_ties():
    with pytest.raises(ScoringError, match="ties: found 'random'"):
        tie_order("random", "MSVD", 0)


def test_the_error_of_a_nan_names_the_candidate():
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
