"""Likeness to the best hit and the scores of neighbours, beside plain sums over all documents."""

import os
import subprocess
import sys

import numpy as np
import pytest
from fixtures.indexes import PLAIN, assert_best, documents, flat, names, topics, unit
from hypothesis import given
from hypothesis import strategies as st

from smart_retrieval.core.hybrid import hybrid_scores
from smart_retrieval.errors import ScoringError, SmartError
from smart_retrieval.index.search import boosts
from smart_retrieval.index.search import searcher as search
from smart_retrieval.index.search.boosts import boost_all

OPTIONS = [{"feedback": 0.5}, {"neighbours": 0.3}, {"feedback": 0.4, "neighbours": 0.2}]


def plainly(scores, anchors, feedback=0.0, neighbours=0.0, pool=400):
    """The definition, row by row and document by document."""
    units, total = unit(np.asarray(anchors, np.float64)), np.array(scores, np.float64)
    for row, own in zip(total, scores, strict=True):
        row += feedback * (units @ units[int(np.argmax(own))])
        listed = sorted(range(len(own)), key=lambda at, own=own: (-own[at], at))[:pool]
        for at in listed:
            others = [one for one in listed if one != at]
            nearest = sorted(others, key=lambda one, at=at: -(units[one] @ units[at]))[:3]
            row[at] += neighbours * np.mean([own[one] for one in nearest]) if nearest else 0.0
    return total


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("exact", [True, False])
def test_scores_are_those_of_all_documents(make, options, exact):
    docs, queries = documents(range(1, 31)), documents([4, 1, 9, 0], seed=99)
    index = make(docs)
    expected = plainly(hybrid_scores(queries, docs), docs.anchors, **options)
    for number, hits in enumerate(index.search(queries, 30, exact=exact, **PLAIN, **options)):
        assert_best(hits, names(30), expected[number], 30)


@given(st.integers(1, 12), st.integers(0, 5), st.sampled_from([(0.5, 0.0), (0.0, 0.3), (0.4, 0.2)]))
def test_for_any_number_of_documents(count, seed, weights):
    rng = np.random.default_rng(seed)
    scores, anchors = rng.normal(size=(2, count)).astype(np.float32), unit(rng.normal(size=(count, 8)))
    found = boost_all(scores, anchors.astype(np.float32), *weights)
    np.testing.assert_allclose(found, plainly(scores, anchors, *weights), atol=1e-4)


def test_only_the_first_hits_have_neighbours(monkeypatch):
    monkeypatch.setattr(boosts, "POOL", 5)
    rng = np.random.default_rng(0)
    scores, anchors = rng.normal(size=(1, 20)).astype(np.float32), unit(rng.normal(size=(20, 8))).astype(np.float32)
    found = boost_all(scores, anchors, 0.0, 0.5)
    np.testing.assert_allclose(found, plainly(scores, anchors, 0.0, 0.5, pool=5), atol=1e-5)
    assert np.count_nonzero(found != scores) == 5


def test_what_is_no_hit_stays_none():
    scores = np.float32([[-np.inf, 1.0, 0.5, -np.inf], [-np.inf] * 4])
    found = boost_all(scores, unit(np.random.default_rng(0).normal(size=(4, 3))).astype(np.float32), 0.5, 0.5)
    assert np.isneginf(found).tolist() == [[True, False, False, True], [True] * 4]
    # Each has the other as its only neighbour.
    assert found[0, 1] == pytest.approx(1.0 + 0.5 + 0.25)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_hits_carry_their_parts_and_explanations_add_up(make, options):
    index = make(documents(20))
    query = documents([5], seed=9)
    (hits,) = index.search(query, 20, **PLAIN, **options)
    by_id = {hit.id: hit for hit in hits}
    for hit in hits:
        parts = {"feedback": hit.feedback, "neighbours": hit.neighbours}
        assert {name for name, value in parts.items() if value is not None} == set(options)
        total = hit.anchor + hit.late + sum(weight * parts[name] for name, weight in options.items())
        assert hit.score == pytest.approx(total, abs=1e-5)
        why = index.explain(query, hit.id, **PLAIN, **options)
        assert why.score == pytest.approx(hit.score, abs=1e-5)
        assert [part.name for part in why.added] == list(options)
        own = why.anchor + why.late + sum(part.contribution for part in why.added)
        assert why.score == pytest.approx(own, abs=1e-6)
        for part in why.added:
            if part.name == "feedback":
                assert part.like == (hits.best,)
            else:
                near = [by_id[id].anchor + by_id[id].late for id in part.like]
                assert len(near) == 3
                assert hit.id not in part.like
                assert part.value == pytest.approx(np.mean(near), abs=1e-5)
    if "feedback" in options:
        assert by_id[hits.best].feedback == pytest.approx(1.0, abs=1e-6)


