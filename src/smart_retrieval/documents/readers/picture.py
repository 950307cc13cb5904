"""The text in a picture file (a scan, a screenshot), by OCR."""

from __future__ import annotations

from pathlib import Path

from ...errors import MissingExtraError
from ..sections import Document, SectionBuilder
from .ocr import NOT_INSTALLED, NOTHING_FOUND, READ_BY_OCR, installed, read_picture
from .pdf.layout import lines_in_order
from .pdf.paragraphs import paragraphs
from .pdf.read import whole_words
from .pdf.scanned import scanned_runs


def read(path: Path) -> Document:
    """Read a picture: its lines in reading order, joined to paragraphs.

    A picture without text, as most are, is no failure: it has no sections, and a note.
    """
    if not installed():
        raise MissingExtraError(NOT_INSTALLED)
    builder = SectionBuilder()
    (lines,) = whole_words([lines_in_order(scanned_runs(read_picture(path)))])
    for paragraph in paragraphs(lines):
        builder.paragraph(paragraph)
    sections = builder.sections()
    return Document(sections, notes=[READ_BY_OCR if sections else NOTHING_FOUND])
