"""OCR's lines as runs of a page: level, of one height, turned; and its words' places."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import pytest

from smart_retrieval.documents.readers import ocr
from smart_retrieval.documents.readers.ocr import OcrLine, OcrPage
from smart_retrieval.documents.readers.pdf.runs import Box, PageText, Run
from smart_retrieval.documents.readers.pdf.scanned import ocr_words, scanned_runs, with_scanned


def line(text: str, left: float, top: float, right: float, bottom: float, slant: float = 0.0) -> OcrLine:
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    cos, sin = math.cos(slant), math.sin(slant)
    return OcrLine(text, [(x * cos - y * sin, x * sin + y * cos) for x, y in corners])


def test_lines_of_a_page_askew_become_level_and_of_one_height() -> None:
    lines = [line(f"line {n}", 100, 100 + 50 * n, 900, 130 + 50 * n + 4 * (n % 2), math.radians(3)) for n in range(5)]
    runs = scanned_runs(OcrPage(1000, 1000, lines=lines, points=(500, 500)))
    assert [run.text for run in runs] == [f"line {n}" for n in range(5)]
    heights = [run.box.top - run.box.bottom for run in runs]
    assert heights == pytest.approx([15] * 5, abs=2)
    assert max(heights) - min(heights) < 0.01
    assert all(one.box.bottom > other.box.top for one, other in pairwise(runs))


def test_pictures_have_lines_of_usual_height_and_upright_ones_are_turned() -> None:
    lines = [line("one", 10, 10, 300, 50), line("two", 10, 60, 300, 100), line("at the edge", 380, 20, 395, 300)]
    runs = scanned_runs(OcrPage(400, 400, lines=lines))
    assert runs[0].box.top - runs[0].box.bottom == pytest.approx(12)
    assert [run.turn for run in runs] == [0, 0, 1]
    edge = runs[2].box
    assert edge.right - edge.left > edge.top - edge.bottom


def test_text_of_the_page_is_kept_and_not_read_twice() -> None:
    own = Run("Stamp 7", Box(10, 10, 60, 20))
    runs = [Run("Stamp7", Box(11, 11, 58, 21)), Run("new", Box(10, 100, 60, 112))]
    page = PageText([own], drawn=True)
    assert [run.text for run in with_scanned(page, runs, replace_all=False).runs] == ["Stamp 7", "new"]
    assert [run.text for run in with_scanned(page, runs, replace_all=True).runs] == ["Stamp7", "new"]
    unreadable = with_scanned(PageText(unreadable=9, drawn=True), [], replace_all=False)
    assert (unreadable.runs, unreadable.unreadable) == ([], 0)


@pytest.mark.parametrize("turn", range(4))
def test_words_have_their_places_on_the_page_as_it_is_shown(monkeypatch: pytest.MonkeyPatch, turn: int) -> None:
    size = (400, 1000) if turn % 2 else (1000, 400)
    page = OcrPage(*size, turn, [line("mm mm", 0, 0, 300, 40)])
    monkeypatch.setattr(ocr, "installed", lambda: True)
    monkeypatch.setattr(ocr, "read_picture", lambda path, number: page)
    one, other = ocr_words(Path("a.png"), None)
    assert (one.text, other.text) == ("mm", "mm")
    # The upright page's upper left corner, on the page as it is shown.
    corner = {0: (0, 0), 1: (0, 1), 2: (1, 1), 3: (1, 0)}[turn]
    nearest = min(one.box[0::2], key=lambda x: abs(x - corner[0])), min(one.box[1::2], key=lambda y: abs(y - corner[1]))
    assert nearest == pytest.approx(corner, abs=0.03)
    along = 1 if turn % 2 else 0
    assert abs(other.box[along] - one.box[along]) > 0.1
    assert all(0 <= side <= 1 for word in (one, other) for side in word.box)
