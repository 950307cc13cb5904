"""Late weight and floor from documents that are unrelated."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smart_retrieval import IdfWeights, SmartEmbeddings
from smart_retrieval.core.calibration import LATE_PER_SPREAD, Calibration, has_words, sample_positions
from smart_retrieval.core.collection import MIN_DOCUMENTS, Calibrator
from smart_retrieval.core.vectors import unit_rows
from smart_retrieval.errors import ScoringError

NARROW, WIDE = 6.0, 0.0


def collection(documents, *, tokens=12, dim=16, shared=WIDE, seed=0, words=True):
    """Documents of a model whose vectors all share a direction, more or less."""
    random = np.random.default_rng(seed)
    base = shared * np.eye(1, dim)
    vectors = unit_rows(random.normal(size=(documents * tokens, dim)) + base)
    anchors = unit_rows(random.normal(size=(documents, dim)) + base)
    ids = random.integers(0, 50, documents * tokens) if words else np.full(documents * tokens, -1)
    return SmartEmbeddings(anchors, vectors, np.arange(documents + 1) * tokens, ids)


def reference(documents, quantile=0.8):
    """The two figures over all pairs, without a sample; tokens weighted by IDF in the place of a draw."""
    cosines = unit_rows(documents.anchors) @ unit_rows(documents.anchors).T
    weights = IdfWeights.fit(documents).of(documents.token_ids)
    values, shares = [], []
    for own in range(len(documents)):
        asking = documents[own]
        for other in range(len(documents)):
            if other != own:
                best = (asking.token_vectors @ documents[other].token_vectors.T).max(axis=1)
                values.append(best)
                shares.append(weights[documents.offsets[own] : documents.offsets[own + 1]])
    values, shares = np.concatenate(values), np.concatenate(shares)
    order = np.argsort(values)
    place = np.searchsorted(np.cumsum(shares[order]), quantile * shares.sum())
    return cosines[np.triu_indices(len(documents), 1)].std(), values[order][place]


@pytest.mark.parametrize("shared", [WIDE, NARROW])
def test_it_measures_what_all_pairs_say(shared):
    documents = collection(40, shared=shared)
    found = Calibration.fit(documents)
    spread, background = reference(documents)
    assert found.anchor_spread == pytest.approx(spread, rel=0.05)
    assert found.background == pytest.approx(background, abs=1e-6)
    assert (found.floor, found.lambda_late) == (found.background, LATE_PER_SPREAD * found.anchor_spread)
    assert found.documents == 40


def test_a_model_of_like_vectors_gets_a_high_floor_and_a_small_weight():
    narrow, wide = (Calibration.fit(collection(100, shared=shared)) for shared in (NARROW, WIDE))
    assert narrow.floor > wide.floor + 0.2
    assert narrow.lambda_late < wide.lambda_late / 2


def test_a_sample_says_nearly_the_same_as_everything_and_the_same_every_time():
    documents = collection(3000, tokens=5)
    found = Calibration.fit(documents)
    assert found == Calibration.fit(documents)
    assert found.documents == 256
    part = Calibration.fit(documents[:250])
    assert found.background == pytest.approx(part.background, abs=0.03)
    assert found.anchor_spread == pytest.approx(part.anchor_spread, rel=0.1)


@given(st.integers(0, 100_000))
@settings(max_examples=30, deadline=None)
def test_the_sample_is_bounded_ascending_and_without_repetition(documents):
    places = sample_positions(documents)
    assert len(places) == min(documents, 256)
    assert (np.diff(places) > 0).all()
    assert documents == 0 or 0 <= places[0] <= places[-1] < documents


@given(st.permutations(range(60)))
@settings(max_examples=10, deadline=None)
def test_the_order_of_documents_changes_nothing(order):
    documents = collection(60, tokens=20)
    found, again = Calibration.fit(documents), Calibration.fit(documents[order])
    assert again.background == pytest.approx(found.background, abs=1e-6)
    assert again.anchor_spread == pytest.approx(found.anchor_spread, rel=1e-6)


def test_documents_without_tokens_are_left_out():
    documents = collection(30)
    empty = SmartEmbeddings([[1.0] + [0.0] * 15], np.zeros((0, 16)), [0, 0])
    with_empty = SmartEmbeddings.concatenate([documents, empty])
    # Nothing is drawn from either, so the sample is the same but for the empty one.
    assert Calibration.fit(with_empty).documents == 30


@pytest.mark.parametrize("documents", [0, 1])
def test_too_few_to_compare_gives_the_papers_weight_without_a_floor(documents):
    found = Calibration.fit(collection(30)[:documents])
    assert (found.lambda_late, found.floor) == (1.0, 0.0)


def test_equal_documents_stay_below_1():
    one = collection(1)
    found = Calibration.fit(SmartEmbeddings.concatenate([one] * 5))
    assert 0.9 < found.floor < 1
    assert 0 < found.lambda_late < 0.1


def test_two_documents_have_a_late_weight():
    pair = collection(2)
    found = Calibration.fit(pair)
    assert found.lambda_late == pytest.approx(1 - found.floor, rel=0.05)
    # With more documents it becomes that of their anchors.
    spreads = [Calibration.fit(collection(number, shared=NARROW)).anchor_spread for number in (2, 8, 30, 200)]
    wanted = np.std((lambda a: (a @ a.T)[np.triu_indices(200, 1)])(collection(200, shared=NARROW).anchors))
    distances = np.abs(np.array(spreads) - wanted)
    assert (np.diff(distances) < 0).all()
    assert distances[-1] < 0.01 * wanted


def test_frequent_words_ask_seldom():
    # A word that every document holds finds itself everywhere; the others find nothing.
    dim, documents = 40, 30
    vectors, ids = [], []
    for number in range(documents):
        vectors += [np.eye(dim)[0], np.eye(dim)[number + 1]]
        ids += [0, number + 1]
    anchors = np.eye(dim)[:documents]
    found = Calibration.fit(SmartEmbeddings(anchors, np.array(vectors), np.arange(documents + 1) * 2, ids))
    assert found.background == 0.0


def test_pictures_are_measured_with_queries_of_words():
    pages, probes = collection(80, words=False), collection(10, seed=1)
    assert not has_words(pages)
    assert has_words(probes)
    calibrator = Calibrator(None, lambda: probes)
    by_words = calibrator.statistics(pages).calibration
    assert by_words == Calibration.fit(pages, probes)
    best = [(probes.token_vectors @ page.token_vectors.T).max(axis=1) for page in pages]
    assert by_words.background == pytest.approx(np.quantile(best, 0.8), abs=0.02)
    # Half of the documents with words are enough to ask with those.
    mixed = SmartEmbeddings.concatenate([pages[:40], collection(40, seed=2)])
    assert has_words(mixed)


def test_a_small_collection_takes_the_models_calibration():
    own = Calibration(0.2, 0.3)
    calibrator = Calibrator(own, lambda: pytest.fail("not wanted"))
    documents = collection(MIN_DOCUMENTS)
    assert calibrator.statistics(documents[:-1]).calibration == own
    assert calibrator.statistics(documents).calibration == Calibration.fit(documents)
    assert Calibrator(None, calibrator.probes).statistics(documents[:5]).calibration == Calibration.fit(documents[:5])


def test_it_is_json_and_refuses_what_is_not_one():
    found = Calibration(0.125, 0.25, 7)
    assert Calibration.from_dict(found.to_dict()) == found
    for wrong in ({"anchor_spread": 0.1}, {"anchor_spread": 0.1, "background": 0.2, "more": 1}, {"anchor_spread": "x"}):
        with pytest.raises(ScoringError, match="calibration: found"):
            Calibration.from_dict(wrong)
    for spread, background in ((-0.1, 0.2), (np.nan, 0.2), (0.1, 1.0), (0.1, np.nan)):
        with pytest.raises(ScoringError, match="anchor spread"):
            Calibration(spread, background)


@pytest.mark.parametrize("measure", [Calibration.fit, IdfWeights.fit, Calibrator(None, list).statistics])
@pytest.mark.parametrize("given", [["a text"], "a text", np.zeros((2, 3)), None], ids=repr)
def test_what_is_no_embeddings_is_refused_by_name(measure, given):
    with pytest.raises(ScoringError, match="expected embeddings as encode_query and encode_document return them"):
        measure(given)
