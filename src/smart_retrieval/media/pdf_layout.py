"""From lines on pages to paragraphs: what a PDF does not say, read off where its lines stand."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median

_SENTENCE_END = re.compile(r"[.!?:;…。！？][\"'”’»)\]]*$")
_BULLET = re.compile(r"[•‣◦▪●■–—*·-]\s|\(?(?:\d{1,3}|[a-z])[.)]\s")
_MOST_HEADING_LINES = 5
_RUNNING_SHARE = 0.7  # a first or last line on so many of the pages is a header or footer
_RUNNING_PAGES = 4


@dataclass(frozen=True, slots=True)
class Line:
    """One line of text on a page.

    Attributes:
        text: Its text, spaces single.
        left, right: Where it begins and ends, in points from the page's left edge; both 0 if unknown.
        bottom: Height of its font's lower edge above the page's lower edge, in points.
        height: Height of its font, in points; 0 if unknown.
        hyphen: Whether it ended with a hyphen (not in `text`) that divides a word.
    """

    text: str
    left: float = 0.0
    right: float = 0.0
    bottom: float = 0.0
    height: float = 0.0
    hyphen: bool = False

    def hyphenated(self) -> Line:
        """The same line, ending in a divided word."""
        return replace(self, hyphen=True)


def paragraphs(lines: Sequence[Line]) -> list[str]:
    """Join the lines of a page to paragraphs.

    A new paragraph begins after a wide gap, a change of font size, or a short line that ends a sentence. Other short
    lines (rows of a table, an address) stay lines. Divided words are made whole; the hyphen stays before a capital or a
    digit.

    Example:
        >>> paragraphs([Line("They ro", hyphen=True), Line("tate.")])
        ['They rotate.']
    """
    if not lines:
        return []
    pitches = [above.bottom - below.bottom for above, below in pairwise(lines) if above.height]
    usual = median([pitch for pitch in pitches if pitch > 1] or [0.0])
    edges = _right_edges(lines)
    found: list[str] = []
    text = lines[0].text
    for above, below in pairwise(lines):
        if above.hyphen:
            text += below.text if below.text[0].islower() else "-" + below.text
        elif _is_break(above, below, usual, edges):
            found.append(text)
            text = below.text
        elif _BULLET.match(below.text) or (_is_short(above, edges, 0.7) and above.bottom != below.bottom):
            text += "\n" + below.text
        else:
            text += " " + below.text
    return [*found, text + ("-" if lines[-1].hyphen else "")]


def _right_edges(lines: Sequence[Line]) -> dict[int, float]:
    """How far right the lines reach that begin at about the same place: the columns of a page."""
    edges: dict[int, float] = defaultdict(float)
    for line in lines:
        edges[_column(line)] = max(edges[_column(line)], line.right)
    return edges


def _column(line: Line) -> int:
    return int(line.left // 72)


def _is_short(line: Line, edges: dict[int, float], share: float) -> bool:
    edge = edges[_column(line)]
    return edge > line.left and (line.right - line.left) < share * (edge - line.left)


def _is_break(above: Line, below: Line, usual: float, edges: dict[int, float]) -> bool:
    """Whether a paragraph ends between two lines."""
    if not (above.height and below.height):
        return False
    ends = bool(_SENTENCE_END.search(above.text))
    pitch = above.bottom - below.bottom
    if pitch < -above.height:  # up again: the next column, which a sentence may run into
        return ends
    if abs(above.height - below.height) > 0.15 * max(above.height, below.height) and abs(pitch) > 1:
        return True
    return pitch > 1.35 * usual > 0 or (ends and _is_short(above, edges, 0.85))


def heading_line(lines: Sequence[Line], title: str, start: int) -> tuple[int, int] | None:
    """Find a title of the outline among the lines of its page; it may run over several lines, and carry a number.

    Args:
        lines: The page.
        title: The title as the outline has it.
        start: First line looked at.

    Returns:
        The index of its first line and the number of its lines; None if it is not there as such.

    Example:
        >>> heading_line([Line("Intro"), Line("2 Log ro-"), Line("tation")], "Log rotation", 0)
        (1, 2)
    """
    wanted = _bare(title)
    if not wanted:
        return None
    for index in range(start, len(lines)):
        so_far = ""
        for count, line in enumerate(lines[index : index + _MOST_HEADING_LINES], start=1):
            so_far += _bare(line.text)
            if so_far in {wanted, *_numbered(so_far, wanted)}:
                return index, count
            if not wanted.startswith(so_far.lstrip("0123456789")):
                break
    return None


def _numbered(found: str, wanted: str) -> list[str]:
    """`found` if it is the wanted title but for a number before it."""
    return [found] if found.endswith(wanted) and found[: -len(wanted)].isdigit() else []


def _bare(text: str) -> str:
    return "".join(character for character in text.casefold() if character.isalnum())


def drop_running_lines(pages: Sequence[Sequence[Line]]) -> list[list[Line]]:
    """Drop headers, footers and page numbers: lines that are the first or last of most pages, digits set aside.

    The first page keeps its own. Fewer than four pages with text are left alone.

    Example:
        >>> pages = [[Line(f"text {word}"), Line(str(n))] for n, word in enumerate("abcd")]
        >>> [[line.text for line in page] for page in drop_running_lines(pages)]
        [['text a', '0'], ['text b'], ['text c'], ['text d']]
    """
    filled = [page for page in pages if len(page) > 1]
    running: list[set[str]] = []
    for place in (0, -1):
        counts = Counter(_without_digits(page[place].text) for page in filled)
        enough = max(_RUNNING_PAGES, _RUNNING_SHARE * len(filled))
        running.append({text for text, count in counts.items() if count >= enough})
    kept: list[list[Line]] = []
    first = True
    for page in pages:
        lines = list(page)
        if not first and len(lines) > 1 and _without_digits(lines[0].text) in running[0]:
            del lines[0]
        if not first and len(lines) > 1 and _without_digits(lines[-1].text) in running[1]:
            del lines[-1]
        first = first and not lines
        kept.append(lines)
    return kept


def _without_digits(text: str) -> str:
    return re.sub(r"\d+", "#", text)
