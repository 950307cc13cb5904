"""Tables for the terminal show every figure of a result."""

import copy
import io
import json

import pytest
from rich.console import Console

from smart_retrieval.errors import SmartError
from smart_retrieval.evaluation.results import write_json
from smart_retrieval.evaluation.terminal import notes, print_table, render_table

GAIN = {
    "metric": "ndcg@10",
    "mean_baseline": 0.4273,
    "mean_treatment": 0.4611,
    "difference": 0.0338,
    "relative": 0.0791,
    "p_value": 0.00123,
    "ci_low": 0.0121,
    "ci_high": 0.0544,
    "wins": 99,
    "ties": 60,
    "losses": 66,
}


@pytest.fixture
def result():
    def row(name, ndcg, recall, size, milliseconds):
        return {
            "name": name,
            "ndcg@10": ndcg,
            "recall@100": recall,
            "mrr@10": 0.6001,
            "map": 0.3002,
            "bytes_per_document": size,
            "score_ms_per_query": milliseconds,
        }

    return {
        "dataset": {
            "name": "cranfield",
            "split": "test",
            "n_documents": 1400,
            "n_queries": 225,
            "n_judgments": 1837,
            "fingerprint": "0" * 64,
            "warnings": ["2 documents without any text kept: '471', '995'"],
        },
        "model": "minilm",
        "preset": "default",
        "rows": [
            row("anchor", 0.4273, 0.7012, 1536, 0.25),
            row("late", 0.4425, 0.7123, 267264.4, 12.3),
            row("hybrid", 0.4611, 0.7099, 268800.4, 12.6),
        ],
        "gain": {**GAIN, "late": {**GAIN, "difference": -0.0152, "relative": None, "p_value": 0.00001, "wins": 7}},
        "encode": {"seconds": 61.23, "cached": False, "documents_per_second": 22.9, "truncated_documents": 311},
    }


def printed(result, width=120) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(render_table(result))
    return console.file.getvalue()


def line_of(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(start))


def test_every_figure_is_shown(result):
    text = printed(result)
    assert line_of(text, "cranfield") == (
        "cranfield (test): 1,400 documents, 225 queries, 1,837 judgments; model minilm, preset default"
    )
    header = next(line for line in text.splitlines() if "nDCG@10" in line)
    assert header.split() == ["nDCG@10", "Recall@100", "MRR@10", "MAP", "bytes/doc", "encode", "score/query"]
    assert " ".join(line_of(text, "anchor").split()) == "anchor 0.4273 0.7012 0.6001 0.3002 1,536 61.2 s 0.25 ms"
    assert line_of(text, "late").split()[-5:] == ["267,264", "61.2", "s", "12.30", "ms"]
    assert line_of(text, "hybrid").split()[:2] == ["hybrid", "0.4611"]


def test_gains(result):
    text = printed(result, width=200)
    assert line_of(text, "hybrid over") == (
        "hybrid over anchor, nDCG@10: +0.0338 (+7.9%), p = 0.0012, 95 % interval +0.0121 to +0.0544; "
        "99 wins, 60 ties, 66 losses"
    )
    late = line_of(text, "late over")
    assert late.startswith("late over anchor, nDCG@10: -0.0152, p < 0.0001, ")
    assert "7 wins" in late


def test_notes_list_warnings_and_truncation(result):
    result["encode"]["truncated_queries"] = 1
    assert notes(result) == [
        "2 documents without any text kept: '471', '995'",
        "311 of 1,400 documents cut at the model's maximum length",
        "1 of 225 queries cut at the model's maximum length",
    ]


def test_cached_encodings_show_no_time(result):
    result["encode"] = {"seconds": None, "cached": True, "documents_per_second": None, "truncated_documents": 0}
    text = printed(result)
    assert line_of(text, "anchor").split()[-3:] == ["cached", "0.25", "ms"]
    assert notes(result) == ["2 documents without any text kept: '471', '995'"]


def test_the_best_of_each_column_is_bold(result):
    table = render_table(result).renderables[2]
    bold = {column.header: [cell.style for cell in column.cells] for column in table.columns[1:5]}
    assert bold["nDCG@10"] == ["", "", "bold"]
    assert bold["Recall@100"] == ["", "bold", ""]
    assert bold["MAP"] == ["bold", "bold", "bold"]


@pytest.mark.parametrize(("documents", "of"), [(1, "on the documents"), (10**6, "for the model")])
def test_what_was_calibrated_is_said(result, documents, of):
    result["calibration"] = {"lambda_late": 1.09, "floor": 0.19, "documents": documents}
    assert f"calibrated {of}: λ_late 1.09, floor 0.19" in printed(result)


def test_markup_in_names_is_shown_as_text(result):
    result["dataset"]["name"] = "[bold]x[/nonsense]"
    assert "[bold]x[/nonsense] (test)" in printed(result)


def test_the_table_fits_eighty_columns_and_changes_nothing(result):
    before = copy.deepcopy(result)
    assert "score/query" in printed(result, width=80)
    assert "267,264" in printed(result, width=80)
    assert result == before


def test_lines_stay_whole_in_a_file(result, capsys):
    print_table(result)
    captured = capsys.readouterr()
    assert line_of(captured.out, "hybrid over").endswith("66 losses")
    assert captured.err == ""


def test_json_to_stdout_and_file(result, capsys, tmp_path):
    result["dataset"]["name"] = "Straße"
    write_json(result)
    out = capsys.readouterr().out
    assert json.loads(out) == result
    assert "Straße" in out
    write_json(result, tmp_path / "new" / "result.json")
    assert (tmp_path / "new" / "result.json").read_text(encoding="utf-8") == out
    assert capsys.readouterr().out == ""


def test_an_unwritable_file_is_named(result, tmp_path):
    with pytest.raises(SmartError, match="cannot write"):
        write_json(result, tmp_path)
