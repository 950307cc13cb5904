"""PDF text, page by page, with pypdfium2 (extra ``pdf``): nothing but pip to install, and Chrome's own PDF engine.

PDFium is not thread-safe: one file is read at a time in a process.
"""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

from ..extras import require
from .pdf_layout import Line, drop_running_lines, heading_line, paragraphs
from .problems import UnreadableFileError
from .sections import Document, Section, SectionBuilder, clean_text
from .text import read_bytes

#: Held around every call into PDFium, here and in `pdf_pages`.
PDFIUM_LOCK = threading.Lock()
_MOST_CHARACTERS = 200_000_000  # a small file can unpack to any size
_MOST_BOOKMARKS = 20_000
# PDFium writes the hyphen that divides a word at a line's end, and the line end, as U+FFFE or U+0002.
_LINE_ENDS = re.compile("(\r\n|\n|\r|\ufffe|\x02)")
WITHOUT_PAGES = "a PDF without pages"
_SEARCHED_BYTES = 2**20
_NO_PAGES = re.compile(rb"/Type\s*/Pages\b[^>]{0,200}?/Count\s+0\b|/Count\s+0\b[^>]{0,200}?/Type\s*/Pages\b")
_DATE = re.compile(r"(?:D:)?(\d{4})(\d{2})(\d{2})")
_LIGATURES = {0xFB00: "ff", 0xFB01: "fi", 0xFB02: "fl", 0xFB03: "ffi", 0xFB04: "ffl", 0xFB05: "st", 0xFB06: "st"}


def read(path: Path, max_bytes: int, max_pages: int) -> Document:
    """Read the text of a PDF: a section for each page and heading of its outline.

    Lines are joined to paragraphs, words hyphenated at a line's end made whole, headers and footers that run through
    all pages dropped after the first. Pages without text (scans) are counted in a note.

    Args:
        path: The file.
        max_bytes: Most bytes it may have.
        max_pages: Most pages it may have.

    Raises:
        MissingExtraError: pypdfium2 is not installed.
        UnreadableFileError: It is no PDF, damaged, encrypted, without pages, has too many, or unpacks to too much text.
    """
    pdfium = require("pypdfium2", "pdf")
    data = read_bytes(path, max_bytes)
    if not data:
        raise UnreadableFileError(path, "empty, expected a PDF")
    with PDFIUM_LOCK:
        try:
            document = pdfium.PdfDocument(data)
        except pdfium.PdfiumError as error:
            raise open_error(path, str(error), data) from error
        try:
            return _read(document, path, max_pages)
        finally:
            document.close()


def open_error(path: Path, message: str, data: bytes) -> UnreadableFileError:
    """Phrase what PDFium says of a file it cannot open; `data` is the file, or its beginning."""
    if "password" in message.lower():
        return UnreadableFileError(path, "encrypted, needs a password")
    if "security" in message.lower():
        return UnreadableFileError(path, "encrypted in a way PDFium does not know")
    if _NO_PAGES.search(data, 0, _SEARCHED_BYTES):  # PDFium refuses it, and says nothing of the cause
        return UnreadableFileError(path, WITHOUT_PAGES)
    found = re.search(r"PDFium: ([^)]*)", message)
    return UnreadableFileError(path, "not a readable PDF", (found[1] if found else message).rstrip(".").lower())


def _read(document: Any, path: Path, max_pages: int) -> Document:
    """Read an open PDF."""
    count = len(document)
    if count == 0:
        raise UnreadableFileError(path, WITHOUT_PAGES)
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
    if len(broken) == count:
        raise UnreadableFileError(path, "no page of the PDF can be read")
    empty = sum(not page for page in pages) - len(broken)
    notes = [f"page {number} cannot be read" for number in broken]
    if empty:
        notes.append(f"{empty} of {count} pages hold no text (scanned or drawn)")
    return Document(_sections(drop_running_lines(pages), _outline(document)), _metadata(document), notes)


def _page_lines(document: Any, number: int) -> list[Line]:
    """The lines of text on a page, each with where it stands."""
    page = document[number]
    try:
        textpage = page.get_textpage()
        try:
            # What cannot be decoded are halves of characters; `clean_text` replaces them.
            text = textpage.get_text_range(errors="surrogatepass")
            lines: list[Line] = []
            position = 0
            for part in _LINE_ENDS.split(text):
                if part in {"\r\n", "\n", "\r"}:
                    position += len(part)
                elif part in {"\ufffe", "\x02"}:
                    if lines:
                        lines[-1] = lines[-1].hyphenated()
                    position += 1
                else:
                    cleaned = " ".join(clean_text(part).translate(_LIGATURES).split())
                    if cleaned:
                        lines.append(_line(textpage, cleaned, position, part))
                    position += len(part)
            return lines
        finally:
            textpage.close()
    finally:
        page.close()


def _line(textpage: Any, text: str, position: int, raw: str) -> Line:
    """A line and its place; `position` counts characters of the page's text, as PDFium hands it out."""
    last = position + len(raw.rstrip()) - 1
    try:
        left, bottom, _, top = textpage.get_charbox(_character(textpage, position), loose=True)
        right = textpage.get_charbox(_character(textpage, last), loose=True)[2]
    except Exception:  # characters PDFium inserted itself may have no box
        return Line(text)
    return Line(text, left, right, bottom, top - bottom)


def _character(textpage: Any, position: int) -> int:
    """PDFium counts characters of the page and of its text apart."""
    raw = require("pypdfium2.raw", "pdf")
    return int(raw.FPDFText_GetCharIndexFromTextIndex(textpage, position))


def _outline(document: Any) -> dict[int, list[tuple[int, str]]]:
    """The outline's entries by page (from 0), each with its level (from 1) and title."""
    found: dict[int, list[tuple[int, str]]] = {}
    try:
        for number, bookmark in enumerate(document.get_toc()):
            if number >= _MOST_BOOKMARKS:
                break
            destination = bookmark.get_dest()
            page = destination.get_index() if destination else None
            if page is not None and page >= 0:
                found.setdefault(page, []).append((bookmark.level + 1, bookmark.get_title()))
    except Exception:  # a damaged outline costs headings, not the text
        return {}
    return found


def _sections(pages: list[list[Line]], outline: dict[int, list[tuple[int, str]]]) -> list[Section]:
    """Cut pages at the headings of the outline; a title not found on its page stands at the page's beginning."""
    builder = SectionBuilder()
    for number, lines in enumerate(pages):
        builder.page(number + 1)
        start = 0
        for level, title in outline.get(number, ()):
            place = heading_line(lines, title, start)
            index, count = place or (start, 0)
            for paragraph in paragraphs(lines[start:index]):
                builder.paragraph(paragraph)
            builder.heading(level, title)
            start = index + count
        for paragraph in paragraphs(lines[start:]):
            builder.paragraph(paragraph)
    return builder.sections()


def _metadata(document: Any) -> dict[str, Any]:
    """What the PDF says about itself, and its number of pages."""
    metadata: dict[str, Any] = {"pages": len(document)}
    try:
        found = document.get_metadata_dict(skip_empty=True)
    except Exception:  # damaged metadata costs metadata, not the text
        return metadata
    for name in ("Title", "Author", "Subject", "Keywords"):
        if value := " ".join(clean_text(found.get(name, "")).split()):
            metadata[name.lower()] = value
    if created := _DATE.match(found.get("CreationDate", "")):
        metadata["created"] = "-".join(created.groups())
    return metadata
