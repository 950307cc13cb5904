"""Fusions against figures computed by hand, and a comparison from folder to table."""

import json

import numpy as np
import pytest
from test_evaluate import FakeModel, cache, fake, folder  # noqa: F401
from typer.testing import CliRunner

from smart_retrieval import SmartIndex
from smart_retrieval.cli.main import eval_app as app
from smart_retrieval.evaluation import compare, evaluate
from smart_retrieval.evaluation.compare import COMPARED, compare_beir, fused
from smart_retrieval.evaluation.evaluate import evaluate_beir
from smart_retrieval.evaluation.metrics import METRICS
from smart_retrieval.evaluation.terminal import print_table
from smart_retrieval.index.search.searcher import LEXICAL_WEIGHT, lexical_scores
from smart_retrieval.index.store.lexical import Bm25


@pytest.fixture(autouse=True)
def named(monkeypatch):
    monkeypatch.setattr(FakeModel, "calls", [])


def test_bm25_scores_of_shared_words():
    bm25 = Bm25(["wing lift", "heat slab", "", "wing wing drag"])
    scores = bm25.scores(["wings", "slab of heat", "", '" OR NEAR('])
    assert scores.shape == (4, 4)
    assert (scores > 0).tolist() == [[True, False, False, True], [False, True, False, False], [False] * 4, [False] * 4]


def test_bm25_is_that_of_an_index(minilm, tmp_path):
    texts = [
        "The wing lifts the ﬂap and the rudder.",
        "Heat of a slab of steel.",
        "Otters sleep.",
        "Wings, wings of lift.",
    ]
    queries = ["the lifting of a wing, wings", "ﬂaps", "of the"]
    scores = Bm25(texts, "english").scores(queries)
    with SmartIndex.create(tmp_path / "a.smart", minilm, language="english") as index:
        index.add(texts, ids=list("abcd"))
        spread = index.calibration().anchor_spread
        for query, row in zip(queries, lexical_scores(scores, spread), strict=True):
            hits = index.search(query, lexical_weight=1.0)
            assert {hit.id: hit.lexical for hit in hits} == pytest.approx(dict(zip("abcd", row, strict=True)))


def test_fusions_by_hand():
    anchor = np.float32([[0.9, 0.5, 0.1, 0.5]])
    words = np.float32([[0.0, 4.0, 10.0, 0.0]])
    smart = np.float32([[1.0, 0.8, 0.2, 0.7]])
    found = fused(anchor, words, smart, smart + words, ["d", "b", "c", "a"])
    assert list(found) == list(COMPARED)
    np.testing.assert_array_equal(found["anchor"], anchor)
    assert found["BM25"].tolist() == [[-np.inf, 4.0, 10.0, -np.inf]]
    # Ties by id: of the two at .5, "a" comes before "b".
    reciprocal = [1 / 61, 1 / 63 + 1 / 62, 1 / 64 + 1 / 61, 1 / 62]
    np.testing.assert_allclose(found["anchor + BM25 (RRF)"][0], reciprocal)
    np.testing.assert_allclose(found["anchor + BM25 (min-max)"][0], [1.0, 0.5, 1.0, 0.5], rtol=1e-6)
    np.testing.assert_array_equal(found["SMART"], smart)
    np.testing.assert_array_equal(found["SMART + BM25"], smart + words)


def test_fusions_see_the_first_documents_of_each_list(monkeypatch):
    monkeypatch.setattr(compare, "DEPTH", 2)
    anchor, words = np.float32([[0.9, 0.5, 0.1, 0.0]]), np.float32([[0.0, 1.0, 10.0, 0.5]])
    found = fused(anchor, words, anchor, anchor, list("abcd"))
    for system in ("anchor + BM25 (RRF)", "anchor + BM25 (min-max)"):
        assert np.isneginf(found[system][0]).tolist() == [False, False, False, True]
    np.testing.assert_allclose(found["anchor + BM25 (min-max)"][0][:3], [1.0, 0.0, 1.0])


def test_one_match_counts_in_full():
    anchor, words = np.float32([[0.9, 0.1]]), np.float32([[0.0, 3.0]])
    assert fused(anchor, words, anchor, anchor, ["a", "b"])["anchor + BM25 (min-max)"].tolist() == [[1.0, 1.0]]


def test_a_query_without_matches_keeps_the_anchors_order():
    anchor, words = np.float32([[0.2, 0.9]]), np.zeros((1, 2), np.float32)
    found = fused(anchor, words, anchor, anchor, ["a", "b"])
    assert np.isneginf(found["BM25"]).all()
    for system in ("anchor + BM25 (RRF)", "anchor + BM25 (min-max)", "SMART + BM25"):
        assert found[system][0].argmax() == 1


def test_result(folder, cache, capsys):  # noqa: F811
    result = compare_beir(folder, model="fake", cache=cache)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    rows = {row["name"]: row for row in result["systems"]}
    assert list(rows) == list(COMPARED)
    assert rows["anchor"]["gain"] is None
    assert all(0 <= row["gain"]["p_value"] <= 1 for name, row in rows.items() if name != "anchor")
    assert result["fusion"]["lexical_weight"] == LEXICAL_WEIGHT
    assert result["dataset"]["n_documents"] == 12
    plain = {row["name"]: row for row in evaluate_beir(folder, model="fake", cache=cache)["rows"]}
    for system, name in (("anchor", "anchor"), ("SMART", "hybrid")):
        assert rows[system]["ndcg@10"] == pytest.approx(plain[name]["ndcg@10"])
        assert rows[system]["map"] == pytest.approx(plain[name]["map"])
    # The second run found the encodings.
    assert FakeModel.calls == ["document", "query"]
    print_table(result)
    printed = capsys.readouterr().out
    assert all(name in printed for name in COMPARED)
    assert max(len(line.rstrip()) for line in printed.splitlines() if not line.startswith("note")) <= 80


def test_a_lexical_weight_of_zero_changes_nothing(folder):  # noqa: F811
    rows = {row["name"]: row for row in compare_beir(folder, model="fake", lexical_weight=0.0)["systems"]}
    assert {**rows["SMART"], "name": ""} == {**rows["SMART + BM25"], "name": ""}


def test_words_weigh_the_same_beside_other_options(folder):  # noqa: F811
    compared = compare_beir(folder, model="fake", lexical_weight=2.0)["systems"][-1]
    row = evaluate_beir(folder, model="fake", lexical_weight=2.0)["rows"][-1]
    assert row["name"] == "hybrid, lexical 2"
    assert {name: row[name] for name in METRICS} == {name: compared[name] for name in METRICS}


def test_scoring_options_are_used(folder):  # noqa: F811
    rows = {row["name"]: row for row in compare_beir(folder, model="fake", lambda_late=0.0)["systems"]}
    assert rows["SMART"]["gain"]["difference"] == 0


def test_few_scores_at_once_give_the_same(folder, monkeypatch):  # noqa: F811
    whole = compare_beir(folder, model="fake")
    monkeypatch.setattr(evaluate, "SCORES_AT_ONCE", 1)
    assert compare_beir(folder, model="fake")["systems"] == whole["systems"]


def test_command(folder, tmp_path):  # noqa: F811
    run = CliRunner().invoke(app, ["beir", str(folder), "--model", "fake", "--compare", "--json", "--no-cache"])
    assert run.exit_code == 0, run.output
    assert [row["name"] for row in json.loads(run.stdout)["systems"]] == list(COMPARED)
    run = CliRunner().invoke(app, ["beir", str(folder), "--compare", "--codec", "all"])
    assert run.exit_code == 2
    assert "--compare" in run.output
