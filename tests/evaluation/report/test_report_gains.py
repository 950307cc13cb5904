"""Gains: tested on per-query values of both, or as stored, or not at all."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from smart_retrieval.errors import ScoringError
from smart_retrieval.evaluation.report.files import read_files
from smart_retrieval.evaluation.report.gains import Gain, anchor_of, gain_over
from smart_retrieval.evaluation.significance import paired_comparison


@pytest.fixture
def pair(results):
    found = {one.system: one for one in read_files([results.write("a.json", results.beir())]).measurements}
    return found["hybrid"], found["anchor"]


def test_per_query_values_are_compared(pair):
    hybrid, anchor = pair
    before, after = (list(one.per_query["map"].values()) for one in (anchor, hybrid))
    expected = paired_comparison(before, after).to_dict()
    gain = gain_over(hybrid, anchor, "map")
    assert gain.basis == "per query"
    for name in ("difference", "relative", "p_value", "ci_low", "ci_high", "wins", "ties", "losses"):
        assert getattr(gain, name) == pytest.approx(expected[name])


def test_the_order_of_the_queries_does_not_matter(pair):
    hybrid, anchor = pair
    turned = {name: dict(reversed(own.items())) for name, own in anchor.per_query.items()}
    moved = gain_over(hybrid, replace(anchor, per_query=turned), "map", permutations=500)
    kept = gain_over(hybrid, anchor, "map", permutations=500)
    assert (moved.wins, moved.losses, moved.difference) == (kept.wins, kept.losses, pytest.approx(kept.difference))


def test_per_query_values_must_match_queries_and_mean(pair):
    hybrid, anchor = pair
    renamed = {name: {f"x{query}": value for query, value in own.items()} for name, own in anchor.per_query.items()}
    assert gain_over(hybrid, replace(anchor, per_query=renamed), "map").basis == "means"
    shifted = replace(anchor, values={**anchor.values, "map": 0.1})
    assert gain_over(hybrid, shifted, "map").basis == "means"


def test_the_stored_comparison(pair):
    hybrid, anchor = (replace(one, per_query=None) for one in pair)
    gain = gain_over(hybrid, anchor, "ndcg@10")
    assert (gain.basis, gain.p_value, gain.wins) == ("stored", hybrid.gain["p_value"], hybrid.gain["wins"])
    # It is of one metric, and of one baseline.
    assert gain_over(hybrid, anchor, "map").basis == "means"
    other = replace(anchor, values={**anchor.values, "ndcg@10": 0.41})
    untested = gain_over(hybrid, other, "ndcg@10")
    assert (untested.basis, untested.p_value, untested.mark) == ("means", None, "?")
    assert untested.difference == pytest.approx(0.09)
    assert gain_over(hybrid, replace(anchor, system="late"), "ndcg@10").basis == "means"


def test_no_gain_without_the_metric(pair):
    assert gain_over(*pair, "recall@7") is None


def test_gains_across_data_sets_are_refused(pair):
    hybrid, anchor = pair
    with pytest.raises(ScoringError, match="the same data"):
        gain_over(hybrid, replace(anchor, data=replace(anchor.data, split="dev")), "map")


def test_a_baseline_of_zero_has_no_relative_gain(pair):
    hybrid, anchor = (replace(one, per_query=None, gain=None) for one in pair)
    assert gain_over(hybrid, replace(anchor, values={"map": 0.0}), "map").relative is None


@pytest.mark.parametrize(
    ("p_value", "mark"), [(None, "?"), (0.0, "***"), (0.001, "**"), (0.01, "*"), (0.049, "*"), (0.05, ""), (1.0, "")]
)
def test_marks(p_value, mark):
    assert Gain(0.1, 0.1, "stored", p_value=p_value).mark == mark


def test_choice_of_the_anchor(pair):
    hybrid, anchor = pair
    elsewhere = replace(anchor, file=Path("b.json"))
    assert anchor_of(hybrid, [elsewhere, anchor]) is anchor
    assert anchor_of(hybrid, [elsewhere]) is elsewhere
    assert anchor_of(hybrid, [elsewhere, replace(elsewhere, file=Path("c.json"))]) is None
    bm25 = replace(hybrid, system="BM25", file=Path("d.json"))
    assert anchor_of(bm25, [anchor]) is anchor
    assert anchor_of(bm25, [anchor, replace(anchor, settings={**anchor.settings, "model": "n"})]) is None


def test_predictions_of_mmeb(results):
    """Ranked lists give each query's value, if they are those that the score is of."""
    settings = {"anchor": {"MSVD": {"hit@1": 0.25}}, "hybrid-1": {"MSVD": {"hit@1": 1.0}}}
    file = results.write("result.json", results.mmeb(settings))
    for name, right in (("anchor", 1), ("hybrid-1", 4)):
        lines = [
            {
                "prediction": ["a", "b"] if n < right else ["b", "a"],
                "label": ["a"],
                "rel_scores": None,
                "scores": [1, 0],
            }
            for n in range(4)
        ]
        target = results.folder / name / "MSVD_pred.jsonl"
        target.parent.mkdir()
        target.write_text("".join(json.dumps(line) + "\n" for line in lines))
    anchor, hybrid = read_files([file]).measurements
    gain = gain_over(hybrid, anchor, "hit@1")
    assert (gain.basis, gain.wins, gain.ties, gain.losses, gain.difference) == ("per query", 3, 1, 0, 0.75)
    assert gain.p_value == 0.25  # of the 8 patterns of 3 queries two are as far out
    target.write_text(json.dumps(lines[0]) + "\n" + "damaged")
    from smart_retrieval.evaluation.report.gains import _judged

    _judged.cache_clear()
    assert gain_over(hybrid, anchor, "hit@1").basis == "means"
