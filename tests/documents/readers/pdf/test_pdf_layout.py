"""Lines, paragraphs, headings and running lines of pages given as runs of text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from smart_retrieval.documents.readers.pdf.layout import Line, lines_in_order
from smart_retrieval.documents.readers.pdf.paragraphs import heading_line, paragraphs
from smart_retrieval.documents.readers.pdf.running import drop_running_lines
from smart_retrieval.documents.readers.pdf.runs import SLANTED, Box, PageText, Run


def run(text: str, bottom: float = 700, left: float = 50, *, height: float = 12, turn: int = 0) -> Run:
    return Run(text, Box(left, bottom, left + 6 * len(text), bottom + height), turn)


def texts(pages: list[PageText]) -> list[list[str]]:
    return [[found.text for found in page.runs] for page in pages]


def test_paragraphs_keep_rows_and_list_items_as_lines() -> None:
    def row(text: str, bottom: float, right: float) -> Line:
        return Line(text, 50, right, bottom, 12)

    page = [row("A full line of text that", 700, 300), row("goes on", 686, 110), row("short", 672, 100)]
    assert paragraphs(page) == ["A full line of text that goes on\nshort"]
    page = [row("A full line that ends here, then:", 700, 300), row("• one", 686, 80), row("• two", 672, 80)]
    assert paragraphs(page) == ["A full line that ends here, then:\n• one\n• two"]
    assert paragraphs([]) == []
    assert paragraphs([Line("cut off", hyphen=True)]) == ["cut off-"]


def test_heading_lines() -> None:
    page = [Line("Intro"), Line("Introduction"), Line("3.1 Logs and"), Line("rotation"), Line("Logs")]
    assert heading_line(page, "Introduction", 0) == (1, 1)
    assert heading_line(page, "Logs and rotation", 0) == (2, 2)
    assert heading_line(page, "Logs", 0) == (4, 1)
    assert heading_line(page, "missing", 0) is None
    assert heading_line(page, "!!!", 0) is None


def test_running_lines_are_the_same_in_the_same_place() -> None:
    def pages(line: str, count: int = 6, rise: float = 0) -> list[PageText]:
        edge = [run(line.format(number), 760 + rise * number) for number in range(1, count + 1)]
        return [PageText([line, run(f"body {number}", 400), run("the end", 300)]) for number, line in enumerate(edge)]

    for line in ("Guide", "{}", "- {} -", "Page {} of 6", "S. {}/6", "第 {} 页"):
        assert [len(page) for page in texts(drop_running_lines(pages(line)))] == [3, 1, 1, 1, 1, 1], line
    for line in ("Chapter {}", "{} apples", "Guide {}", "Page {} of the report on whales, in full"):
        assert all(line.format(number) in page for number, page in enumerate(texts(drop_running_lines(pages(line))), 1))
    assert all("Guide" in page for page in texts(drop_running_lines(pages("Guide", rise=20))))  # not in one place
    assert drop_running_lines(pages("Guide", 3)) == pages("Guide", 3)
    same = [PageText([run("Only this")])] * 6
    assert drop_running_lines(same) == same  # a page keeps its last line


def test_numbers_that_do_not_count_pages_stay() -> None:
    pages = [
        PageText([run(number, 760), run(f"body {number}", 400), run("x", 300)]) for number in ("3", "1", "9", "4", "8")
    ]
    assert [page[0] for page in texts(drop_running_lines(pages))] == ["3", "1", "9", "4", "8"]


def test_exponents_and_turned_text() -> None:
    page = [
        run("at a speed of 10", 700),
        run("−3", 706, 150, height=7),
        run("sideways", 100, turn=1),
        run("DRAFT", turn=SLANTED),
    ]
    assert [line.text for line in lines_in_order(page)] == ["at a speed of 10 −3", "sideways", "DRAFT"]
    assert lines_in_order([]) == []


def test_three_columns() -> None:
    columns = [[f"column {at} says that", f"line {at} goes on and", f"on to the end {at}"] for at in range(3)]
    page = [
        run(text, 700 - 14 * row, 50 + 170 * at) for row in range(3) for at, text in enumerate(c[row] for c in columns)
    ]
    assert [line.text for line in lines_in_order(page)] == [text for column in columns for text in column]


def test_headers_and_footers_of_two_parts_stay_out_of_the_columns() -> None:
    columns = [[f"column {at} says that", f"line {at} goes on and", f"on to the end {at}"] for at in range(2)]
    page = [
        run(text, 700 - 14 * row, 50 + 170 * at) for at, column in enumerate(columns) for row, text in enumerate(column)
    ]
    edges = [run("Journal", 760), run("2024", 760, 260), run("© us", 40), run("12", 40, 260)]
    found = [line.text for line in lines_in_order([*edges, *page])]
    assert found == ["Journal", "2024", *columns[0], *columns[1], "© us", "12"]


def test_columns_of_right_to_left_text_begin_at_the_right() -> None:
    words = ["שורה ראשונה של טור", "שורה שנייה של טור", "שורה שלישית בטור"]
    page = [
        run(f"{text} {'אב'[at]}", 700 - 14 * row, 300 - 200 * at) for row, text in enumerate(words) for at in range(2)
    ]
    assert [line.text[-1] for line in lines_in_order(page)] == list("אאאבבב")


@given(
    st.lists(
        st.tuples(
            st.integers(0, 40), st.integers(0, 40), st.integers(1, 20), st.sampled_from([4, 12, 30]), st.integers(0, 4)
        ),
        max_size=30,
    )
)
def test_no_run_is_lost_whatever_the_layout(places: list[tuple[int, int, int, int, int]]) -> None:
    page = [
        run(f"w{index}" + "x" * width, 15 * bottom, 12 * left, height=height, turn=turn)
        for index, (left, bottom, width, height, turn) in enumerate(places)
    ]
    found = " ".join(line.text for line in lines_in_order(page)).split()
    assert sorted(found) == sorted(item.text for item in page)
