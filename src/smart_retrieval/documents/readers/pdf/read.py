"""Reading a PDF: what PDFium finds, brought into reading order and cut into sections."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from ....guarded import guarded
from ...sections import Document, Section, SectionBuilder
from .extract import extract
from .layout import Line, lines_in_order
from .paragraphs import heading_line, paragraphs
from .running import drop_running_lines
from .runs import PdfText

_MOST_NAMED = 5
_DIVIDED = re.compile(r"(?<=[^\W\d_])[-\u2010]$")
_NUMBER = re.compile(r"\d[\d.]*\s+")  # of a chapter: titles of an outline often lack it
_FIRST_WORD = re.compile(r"[^\W\d_]+\S*")


@guarded(needs={"pypdfium2": "pdf"})
def read(path: Path, max_bytes: int, max_pages: int) -> Document:
    """Read the text of a PDF: a section for each page and heading of its outline.

    Columns are read one after the other, rows of tables whole. Lines are joined to paragraphs, words hyphenated at a
    line's end made whole, what runs through all pages dropped after the first. What is filled into forms stands beside
    its labels. Pages without text (scans), and those whose text cannot be read, are counted in notes.
    """
    found = extract(path, max_bytes, max_pages)
    pages = [lines_in_order(page.runs) for page in drop_running_lines(found.pages)]
    return Document(_sections(_whole_words(pages), found), found.metadata, _notes(found))


def _notes(found: PdfText) -> list[str]:
    count = len(found.pages)
    notes = [f"page {number} cannot be read" for number, page in enumerate(found.pages, 1) if page.damaged]
    if unreadable := [number for number, page in enumerate(found.pages, 1) if page.unreadable]:
        named = ", ".join(map(str, unreadable[:_MOST_NAMED])) + (", ..." if len(unreadable) > _MOST_NAMED else "")
        notes.append(
            f"the text of {len(unreadable)} of {count} pages cannot be read, as its fonts do not say what their "
            f"characters mean (page {named})"
        )
    if empty := sum(not (page.runs or page.damaged or page.unreadable or page.outside) for page in found.pages):
        notes.append(f"{empty} of {count} pages hold no text (scanned or drawn)")
    if outside := sum(page.outside for page in found.pages):
        notes.append(f"lines of text beyond the edges of their page, left out: {outside}")
    if comments := sum(page.comments for page in found.pages):
        notes.append(f"comments stuck to pages, left out: {comments}")
    return notes


def _whole_words(pages: list[list[Line]]) -> list[list[Line]]:
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
