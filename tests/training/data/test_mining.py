"""Hard negatives."""

import numpy as np
import pytest
from fixtures.training import training_set

from smart_retrieval import SmartModel
from smart_retrieval.errors import TrainingError
from smart_retrieval.training.data.mining import mine_negatives


@pytest.mark.parametrize("preset", ["paper", "default"])
def test_mined_negatives_are_the_best_of_what_is_not_known_to_answer(preset, tiny):
    model = SmartModel(tiny("prompts"), device="cpu", preset=preset)
    data = training_set(20, negatives=1)
    mined = mine_negatives(model, data, 3, below=0.97, teach=True)
    queries, documents = model.encode_query(data.queries), model.encode_document(data.documents)
    assert model.preset.scoring.weights == ("idf" if preset == "default" else "uniform")
    scores = model.similarity(queries, documents)
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
