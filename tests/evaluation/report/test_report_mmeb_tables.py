"""Tables of MMEB-V2: means by hand, what is missing, modes apart, published rows."""

import pytest

from smart_retrieval.evaluation.mmeb.report import PUBLISHED, SMART_ROWS
from smart_retrieval.evaluation.mmeb.tasks import all_tasks, choose
from smart_retrieval.evaluation.report.report import build_report

GD = [task for task in all_tasks() if task.meta_task == "GD"]


def scores(values, tasks=GD):
    return {task.name: {task.metric: value, "num_pred": 2} for task, value in zip(tasks, values, strict=True)}


def table_of(report, name):
    return next(table for table in report.tables if table.name == name)


def shown(table):
    return {label: [("*" if cell.best else "") + cell.text for cell in cells] for label, cells in table.rows}


def test_means_and_what_is_missing(results):
    half = scores([0.5, 0.5, 0.25], GD[:3])
    results.write("result.json", results.mmeb({"anchor": half, "hybrid-1": scores([0.5, 0.6, 0.7, 0.8])}))
    report = build_report([results.folder])
    means = table_of(report, "mmeb")
    assert means.columns == ("GD", "Image", "Video", "VisDoc", "All")
    assert shown(means)["hybrid-1 (paper)"] == ["65.0", "– (4/36)", "– (0/18)", "– (0/24)", "– (4/78)"]
    assert shown(means)["anchor"][0] == "– (3/4)"
    assert any(note.startswith("75 of 78 tasks not measured with anchor: ") for note in means.notes)
    tasks = table_of(report, "mmeb tasks")
    assert tasks.columns == ("metric", "anchor", "hybrid-1 (paper)")
    assert shown(tasks)[GD[0].name] == ["hit@1", "*50.0", "*50.0"]
    assert shown(tasks)[GD[3].name] == ["hit@1", "–", "80.0"]
    # Over the three that both have.
    assert shown(tasks)["mean of 3 tasks"] == ["", "41.7", "*60.0"]
    gains = table_of(report, "mmeb gains")
    assert shown(gains)[GD[1].name] == ["+10.0 (+20.0 %)"]
    assert GD[3].name not in shown(gains)


def test_every_task(results):
    tasks = all_tasks()
    values = [0.5 + 0.001 * number for number in range(78)]
    results.write("result.json", results.mmeb({"hybrid-1": scores(values, tasks)}))
    means = table_of(build_report([results.folder], against="published"), "mmeb")
    own = [cell.value for cell in dict(means.rows)["hybrid-1 (paper)"]]
    assert own[means.columns.index("All")] == pytest.approx(100 * sum(values) / 78)
    assert own[means.columns.index("Image")] == pytest.approx(100 * sum(values[:36]) / 36)
    assert means.references == len(PUBLISHED)
    best = shown(means)["Qwen3-VL-Embedding-8B"]
    assert best[-1] == "Qwen3-VL-Embedding technical report, Table 2"
    assert best[means.columns.index("All")] == "77.8"
    assert best[0] == "–"
    assert any("page tasks' repair" in note for note in means.notes)


def test_the_papers_rows(results):
    own = choose(["paper"])
    systems = {"anchor": scores([0.5] * 41, own), "hybrid-1": scores([0.75] * 41, own)}
    results.write("result.json", results.mmeb(systems))
    means = table_of(build_report([results.folder], against="smart-paper"), "mmeb")
    assert means.references == len(SMART_ROWS)
    column = means.columns.index("Paper's 41")
    by_label = {label: cells[column].text for label, cells in means.rows}
    assert by_label["Qwen3-VL-Embedding-2B"] == "74.9"
    assert by_label["Qwen3-VL-Embedding-2B + frozen SMART"] == "75.8"
    assert {"50.0", "75.0"} <= {text.strip("*") for text in by_label.values()}


def test_modes_and_prompts_are_kept_apart(results):
    results.write("a/result.json", results.mmeb({"anchor": scores([0.5] * 4)}))
    results.write("b/result.json", results.mmeb({"anchor": scores([0.6] * 4)}, mode="official-compatible"))
    results.write("c/result.json", results.mmeb({"anchor": scores([0.7] * 4)}, prompts="v2v"))
    report = build_report([results.folder])
    titles = [table.title for table in report.tables if table.name == "mmeb"]
    assert titles == [
        "MMEB-V2, correct metrics, ties by official",
        "MMEB-V2, official-compatible metrics, ties by official",
    ]
    first = next(table for table in report.tables if table.name == "mmeb")
    assert [label for label, _ in first.rows] == ["anchor [prompts qwen]", "anchor [prompts v2v]"]
    assert any("different modes" in note for note in report.notes)
    assert any("settings that differ" in note for note in report.notes)


def test_another_number_of_queries_is_another_column(results):
    first, second = results.mmeb({"anchor": scores([0.5] * 4)}), results.mmeb({"hybrid-1": scores([0.6] * 4)})
    second["tasks"][GD[0].name]["queries"] = 1
    results.write("a/result.json", first)
    results.write("b/result.json", second)
    report = build_report([results.folder])
    rows = shown(table_of(report, "mmeb tasks"))
    assert rows[f"{GD[0].name} (test, 2 queries)"] == ["hit@1", "50.0", "–"]
    assert rows[f"{GD[0].name} (test, 1 queries)"] == ["hit@1", "–", "60.0"]
    assert GD[0].name not in shown(table_of(report, "mmeb gains"))


def test_measured_twice_on_other_data_has_no_mean(results):
    """Which of the two belongs to the mean cannot be said, so neither does."""
    first, second = results.mmeb({"anchor": scores([0.5] * 4)}), results.mmeb({"anchor": scores([0.6] * 4)})
    for result in (first, second):
        for task in result["tasks"].values():
            task["queries"] = 2 if result is first else 3
    results.write("a/result.json", first)
    results.write("b/result.json", second)
    assert shown(table_of(build_report([results.folder]), "mmeb"))["anchor"][0] == "– (0/36)"


def test_against_earlier_results(results):
    old = results.write("old/result.json", results.mmeb({"hybrid-1": scores([0.5] * 4)}))
    results.write("new/result.json", results.mmeb({"hybrid-1": scores([0.6] * 4)}))
    table = table_of(build_report([results.folder / "new"], against=old), "mmeb against")
    assert shown(table)[GD[0].name] == ["+10.0 (+20.0 %)"]


def test_beside_retrieval(results):
    results.write("result.json", results.mmeb({"anchor": scores([0.5], choose(["MSVD"]))}))
    results.write("a.json", results.beir())
    assert [table.name for table in build_report([results.folder]).tables] == [
        *("quality", "gains", "cost", "mmeb", "mmeb tasks"),
    ]
