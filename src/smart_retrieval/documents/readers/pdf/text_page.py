"""Words, and runs of words, of one page with their boxes, asked of PDFium."""

from __future__ import annotations

import ctypes
import math
import re
import unicodedata
from bisect import bisect
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

from ....extras import require
from ...sections import one_line
from .bidi import RIGHT_TO_LEFT, union, words_in_reading_order
from .runs import SLANTED, Box, PageText, Run

# A gap so wide, in heights of the line, may lie between two columns.
_WIDE_GAP = 0.8
_SAMPLED = 32
_UNREADABLE_SHARE = 0.3
_UNREADABLE_LEAST = 10
_SLANT = math.radians(10)

_WORD = re.compile(r"\S+")
_SPACES = " " * 3
_DOT = 3.0  # points
_LEAST_GAP = 4.0  # points: between columns of the smallest print
# PDFium writes the hyphen that divides a word at a line's end, and the line end, as U+FFFE or U+0002.
_LINE_ENDS = re.compile("(\r\n|\n|\r|\ufffe|\x02)")
_PRESENTATION_FORMS = re.compile("[\ufb00-\ufdff\ufe70-\ufefc]")
_PRIVATE = re.compile("[\ue000-\uf8ff\U000f0000-\U0010ffff]")
_LONE_PRIVATE = re.compile(rf"(?<!\S){_PRIVATE.pattern}(?!\S)")
# Private-use characters, the replacement character and control characters stand for letters that nobody knows.
_NO_LETTERS = re.compile("[\x00\x01\x03-\x08\x0e-\x1f\x7f\ue000-\uf8ff\ufffd\U000f0000-\U0010ffff]")
# Basic Latin with its two bytes exchanged, as fonts of some drawing programs name it: "\u4d00" is "M".
_EXCHANGED = re.compile(f"[{''.join(chr(code << 8) for code in range(0x20, 0x7F))}]")
_LINE = re.compile("[^\r\n\ufffe\x02]+")
_NEIGHBOURS = re.compile(r"\S(?= ?(\S))")
_FEWEST_LONE = 5
_LONE_LETTERS = 0.25  # share of words of one letter on a page whose letters are set apart
_AS_FAR = 1.5  # gaps between letters: a gap that is no wider parts no words
_NO_SPACE = "\uffff"  # taken out by `tidy`


@dataclass(slots=True)
class WordLine:
    """The words of one line with their boxes; see `Run` for the rest."""

    words: list[tuple[str, Box]]
    turn: int
    mixed: bool = False  # holds right-to-left text
    hyphen: bool = False

    def runs(self) -> list[Run]:
        """The line, cut at its wide gaps."""
        parts: list[list[tuple[str, Box]]] = []
        end, height = 0.0, math.inf
        for word in self.words:
            left, bottom, right, top = word[1]
            if not parts or left - end > _WIDE_GAP * height or right < end - height:
                parts.append([word])
            else:
                parts[-1].append(word)
            end, height = right, top - bottom
        if self.turn == SLANTED:
            parts = [self.words]
        elif self.mixed and len(parts) > 1:
            # Words of right-to-left text are not read in the order in which they stand.
            placed = sorted((box for _, box in self.words), key=lambda box: box.left)
            starts = [
                two.left for one, two in pairwise(placed) if two.left - one.right > _WIDE_GAP * (two.top - two.bottom)
            ]
            grouped: dict[int, list[tuple[str, Box]]] = {}
            for word in self.words:
                grouped.setdefault(bisect(starts, word[1].left), []).append(word)
            parts = list(grouped.values())
        runs: list[Run] = []
        for part in parts:
            box = part[0][1] if len(part) == 1 else union([box for _, box in part])
            runs.append(Run(" ".join([text for text, _ in part]), box, self.turn, self.hyphen and part is parts[-1]))
        return runs


def page_text(area: PageArea, textpage: Any) -> PageText:
    """The text of an open page."""
    text, repaired = _text(textpage)
    if unreadable := _unreadable(textpage, text):
        return PageText(unreadable=unreadable)
    found = [run for line in word_lines(area, textpage, text, whole=True) for run in line.runs()]
    runs = [run for run in found if area.shows(run.box, run.turn)]
    return PageText(runs, outside=len(found) - len(runs), repaired=repaired)


