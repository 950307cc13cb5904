"""Predictions judged and written as they come, means of complete groups only, the leaderboard's form, the table."""

import json
import tracemalloc
from io import StringIO

import pytest
from rich.console import Console

from smart_retrieval.errors import ScoringError, SmartError
from smart_retrieval.evaluation.mmeb.metrics import NAMES, Ranked, mean_of_columns, score_ranking
from smart_retrieval.evaluation.mmeb.report import (
    SMART_ROWS,
    judge,
    leaderboard,
    means,
    notes,
    remove_partial_files,
    render_table,
    write_json,
    written_whole,
)
from smart_retrieval.evaluation.mmeb.task_data import Case
from smart_retrieval.evaluation.mmeb.tasks import all_tasks, choose
from smart_retrieval.inputs import Item


def scores_of(tasks, value=0.5):
    return {task.name: {task.metric: value, "num_pred": 3} for task in tasks}


def test_means_are_plain_means_over_tasks():
    tasks = all_tasks()
    scores = {task.name: {task.metric: number / 78} for number, task in enumerate(tasks)}
    found = {mean.name: mean for mean in means(scores)}
    assert found["all"].value == pytest.approx(100 * sum(range(78)) / 78 / 78)
    assert found["image"].value == pytest.approx(100 * sum(range(36)) / 36 / 78)
    assert found["video/CLS"].value == pytest.approx(100 * sum(range(36, 41)) / 5 / 78)
    assert len(found) == 4 + 4 + 4 + 3 + 2
    paper = [*range(20, 32), *range(46, 51), *range(54, 78)]
    assert [task.name for task in choose(["paper"])] == [tasks[place].name for place in paper]
    assert found["paper"].tasks == len(paper) == 41
    assert found["paper"].value == pytest.approx(100 * sum(paper) / 41 / 78)
    assert not any(mean.missing for mean in found.values())


def test_the_papers_rows_are_means_of_its_groups():
    """Each row's mean over 41 tasks follows from its six groups and their sizes, as printed."""
    sizes = {"image/RET": 12, "visdoc/ViDoRe-V1": 10, "visdoc/ViDoRe-V2": 4, "visdoc/VisRAG": 6, "visdoc/OOD": 4,
             "video/RET": 5}  # fmt: skip
    whole = [row for row in SMART_ROWS if "paper" in row.values]
    assert len(whole) == 10
    for row in whole:
        mean = sum(row.values[name] * size for name, size in sizes.items()) / 41
        assert row.values["paper"] == pytest.approx(mean, abs=0.02)
        if "visdoc" in row.values:
            documents = sum(row.values[name] * size for name, size in sizes.items() if name.startswith("visdoc")) / 24
            # Printed in another table, and as much as 0.1 apart.
            assert row.values["visdoc"] == pytest.approx(documents, abs=0.12)


def test_a_group_without_all_tasks_has_no_mean():
    scores = scores_of(task for task in all_tasks() if task.name != "MSVD")
    found = {mean.name: mean for mean in means(scores)}
    for name in ("video/RET", "video", "all"):
        assert (found[name].value, found[name].missing) == (None, ("MSVD",))
    assert (found["video/RET"].done, found["video/RET"].tasks) == (4, 5)
    assert found["video/CLS"].value == found["image"].value == 50.0
    assert means({})[-1].value is None


def test_leaderboard_form():
    scores = scores_of(choose(["ViDoSeek-page", "WebQA"]))
    scores["WebQA"]["scoring_config"] = {"x": 1}
    board = leaderboard("mine", scores, {"prompts": "qwen"})
    assert board["metadata"]["model_name"] == "mine"
    assert board["metadata"]["prompts"] == "qwen"
    assert board["metrics"] == {
        "image": {"WebQA": {"hit@1": 0.5, "num_pred": 3}},
        "video": {},
        "visdoc": {"ViDoSeek-page-fixed": {"ndcg_linear@5": 0.5, "num_pred": 3}},
    }


def result(tasks, missing):
    scores = scores_of(tasks)
    setting = {"means": [mean.to_dict() for mean in means(scores)]}
    return {
        "model": "mine",
        "prompts": "qwen",
        "preset": "default",
        "mode": "official-compatible",
        "settings": {"anchor": setting, "hybrid-1": setting},
        "missing": missing,
        "tasks": {
            task.name: {"notes": ["something (1)"], "queries": 3, "published_queries": task.queries} for task in tasks
        },
    }


def drawn(value):
    out = StringIO()
    Console(file=out, width=80).print(render_table(value))
    return out.getvalue()


def test_the_table_marks_incomplete_means_and_names_missing_tasks():
    tasks = [task for task in choose(modalities=["visdoc"]) if task.name != "ViDoRe_docvqa"]
    text = drawn(result(tasks, {"ViDoRe_docvqa": "files missing", "MSVD": "not asked for", "K700": "not asked for"}))
    lines = text.splitlines()
    assert [line.split() for line in lines if line.strip().startswith(("ViDoRe-V", "VisDoc"))] == [
        ["ViDoRe-V1", "9/10", "incomplete", "incomplete"],
        ["ViDoRe-V2", "4", "50.0", "50.0"],
        ["VisDoc", "23/24", "incomplete", "incomplete"],
    ]
    assert not any(line.startswith("Image ") and "36" in line for line in lines)
    assert "Qwen3-VL-Embedding-8B   80.1   67.1    82.4  77.8" in text
    joined = " ".join(text.split())
    assert "files missing: ViDoRe_docvqa" in joined
    assert "not asked for: MSVD, K700" in joined
    assert "something (1): ViDoRe_arxivqa, ViDoRe_infovqa, ViDoRe_tabfquad and 20 more" in joined


def test_notes_name_what_cannot_be_compared():
    found = notes(result(choose(["MSVD"]), {}))
    assert any("another number of queries than published" in note and "MSVD" in note for note in found)
    assert found[-1] == "metrics are official-compatible"


def test_files_are_written_whole_or_not_at_all(tmp_path):
    write_json({"a": "é"}, tmp_path / "deep/x.json")
    assert json.loads((tmp_path / "deep/x.json").read_text()) == {"a": "é"}
    (tmp_path / "file").write_text("")
    with pytest.raises(SmartError, match="cannot write"):
        write_json({}, tmp_path / "file/x.json")
    assert [path.name for path in tmp_path.rglob("*.part")] == []


def test_partial_files_of_a_killed_run_are_removed_and_no_others(tmp_path):
    names = [".result.json.0a1b2c3d.part", "late/.MSVD_pred.jsonl.0a1b2c3d.part", "late/.MSVD_score.json.01234567.part"]
    kept = [".other.json.0a1b2c3d.part", "late/notes.part", "deep/er/.result.json.0a1b2c3d.part"]
    for name in names + kept:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    remove_partial_files(tmp_path)
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == set(kept)


# -- predictions ------------------------------------------------------------------------------------------------------

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
        scores = [score_ranking(best.names, case.labels, case.grades) for case, best in zip(CASES, own, strict=True)]
        assert found[name] == mean_of_columns({key: [one[key] for one in scores] for key in NAMES})
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
    with pytest.raises(SmartError, match=r"cannot write .*x\.jsonl"), written_whole(tmp_path / "file/x.jsonl"):
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
