"""Formats that are ZIP archives of XML: Word, PowerPoint and Excel through libraries, EPUB as web pages.

An archive is looked through before any library sees it: how much it unpacks to, and that no part of it declares
entities, which a few lines could expand to gigabytes. Office files have no use for them. The libraries run in the
guarded child.
"""

from __future__ import annotations

import io
import posixpath
import re
import zipfile
import zlib
from collections.abc import Iterator
from datetime import date, datetime, time
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

from ...extras import require
from ...files import UnreadableFileError, read_bytes
from ...guarded import guarded
from ..sections import Document, SectionBuilder, clean_text, one_line
from .html import decode_page, html_blocks
from .tables import TableText

# What all parts may unpack to, in limits for a file: pictures are not read, but some libraries load them.
_UNPACKED = 8
_MOST_PARTS = 20_000
_DOCTYPE = re.compile(rb"<\x00?!\x00?(?:D\x00?O\x00?C\x00?T\x00?Y\x00?P\x00?E|E\x00?N\x00?T\x00?I\x00?T\x00?Y)")
_MARKUP = (".xml", ".rels", ".vml", ".opf")
_DUBLIN_CORE = "{http://purl.org/dc/elements/1.1/}"
_CORE = {
    "{http://purl.org/dc/terms/}created": "created",
    "{http://schemas.openxmlformats.org/package/2006/metadata/core-properties}keywords": "keywords",
    f"{_DUBLIN_CORE}creator": "author",
    **{f"{_DUBLIN_CORE}{name}": name for name in ("title", "subject", "description", "language", "publisher", "date")},
}
_LONGEST = 1_000  # characters of what is kept with every passage
_DAY = len("2024-05-01")
_DEEPEST = 20  # groups in groups on a slide


def _opened(path: Path, max_bytes: int, *, office: bool = True) -> tuple[zipfile.ZipFile, io.BytesIO]:
    """The archive, and its bytes for a library, once it is known to be safe to unpack."""
    data = io.BytesIO(read_bytes(path, max_bytes))
    if data.getvalue()[:4] == b"\xd0\xcf\x11\xe0":
        raise UnreadableFileError(
            path, "encrypted, or of Office 97", "remove the password, or save it in today's format"
        )
    try:
        archive = zipfile.ZipFile(data)
        parts = archive.infolist()
        # ``zipfile`` never unpacks more of a part than it declares here.
        if len(parts) > _MOST_PARTS or sum(part.file_size for part in parts) > _UNPACKED * max_bytes:
            raise UnreadableFileError(path, f"unpacks to more than {_UNPACKED} times the limit of {max_bytes:,} bytes")
        left = max_bytes
        for part in parts:
            if part.flag_bits & 1:
                raise UnreadableFileError(path, "encrypted, needs a password")
            if part.filename.lower().endswith(_MARKUP):
                left -= part.file_size
                if left < 0:
                    raise UnreadableFileError(path, f"its text unpacks to more than the limit of {max_bytes:,} bytes")
                if office and _DOCTYPE.search(archive.read(part)):
                    raise UnreadableFileError(path, "declares XML entities, which such files never need")
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, RuntimeError, OSError, ValueError) as error:
        raise UnreadableFileError(path, "not a readable archive", str(error)) from error
    data.seek(0)
    return archive, data


def _xml(path: Path, data: bytes) -> ElementTree.Element:
    if _DOCTYPE.search(data) and b"<!ENTITY" in data:
        raise UnreadableFileError(path, "declares XML entities, which such files never need")
    return ElementTree.fromstring(data)


def _metadata(root: ElementTree.Element) -> dict[str, Any]:
    """Title, authors, subjects and so on, in Dublin Core; of several a list."""
    found: dict[str, list[str]] = {}
    for element in root.iter():
        if (name := _CORE.get(element.tag)) and (value := one_line(element.text or "")[:_LONGEST]):
            found.setdefault(name, []).append(value[:_DAY] if name == "created" else value)
    alone = {"title", "language", "created", "date"}  # of a book's titles the first
    return {name: values[0] if name in alone or len(values) == 1 else values for name, values in found.items()}


def _properties(path: Path, archive: zipfile.ZipFile) -> dict[str, Any]:
    """What an Office file says about itself."""
    try:
        return _metadata(_xml(path, archive.read("docProps/core.xml")))
    except (KeyError, ElementTree.ParseError):
        return {}


def _part_missing(path: Path, archive: zipfile.ZipFile, prefix: str, kind: str) -> None:
    if not any(name.startswith(prefix) for name in archive.namelist()):
        raise UnreadableFileError(path, f"not a readable {kind}", f"found no {prefix}")