class PageArea:
    """The size and rotation of a page, to place on it what PDFium reports in the coordinates of the file."""

    def __init__(self, page: Any) -> None:
        left, bottom, right, top = page.get_bbox()
        self.rotation = page.get_rotation() // 90 % 4
        self.origin = left, bottom
        self.size = right - left, top - bottom

    @property
    def shown_size(self) -> tuple[float, float]:
        """Width and height of the page as it is shown."""
        width, height = self.size
        return (height, width) if self.rotation % 2 else (width, height)

    def level(self, left: float, bottom: float, right: float, top: float, quarters: int) -> Box:
        """A box of the file, its page turned by so many quarters."""
        x, y = self.origin
        box = Box(left - x, bottom - y, right - x, top - y)
        return box.turned(quarters, *self.size) if quarters else box

    def turn(self, angle: float) -> tuple[int, int]:
        """For text at an angle (clockwise): quarters that make it level, and `Run.turn`."""
        nearest = round(angle / (math.pi / 2))
        if abs(angle - nearest * (math.pi / 2)) > _SLANT:
            return self.rotation, SLANTED
        quarters = -nearest % 4
        return quarters, (quarters - self.rotation) % 4

    def shown(self, box: Box, turn: int) -> Box:
        """The box of a run or word on the page as it is shown."""
        turn %= SLANTED
        width, height = self.shown_size
        return box.turned(-turn % 4, *((height, width) if turn % 2 else (width, height)))

    def shows(self, box: Box, turn: int) -> bool:
        """Whether the middle of a run lies on the page."""
        width, height = self.shown_size
        if width <= 0 or height <= 0:
            return True
        left, bottom, right, top = self.shown(box, turn) if turn % SLANTED else box
        return -1 <= (left + right) / 2 <= width + 1 and -1 <= (bottom + top) / 2 <= height + 1


def word_lines(area: PageArea, textpage: Any, text: str | None = None, *, whole: bool = False) -> list[WordLine]:
    """The lines PDFium finds on a page, in its order, right-to-left text as it is read.

    `whole` leaves lines without wide gaps together, as if they were one word: that saves most of the time.
    """
    text = _text(textpage)[0] if text is None else text
    boxes = _Boxes(area, textpage, text)
    text = boxes.closed_up(text)
    gaps = boxes.gaps(text) if whole else None
    lines: list[WordLine] = []
    position = 0
    for part in _LINE_ENDS.split(text):
        if part in {"\ufffe", "\x02"}:
            if lines:
                lines[-1].hyphen = True
        elif part and not part.isspace():
            line = boxes.line(part, position, gaps)
            if line.words:
                lines.append(line)
        position += len(part)
    return lines


