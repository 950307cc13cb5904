"""Golden tables from small hand-made results; the best, means over what all have, reference rows."""

import json

import pytest

from smart_retrieval.errors import ReportError
from smart_retrieval.evaluation.metrics import metric_title
from smart_retrieval.evaluation.report.report import build_report
from smart_retrieval.evaluation.report.tables import Cell, marked_best

HOSTILE = "=cmd|' /C calc'!A0 a_b & 50% <b> [x](y)"


def table_of(report, name="quality"):
    return next(table for table in report.tables if table.name == name)


def shown(table):
    return {label: [("*" if cell.best else "") + cell.text for cell in cells] for label, cells in table.rows}


@pytest.fixture
def two(results):
    results.write("a.json", results.beir("a_b", anchor=0.4, late=0.45, hybrid=0.5))
    results.write("b.json", results.beir("c|d", anchor=0.3, late=0.5, hybrid=0.5))
    return results


def test_markdown(two):
    text = build_report([two.folder]).render()
    assert text.startswith(
        "**nDCG@10**\n"
        "\n"
        "| system | a\\_b | c\\|d | mean |\n"
        "|:--|--:|--:|--:|\n"
        "| anchor | 0.4000 | 0.3000 | 0.3500 |\n"
        "| late (default) | 0.4500 | **0.5000** | 0.4750 |\n"
        "| hybrid (default) | **0.5000** | **0.5000** | **0.5000** |\n"
        "\n"
        "- mean over all 2 data sets\n"
    )
    assert "| late (default) | +0.0500 (+12.5 %) \\*" in text
    assert "smart\\_retrieval 0.1.0, torch 2.13.0 | Z80 |" in text


def test_latex(two):
    text = build_report([two.folder]).render("latex")
    assert (
        "\\begin{table}\n\\centering\n\\caption{nDCG@10}\n\\begin{tabular}{lrrr}\n\\toprule\n"
        "system & a\\_b & c\\textbar{}d & mean \\\\\n\\midrule\n"
        "anchor & 0.4000 & 0.3000 & 0.3500 \\\\\n"
        "late (default) & 0.4500 & \\textbf{0.5000} & 0.4750 \\\\\n"
        "hybrid (default) & \\textbf{0.5000} & \\textbf{0.5000} & \\textbf{0.5000} \\\\\n"
        "\\bottomrule\n\\end{tabular}\n"
    ) in text
    assert "+0.0500 (+12.5 \\%)$^{\\ast" in text


def test_csv_and_json(two):
    report = build_report([two.folder])
    lines = report.render("csv").split("\r\n")
    assert lines[0] == "table,row,column,value,text,best,mark,p_value,ci_low,ci_high,origin"
    assert "quality: nDCG@10,hybrid (default),a_b,0.5,0.5000,yes,,,,,measured" in lines
    value = json.loads(report.render("json"))
    assert value["format"] == "smart-report/1"
    cell = value["tables"][1]["rows"][1]["cells"]["a_b"]
    assert cell["value"] == pytest.approx(0.1)
    assert cell["ci_low"] < 0.1 < cell["ci_high"]
    assert value["files"][0]["run"]["commit"] == "abc1234"
    with pytest.raises(ReportError, match="format: found 'html', expected one of 'csv'"):
        report.render("html")


def test_means_are_over_what_all_systems_have(results):
    results.write("a.json", results.beir("a"))
    results.write("b.json", results.beir("b"))
    results.write("c.json", results.compare("c", systems={"anchor": 0.9, "BM25": 0.9, "SMART": 0.9}))
    results.write("d.json", results.compare("a", systems={"anchor": 0.4, "BM25": 0.1, "SMART": 0.5}))
    results.write("e.json", results.compare("b", systems={"anchor": 0.4, "BM25": 0.3, "SMART": 0.5}))
    table = table_of(build_report([results.folder]))
    assert table.columns == ("a", "b", "c", "mean")
    assert shown(table)["BM25"] == ["0.1000", "0.3000", "*0.9000", "0.2000"]
    assert shown(table)["late (default)"] == ["0.4500", "0.4500", "–", "0.4500"]
    # Without c, which late lacks: 0.9 lifts nobody's mean.
    assert shown(table)["anchor"][-1] == "0.4000"
    assert "mean over the 2 data sets that all systems have (a, b), without c" in table.notes
    assert "not measured on c: late (default)" in table.notes


def test_no_mean_without_two_common_data_sets(results):
    results.write("a.json", results.beir("a"))
    results.write("b.json", results.compare("b", systems={"anchor": 0.9, "BM25": 0.9}))
    table = table_of(build_report([results.folder]))
    assert table.columns == ("a", "b")
    assert table.notes[0] == "no mean: no of the 2 data sets has results of all systems"


def test_incomparable_results_are_kept_apart(results):
    results.write("a.json", results.beir(hybrid=0.5))
    results.write("b.json", results.beir(hybrid=0.6, prompts={"query": "find: ", "document": ""}))
    results.write("c.json", results.beir(hybrid=0.7, data={"fingerprint": "other"}))
    report = build_report([results.folder])
    table = table_of(report)
    assert table.columns[:2] == ("tiny (test, tiny-tex)", "tiny (test, other)")
    rows = shown(table)
    assert rows["hybrid (default) [prompts none]"][:2] == ["0.5000", "*0.7000"]
    assert rows["hybrid (default) [prompts query 'find: ']"][:2] == ["*0.6000", "–"]
    assert any("data that differ" in note for note in report.notes)
    assert any("settings that differ" in note for note in report.notes)
    # Each is compared with the anchor of its own prompts and data.
    gains = shown(table_of(report, "gains"))
    assert gains["hybrid (default) [prompts query 'find: ']"][0].startswith("+0.2000")


