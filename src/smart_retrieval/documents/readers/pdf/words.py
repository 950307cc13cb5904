"""The words of a PDF's page with their places, and where a passage stands among them."""

from __future__ import annotations

import re
import unicodedata
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from ....files import UnreadableFileError, open_local
from ....guarded import guarded
from ....pictures.pdfium import open_pdf
from .text_page import PageArea, word_lines

Place = tuple[float, float, float, float]

_LETTERS = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Word:
    """A word and where it stands on its page.

    Attributes:
        text: The word as it is read, with its punctuation.
        box: Left, top, right and bottom edge as fractions of the page's width and height, from its upper left corner,
            as the page is shown (crop box and rotation); multiplied by the size of a drawn page they are its pixels.
        page: Number of the page, from 1.
    """

    text: str
    box: Place
    page: int = 1


def page_words(path: str | Path, page: int) -> list[Word]:
    """The words of a page of a PDF.

    Args:
        path: The PDF.
        page: The page's number, from 1.

    Returns:
        The words within the page's edges, those of a line as they are read, lines in the file's order. Empty for a page
        without a text layer.

    Raises:
        UnreadableFileError: The file or page cannot be read, or there is no such page.
        MissingExtraError: pypdfium2 is not installed.

    Example:
        >>> [word.text for word in page_words("report.pdf", 1)]  # doctest: +SKIP
        ['Annual', 'report']
    """
    return words_of_page(Path(path), page)


def find_words(words: list[Word], passage: str) -> list[Word]:
    """Those words of a page that make up a passage.

    Spaces, punctuation, case and hyphens at line ends are disregarded, and words of the passage that are not on the
    page passed over, so that a passage which begins on the page before is found as far as it stands on this one. Where
    a word stands several times on the page, those places are taken that keep the most of the passage together.

    Args:
        words: What `page_words` returns, or words of any other source (OCR) in about the order they are read.
        passage: Some text of the page.

    Returns:
        The words, in the order of `words`; empty if the passage has none of them.

    Example:
        >>> words = [Word("The", (0, 0, 0.1, 0.1)), Word("pump.", (0.2, 0, 0.3, 0.1)), Word("End", (0, 0.2, 0.1, 0.3))]
        >>> [word.text for word in find_words(words, "the PUMP")]
        ['The', 'pump.']
    """
    from difflib import SequenceMatcher

    # Letters are compared one after the other, so that a divided word, or one in two pieces, is found as well.
    owners: list[int] = []
    text = ""
    for index, word in enumerate(words):
        letters = _bare(word.text)
        text += letters
        owners += [index] * len(letters)
    wanted = _bare(passage)
    if not (wanted and text):
        return []
    whole = [match.start() for match in re.finditer(f"(?={re.escape(wanted)})", text)]
    if whole:
        begins = {owner: index for index, owner in reversed(list(enumerate(owners)))}
        start = next((index for index in whole if begins[owners[index]] == index), whole[0])
        return [words[index] for index in sorted(set(owners[start : start + len(wanted)]))]
    pieces: list[tuple[str, list[int]]] = []  # as text, so divided words whole; and which words these are
    divided = False
    for index, word in enumerate(words):
        if divided and word.text[:1].islower():
            pieces[-1] = pieces[-1][0] + _bare(word.text), [*pieces[-1][1], index]
        else:
            pieces.append((_bare(word.text), [index]))
        divided = word.text.endswith(("-", "\u2010"))
    # Words that stand in most places do not begin a stretch that agrees, which keeps long pages fast.
    matcher = SequenceMatcher(None, [piece for piece, _ in pieces], [_bare(word) for word in passage.split()])
    stretches = [pieces[block.a : block.a + block.size] for block in matcher.get_matching_blocks()]
    found = {index for stretch in stretches for piece, indexes in stretch if piece for index in indexes}
    return [word for index, word in enumerate(words) if index in found]


def _bare(text: str) -> str:
    return "".join(_LETTERS.findall(unicodedata.normalize("NFKC", text).casefold()))


@guarded(needs={"pypdfium2": "pdf"})
def words_of_page(path: Path, page: int) -> list[Word]:
    """`page_words`, in the guarded child."""
    with open_local(path) as file, closing(open_pdf(path, file)) as document:
        if not 1 <= page <= len(document):
            raise UnreadableFileError(path, "no such page", f"page {page}, expected 1 to {len(document)}")
        try:
            with closing(document[page - 1]) as opened, closing(opened.get_textpage()) as textpage:
                area = PageArea(opened)
                lines = word_lines(area, textpage)
        except Exception as error:  # PDFium's errors are of several kinds
            raise UnreadableFileError(path, "a damaged page", f"page {page}: {error}") from error
    width, height = area.shown_size
    found: list[Word] = []
    for line in lines:
        for text, level in line.words:
            if area.shows(level, line.turn):
                left, bottom, right, top = area.shown(level, line.turn)
                found.append(Word(text, (left / width, 1 - top / height, right / width, 1 - bottom / height), page))
    return found
