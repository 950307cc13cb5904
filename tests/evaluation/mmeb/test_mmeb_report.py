"""Means that hide nothing, the leaderboard's form, and the table."""

import json
from io import StringIO

import pytest
from rich.console import Console

from smart_retrieval.errors import SmartError
from smart_retrieval.evaluation.mmeb.report import leaderboard, notes, render_table, write_json
from smart_retrieval.evaluation.mmeb.summary import means
from smart_retrieval.evaluation.mmeb.tasks import all_tasks, choose


def scores_of(tasks, value=0.5):
    return {task.name: {task.metric: value, "num_pred": 3} for task in tasks}


def test_means_are_plain_means_over_tasks():
    tasks = all_tasks()
    scores = {task.name: {task.metric: number / 78} for number, task in enumerate(tasks)}
    found = {mean.name: mean for mean in means(scores)}
    assert found["all"].value == pytest.approx(100 * sum(range(78)) / 78 / 78)
    assert found["image"].value == pytest.approx(100 * sum(range(36)) / 36 / 78)
    assert found["video/CLS"].value == pytest.approx(100 * sum(range(36, 41)) / 5 / 78)
    assert len(found) == 4 + 4 + 4 + 3 + 1
    assert not any(mean.missing for mean in found.values())


def test_a_group_that_lacks_a_task_has_no_mean():
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


def test_the_table_leaves_incomplete_means_open_and_names_what_is_missing():
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


def test_notes_say_what_cannot_be_compared():
    found = notes(result(choose(["MSVD"]), {}))
    assert any("another number of queries than published" in note and "MSVD" in note for note in found)
    assert found[-1] == "metrics are official-compatible"


def test_files_are_whole_or_not_there(tmp_path):
    write_json({"a": "é"}, tmp_path / "deep/x.json")
    assert json.loads((tmp_path / "deep/x.json").read_text()) == {"a": "é"}
    (tmp_path / "file").write_text("")
    with pytest.raises(SmartError, match="cannot write"):
        write_json({}, tmp_path / "file/x.json")
    assert [path.name for path in tmp_path.rglob("*.part")] == []
