"""Comma-separated values: rows with the names of their columns, whatever separates them."""

from __future__ import annotations

from typing import Any

import pytest
from fixtures.documents import outline, written
from hypothesis import given
from hypothesis import strategies as st

from smart_retrieval.documents.read import ReadOptions, read_file
from smart_retrieval.documents.readers.tables import TableText
from smart_retrieval.files import UnreadableFileError


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_rows_say_their_columns(read: Any, separator: str) -> None:
    rows = [["Name", "Note", "Year"], ["Ada", '"first, of; all"', "1815"], ["", "", ""], ["Bob", "", "1,5"]]
    text = "\n".join(separator.join(row) for row in rows[:3]) + f"\nBob{separator}{separator}1.5\n"
    found = read("a.csv", text)
    assert outline(found) == [
        ((), "Name | Note | Year\n\nName: Ada | Note: first, of; all | Year: 1815\n\nName: Bob | Year: 1.5")
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,2\n3,4\n", "1 | 2\n\n3 | 4"),  # no names
        ("a,a\nb,c\n", "a | a\n\nb | c"),
        ("only,names\n", "only | names"),
        ("one column\nof text\n", "one column\n\none column: of text"),
        ('a,b\n"two\nlines",x\n', "a | b\n\na: two\nlines | b: x"),
        ("a,b\n1,2,3\n", "a | b\n\na: 1 | b: 2 | 3"),
        ("a,,c\n1,2,3\n", "a | c\n\na: 1 | 2 | c: 3"),
        ('a,b\n"never closed,2\n', "a | b\n\na: never closed,2"),
    ],
)
def test_odd_tables(read: Any, text: str, expected: str) -> None:
    (section,) = read("a.csv", text).sections
    assert section.text == expected


def test_empty_tables(read: Any) -> None:
    assert read("a.csv", "").sections == []
    assert read("a.tsv", "\n\n").sections == []


def test_what_names_make_of_a_table_is_bounded(tmp_path: Any) -> None:
    names = ",".join(f"{number}{'x' * 70}y" for number in range(60))
    data = f"{names}\n" + f"{','.join('1' * 60)}\n" * 2000
    with pytest.raises(UnreadableFileError, match="a table of more than"):
        read_file(written(tmp_path, "a.csv", data), ReadOptions(max_bytes=300_000))


@given(st.lists(st.lists(st.text("ab1 ", max_size=4), max_size=4), max_size=30))
def test_no_cell_is_lost(rows: list[list[str]]) -> None:
    from pathlib import Path

    text = "\n".join(TableText(Path("a"), 10**6).rows(rows))
    for row in rows:
        for cell in row:
            assert " ".join(cell.split()) in " ".join(text.split())