def test_differing_versions_are_noted(results):
    results.write("a.json", results.beir("a"))
    results.write("b.json", results.beir("b", versions={"torch": "2.12.0"}))
    assert "measured with different versions: torch 2.12.0 and 2.13.0" in build_report([results.folder]).notes


def test_codecs_are_compared_with_the_anchor_of_another_file(results):
    results.write("a.json", results.beir())
    results.write("b.json", results.codecs(codecs={"int8": 0.49, "float32/pool2": 0.48}))
    rows = shown(table_of(build_report([results.folder]), "gains"))
    assert rows["hybrid, int8 (default)"] == ["+0.0900 (+22.5 %)"]
    assert "hybrid, float32/pool2 (default)" in rows
    cost = shown(table_of(build_report([results.folder]), "cost"))
    assert cost["hybrid, int8 (default)"] == ["21", "–"]


def test_another_metric(two):
    assert table_of(build_report([two.folder], metric="map")).title == "MAP"
    with pytest.raises(ReportError, match="metric: found 'ndcg', expected one of 'map', 'mrr@10', 'ndcg@10'"):
        build_report([two.folder], metric="ndcg")


def test_the_best_and_ties():
    rows = [[Cell("0.4", 0.44)], [Cell("0.4", 0.36)], [Cell("–")], [Cell("0.3", 0.3)]]
    assert [row[0].best for row in marked_best(rows)] == [True, True, False, False]
    assert not marked_best([[Cell("0.4", 0.4)], [Cell("–")]])[0][0].best
    assert marked_best([[Cell("-0.1", -0.1)], [Cell("-0.2", -0.2)]])[0][0].best
    assert marked_best([]) == []


def test_titles():
    assert [metric_title(name) for name in ("recall@100", "mrr@10", "foo@1")] == ["Recall@100", "MRR@10", "foo@1"]


# -- against ---------------------------------------------------------------------------------------------------


def reference(*rows):
    keys = ("system", "source", "dataset", "metric", "value")
    return {"format": "smart-reference/1", "rows": [dict(zip(keys, row, strict=True)) for row in rows]}


def test_reference_figures_show_their_source(two):
    file = two.write(
        "../reference.json",
        reference(("BM25", "Table 2", "a_b", "ndcg@10", 0.9), ("BM25", "Table 2", "c|d", "ndcg@10", 0.1),
                  ("BM25", "Table 2", "else", "ndcg@10", 0.1), ("E5", "its card", "a_b", "ndcg@10", 0.2)),
    )  # fmt: skip
    report = build_report([two.folder], against=file)
    table = table_of(report)
    assert table.columns == ("a_b", "c|d", "mean", "source")
    assert table.references == 2
    assert shown(table)["BM25"] == ["0.9000", "0.1000", "0.5000", "Table 2"]
    assert shown(table)["E5"] == ["0.2000", "–", "–", "its card"]
    # The best is sought among what was measured.
    assert shown(table)["hybrid (default)"][0] == "*0.5000"
    assert "reference figures without a column of their data set: else" in report.notes
    assert report.render("latex").count("\\midrule") == len(report.tables) + 1
    assert ",reference\r\n" in report.render("csv")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "found no rows"),
        ([("a", "", "b", "map", 0.1)], "row 1: expected system, source"),
        ([("a", "s", "b", "map", 0.1), ("a", "s", "b", "map", 66.5)], "row 2: found value 66.5, expected a number"),
        ([("a", "s", "b", "map", 0.1), ("a", "s", "b", "map", 0.2)], "row 2: found a second value"),
        ([("a", "s", "b", "map", True)], "found value True"),
    ],
)
def test_wrong_reference_files(two, rows, message):
    file = two.write("../reference.json", reference(*rows))
    with pytest.raises(ReportError, match=message):
        build_report([two.folder], against=file)


def test_against_other_results(results):
    old = results.write("old/a.json", results.beir(hybrid=0.45, late=0.45))
    results.write("new/a.json", results.beir(hybrid=0.5, late=0.45, versions={"torch": "3"}))
    results.write("new/b.json", results.beir("other"))
    report = build_report([results.folder / "new"], against=old)
    rows = shown(table_of(report, "against"))
    assert rows["hybrid (default)"][0].startswith("+0.0500 (+11.1 %)")
    assert rows["late (default)"] == ["+0.0000 (+0.0 %)", "–"]
    assert [str(file.path) for file in report.files][-1] == str(old)
    nothing = build_report([results.folder / "new/b.json"], against=old)
    assert any("no system in common" in note for note in nothing.notes)


def test_published_without_published_figures_is_noted(two):
    assert "no published figures are known here for a_b, c|d" in build_report([two.folder], against="published").notes


def test_hostile_names_stay_text(results):
    results.write("a.json", results.beir(HOSTILE, model=HOSTILE, preset=HOSTILE))
    report = build_report([results.folder])
    markdown, latex = report.render(), report.render("latex")
    assert "<b>" not in markdown
    assert "[x](" not in markdown
    assert all(line.count("|") - line.count("\\|") == 3 for line in markdown.splitlines()[2:6])
    body = "\n".join(line for line in latex.splitlines() if not line.startswith("%"))
    assert body.count("{") == body.count("}")
    assert "\\_b \\& 50\\%" in body


def test_a_system_with_a_source_for_each_data_set_is_one_row(two):
    rows = (("BM25", "Table 2", "a_b", "ndcg@10", 0.9), ("BM25", "Table 3", "c|d", "ndcg@10", 0.1))
    table = table_of(build_report([two.folder], against=two.write("../reference.json", reference(*rows))))
    assert table.references == 1
    assert shown(table)["BM25"] == ["0.9000", "0.1000", "0.5000", "Table 2; Table 3"]
