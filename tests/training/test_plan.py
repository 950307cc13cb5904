"""The plan of a training."""

import pytest
from fixtures.training import training_set

from smart_retrieval import SmartModel
from smart_retrieval.training.plan import plan_training


def test_a_plan_has_counts_renderings_and_estimates(tiny):
    model = SmartModel(tiny("prompts"), device="cpu", preset="paper")
    data, held = training_set(20, negatives=1), training_set(4)
    plan = plan_training(model, data, held, batch_size=8, epochs=3)
    assert plan.steps == 9
    assert plan.training["examples"] == 20
    assert plan.rendered[0]["query"].startswith("[CLS] query :")
    assert set(plan.rendered[0]) == {"query", "positive", "negative"}
    kept = sum(model.encode_document(part.documents).lengths.sum() for part in (data, held))
    kept += sum(model.encode_query(part.queries).lengths.sum() for part in (data, held))
    assert plan.state_bytes == pytest.approx(kept * (2 * 32 + 4), rel=0.1)
    assert plan.seconds > 0
