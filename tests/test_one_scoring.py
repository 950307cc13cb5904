"""The same texts give the same scores wherever they are scored; the type checker refuses a misspelt setting."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import smart_retrieval
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


SNIPPET = """
from smart_retrieval import SmartIndex, SmartModel

index = SmartIndex.open("x.smart")
index.search("q", {search})
index.search_many(["q"], {search})
index.explain("q", "id", {explain})
index.upsert(["text"], {upsert})
model = SmartModel("minilm", {model})
model.similarity(model.encode_query("q"), model.encode_document("d"), {explain})
SmartModel.from_pretrained("minilm", {model})
"""


# Without what the packages beneath bring: their types are Any, and the check takes seconds.
CONFIG = "[mypy]\nstrict = True\n" + "".join(
    f"[mypy-{package}.*]\nfollow_imports = skip\n"
    for package in ("torch", "transformers", "sentence_transformers", "numpy", "PIL", "datasets", "peft", "pandas")
)


def check_types(tmp_path, **arguments):
    (tmp_path / "snippet.py").write_text(SNIPPET.format(**arguments))
    (tmp_path / "mypy.ini").write_text(CONFIG)
    command = [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "--cache-dir", str(tmp_path / "cache")]
    env = {**os.environ, "MYPYPATH": str(Path(smart_retrieval.__file__).parents[1])}
    done = subprocess.run([*command, "snippet.py"], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    return [line for line in done.stdout.splitlines() if line.startswith("snippet.py")]


def test_misspelt_settings_are_refused_by_mypy(tmp_path):
    right = check_types(
        tmp_path,
        search="lambda_late=2.0, k=3, where='page > 3'",
        explain="lambda_late=2.0, weights='idf'",
        upsert="ids=['a']",
        model="device='cpu', max_length=64, local_files_only=True",
    )
    assert right == []
    wrong = check_types(
        tmp_path, search="lambda_lat=2.0", explain="lambda_lat=2.0", upsert="id=['a']", model="maxlength=64"
    )
    assert {int(line.split(":")[1]) for line in wrong} == {5, 6, 7, 8, 9, 10, 11}
