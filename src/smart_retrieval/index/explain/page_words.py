"""The page a passage stands on, with the words that matched: places from the PDF's text, or from OCR done again."""

from __future__ import annotations

import unicodedata
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from ...pictures.sources import visual_format_of
from .score import ScoreBreakdown, ShadedWord

if TYPE_CHECKING:
    from PIL.Image import Image

    from ...documents import Word

_CONTEXT = 40  # letters on both sides of a word that are compared
_WHOLE = 4  # what standing as a word of its own counts, in letters of context
_ENOUGH = 8


@dataclass(frozen=True)
class MarkedWord:
    """A word on the page that matched: where (see `Word.box`), and its place among those of the passage."""

    box: tuple[float, float, float, float]
    shaded: ShadedWord


def has_page(source: str | None) -> bool:
    """Whether a passage's file has pages that can be drawn."""
    return source is not None and visual_format_of(Path(source)) in {"pdf", "image"}


def draw_page(path: Path, page: int) -> Image:
    """A page of a PDF or picture."""
    if visual_format_of(path) == "pdf":
        from ...pictures.pdf_pages import PdfPages

        with PdfPages(path) as pages:
            return pages.render(page)
    from ...pictures.images import load_image

    return load_image(path, page=page)


def marked_words(
    path: Path, score: ScoreBreakdown, wanted: Sequence[ShadedWord], page: int, *, goes_on: bool
) -> tuple[MarkedWord, ...]:
    """Those of the passage's words that are wanted, where they stand on a page.

    Raises:
        UnreadableFileError, MissingExtraError: They cannot be had.
    """
    if visual_format_of(path) == "pdf":
        from ...documents.readers.pdf.words import page_words

        words = page_words(path, page)
        found = place_words(score.text, wanted, words, goes_on=goes_on)
        if found or (words and goes_on):
            return found
    from ...documents.readers.pdf.scanned import ocr_words

    return place_words(score.text, wanted, ocr_words(path, page), goes_on=goes_on)


def place_words(
    text: str, wanted: Sequence[ShadedWord], words: Sequence[Word], *, goes_on: bool = False
) -> tuple[MarkedWord, ...]:
    """Where on a page words of a passage stand.

    Letters are compared, so that divided and joined words are found. Of the places where a word stands, that one is
    taken which most of the passage stands around; where the passage only ``goes_on``, some of it must.
    """
    page, owners = _letters([word.text for word in words])
    passage, positions = _letters(text)
    found = []
    for shaded in wanted:
        start, stop = bisect_left(positions, shaded.start), bisect_left(positions, shaded.stop)
        place = _place(page, owners, passage, start, stop, alone=not goes_on) if start < stop else None
        if place is not None:
            owning = sorted(set(owners[place : place + stop - start]))
            found += [MarkedWord(words[index].box, shaded) for index in owning]
    return tuple(found)


def _letters(parts: Sequence[str]) -> tuple[str, list[int]]:
    """The letters and digits of some texts (or of the characters of one), and from which each comes."""
    found = [
        (letter, index)
        for index, part in enumerate(parts)
        for letter in unicodedata.normalize("NFKC", part).casefold()
        if letter.isalnum()
    ]
    return "".join(letter for letter, _ in found), [index for _, index in found]


def _place(page: str, owners: list[int], passage: str, start: int, stop: int, *, alone: bool) -> int | None:
    """Where letters of the passage stand on the page; ``alone``: with less around them, or none for the only word."""
    wanted, after = passage[start:stop], passage[stop : stop + _CONTEXT]
    before = passage[max(0, start - _CONTEXT) : start][::-1]
    best, place, count = -1, None, 0
    at = page.find(wanted)
    while at >= 0:
        end = at + len(wanted)
        whole = (at == 0 or owners[at - 1] != owners[at]) and (end == len(page) or owners[end] != owners[end - 1])
        count += whole
        agreeing = _shared(before, page[max(0, at - _CONTEXT) : at][::-1]) + _shared(after, page[end : end + _CONTEXT])
        agreeing += _WHOLE * whole
        if agreeing > best:
            best, place = agreeing, at
        at = page.find(wanted, at + 1)
    return place if best + (len(wanted) if alone else 0) >= _ENOUGH or (alone and count == 1) else None


def _shared(one: str, other: str) -> int:
    """With how many equal letters two texts begin."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
