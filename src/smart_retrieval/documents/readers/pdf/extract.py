"""Taking the text out of a PDF; the only place where its reader calls PDFium for whole documents."""

from __future__ import annotations

import re
from contextlib import closing, suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from ....extras import require
from ....files import UnreadableFileError, read_bytes
from ....guarded import step
from ....pictures.pdfium import open_pdf
from ...sections import one_line
from .annotations import page_annotations
from .runs import PageText, PdfText
from .text_page import PageArea, page_text

_MOST_CHARACTERS = 200_000_000  # a small file can unpack to any size
_MOST_BOOKMARKS = 20_000
# A page with no more text, such as that of a scanner's stamp, is a scan where one picture covers half of it.
_FEW_CHARACTERS = 200
_MOST_OBJECTS = 1_000
_DATE = re.compile(r"(?:D:)?(\d{4})(\d{2})(\d{2})")


def extract(path: Path, max_bytes: int, max_pages: int) -> PdfText:
    """Take the text, outline and metadata out of a PDF."""
    data = read_bytes(path, max_bytes)
    with closing(open_pdf(path, data)) as document:
        count = len(document)
        if count > max_pages:
            raise UnreadableFileError(path, f"more than {max_pages:,} pages", f"{count:,}")
        with suppress(Exception):  # only what was filled into forms is missing without it
            document.init_forms()
        pages: list[PageText] = []
        characters = 0
        for number in range(count):
            try:
                found = _page(document, number)
            except Exception:  # one damaged page must not cost the others; PDFium's errors are of several kinds
                found = PageText(damaged=True)
            characters += sum(len(run.text) for run in found.runs)
            if characters > _MOST_CHARACTERS:
                raise UnreadableFileError(path, f"more than {_MOST_CHARACTERS:,} characters of text")
            pages.append(found)
            step()
        if all(page.damaged for page in pages):
            raise UnreadableFileError(path, "no page of the PDF can be read")
        return PdfText(pages, _outline(document), _metadata(document))


def _page(document: Any, number: int) -> PageText:
    with closing(document[number]) as page:
        area = PageArea(page)
        with closing(page.get_textpage()) as textpage:
            found = page_text(area, textpage)
        added, comments = page_annotations(document, page, area)
        found = replace(found, runs=[*found.runs, *added], comments=comments) if added or comments else found
        return replace(found, drawn=True) if found.unreadable or _is_drawn(page, area, found) else found


def _is_drawn(page: Any, area: PageArea, found: PageText) -> bool:
    """Whether a page shows anything but has no text, or hardly any beside a picture."""
    raw = require("pypdfium2.raw", "pdf")
    if sum(len(run.text) for run in found.runs) > _FEW_CHARACTERS:
        return False
    if not (found.runs or found.outside):
        return bool(raw.FPDFPage_CountObjects(page.raw) > 0)
    width, height = area.size
    for image in islice(page.get_objects([raw.FPDF_PAGEOBJ_IMAGE], max_depth=3), _MOST_OBJECTS):
        left, bottom, right, top = image.get_bounds()
        if (right - left) * (top - bottom) > 0.5 * width * height:
            return True
    return False


def _outline(document: Any) -> list[tuple[int, int, str]]:
    found: list[tuple[int, int, str]] = []
    try:
        for bookmark in islice(document.get_toc(), _MOST_BOOKMARKS):
            destination = bookmark.get_dest()
            page = destination.get_index() if destination else None
            if page is not None and page >= 0:
                found.append((page, bookmark.level + 1, bookmark.get_title()))
    except Exception:  # a damaged outline loses headings, not the text
        return []
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
