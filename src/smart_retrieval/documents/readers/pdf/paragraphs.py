"""Lines joined to paragraphs, and the lines of headings found among them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from statistics import median

from .layout import Line

_MOST_HEADING_LINES = 5
_MOST_PITCH = 2.2  # heights of a line, between lines of a paragraph

_NO_LETTERS = re.compile(r"[\W_]+")
_SENTENCE_END = re.compile(r"[.!?:;…。！？][\"'”’»)\]]*$")
_BULLET = re.compile(r"[•‣◦▪●■–—*·-]\s|\(?(?:\d{1,3}|[a-z])[.)]\s")


def heading_line(lines: Sequence[Line], title: str, start: int) -> tuple[int, int] | None:
    """Where a title of the outline (perhaps with a number) stands on its page: index and number of its lines."""
    wanted = _bare(title)
    if not wanted:
        return None
    for index in range(start, len(lines)):
        so_far = ""
        for count, line in enumerate(lines[index : index + _MOST_HEADING_LINES], start=1):
            so_far += _bare(line.text)
            if so_far.endswith(wanted) and (so_far == wanted or so_far[: -len(wanted)].isdigit()):
                return index, count
            if not wanted.startswith(so_far.lstrip("0123456789")):
                break
    return None


def _bare(text: str) -> str:
    return _NO_LETTERS.sub("", text.casefold())


def paragraphs(lines: Sequence[Line]) -> list[str]:
    """Join the lines of a page to paragraphs.

    A new paragraph begins after a wide gap, a change of font size, or a short line that ends a sentence. Other short
    lines (rows of a table, an address) stay lines. Divided words are made whole; the hyphen stays before a capital or a
    digit.
    """
    if not lines:
        return []
    pitches = [above.bottom - below.bottom for above, below in pairwise(lines) if above.height]
    usual = median([pitch for pitch in pitches if pitch > 1] or [0.0])
    usual = min(usual, _MOST_PITCH * median(line.height for line in lines))
    edges: dict[tuple[int, int, int], float] = defaultdict(
        float
    )  # how far right the lines reach that begin at about the same place
    for line in lines:
        edges[_column(line)] = max(edges[_column(line)], line.right)
    found: list[str] = []
    text = lines[0].text
    for above, below in pairwise(lines):
        if above.hyphen:
            text += below.text if below.text[0].islower() else "-" + below.text
        elif _is_break(above, below, usual, edges):
            found.append(text)
            text = below.text
        elif (
            max(above.cells, below.cells) > 1  # rows of a table
            or _BULLET.match(below.text)
            or (_is_short(above, edges, 0.7) and above.bottom != below.bottom)
        ):
            text += "\n" + below.text
        else:
            text += " " + below.text
    return [*found, text + ("-" if lines[-1].hyphen else "")]


def _column(line: Line) -> tuple[int, int, int]:
    return line.turn, line.block, int(line.left // 72)


def _is_short(line: Line, edges: dict[tuple[int, int, int], float], share: float) -> bool:
    edge = edges[_column(line)]
    return edge > line.left and (line.right - line.left) < share * (edge - line.left)


def _is_break(above: Line, below: Line, usual: float, edges: dict[tuple[int, int, int], float]) -> bool:
    """Whether a paragraph ends between two lines."""
    if above.turn != below.turn:
        return True
    if not (above.height and below.height):
        return False
    ends = bool(_SENTENCE_END.search(above.text))
    pitch = above.bottom - below.bottom
    if pitch < -above.height:  # up again: the next column, which a sentence may run into
        return ends
    if abs(above.height - below.height) > 0.15 * max(above.height, below.height) and abs(pitch) > 1:
        return True
    return pitch > 1.35 * usual > 0 or (ends and _is_short(above, edges, 0.85))
