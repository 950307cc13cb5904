"""PDF text, page by page, with pypdfium2 (extra ``pdf``): nothing but pip to install, and Chrome's own PDF engine."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from pathlib import Path
from statistics import median
from typing import Any

from ...extras import require
from ...files import UnreadableFileError, read_bytes
from ...guarded import guarded, step
from ...pictures.pdfium import open_pdf
from ..sections import Document, Section, SectionBuilder, one_line

_MOST_CHARACTERS = 200_000_000  # a small file can unpack to any size
_MOST_BOOKMARKS = 20_000
_MOST_HEADING_LINES = 5
_RUNNING_SHARE = 0.7  # a first or last line on so many of the pages is a header or footer
_RUNNING_PAGES = 4

_SENTENCE_END = re.compile(r"[.!?:;…。！？][\"'”’»)\]]*$")
_BULLET = re.compile(r"[•‣◦▪●■–—*·-]\s|\(?(?:\d{1,3}|[a-z])[.)]\s")
# PDFium writes the hyphen that divides a word at a line's end, and the line end, as U+FFFE or U+0002.
_LINE_ENDS = re.compile("(\r\n|\n|\r|\ufffe|\x02)")
_DATE = re.compile(r"(?:D:)?(\d{4})(\d{2})(\d{2})")
_LIGATURES = {0xFB00: "ff", 0xFB01: "fi", 0xFB02: "fl", 0xFB03: "ffi", 0xFB04: "ffl", 0xFB05: "st", 0xFB06: "st"}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of text on a page, spaces single; its place and height in points, 0 where unknown.

    `bottom` is the lower edge of its font above the page's lower edge, `height` that of its font; `hyphen` says that a
    hyphen (not in `text`) divides its last word.
    """

    text: str
    left: float = 0.0
    right: float = 0.0
    bottom: float = 0.0
    height: float = 0.0
    hyphen: bool = False


@guarded(needs={"pypdfium2": "pdf"})
def read(path: Path, max_bytes: int, max_pages: int) -> Document:
    """Read the text of a PDF: a section for each page and heading of its outline.

    Lines are joined to paragraphs, words hyphenated at a line's end made whole, headers and footers that run through
    all pages dropped after the first. Pages without text (scans) are counted in a note.
    """
    data = read_bytes(path, max_bytes)
    with closing(open_pdf(path, data)) as document:
        count = len(document)
        if count > max_pages:
            raise UnreadableFileError(path, f"more than {max_pages:,} pages", f"{count:,}")
        pages: list[list[Line]] = []
        broken: list[int] = []
        characters = 0
        for number in range(count):
            try:
                lines = _page_lines(document, number)
            except Exception:  # one damaged page must not cost the others; PDFium's errors are of several kinds
                lines = []
                broken.append(number + 1)
            characters += sum(len(line.text) for line in lines)
            if characters > _MOST_CHARACTERS:
                raise UnreadableFileError(path, f"more than {_MOST_CHARACTERS:,} characters of text")
            pages.append(lines)
            step()
        if len(broken) == count:
            raise UnreadableFileError(path, "no page of the PDF can be read")
        outline, metadata = _outline(document), _metadata(document)
    notes = [f"page {number} cannot be read" for number in broken]
    if empty := sum(not page for page in pages) - len(broken):
        notes.append(f"{empty} of {count} pages hold no text (scanned or drawn)")
    return Document(_sections(drop_running_lines(pages), outline), metadata, notes)


def _page_lines(document: Any, number: int) -> list[Line]:
    """The lines of text on a page, each with its place."""
    with closing(document[number]) as page, closing(page.get_textpage()) as textpage:
        # What cannot be decoded are halves of surrogate pairs; `one_line` replaces them.
        text = textpage.get_text_range(errors="surrogatepass")
        lines: list[Line] = []
        position = 0
        for part in _LINE_ENDS.split(text):
            if part in {"\ufffe", "\x02"}:
                if lines:
                    lines[-1] = replace(lines[-1], hyphen=True)
            elif cleaned := one_line(part.translate(_LIGATURES)):
                lines.append(_line(textpage, cleaned, position, part))
            position += len(part)
        return lines