@guarded(needs={"mammoth": "office"})
def read_docx(path: Path, max_bytes: int) -> Document:
    """Read a Word file: headings by their styles, paragraphs, lists, tables, foot- and endnotes."""
    archive, data = _opened(path, max_bytes)
    _part_missing(path, archive, "word/", "Word file")
    mammoth = require("mammoth", "office")
    # Pictures would come along in Base64.
    found = mammoth.convert_to_html(data, convert_image=mammoth.images.img_element(lambda image: {"src": ""}))
    builder = SectionBuilder()
    for block in html_blocks(found.value):
        builder.block(*block)
    metadata = _properties(path, archive)
    return Document(builder.sections(str(metadata.get("title", ""))), metadata)


@guarded(needs={"pptx": "office"})
def read_pptx(path: Path, max_bytes: int) -> Document:
    """Read a PowerPoint file: a slide is a page, its title a heading; tables and speaker's notes are read, too."""
    archive, data = _opened(path, max_bytes)
    _part_missing(path, archive, "ppt/", "PowerPoint file")
    show = require("pptx", "office").Presentation(data)
    builder = SectionBuilder()
    for number, slide in enumerate(show.slides, 1):
        builder.page(number)
        title = slide.shapes.title
        name = one_line(title.text_frame.text) if title is not None else ""
        builder.heading(1, name or f"Slide {number}")
        for shape in slide.shapes:
            if title is None or shape.shape_id != title.shape_id:
                for text in _shape_texts(shape):
                    builder.paragraph(text)
        if slide.has_notes_slide and (notes := slide.notes_slide.notes_text_frame) is not None and notes.text.strip():
            builder.paragraph(f"Notes: {notes.text}")
    return Document(builder.sections(), _properties(path, archive))


def _shape_texts(shape: Any, depth: int = 0) -> Iterator[str]:
    if depth > _DEEPEST:
        return
    if hasattr(shape, "shapes"):
        for inner in shape.shapes:
            yield from _shape_texts(inner, depth + 1)
    elif getattr(shape, "has_table", False):
        rows = ([cell.text.replace("\n", " ") for cell in row.cells] for row in shape.table.rows)
        yield "\n".join(" | ".join(row) for row in rows)
    elif shape.has_text_frame:
        yield shape.text_frame.text


@guarded(needs={"openpyxl": "office"})
def read_xlsx(path: Path, max_bytes: int) -> Document:
    """Read an Excel file: a sheet is a page, its name a heading, and every row is a text with the columns' names.

    Of a formula its last value is read.
    """
    archive, data = _opened(path, max_bytes)
    _part_missing(path, archive, "xl/", "Excel file")
    book = require("openpyxl", "office").load_workbook(data, read_only=True, data_only=True)
    builder, table = SectionBuilder(), TableText(path, max_bytes)
    for number, sheet in enumerate(book.worksheets, 1):
        builder.page(number)
        builder.heading(1, sheet.title)
        sheet.reset_dimensions()  # a single cell in the last corner would fill seventeen billion
        for text in table.rows([_cell(value) for value in row] for row in sheet.iter_rows(values_only=True)):
            builder.paragraph(text)
    return Document(builder.sections(), _properties(path, archive))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime) and value.time() == time():
        value = value.date()
    if isinstance(value, date | time):
        return value.isoformat().replace("T", " ")
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def read_epub(path: Path, max_bytes: int) -> Document:
    """Read a book: its chapters in their order."""
    archive, _ = _opened(path, max_bytes, office=False)
    names = set(archive.namelist())
    try:
        container = _xml(path, archive.read("META-INF/container.xml"))
        opf = next(place for one in container.iter() if (place := one.get("full-path")))
        package = _xml(path, archive.read(opf))
    except (KeyError, StopIteration, ElementTree.ParseError) as error:
        raise UnreadableFileError(path, "not a readable book", str(error)) from error
    items = {one.get("id"): one.get("href", "") for one in package.iter() if _local(one) == "item"}
    spine = [items.get(one.get("idref"), "") for one in package.iter() if _local(one) == "itemref"]
    chapters = [posixpath.normpath(posixpath.join(posixpath.dirname(opf), unquote(href))) for href in spine if href]
    if "META-INF/encryption.xml" in names:
        listed = _xml(path, archive.read("META-INF/encryption.xml"))
        locked = {unquote(one.get("URI", "")) for one in listed.iter() if _local(one) == "CipherReference"}
        if locked & set(chapters):  # fonts often are, and nothing else
            raise UnreadableFileError(path, "encrypted, needs a password")
    builder, left = SectionBuilder(), max_bytes
    notes: list[str] = []
    for chapter in dict.fromkeys(chapters):  # a chapter that is listed a thousand times is read once
        if chapter not in names:
            notes.append(f"chapter missing: {chapter}")
            continue
        left -= archive.getinfo(chapter).file_size
        if left < 0:
            raise UnreadableFileError(path, f"its text unpacks to more than the limit of {max_bytes:,} bytes")
        markup, guessed = decode_page(archive.read(chapter), path)
        notes += guessed
        for block in html_blocks(markup):
            builder.block(*block)
    metadata = _metadata(package)
    return Document(builder.sections(clean_text(str(metadata.get("title", "")))), metadata, list(dict.fromkeys(notes)))


def _local(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]
