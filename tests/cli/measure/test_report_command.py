"""``smart report``: data on stdout, one-line errors, plots beside it."""

import csv
import io
import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from smart_retrieval.cli.main import app

GAIN = {"metric": "ndcg@10", "difference": 0.1, "relative": 0.25, "p_value": 0.01, "ci_low": 0.05, "ci_high": 0.15}
GAIN |= {"mean_baseline": 0.4, "mean_treatment": 0.5, "wins": 2, "ties": 1, "losses": 0}


@pytest.fixture
def file(tmp_path):
    rows = [
        {"name": name, "ndcg@10": value, "recall@100": value, "mrr@10": value, "map": value,
         "bytes_per_document": 100 * value, "score_ms_per_query": value}
        for name, value in (("anchor", 0.4), ("late", 0.3), ("hybrid", 0.5))
    ]  # fmt: skip
    result = {"dataset": {"name": "tiny", "split": "test", "n_queries": 3, "fingerprint": "0"}, "model": "minilm",
              "preset": "default", "rows": rows, "gain": GAIN}  # fmt: skip
    path = tmp_path / "results/tiny.json"
    path.parent.mkdir()
    path.write_text(json.dumps(result))
    return path


def run(*arguments):
    return CliRunner().invoke(app, ["report", *map(str, arguments)])


def test_forms(file):
    found = run(file)
    assert found.exit_code == 0, found.exception
    assert "| hybrid (default) | **0.5000** |" in found.stdout
    assert "| hybrid (default) | +0.1000 (+25.0 %) \\* |" in found.stdout
    assert "\\toprule" in run(file, "--format", "latex").stdout
    assert json.loads(run(file, "--format", "json").stdout) == json.loads(run(file, "--json").stdout)
    assert len(list(csv.DictReader(io.StringIO(run(file, "--format", "csv").stdout)))) == 3 + 2 + 6


def test_to_a_file_with_plots(file, tmp_path):
    pytest.importorskip("matplotlib")
    found = run(file.parent, "--out", tmp_path / "new/report.md", "--plots", tmp_path / "plots")
    assert found.exit_code == 0, found.exception
    assert found.stdout == ""
    assert "6 files" in found.stderr
    assert (tmp_path / "new/report.md").read_text() == run(file.parent).stdout
    assert len(list((tmp_path / "plots").iterdir())) == 6


def test_wrong_usage(file):
    assert run(file, "--format", "html").exit_code == 2
    assert run().exit_code == 2


def test_errors_are_one_line(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    found = subprocess.run(
        [sys.executable, "-c", "from smart_retrieval.cli.main import main; main()", "report", str(tmp_path / "a.json")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.returncode == 1
    assert found.stderr.count("\n") == 1
    assert "found no result" in found.stderr
