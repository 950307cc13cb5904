"""Right-to-left text: from the order in which it stands on the page to the order in which it is read."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from .runs import Box

#: Hebrew, Arabic and their neighbours, and their presentation forms.
RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")
_LEFT_TO_RIGHT = re.compile(r"[^\W\d_\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")
_SPACE_SHARE = 0.2  # of a line's height: a wider gap between two characters is a space
_MIRRORED = str.maketrans("()[]{}<>«»", ")(][}{><»«")

Placed = tuple[str, Box]


def is_right_to_left(text: str) -> bool:
    """Whether most letters of a text are written from right to left."""
    count = 0 if text.isascii() else len(RIGHT_TO_LEFT.findall(text))
    return count > 0 and count >= len(_LEFT_TO_RIGHT.findall(text))


def words_in_reading_order(characters: Sequence[Placed]) -> list[Placed]:
    """The words of a line, each with its box, from its characters in any order.

    PDFs hold right-to-left text in all orders: as it is read, as it stands, whole or word by word. Only the places of
    the characters are certain.
    """
    marks = [item for item in characters if unicodedata.combining(item[0])]
    line = sorted((item for item in characters if not unicodedata.combining(item[0])), key=_middle)
    if not line:
        return []
    height = max(box.top - box.bottom for _, box in line)
    attached = [""] * len(line)
    for mark in marks:  # they stand above or below their letters
        nearest = min(range(len(line)), key=lambda index: abs(_middle(line[index]) - _middle(mark)))
        attached[nearest] += mark[0]
    glyphs: list[tuple[str, Box, str]] = []  # character, box, its marks; a space between words
    for (character, box), own in zip(line, attached, strict=True):
        space = character.isspace()
        gap = bool(glyphs) and box.left - glyphs[-1][1].right > _SPACE_SHARE * height
        gap = gap or (space and box.right - box.left > 0.05 * height)
        if gap and glyphs and glyphs[-1][0] != " ":
            glyphs.append((" ", Box(box.left, box.bottom, box.left, box.top), ""))
        if not space:
            glyphs.append((character, box, own))
    order = reading_order("".join(glyph[0] for glyph in glyphs))
    words: list[Placed] = []
    text, places = "", list[Box]()
    for index, mirrored in [*order, (-1, False)]:
        character, box, own = glyphs[index] if index >= 0 else (" ", Box(0, 0, 0, 0), "")
        if character != " ":
            text += (character.translate(_MIRRORED) if mirrored else character) + own
            places.append(box)
        elif text:
            words.append((text, union(places)))
            text, places = "", []
    return words


def reading_order(line: str) -> list[tuple[int, bool]]:
    """For characters as they stand from left to right: their indexes as they are read, and whether mirrored."""
    kinds = "".join(_kind(character) for character in line)
    if is_right_to_left(line):
        # Words in Latin letters with the numbers after them, and numbers with their points, keep their direction.
        kept = r"L(?:[LN]|[^R](?=[^R]*[LN]))*|N(?:[NS](?=S?N)|N)*"
        found: list[tuple[int, bool]] = []
        end = len(line)
        for match in reversed(list(re.finditer(kept, kinds))):
            found += [(index, True) for index in range(end - 1, match.end() - 1, -1)]
            found += [(index, False) for index in range(match.start(), match.end())]
            end = match.start()
        return [*found, *((index, True) for index in range(end - 1, -1, -1))]
    order = [(index, False) for index in range(len(line))]
    for match in re.finditer(r"R(?:[^L]*R)?", kinds):
        span = line[match.start() : match.end()]
        order[match.start() : match.end()] = [
            (match.start() + index, mirrored) for index, mirrored in reading_order(span)
        ]
    return order


def union(boxes: Sequence[Box]) -> Box:
    """The smallest box around some."""
    lefts, bottoms, rights, tops = zip(*boxes, strict=True)
    return Box(min(lefts), min(bottoms), max(rights), max(tops))


def _middle(item: Placed) -> float:
    return item[1].left + item[1].right


def _kind(character: str) -> str:
    """R and L for letters by their direction, N for digits, S for what stands within numbers, else O."""
    found = unicodedata.bidirectional(character)
    if found in {"R", "AL"}:
        return "R"
    if found in {"EN", "AN"}:
        return "N"
    return "L" if found == "L" else "S" if character in ".,:/-" else "O"