def test_without_options_nothing_is_added(make):
    index = make(documents(20))
    query = documents([5], seed=9)
    (hits,) = index.search(query, 20, **PLAIN)
    assert hits.best is None
    assert "best" not in hits.to_dict()
    assert {(hit.feedback, hit.neighbours, hit.rerank) for hit in hits} == {(None, None, None)}
    assert index.explain(query, hits[0].id, **PLAIN).added == ()
    assert flat(index.search(query, 20, feedback=0.0, neighbours=0.0, **PLAIN)[0]) == flat(hits)


def test_the_best_hit_passes_the_filter(make):
    docs = documents(30)
    index = make()
    index.add(ids=names(30), embeddings=docs, metadata=[{"even": number % 2 == 0} for number in range(30)])
    query = documents([5], seed=9)
    kept = np.arange(0, 30, 2)
    (hits,) = index.search(query, 15, where="even = true", feedback=0.5, neighbours=0.2, **PLAIN)
    expected = plainly(hybrid_scores(query, docs[kept]), docs.anchors[kept], 0.5, 0.2)
    assert_best(hits, [names(30)[at] for at in kept], expected[0], 15)
    with pytest.raises(SmartError, match=r"d0001.*does not pass the filter"):
        index.explain(query, "d0001", where="even = true", feedback=0.5, **PLAIN)


def test_two_stages_find_what_is_near_the_best_hit(make, monkeypatch):
    """The best hit's nearest documents become candidates, however far from the query they are."""
    monkeypatch.setattr(search, "EXHAUSTIVE_PRODUCTS", -1)
    docs, queries = topics(600, 4, seed=3), topics(6, 4, seed=4)
    index = make(docs)
    for query in (queries[number] for number in range(6)):
        (hits,) = index.search(query, 5, candidates=10, feedback=3.0, **PLAIN)
        near = unit(docs.anchors) @ unit(docs.anchors[names(600).index(hits.best)])
        listed = {hit.id for hit in index.search(query, 30, candidates=10, feedback=3.0, **PLAIN)[0]}
        assert {names(600)[at] for at in np.argsort(-near)[:10]} <= listed
        assert hits.candidates > 10
        # Explained under the same options, one that is no candidate becomes one.
        far = next(id for id in names(600) if id not in listed)
        assert index.explain(query, far, candidates=10, feedback=3.0, **PLAIN).added[0].like == (hits.best,)


def test_two_stages_give_the_exact_first_ten(make, monkeypatch):
    monkeypatch.setattr(search, "EXHAUSTIVE_PRODUCTS", -1)
    docs, queries = topics(600, 4, seed=3), topics(6, 4, seed=4)
    index = make(docs)
    options = {**PLAIN, "feedback": 0.5, "neighbours": 0.2}
    found = index.search(queries, 10, candidates=200, **options)
    exact = index.search(queries, 10, exact=True, **options)
    shared = [len({hit.id for hit in a} & {hit.id for hit in b}) for a, b in zip(found, exact, strict=True)]
    assert np.mean(shared) >= 9.5


def test_a_batch_gives_what_its_queries_give_alone(make):
    index, queries = make(documents(60)), documents([4, 1, 9, 0], seed=99)
    options = {**PLAIN, "feedback": 0.5, "neighbours": 0.2}
    together = index.search(queries, 60, **options)
    assert [flat(hits) for hits in together] == [flat(index.search(queries[n], 60, **options)[0]) for n in range(4)]


THREADS = """
import sys
import numpy as np
from smart_retrieval.index.search.boosts import boost_all
rng = np.random.default_rng(0)
anchors = rng.normal(size=(900, 384)).astype(np.float32)
anchors /= np.linalg.norm(anchors, axis=1, keepdims=True)
anchors[450:] = anchors[:450]  # many ties
sys.stdout.buffer.write(boost_all(rng.normal(size=(3, 900)).astype(np.float32), anchors, 0.0, 0.2).tobytes())
"""


def test_neighbours_are_the_same_on_any_number_of_threads():
    found = {
        subprocess.run(
            [sys.executable, "-c", THREADS],
            env={**os.environ, "OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads},
            capture_output=True,
            check=True,
        ).stdout
        for threads in ("1", "2")
    }
    assert len(found) == 1
    assert len(found.pop()) == 3 * 900 * 4


def test_an_empty_index_and_a_single_document(make):
    query, options = documents([5], seed=9), {**PLAIN, "feedback": 0.5, "neighbours": 0.2}
    assert len(make().search(query, 5, **options)[0]) == 0
    (hits,) = make(documents([3])).search(query, 5, **options)
    assert (hits[0].feedback, hits[0].neighbours) == (pytest.approx(1.0), 0.0)


@pytest.mark.parametrize("wrong", [{"feedback": -0.1}, {"neighbours": float("nan")}, {"feedback": float("inf")}])
def test_weights_that_make_no_sense_are_refused(make, wrong):
    with pytest.raises(ScoringError, match="expected a weight of 0 or more"):
        make(documents(3)).search(documents([5]), 5, **PLAIN, **wrong)
