"""The order in which the text of a page is read: lines across the page, columns of prose one after the other.

A gutter between columns is where few runs of text stand and many end and begin; what crosses it (titles, wide tables)
divides the page into bands. In each band the two sides are columns if they hold prose, or if their lines do not stand
at the same heights. Else they are cells of a table, and its rows stay together.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from statistics import median

from .bidi import is_right_to_left
from .runs import SLANTED, TICKED, UNTICKED, Run

_TOUCHING = 1.0  # points
_NO_GAP = 0.1  # heights of a line: pieces so near are one word
_MOST_DEPTH = 6
_MANY_LINES = 10  # two columns of so many lines that the file holds one after the other are not a table


@dataclass(frozen=True, slots=True)
class Line:
    """One line of text on a page, spaces single; its place and height in points, 0 where unknown.

    `bottom` is the lower edge of its font above the page's lower edge, `height` that of its font; `hyphen` says that a
    hyphen (not in `text`) divides its last word. Turned text has places of its own (see `Run`). `cells` counts
    the pieces between wide gaps, `block` the columns and other parts of the page.
    """

    text: str
    left: float = 0.0
    right: float = 0.0
    bottom: float = 0.0
    height: float = 0.0
    hyphen: bool = False
    turn: int = 0
    cells: int = 1
    block: int = 0


def lines_in_order(runs: Sequence[Run]) -> list[Line]:
    """The lines of a page as they are read; level text first, then turned text by its direction."""
    found: list[Line] = []
    for turn in range(SLANTED):
        level = [run for run in runs if run.turn == turn]
        rtl = is_right_to_left("".join(run.text for run in level))
        for block, rows in enumerate(_blocks(level, rtl, _MOST_DEPTH)):
            found += [_line(row, rtl, block) for row in rows]
    return found + [_line([run], False, 0) for run in runs if run.turn == SLANTED]


def _blocks(runs: list[Run], rtl: bool, depth: int) -> list[list[list[Run]]]:
    """The blocks of a part of a page in reading order, each as rows from left to right; `runs` are in file order."""
    gutter = _gutter(runs) if depth and len(runs) > 3 else None
    if gutter is None:
        return [_rows(runs)]
    usual = _are_columns([run for run in runs if not _crosses(run, gutter)], gutter)
    found: list[list[list[Run]]] = []
    rest: list[Run] = []  # what crosses the gutter, and bands that are no columns, are parts of their own
    for crossing, band in _bands(runs, gutter):
        few = min(map(len, _sides(band, gutter))) < 3
        if crossing or not (usual if few else _are_columns(band, gutter)):
            rest += band
            continue
        found += _blocks(rest, rtl, depth - 1)
        rest = []
        for row in _parts(band, gutter):
            sides = _sides(row, gutter)
            for side in reversed(sides) if rtl else sides:
                found += _blocks(side, rtl, depth - 1)
    return found + _blocks(rest, rtl, depth - 1) if found else [_rows(runs)]


def _gutter(runs: Sequence[Run]) -> float | None:
    """Where most runs end on one side and begin on the other, at least two each, and few cross."""
    begins = sorted(run.box.left for run in runs)
    ends = sorted(run.box.right for run in runs)
    best, gutter = 0.0, None
    for begun, left in enumerate(begins[:-1]):
        after = len(runs) - begun
        ended = bisect(ends, left + _TOUCHING) if left > ends[1] - _TOUCHING else 0
        if ended < 2 or (begun and left == begins[begun - 1]):
            continue
        # Of equally good places the widest.
        score = min(ended, after) - 0.1 * (begun - ended) + 0.001 * (left - ends[ended - 1])
        if score > best:
            best, gutter = score, (left + ends[ended - 1]) / 2
    return gutter


def _bands(runs: Sequence[Run], gutter: float) -> list[tuple[bool, list[Run]]]:
    """From top to bottom: what crosses the gutter (True), and what stands beside it between (False)."""
    heights = sorted(_middle(run) for run in runs if _crosses(run, gutter))
    # Odd numbers are those of crossing runs, even ones of the bands between them.
    band = {id(run): bisect(heights, _middle(run)) * 2 - _crosses(run, gutter) for run in runs}
    ordered = sorted(runs, key=lambda run: -band[id(run)])
    return [(crossing, list(found)) for crossing, found in groupby(ordered, lambda run: band[id(run)] % 2 == 1)]


def _crosses(run: Run, gutter: float) -> bool:
    return run.box.left < gutter - _TOUCHING and run.box.right > gutter + _TOUCHING


def _is_left(run: Run, gutter: float) -> bool:
    return run.box.left + run.box.right < 2 * gutter


def _sides(runs: Sequence[Run], gutter: float) -> tuple[list[Run], list[Run]]:
    """What stands left and right of a gutter; nothing crosses it."""
    return [run for run in runs if _is_left(run, gutter)], [run for run in runs if not _is_left(run, gutter)]


def _are_columns(runs: Sequence[Run], gutter: float) -> bool:
    """Whether what stands on both sides of a gutter are columns, each to be read on its own."""
    sides = _sides(runs, gutter)
    fewer, more = sorted(sides, key=len)
    if not fewer or (_is_prose(fewer) and _is_prose(more)):
        return True
    if len(fewer) < 2 or any(run.field for run in runs):  # labels and fields
        return False
    heights = sorted(run.box.bottom for run in more)
    aligned = 0
    for run in fewer:
        index = bisect(heights, run.box.bottom)
        near = heights[max(0, index - 1) : index + 1]
        aligned += any(abs(run.box.bottom - height) < 0.25 * _height(run) for height in near)
    if aligned < 0.5 * len(fewer):
        return True
    in_turn = sum(_is_left(one, gutter) != _is_left(other, gutter) for one, other in pairwise(runs)) == 1
    return in_turn and len(fewer) >= _MANY_LINES


def _is_prose(runs: Sequence[Run]) -> bool:
    """Whether these are lines of several words that go on in the middle of sentences, or full lines without case."""
    if len(runs) < 2 or median(len(run.text) for run in runs) < 8:
        return False
    texts = [run.text.lstrip("\"'“‘„«([") for run in runs]
    if any(character.islower() for text in texts for character in text):
        going_on = sum(text[:1].isalpha() and not text[:1].isupper() for text in texts[1:])
        return median(text.count(" ") + 1 for text in texts) >= 3 and going_on >= 0.4 * (len(texts) - 1)
    characters = "".join(texts).replace(" ", "")
    widths = [run.box.right - run.box.left for run in runs]
    letters = sum(map(str.isalpha, characters))
    return (
        median(widths) > 0.7 * max(widths)
        and letters > 0.7 * len(characters)
        and characters.upper() == characters.lower()
    )


def _parts(runs: Sequence[Run], gutter: float) -> list[list[Run]]:
    """Columns cut at gaps that go through both: into the rows of a table, or a header and footer taken off."""
    rows = _strips(runs, 0.3)
    level = 0
    for row in rows:
        left, right = _sides(row, gutter)
        level += bool(left and right) and abs(left[0].box.top - right[0].box.top) < 0.5 * _height(left[0])
    if len(rows) >= 3 and level >= 0.8 * len(rows):
        return rows
    strips = _strips(runs, 1.0)
    first = 1 if len(strips) > 1 and max(map(len, _sides(strips[0], gutter))) <= 2 else 0
    last = len(strips) - (len(strips) > 1 + first and max(map(len, _sides(strips[-1], gutter))) <= 2)
    middle = {id(run) for strip in strips[first:last] for run in strip}
    return [*strips[:first], [run for run in runs if id(run) in middle], *strips[last:]]


def _strips(runs: Sequence[Run], least: float) -> list[list[Run]]:
    """Runs cut, from the top, where there is a gap over the whole width of so many heights of a line."""
    strips: list[list[Run]] = []
    lowest = float("inf")
    for run in sorted(runs, key=lambda run: -run.box.top):
        if run.box.top < lowest - least * _height(run):
            strips.append([])
        strips[-1].append(run)
        lowest = min(lowest, run.box.bottom)
    return strips


def _rows(runs: list[Run]) -> list[list[Run]]:
    """Runs on the same line together, from the top; small ones beside large ones (exponents) too.

    An order of the file that goes down the page is kept: it knows better than the boxes of skewed lines.
    """
    rises = any(
        _middle(other) > one.box.top or (other.box.right < one.box.left and _middle(other) > one.box.bottom)
        for one, other in pairwise(runs)
    )
    rows: list[list[Run]] = []
    low = high = 0.0
    for run in sorted(runs, key=lambda run: -_middle(run)) if rises else runs:
        height = _height(run)
        overlap = min(high, run.box.top) - max(low, run.box.bottom)
        if rows and overlap > 0.5 * min(high - low, height) and max(high - low, height) < 2 * min(high - low, height):
            rows[-1].append(run)
            if height > high - low:
                low, high = run.box.bottom, run.box.top
        else:
            rows.append([run])
            low, high = run.box.bottom, run.box.top
    for row in rows:
        row.sort(key=lambda run: run.box.left)
    return rows


def _line(row: list[Run], rtl: bool, block: int) -> Line:
    ordered = row[::-1] if rtl else row
    text = ordered[0].text
    for one, other in pairwise(ordered):
        # PDFium may take the letters of a right-to-left word for lines of their own.
        touching = rtl and abs(one.box.left - other.box.right) < _NO_GAP * min(_height(one), _height(other))
        text += other.text if touching else " " + other.text
    if len(row) == 1 and row[0].text in {TICKED, UNTICKED}:  # a button without a label
        text += " " + row[0].field
    tallest = max(row, key=_height)
    left, right = row[0].box.left, max(run.box.right for run in row)
    return Line(
        text, left, right, tallest.box.bottom, _height(tallest), ordered[-1].hyphen, tallest.turn, len(row), block
    )


def _middle(run: Run) -> float:
    return (run.box.bottom + run.box.top) / 2


def _height(run: Run) -> float:
    return run.box.top - run.box.bottom
