"""Hard negatives and plans."""

import numpy as np
import pytest
from fixtures.training import training_set

from smart_retrieval import SmartModel, hybrid_scores
from smart_retrieval.errors import TrainingError
from smart_retrieval.training.data.mining import mine_negatives
from smart_retrieval.training.plan import plan_training


def test_mined_negatives_are_the_best_of_what_is_not_known_to_answer(tiny):
    model = SmartModel(tiny("prompts"), device="cpu", preset="paper")
    data = training_set(20, negatives=1)
    mined = mine_negatives(model, data, 3, below=0.97, teach=True)
    scores = hybrid_scores(model.encode_query(data.queries), model.encode_document(data.documents))
    assert mined.has_scores
    for old, new in zip(data.examples, mined.examples, strict=True):
        row = scores[old.query]
        known = {*old.positives, *old.negatives}
        limit = 0.97 * max(row[d] for d in old.positives)
        wanted = [d for d in np.argsort(-row, kind="stable") if d not in known and row[d] <= limit][:3]
        assert new.negatives == (*old.negatives, *wanted)
        assert new.scores == pytest.approx([row[d] for d in (*new.positives, *new.negatives)], abs=1e-5)
    assert "hard negatives mined" in mined.warnings[-1]
    with pytest.raises(TrainingError):
        mine_negatives(model, data, 0)


def test_a_plan_counts_and_shows(tiny):
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