class _Boxes:
    """The boxes of a page's characters."""

    def __init__(self, area: PageArea, textpage: Any, text: str) -> None:
        self._raw = require("pypdfium2.raw", "pdf")
        self._area = area
        self._page = textpage.raw
        self._rect = self._raw.FS_RECTF()
        self._pointer = ctypes.byref(self._rect)
        # PDFium counts the characters of the page and of its text separately; they rarely differ.
        self._same = self._raw.FPDFText_CountChars(self._page) == len(text)
        self._last = Box(0.0, 0.0, 0.0, 0.0)

    def line(self, part: str, position: int, gaps: list[int] | None) -> WordLine:
        """The words of the text at a position, which stands on one line; or its pieces between `gaps`."""
        start = len(part) - len(part.lstrip())
        quarters, turn = self._turn(position + start)
        plain = part.isascii() and part.isprintable()
        mixed = not plain and turn != SLANTED and RIGHT_TO_LEFT.search(part) is not None
        if mixed:
            # Spaces that PDFium inserted say nothing, as it takes every letter placed alone for a word.
            placed = [
                (character, self._box(position + index, quarters))
                for index, character in enumerate(part)
                if not self._is_inserted(position + index)
            ]
            found = words_in_reading_order(placed)
        else:
            spans: Iterable[tuple[int, int]] = ()
            if gaps is None or quarters or _SPACES in part:
                spans = (match.span() for match in _WORD.finditer(part))
            else:
                cuts = gaps[bisect(gaps, position + start) : bisect(gaps, position + len(part))]
                if cuts:
                    places = [start, *(cut - position for cut in cuts), len(part)]
                    spans = ((one, one + len(part[one:other].rstrip())) for one, other in pairwise(places))
                else:
                    spans = ((start, len(part.rstrip())),)
            found = [
                (" ".join(part[one:other].split()), self._between(position + one, position + other, quarters))
                for one, other in spans
            ]
        if not plain:
            found = [(tidied, box) for word, box in found if (tidied := tidy(word))]
        return WordLine(found, turn, mixed)

    def closed_up(self, text: str) -> str:
        """Text without the spaces that PDFium sees within words whose letters are set apart, as OCR's often are."""
        words = text.split()
        if sum(len(word) == 1 for word in words) <= max(_FEWEST_LONE, _LONE_LETTERS * len(words)):
            return text
        letters = list(text)
        for line in _LINE.finditer(text):
            quarters, _ = self._turn(line.start())
            close, apart = [], []
            for match in _NEIGHBOURS.finditer(line[0]):
                one, other = line.start() + match.start(), line.start() + match.start(1)
                gap = -self._box(one, quarters).right + self._box(other, quarters).left
                if other == one + 1:
                    close.append(gap)
                elif self._is_inserted(one + 1):
                    apart.append((gap, one + 1))
            for gap, place in apart:
                if close and gap <= _AS_FAR * median(close):
                    letters[place] = _NO_SPACE
        return "".join(letters)

    def gaps(self, text: str) -> list[int]:
        """Where in the text pieces of level lines begin that stand far from the one before, as columns and cells do."""
        left, top, right, bottom = (ctypes.c_double() for _ in range(4))
        get, page = self._raw.FPDFText_GetRect, self._page
        start, end = 0.0, math.inf
        apart: list[int] = []
        for piece in range(self._raw.FPDFText_CountRects(page, 0, -1)):
            get(page, piece, left, top, right, bottom)
            before, start = start, left.value
            if start - end > _LEAST_GAP or before - right.value > _LEAST_GAP:
                apart.append(piece)
            end = right.value
        pairs: list[tuple[Box, Box]] = []
        for piece in apart:
            boxes = []
            for place in (piece - 1, piece):
                get(page, place, left, top, right, bottom)
                boxes.append(Box(left.value, bottom.value, right.value, top.value))
            if boxes[0].bottom < boxes[1].top and boxes[1].bottom < boxes[0].top:
                pairs.append((boxes[0], boxes[1]))
        # These boxes are those of the ink: pieces without tall letters say little of the height of a line, dots less.
        heights = [box.top - box.bottom for pair in pairs for box in pair]
        usual = median([height for height in heights if height > _DOT] or [_DOT])
        found: set[int] = set()
        for one, other in pairs:
            gap = max(other.left - one.right, one.left - other.right)
            if gap > _WIDE_GAP * max(usual, one.top - one.bottom, other.top - other.bottom):
                middle = (other.bottom + other.top) / 2
                index = self._raw.FPDFText_GetCharIndexAtPos(
                    page, other.left + 0.1, middle, 1, other.top - other.bottom
                )
                if not self._same:
                    index = self._raw.FPDFText_GetTextIndexFromCharIndex(page, index)
                if 0 < index < len(text) and text[index - 1].isspace():
                    found.add(index)
        return sorted(found)

    def _between(self, start: int, stop: int, quarters: int) -> Box:
        """The box around the characters from `start` to before `stop`."""
        first = self._box(start, quarters)
        if stop - start == 1:
            return first
        last = self._box(stop - 1, quarters)
        if first[1] == last[1] and first[0] <= last[0]:
            return Box(first[0], first[1], last[2], first[3] if first[3] > last[3] else last[3])
        return union((first, last))

    def _turn(self, position: int) -> tuple[int, int]:
        """Of the line with this character; see `PageArea.turn`."""
        angle = self._raw.FPDFText_GetCharAngle(self._page, self._index(position))
        return self._area.turn(angle) if angle > 0 else (0, -self._area.rotation % 4)

    def _is_inserted(self, position: int) -> bool:
        """Whether PDFium put in a character that the file does not have."""
        return bool(self._raw.FPDFText_IsGenerated(self._page, self._index(position)) == 1)

    def _index(self, position: int) -> int:
        if self._same:
            return position
        index: int = self._raw.FPDFText_GetCharIndexFromTextIndex(self._page, position)
        return index

    def _box(self, position: int, quarters: int) -> Box:
        """The box of a character; that of the one before if it has none, as PDFium inserts some itself."""
        index = position if self._same else self._index(position)
        if self._raw.FPDFText_GetLooseCharBox(self._page, index, self._pointer):
            rect = self._rect
            self._last = self._area.level(rect.left, rect.bottom, rect.right, rect.top, quarters)
        return self._last


def tidy(text: str) -> str:
    """Text with ligatures and presentation forms taken apart, and what cannot be shown taken out."""
    text = _PRESENTATION_FORMS.sub(lambda match: unicodedata.normalize("NFKC", match[0]), text)
    return one_line(_PRIVATE.sub("", _LONE_PRIVATE.sub("•", text)))


def _text(textpage: Any) -> tuple[str, bool]:
    """The text of a page, and whether its bytes had to be exchanged."""
    # What cannot be decoded are halves of surrogate pairs; `one_line` replaces them.
    text: str = textpage.get_text_range(errors="surrogatepass")
    first = text.lstrip()
    if len(first) < _UNREADABLE_LEAST or not _EXCHANGED.match(first) or _EXCHANGED.sub("", first).strip():
        return text, False
    return _EXCHANGED.sub(lambda match: chr(ord(match[0]) >> 8), text), True


def _unreadable(textpage: Any, text: str) -> int:
    """How many characters a page has, if nobody knows what most of them mean; else 0."""
    count = len(text) - sum(map(text.count, " \r\n"))
    if count < _UNREADABLE_LEAST:
        return 0
    if len(_NO_LETTERS.findall(text)) > _UNREADABLE_SHARE * count:
        return count
    raw = require("pypdfium2.raw", "pdf")
    sample = range(0, len(text), max(1, len(text) // _SAMPLED))
    errors = sum(raw.FPDFText_HasUnicodeMapError(textpage.raw, index) == 1 for index in sample)
    return count if errors > _UNREADABLE_SHARE * len(sample) else 0
