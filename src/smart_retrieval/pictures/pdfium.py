"""Opening a PDF with PDFium, in the guarded child: for the reader of its text and for the pictures of its pages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ..extras import require
from ..files import UnreadableFileError

_SEARCHED_BYTES = 2**20
_NO_PAGES = re.compile(rb"/Type\s*/Pages\b[^>]{0,200}?/Count\s+0\b|/Count\s+0\b[^>]{0,200}?/Type\s*/Pages\b")


def open_pdf(path: Path, source: Any) -> Any:
    """Open a PDF (bytes or a file object) as a `pypdfium2.PdfDocument` with at least one page."""
    pdfium = require("pypdfium2", "pdf")
    try:
        document: Any = pdfium.PdfDocument(source)
    except pdfium.PdfiumError as error:
        if not isinstance(source, bytes):
            source.seek(0)
            source = source.read(_SEARCHED_BYTES)
        raise _open_error(path, str(error), source[:_SEARCHED_BYTES]) from error
    if len(document) == 0:
        document.close()
        raise UnreadableFileError(path, "a PDF without pages")
    return document


def _open_error(path: Path, message: str, beginning: bytes) -> UnreadableFileError:
    """Phrase what PDFium says of a file it cannot open."""
    if not beginning:
        return UnreadableFileError(path, "empty, expected a PDF")
    if "password" in message.lower():
        return UnreadableFileError(path, "encrypted, needs a password")
    if "security" in message.lower():
        return UnreadableFileError(path, "encrypted in a way PDFium does not know")
    if _NO_PAGES.search(beginning):  # PDFium refuses it without naming the cause
        return UnreadableFileError(path, "a PDF without pages")
    found = re.search(r"PDFium: ([^)]*)", message)
    return UnreadableFileError(path, "not a readable PDF", (found[1] if found else message).rstrip(".").lower())
