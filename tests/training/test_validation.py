"""Held-out queries: set apart, and their nDCG."""

import numpy as np
import pytest
from fixtures.training import training_set

from smart_retrieval import SmartModel
from smart_retrieval.errors import SmartWarning, TrainingError
from smart_retrieval.inputs import Item
from smart_retrieval.training.data.examples import Collector
from smart_retrieval.training.validation import hold_out, ndcg


def test_ndcg_by_hand():
    scores = np.array([0.2, 0.9, 0.5])
    assert ndcg(scores, {1}, 10) == 1.0
    assert ndcg(scores, {2}, 10) == pytest.approx(1 / np.log2(3))
    assert ndcg(scores, {0, 1}, 10) == pytest.approx((1 + 1 / np.log2(4)) / (1 + 1 / np.log2(3)))
    assert ndcg(scores, {0}, 2) == 0.0
    assert ndcg(np.zeros(3), {0}, 1) == 1.0  # equal scores in the order of the documents


def test_what_is_held_out_is_ranked_against_training_documents_too(tiny):
    model = SmartModel(tiny("mean"), device="cpu")
    training, held = hold_out(model, training_set(40), 0.25, distractors=5, seed=0)
    assert (len(training), len(held)) == (30, 10)
    assert len(held.documents) == 10 + 5
    assert set(held.documents[10:]) <= set(training.documents)
    own = training_set(4)
    training, held = hold_out(model, training_set(40), own, distractors=0, seed=0)
    assert (len(training), held.examples) == (40, own.examples)
    with pytest.raises(TrainingError, match="found 1 examples to train on"):
        hold_out(model, training_set(1), own, distractors=0, seed=0)


def test_instructions_that_a_text_model_does_not_read_are_reported(tiny):
    collector = Collector("made")
    for number in range(4):
        document = collector.document(Item(f"document {number}"))
        collector.add(Item(f"query {number}", instruction="find it" if number else None), [document])
    with pytest.warns(SmartWarning, match="3 queries bring an instruction"):
        hold_out(SmartModel(tiny("mean"), device="cpu"), collector.finish(), training_set(2), distractors=0, seed=0)
