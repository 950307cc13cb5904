"""The text in a picture file (a scan, a screenshot), and in pictures within other files, by OCR."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import groupby
from pathlib import Path, PurePosixPath

from ...errors import MissingExtraError
from ...files import UnreadableFileError
from ...pictures.contained import contained_pictures, pictures_beyond
from ..sections import Document, Section, SectionBuilder
from .ocr import NOT_INSTALLED, NOTHING_FOUND, READ_BY_OCR, count_pages, installed, read_contained, read_picture
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


def with_contained(path: Path, document: Document, max_pictures: int) -> Document:
    """A file with the text in the pictures within it, each under its name, and the slide it is on."""
    can_read = cache(installed)
    try:
        pictures, left_out = contained_pictures(path, checked=can_read)
    except UnreadableFileError as error:  # its text could be read
        pictures, left_out = [], [(f"pictures within files: {error.reason}", error.detail)]
    if pictures and not can_read():
        left_out += [(NOT_INSTALLED, one.name) for one in pictures]
        pictures = []
    found, notes, read = dict[str, list[Section]](), list(document.notes), 0
    for one in pictures[:max_pictures]:
        try:
            lines = whole_words([lines_in_order(scanned_runs(read_contained(path, one.name)))])[0]
        except UnreadableFileError as error:  # it costs a picture and not the file
            left_out.append((f"pictures within files: {error.reason}", one.name))
            continue
        if text := "\n\n".join(paragraphs(lines)):
            heading = (f"Picture {PurePosixPath(one.name).name}",)
            found.setdefault(one.record, []).append(Section(text, heading, one.slide, one.record))
            read += 1
    left_out += pictures_beyond(max_pictures, pictures)
    if read:
        notes.append(f"{READ_BY_OCR}: {read} of {len(pictures)} pictures")
    elif pictures and not document.sections:
        notes.append(NOTHING_FOUND)
    sections = list(_behind(document.sections, found))
    return replace(document, sections=sections, notes=notes, left_out=[*document.left_out, *left_out])


def _behind(sections: list[Section], pictures: dict[str, list[Section]]) -> Iterator[Section]:
    """Sections, those of pictures behind those of their record, which say the same about themselves."""
    for key, group in groupby(sections, lambda one: one.key):
        own = list(group)
        yield from own
        yield from (replace(one, metadata=own[0].metadata) for one in pictures.pop(key, ()))
    for left in pictures.values():
        yield from left
