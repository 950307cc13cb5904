"""The text in a picture file (a scan, a screenshot), by OCR."""

from __future__ import annotations

from pathlib import Path

from ...errors import MissingExtraError
from ...files import UnreadableFileError
from ..sections import Document, SectionBuilder
from .ocr import NOT_INSTALLED, NOTHING_FOUND, READ_BY_OCR, count_pages, installed, read_picture
from .pdf.layout import lines_in_order
from .pdf.paragraphs import paragraphs
from .pdf.read import whole_words
from .pdf.scanned import pages_beyond, scanned_pages, scanned_runs


def read(path: Path, max_pages: int) -> Document:
    """Read a picture: its lines in reading order, joined to paragraphs; a page has a number where there are several.

    A picture without text, as most are, is no failure: it has no sections, and a note.
    """
    if not installed():
        raise MissingExtraError(NOT_INSTALLED)
    count = count_pages(path)
    notes: list[str] = []
    if count == 1:
        scanned = {1: scanned_runs(read_picture(path, 1))}
    else:
        scanned, notes = scanned_pages(path, range(1, min(count, max_pages) + 1), read_picture)
    if not scanned:
        raise UnreadableFileError(path, "none of its pages can be read by OCR", notes[0])
    builder = SectionBuilder()
    for number, lines in zip(scanned, whole_words([lines_in_order(runs) for runs in scanned.values()]), strict=True):
        if count > 1:
            builder.page(number)
        for paragraph in paragraphs(lines):
            builder.paragraph(paragraph)
    sections = builder.sections()
    notes.append(READ_BY_OCR if sections else NOTHING_FOUND)
    return Document(sections, notes=notes, left_out=pages_beyond(max_pages, range(max_pages + 1, count + 1)))
