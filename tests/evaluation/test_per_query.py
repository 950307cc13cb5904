"""Provenance of results, the metrics of every query, and both in a report."""

import json

import numpy as np
import pytest
from test_evaluate import FakeModel, fake, folder  # noqa: F401

from smart_retrieval.evaluation.codecs import evaluate_codecs
from smart_retrieval.evaluation.compare import compare_beir
from smart_retrieval.evaluation.evaluate import evaluate_beir
from smart_retrieval.evaluation.metrics import METRICS
from smart_retrieval.evaluation.provenance import stable
from smart_retrieval.evaluation.report.report import build_report
from smart_retrieval.evaluation.results import write_json


@pytest.mark.parametrize("measure", [evaluate_beir, compare_beir, evaluate_codecs])
def test_every_query(folder, measure):  # noqa: F811
    options = {"codecs": "float32,int8"} if measure is evaluate_codecs else {}
    plain, kept = (measure(folder, model="fake", per_query=per_query, **options) for per_query in (False, True))
    values = kept.pop("per_query")
    assert stable(kept) == stable(plain)
    assert values["ids"] == ["q0", "q1", "q2", "q3"]
    rows = kept.get("rows") or kept.get("systems") or [kept["uncompressed"], *kept["codecs"]]
    assert set(values["values"]) == {row["name"] for row in rows}
    for row in rows:
        for metric in METRICS:
            assert np.mean(values["values"][row["name"]][metric]) == pytest.approx(row[metric])


def test_provenance_of_a_result(folder):  # noqa: F811
    result = evaluate_beir(folder, model="fake")
    assert result["limits"] == {"max_length": 4}
    assert set(result["run"]) == {"date", "commit", "machine", "command"}
    assert len(result["dataset"]["judgments_fingerprint"]) == 64
    with (folder / "qrels/test.tsv").open("a") as file:
        file.write("q2\td8\t1\n")
    again = evaluate_beir(folder, model="fake")
    assert again["dataset"]["fingerprint"] == result["dataset"]["fingerprint"]
    assert again["dataset"]["judgments_fingerprint"] != result["dataset"]["judgments_fingerprint"]


def test_the_report_gives_the_gains_of_the_evaluation(folder, tmp_path):  # noqa: F811
    """Tested again from the per-query values, a gain is what was stored; BM25 and codecs stand beside it."""
    result = evaluate_beir(folder, model="fake", per_query=True)
    write_json(result, tmp_path / "results/a.json")
    write_json(compare_beir(folder, model="fake"), tmp_path / "results/b.json")
    write_json(evaluate_codecs(folder, model="fake", codecs="int8", per_query=True), tmp_path / "results/c.json")
    report = json.loads(build_report([tmp_path / "results"]).render("json"))
    assert report["notes"] == []
    quality, gains, _ = report["tables"]
    labels = [row["label"] for row in quality["rows"]]
    assert labels[:2] == ["BM25", "anchor"]
    assert labels[-4:] == [
        *("late (default)", "hybrid (default)", "hybrid, int8 (default)", "hybrid + BM25 (default)"),
    ]
    cells = {row["label"]: row["cells"]["tiny"] for row in gains["rows"]}
    for label, stored in (("hybrid (default)", result["gain"]), ("late (default)", result["gain"]["late"])):
        assert cells[label]["basis"] == "per query"
        for name in ("p_value", "ci_low", "ci_high", "wins", "losses"):
            assert cells[label][name] == pytest.approx(stored[name])
    assert cells["BM25"]["basis"] == "stored"
    assert cells["hybrid, int8 (default)"]["basis"] == "per query"