def _line(textpage: Any, text: str, position: int, raw: str) -> Line:
    """A line and its place; `position` counts characters of the page's text, as PDFium returns it."""
    # PDFium counts the characters of the page and of its text separately.
    index = require("pypdfium2.raw", "pdf").FPDFText_GetCharIndexFromTextIndex
    try:
        left, bottom, _, top = textpage.get_charbox(index(textpage, position), loose=True)
        right = textpage.get_charbox(index(textpage, position + len(raw.rstrip()) - 1), loose=True)[2]
    except Exception:  # characters PDFium inserted itself may have no box
        return Line(text)
    return Line(text, left, right, bottom, top - bottom)


def _outline(document: Any) -> dict[int, list[tuple[int, str]]]:
    """The outline's entries by page (from 0), each with its level (from 1) and title."""
    found: dict[int, list[tuple[int, str]]] = {}
    try:
        for bookmark in islice(document.get_toc(), _MOST_BOOKMARKS):
            destination = bookmark.get_dest()
            page = destination.get_index() if destination else None
            if page is not None and page >= 0:
                found.setdefault(page, []).append((bookmark.level + 1, bookmark.get_title()))
    except Exception:  # a damaged outline loses headings, not the text
        return {}
    return found


def _metadata(document: Any) -> dict[str, Any]:
    """What the PDF says about itself, and its number of pages."""
    metadata: dict[str, Any] = {"pages": len(document)}
    try:
        found = document.get_metadata_dict(skip_empty=True)
    except Exception:  # damaged metadata is left out
        return metadata
    for name in ("Title", "Author", "Subject", "Keywords"):
        if value := one_line(found.get(name, "")):
            metadata[name.lower()] = value
    if created := _DATE.match(found.get("CreationDate", "")):
        metadata["created"] = "-".join(created.groups())
    return metadata


def _sections(pages: list[list[Line]], outline: dict[int, list[tuple[int, str]]]) -> list[Section]:
    """Cut pages at the headings of the outline; a title not found on its page stands at the page's beginning."""
    builder = SectionBuilder()
    for number, lines in enumerate(pages):
        builder.page(number + 1)
        start = 0
        for level, title in outline.get(number, ()):
            index, count = heading_line(lines, title, start) or (start, 0)
            for paragraph in paragraphs(lines[start:index]):
                builder.paragraph(paragraph)
            builder.heading(level, title)
            start = index + count
        for paragraph in paragraphs(lines[start:]):
            builder.paragraph(paragraph)
    return builder.sections()


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
    return "".join(character for character in text.casefold() if character.isalnum())


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
    edges: dict[int, float] = defaultdict(float)  # how far right the lines reach that begin at about the same place
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
        elif _BULLET.match(below.text) or (_is_short(above, edges, 0.7) and above.bottom != below.bottom):
            text += "\n" + below.text
        else:
            text += " " + below.text
    return [*found, text + ("-" if lines[-1].hyphen else "")]


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


def drop_running_lines(pages: Sequence[Sequence[Line]]) -> list[list[Line]]:
    """Drop headers, footers and page numbers: lines that are the first or last of most pages, digits disregarded.

    The first page keeps its own. Fewer than four pages with text are left alone.
    """
    filled = [page for page in pages if len(page) > 1]
    enough = max(_RUNNING_PAGES, _RUNNING_SHARE * len(filled))
    running: list[tuple[int, set[str]]] = []
    for place in (0, -1):
        counts = Counter(_without_digits(page[place].text) for page in filled)
        running.append((place, {text for text, count in counts.items() if count >= enough}))
    kept: list[list[Line]] = []
    first = True
    for page in pages:
        lines = list(page)
        for place, texts in running:
            if not first and len(lines) > 1 and _without_digits(lines[place].text) in texts:
                del lines[place]
        first = first and not lines
        kept.append(lines)
    return kept


def _without_digits(text: str) -> str:
    return re.sub(r"\d+", "#", text)
