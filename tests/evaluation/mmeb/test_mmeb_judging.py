"""Judging as rankings come: the same as judging all of them at the end, files whole or not there, memory flat."""

import json
import tracemalloc

import pytest

from smart_retrieval.errors import ScoringError, SmartError
from smart_retrieval.evaluation.mmeb.cases import Case
from smart_retrieval.evaluation.mmeb.judging import judge, lines_file
from smart_retrieval.evaluation.mmeb.metrics import mean_scores, score_ranking
from smart_retrieval.evaluation.mmeb.ranking import Ranked
from smart_retrieval.inputs import Item

CASES = [
    Case(Item("a"), ("x",)),
    Case(Item("b"), ("y", "z"), (2.0, 1.0)),
    Case(Item("c"), ("w",)),
]
RANKED = [
    {"anchor": Ranked(("x", "y"), (1.0, 0.5)), "late": Ranked(("y", "x"), (0.25, 0.1))},
    {"anchor": Ranked(("z", "y"), (1.0, 0.5)), "late": Ranked(("y", "z"), (0.25, 0.1))},
    {"anchor": Ranked(("\ud800", "w"), (1.0, 0.5)), "late": Ranked(("w",), (0.25,))},
]


def targets(folder):
    return {name: folder / name / "T_pred.jsonl" for name in ("anchor", "late")}


def test_means_and_files_are_those_of_all_rankings(tmp_path):
    found = judge(CASES, iter(RANKED), targets(tmp_path))
    for name in ("anchor", "late"):
        own = [one[name] for one in RANKED]
        assert found[name] == mean_scores(
            [score_ranking(best.names, case.labels, case.grades) for case, best in zip(CASES, own, strict=True)]
        )
        lines = [json.loads(line) for line in (tmp_path / name / "T_pred.jsonl").read_text().splitlines()]
        assert [line["scores"] for line in lines] == [list(best.scores) for best in own]
        assert [line["rel_scores"] for line in lines] == [None, [2.0, 1.0], None]
        assert lines[0]["prediction"] == list(own[0].names)


def test_nothing_is_left_by_a_ranking_that_fails(tmp_path):
    def failing():
        yield RANKED[0]
        raise ScoringError("no more")

    with pytest.raises(ScoringError, match="no more"):
        judge(CASES, failing(), targets(tmp_path))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    with pytest.raises(ScoringError, match="no query"):
        judge([], [], targets(tmp_path))


def test_a_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SmartError, match=r"cannot write .*x\.jsonl"), lines_file(tmp_path / "file/x.jsonl"):
        pass


def test_memory_does_not_grow_with_the_number_of_queries(tmp_path):
    names = tuple(f"candidate {number}" for number in range(50))
    best = {"late": Ranked(names, tuple(float(-number) for number in range(50)))}

    def peak(count):
        tracemalloc.start()
        try:
            judge([CASES[0]] * count, (best for _ in range(count)), {"late": tmp_path / "p.jsonl"})
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    # 24 metrics of eight bytes each are kept of a query, and nothing else; its predictions alone are 1,300 letters.
    peak(10)
    assert peak(900) - peak(100) < 800 * 24 * 8 * 1.5
