"""Reading a PDF: what PDFium finds, brought into reading order and cut into sections."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from ....guarded import guarded
from ...sections import Document, Section, SectionBuilder
from ..ocr import NOT_INSTALLED, NOTHING_FOUND, READ_BY_OCR, OcrMode, installed, read_page
from .extract import extract
from .layout import Line, lines_in_order
from .paragraphs import heading_line, paragraphs
from .running import drop_running_lines
from .runs import PdfText, Run
from .scanned import pages_beyond, scanned_pages, with_scanned

_MOST_NAMED = 5
_DIVIDED = re.compile(r"(?<=[^\W\d_])[-\u2010]$")
_NUMBER = re.compile(r"\d[\d.]*\s+")  # of a chapter: titles of an outline often lack it
_FIRST_WORD = re.compile(r"[^\W\d_]+\S*")


def read(path: Path, max_bytes: int, max_pages: int, ocr: OcrMode = "never", max_ocr_pages: int = 0) -> Document:
    """Read the text of a PDF: a section for each page and heading of its outline.

    Columns are read one after the other, rows of tables whole. Lines are joined to paragraphs, words hyphenated at a
    line's end made whole, what runs through all pages dropped after the first. What is filled into forms stands beside
    its labels. Pages without text (scans), and those whose text cannot be read, are read by OCR or counted.
    """
    found = _read(path, max_bytes, max_pages, ocr == "always", {})
    document = found.document
    if ocr == "never" or not found.drawn:
        return document
    if not installed():
        document.left_out.extend((NOT_INSTALLED, f"page {page}") for page in found.drawn)
        return document
    scanned, failed = scanned_pages(path, found.drawn[:max_ocr_pages], read_page)
    document = _read(path, max_bytes, max_pages, ocr == "always", scanned).document
    document.notes.extend(failed)
    document.left_out.extend(pages_beyond(max_ocr_pages, found.drawn[max_ocr_pages:]))
    return document


@dataclass(frozen=True, slots=True)
class _Found:
    """A document, and its pages for OCR."""

    document: Document
    drawn: list[int]


@guarded(needs={"pypdfium2": "pdf"})
def _read(path: Path, max_bytes: int, max_pages: int, all_by_ocr: bool, scanned: Mapping[int, list[Run]]) -> _Found:
    """Read a PDF, some of its pages read by OCR before."""
    import msgspec

    found = extract(path, max_bytes, max_pages)
    drawn = [number for number, page in enumerate(found.pages, 1) if page.drawn or (all_by_ocr and not page.damaged)]
    for number, runs in msgspec.convert(scanned, dict[int, list[Run]]).items():
        found.pages[number - 1] = with_scanned(found.pages[number - 1], runs, replace_all=all_by_ocr)
    pages = [lines_in_order(page.runs) for page in drop_running_lines(found.pages)]
    notes = _notes(found, scanned)
    return _Found(Document(_sections(whole_words(pages), found), found.metadata, notes), drawn)


def _notes(found: PdfText, scanned: Collection[int]) -> list[str]:
    count = len(found.pages)
    notes = [f"page {number} cannot be read" for number, page in enumerate(found.pages, 1) if page.damaged]
    if unreadable := [number for number, page in enumerate(found.pages, 1) if page.unreadable]:
        named = ", ".join(map(str, unreadable[:_MOST_NAMED])) + (", ..." if len(unreadable) > _MOST_NAMED else "")
        notes.append(
            f"the text of {len(unreadable)} of {count} pages cannot be read, as its fonts do not say what their "
            f"characters mean (page {named})"
        )
    if repaired := sum(page.repaired for page in found.pages):
        notes.append(f"characters named with their bytes exchanged, put right: {repaired} of {count} pages")
    if scanned:
        notes.append(f"{READ_BY_OCR}: {len(scanned)} of {count} pages")
    if blank := sum(not found.pages[number - 1].runs for number in scanned):
        notes.append(f"{NOTHING_FOUND}: {blank} of {count} pages")
    if empty := sum(
        not (page.runs or page.damaged or page.unreadable or page.outside or number in scanned)
        for number, page in enumerate(found.pages, 1)
    ):
        notes.append(f"{empty} of {count} pages hold no text (scanned or drawn)")
    if outside := sum(page.outside for page in found.pages):
        notes.append(f"lines of text beyond the edges of their page, left out: {outside}")
    if comments := sum(page.comments for page in found.pages):
        notes.append(f"comments stuck to pages, left out: {comments}")
    return notes


def whole_words(pages: list[list[Line]]) -> list[list[Line]]:
    """Words divided between two lines marked as such, and those divided between two pages moved to the first."""
    for lines in pages:
        for index, line in enumerate(lines):
            if _DIVIDED.search(line.text) and (index + 1 == len(lines) or lines[index + 1].text[:1].islower()):
                lines[index] = replace(line, text=line.text[:-1], hyphen=True)
    for above, below in pairwise(pages):
        if above and below and above[-1].hyphen and below[0].text[:1].islower():
            match = _FIRST_WORD.match(below[0].text)
            if match:
                above[-1] = replace(above[-1], text=above[-1].text + match[0], hyphen=False)
                rest = below[0].text[match.end() :].lstrip()
                below[:1] = [replace(below[0], text=rest)] if rest else []
    return pages


def _sections(pages: Sequence[Sequence[Line]], found: PdfText) -> list[Section]:
    """Cut pages at the headings of the outline; a title not found on its page stands at the page's beginning."""
    outline: dict[int, list[tuple[int, str]]] = {}
    for page, level, title in found.outline:
        outline.setdefault(page, []).append((level, title))
    builder = SectionBuilder()
    for page, lines in enumerate(pages):
        builder.page(page + 1)
        start = 0
        for level, title in outline.get(page, ()):
            index, count = heading_line(lines, title, start) or (start, 0)
            for paragraph in paragraphs(lines[start:index]):
                builder.paragraph(paragraph)
            number = _NUMBER.match(lines[index].text) if count else None
            builder.heading(level, title if not number or title[:1].isdigit() else number[0] + title)
            start = index + count
        for paragraph in paragraphs(lines[start:]):
            builder.paragraph(paragraph)
    return builder.sections()
