"""The same texts give the same scores wherever they are scored."""

from __future__ import annotations

import json

import numpy as np
import pytest

from smart_retrieval import Scoring, SmartIndex, SmartModel
from smart_retrieval.core.calibration import Calibration
from smart_retrieval.core.hybrid import hybrid_scores
from smart_retrieval.core.weights import IdfWeights
from smart_retrieval.evaluation.beir import BeirDataset
from smart_retrieval.evaluation.evaluate import evaluate_beir

DOCUMENTS = [
    "the otter swims in the cold river", "tax is due", "warm sea water and the sun", "bread and butter", "see the moon",
    "many animals sleep when the day is cold", "people would like more time to sleep", "oil on water",
]  # fmt: skip
QUERIES = ["sea otter", "when is the tax due", "animals sleep in cold water"]
GIVEN = [
    {},
    {"lambda_late": 2.0},
    {"lambda_late": 0.0},
    {"floor": None},
    {"floor": 0.2, "lambda_anchor": 0.5},
    {"weights": None},
    {"weights": "idf", "lambda_late": 0.5},
]


@pytest.mark.parametrize("preset", ["default", "paper"])
@pytest.mark.parametrize("given", GIVEN, ids=str)
def test_the_same_scores_everywhere(tiny, tmp_path, monkeypatch, preset, given):
    model = SmartModel(tiny("mean"), preset=preset, device="cpu")
    queries, documents = model.encode_query(QUERIES), model.encode_document(DOCUMENTS)
    scores = model.similarity(queries, documents, **given)

    ids = [f"d{number}" for number in range(len(DOCUMENTS))]
    with SmartIndex.create(tmp_path / "index", model, codec="float32") as index:
        index.add(DOCUMENTS, ids=ids)
        for query, row in zip(QUERIES, scores, strict=True):
            hits = index.search(query, len(ids), exact=True, **given)
            found = {hit.id: hit.score for hit in hits}
            explained = [index.explain(query, id, **given).score for id in ids]
            np.testing.assert_allclose([found[id] for id in ids], row, atol=1e-5)
            np.testing.assert_allclose(explained, row, atol=1e-5)

    folder = tmp_path / "data"
    (folder / "qrels").mkdir(parents=True)
    rows = [{"_id": id, "text": text} for id, text in zip(ids, DOCUMENTS, strict=True)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = [{"_id": f"q{number}", "text": text} for number, text in enumerate(QUERIES)]
    (folder / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    judged = "".join(f"q{number}\td{number}\t1\n" for number in range(len(QUERIES)))
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged)
    ranked = []
    rank = BeirDataset.rank
    monkeypatch.setattr(
        BeirDataset, "rank", lambda data, values, *rest: ranked.append(values) or rank(data, values, *rest)
    )
    evaluate_beir(folder, model=model, **given)
    np.testing.assert_allclose(ranked[-1], scores, atol=1e-5)  # anchor, late, hybrid


def test_the_scores_are_those_of_the_formula(tiny):
    model = SmartModel(tiny("mean"), device="cpu")
    queries, documents = model.encode_query(QUERIES), model.encode_document(DOCUMENTS)
    found, idf = Calibration.fit(documents), IdfWeights.fit(documents)
    wanted = hybrid_scores(queries, documents, weights=idf, lambda_late=found.lambda_late, floor=found.floor)
    np.testing.assert_allclose(model.similarity(queries, documents), wanted, atol=1e-6)
    assert np.abs(model.similarity(queries, documents, weights=None) - wanted).max() > 1e-4
    given = model.similarity(queries, documents, scoring=Scoring("idf"))
    np.testing.assert_array_equal(given, model.similarity(queries, documents, floor=None, lambda_late=1.0))
