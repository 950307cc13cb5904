"""Pages read by OCR: from the lines it finds to runs of text as those of a PDF, and to words with their places."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

from ....errors import MissingExtraError
from ....files import UnreadableFileError
from ...sections import one_line
from .. import ocr
from .bidi import union
from .runs import Box, PageText, Run
from .words import Word

_LINE_HEIGHT = 12.0  # points of most lines of a picture, whose size in points nobody knows
_SAME_HEIGHT = 1.35  # heights by which boxes of lines of one font differ, as not all have letters with tails
_TALL = 1.5
_EDGE = 0.15  # of a line's height: what OCR's boxes have around the letters


def scanned_pages(
    path: Path, pages: Sequence[int], read: Callable[[Path, int], ocr.OcrPage]
) -> tuple[dict[int, list[Run]], list[str]]:
    """What OCR reads on pages of a file, and notes on those it failed at."""
    found: dict[int, list[Run]] = {}
    notes = []
    for page in pages:
        try:
            found[page] = scanned_runs(read(path, page))
        except UnreadableFileError as error:  # it costs a page and not the file
            notes.append(f"page {page} cannot be read by OCR: {error.reason}")
    return found, notes


def pages_beyond(most: int, pages: Sequence[int]) -> list[tuple[str, str]]:
    """Why pages are left out, and which."""
    reason = f"pages that OCR would read, beyond the first {most:,} of a file"
    return [(reason, f"page {page}") for page in pages]


def with_scanned(page: PageText, runs: list[Run], *, replace_all: bool) -> PageText:
    """A page with what OCR reads there, where it has no text of its own."""
    own = [] if replace_all else page.runs

    def is_new(run: Run) -> bool:
        x, y = (run.box.left + run.box.right) / 2, (run.box.bottom + run.box.top) / 2
        boxes = [one.box for one in own if one.turn == run.turn]
        return not any(box.left <= x <= box.right and box.bottom <= y <= box.top for box in boxes)

    return replace(page, runs=[*own, *filter(is_new, runs)], unreadable=0, drawn=False)


def scanned_runs(page: ocr.OcrPage) -> list[Run]:
    """The lines of a page as runs in points, level even if the page was scanned askew."""
    flat = _level(page)
    usual = median([box.top - box.bottom for _, box in flat] or [1.0])
    scale = _LINE_HEIGHT / max(usual, 1.0)
    if page.points is not None:
        scale = max(page.points) / max(page.width, page.height)
    runs = []
    for text, box in flat:
        height = box.top - box.bottom
        if usual / _SAME_HEIGHT < height < usual * _SAME_HEIGHT:
            middle = (box.bottom + box.top) / 2
            box = Box(box.left, middle - usual / 2, box.right, middle + usual / 2)
        turn = page.turn
        if height > _TALL * (box.right - box.left) and len(text) > 2:  # upright at an edge, say
            box, turn = box.turned(1, page.width, page.height), (turn + 1) % 4
        runs.append(Run(text, Box(*(side * scale for side in box)), turn))
    return runs


def _level(page: ocr.OcrPage) -> list[tuple[str, Box]]:
    """Lines with their boxes in pixels from the lower left corner, turned by as much as most lines slant."""
    slants = []
    for line in page.lines:
        (x, y), (right, end), *_ = line.corners
        if right - x > 2 * abs(end - y):
            slants.append((right - x, math.atan2(end - y, right - x)))
    # Long lines say most exactly how much.
    slant = median([angle for _, angle in sorted(slants)[-15:]] or [0.0])
    cos, sin = math.cos(slant), math.sin(slant)
    found = []
    for line in page.lines:
        text = one_line(line.text)
        corners = [(x * cos + y * sin, page.height - (y * cos - x * sin)) for x, y in line.corners]
        if text:
            found.append((text, union([Box(x, y, x, y) for x, y in corners])))
    return found


def ocr_words(path: Path, page: int | None) -> list[Word]:
    """The words that OCR reads on a page of a PDF or picture; places within a line are estimated.

    Raises:
        UnreadableFileError: The file or page cannot be read.
        MissingExtraError: OCR, or what opens the file, is not installed.
    """
    if not ocr.installed():
        raise MissingExtraError(ocr.NOT_INSTALLED)
    number = page or 1
    found = ocr.read_page(path, number) if path.suffix.lower() == ".pdf" else ocr.read_picture(path, number)
    return [word for line in found.lines for word in _words(line, found, number)]


def _words(line: ocr.OcrLine, page: ocr.OcrPage, number: int) -> list[Word]:
    from PIL import ImageFont

    measure = ImageFont.load_default(20)  # the share of each word in its line, about
    text = one_line(line.text)
    whole = measure.getlength(text) or 1.0
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = line.corners
    width, height = math.hypot(x1 - x0, y1 - y0), math.hypot(x3 - x0, y3 - y0)
    edge = min(0.3, _EDGE * height / max(width, 1.0))
    found, start = [], 0
    for word in text.split():
        ends = (measure.getlength(text[:start]) / whole, measure.getlength(text[: start + len(word)]) / whole)
        start += len(word) + 1
        one, other = (edge + (1 - 2 * edge) * end for end in ends)
        corners = [
            Box(x, y, x, y)
            for part in (one, other)
            for x, y in (
                (x0 + part * (x1 - x0), page.height - y0 - part * (y1 - y0)),
                (x3 + part * (x2 - x3), page.height - y3 - part * (y2 - y3)),
            )
        ]
        box = union(corners).turned(-page.turn % 4, page.width, page.height)
        w, h = (page.height, page.width) if page.turn % 2 else (page.width, page.height)
        found.append(Word(word, (box.left / w, 1 - box.top / h, box.right / w, 1 - box.bottom / h), number))
    return found
