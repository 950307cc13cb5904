"""Any text is escaped in Markdown, LaTeX and CSV."""

import csv
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smart_retrieval.errors import ReportError
from smart_retrieval.evaluation.report.formats import to_csv, to_dict, to_latex, to_markdown
from smart_retrieval.evaluation.report.tables import Cell, Table
from smart_retrieval.files import write_text

ANY = st.text(max_size=20)
SPECIAL = "_&%|\\{}$#~^<>*`[]\"'=+-@\t\n\r"


@st.composite
def tables(draw):
    words = st.one_of(ANY, st.text(SPECIAL, max_size=8))
    columns = draw(st.lists(words, min_size=1, max_size=3, unique=True))
    cells = st.one_of(
        st.builds(lambda value, best: Cell(f"{value:.4f}", value, best), st.floats(-1, 1), st.booleans()),
        st.builds(Cell, words),
    )
    row = st.tuples(words, st.tuples(*[cells] * len(columns)))
    rows = draw(st.lists(row, max_size=3))
    return Table(
        "quality", draw(words), draw(words), tuple(columns), tuple(rows), 0, tuple(draw(st.lists(words, max_size=2)))
    )


@given(tables())
def test_markdown_escapes_keep_the_table_intact(table):
    lines = to_markdown(table).split("\n")
    body = [line for line in lines if line.startswith("|")]
    assert len(body) == 2 + len(table.rows)
    for line in body:
        assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) == len(table.columns) + 2
    assert not re.search(r"<(?! )|[\r\t]|(?<!\\)\[", "".join(lines))


@given(tables())
def test_latex_is_balanced(table):
    text = to_latex(table)
    plain = re.sub(r"\\[{}$]", "", text)
    depth = 0
    for character in plain:
        depth += {"{": 1, "}": -1}.get(character, 0)
        assert depth >= 0
    assert depth == 0
    assert re.findall(r"\\begin\{(\w+)\}", text) == ["table", "tabular"]
    assert re.findall(r"\\end\{(\w+)\}", text) == ["tabular", "table"]
    assert plain.count("$") % 2 == 0
    for special in "%#_":
        assert not re.search(rf"(?<!\\){special}", plain)
    body = text[text.index("\\toprule") : text.index("\\bottomrule")]
    rows = [line for line in body.split("\n") if line.endswith(r"\\")]
    assert len(rows) == 1 + len(table.rows)
    assert all(len(re.findall(r"(?<!\\)&", row)) == len(table.columns) for row in rows)


@given(tables())
def test_csv_round_trip_without_formulas(table):
    text = to_csv([table])
    rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    assert ",".join(rows[0]) == "table,row,column,value,text,best,mark,p_value,ci_low,ci_high,origin"
    assert len(rows) == 1 + len(table.rows) * len(table.columns)
    given_rows = [
        (label, column, cell) for label, cells in table.rows for column, cell in zip(table.columns, cells, strict=True)
    ]
    for row, (label, column, cell) in zip(rows[1:], given_rows, strict=True):
        for told, meant in ((row[1], label), (row[2], column)):
            assert not told.lstrip(" ").startswith(("=", "+", "-", "@"))
            plain = "".join(c if c.isprintable() else " " for c in meant)
            assert told in (plain, f"'{plain}")
        if cell.value is not None:
            assert float(row[3]) == cell.value
        else:
            assert row[3] == ""
    assert text.count("\r\n") >= len(rows)


@pytest.mark.parametrize("start", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "  =1", "＝1"])
def test_formulas(start):
    text = to_csv([Table("quality", "t", "s", (start,), ((start, (Cell(start),)),))])
    row = list(csv.reader(io.StringIO(text, newline="")))[1]
    assert all(row[place].startswith("'") for place in (1, 2, 4))


def test_negative_numbers_stay_numbers():
    table = Table("gains", "t", "s", ("a",), (("x", (Cell("-0.0123 (-1.2 %)", -0.0123, mark="*"),)),))
    row = next(iter(csv.DictReader(io.StringIO(to_csv([table]), newline=""))))
    assert (row["value"], row["text"], row["mark"]) == ("-0.0123", "-0.0123 (-1.2 %)", "*")
    assert "$-$0.0123 ($-$1.2 \\%)$^{\\ast}$" in to_latex(table)
    assert "| -0.0123 (-1.2 %) \\* |" in to_markdown(table)


def test_json():
    table = Table("gains", "t", "s", ("a",), (("x", (Cell("1", 1.0, True, "*", {"p_value": 0.01}),)),), 1, ("note",))
    assert to_dict(table) == {
        "name": "gains",
        "title": "t",
        "columns": ["a"],
        "rows": [
            {
                "label": "x",
                "reference": True,
                "cells": {"a": {"text": "1", "value": 1.0, "best": True, "mark": "*", "p_value": 0.01}},
            }
        ],
        "notes": ["note"],
    }


def test_files_keep_line_ends(tmp_path):
    write_text("a\r\nλ\ud800", tmp_path / "new/a.csv", ReportError)
    assert (tmp_path / "new/a.csv").read_bytes() == b"a\r\n\xce\xbb\\ud800"
    with pytest.raises(ReportError, match="cannot write"):
        write_text("a", tmp_path, ReportError)
