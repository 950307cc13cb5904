"""``smart eval beir`` passes its options on, data to stdout and everything else to stderr."""

import json

import pytest
from typer.testing import CliRunner

from smart_retrieval.cli.main import eval_app as app
from smart_retrieval.evaluation import compare, evaluate
from smart_retrieval.index.search.searcher import LEXICAL_WEIGHT

GAIN = {"difference": 0.1, "relative": 0.2, "p_value": 0.01, "ci_low": 0.0, "ci_high": 0.2}
GAIN |= {"wins": 2, "ties": 1, "losses": 0}
ROW = {"ndcg@10": 0.5, "recall@100": 0.5, "mrr@10": 0.5, "map": 0.5, "bytes_per_document": 9, "score_ms_per_query": 1.0}
RESULT = {
    "dataset": {
        "name": "tiny",
        "split": "test",
        "n_documents": 3,
        "n_queries": 3,
        "n_judgments": 3,
        "warnings": ["1 judgment left out"],
    },
    "model": "minilm",
    "preset": "default",
    "rows": [{"name": name, **ROW} for name in ("anchor", "late", "hybrid")],
    "gain": {"metric": "ndcg@10", **GAIN, "late": GAIN},
    "encode": {"seconds": 1.0, "cached": False, "truncated_documents": 2},
}


@pytest.fixture
def called(monkeypatch):
    """Stand in for the evaluation, and keep what it was called with."""
    seen = {}

    def record(folder, **options):
        seen.update(options, folder=str(folder))
        return RESULT

    monkeypatch.setattr(evaluate, "evaluate_beir", record)
    return seen


def run(*arguments):
    return CliRunner().invoke(app, ["beir", "data", *arguments])


def test_defaults(called, monkeypatch, tmp_path):
    monkeypatch.setenv("SMART_CACHE", str(tmp_path))
    found = run()
    assert found.exit_code == 0, found.output
    assert called.pop("cache").folder == tmp_path / "encodings"
    assert (called.pop("folder"), called.pop("model"), called.pop("split")) == ("data", "minilm", "test")
    assert (called.pop("floor"), called.pop("weights")) == ("preset", "preset")
    assert called.pop("model_options") == {}
    assert set(called.values()) == {None}, called


def test_options_reach_the_evaluation(called, tmp_path):
    found = run(
        *("--model", "m", "--preset", "paper", "--layer", "-1,-2", "--layer", "3", "--mix", "concat"),
        *("--token-filter", "content", "--weights", "idf", "--lambda-anchor", "0", "--lambda-late", "2.5"),
        *("--floor", "none", "--split", "dev", "--batch-size", "8", "--cache", str(tmp_path)),
        *("--family", "f", "--truncate-dim", "64", "--max-visual-tokens", "9", "--video-budget", "official"),
    )
    assert found.exit_code == 0, found.output
    assert called.pop("cache").folder == tmp_path / "encodings"
    assert called == {
        "folder": "data",
        "model": "m",
        "preset": "paper",
        "layers": (-1, -2, 3),
        "mix": "concat",
        "token_filter": "content",
        "weights": "idf",
        "lambda_anchor": 0.0,
        "lambda_late": 2.5,
        "floor": None,
        "split": "dev",
        "batch_size": 8,
        "progress": None,
        "model_options": {
            "family": "f",
            "truncate_dim": 64,
            "max_visual_tokens": 9,
            "video_budget": "official",
        },
    }


def test_options_of_the_result_list_reach_the_evaluation(called):
    found = run("--no-cache", "--feedback", "0.5", "--neighbours", ".2", "--rerank", "m", "--rerank-depth", "20")
    assert found.exit_code == 0, found.output
    refined = {name: called[name] for name in ("feedback", "neighbours", "rerank", "rerank_depth")}
    assert refined == {"feedback": 0.5, "neighbours": 0.2, "rerank": "m", "rerank_depth": 20}
    for given, weight in ((["--lexical"], LEXICAL_WEIGHT), (["--lexical-weight", "2"], 2.0)):
        assert run("--no-cache", *given).exit_code == 0
        assert called["lexical_weight"] == weight


def test_the_weight_of_words_reaches_the_comparison(monkeypatch):
    seen = {}
    monkeypatch.setattr(compare, "compare_beir", lambda folder, **options: seen.update(options) or RESULT)
    assert run("--no-cache", "--compare", "--lexical-weight", "2").exit_code == 0
    assert seen["lexical_weight"] == 2.0


def test_the_table_says_what_was_left_out(called):
    found = run("--no-cache")
    assert called["cache"] is None
    assert "hybrid over anchor" in found.stdout
    assert found.stdout.splitlines()[-2:] == [
        "note: 1 judgment left out",
        "note: 2 of 3 documents cut at the model's maximum length",
    ]
    assert found.stderr == ""


def test_json_is_all_of_stdout_and_can_be_kept(called, tmp_path):
    file = tmp_path / "deep" / "result.json"
    found = run("--no-cache", "--json", "--out", str(file))
    assert json.loads(found.stdout) == RESULT
    assert json.loads(file.read_text()) == RESULT
    assert "hybrid over anchor" in run("--no-cache", "--out", str(file)).stdout


@pytest.mark.parametrize(
    "wrong",
    [
        ("--layer", "last"),
        ("--layer", ""),
        ("--layer", "-1,"),
        ("--cache", "x", "--no-cache"),
        ("--lambda-late", "much"),
        ("--feedback", "-1"),
        ("--rerank-depth", "5"),
        ("--compare", "--feedback", "0.5"),
        ("--compare", "--lexical"),
        ("--codec", "all", "--rerank", "m"),
        ("--codec", "all", "--lexical-weight", "2"),
    ],
)
def test_wrong_usage_exits_with_2_before_any_work(called, wrong):
    found = run(*wrong)
    assert found.exit_code == 2
    assert found.stdout == ""
    assert not called


def test_help_names_every_option():
    found = CliRunner().invoke(app, ["beir", "--help"], env={"COLUMNS": "200"})
    for option in ("--model", "--preset", "--layer", "--weights", "--lambda-late", "--split", "--json", "--out"):
        assert option in found.stdout
