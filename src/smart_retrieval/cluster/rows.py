"""Rows as documents: which column means what, and why a row is none."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..documents.sections import clean_json, clean_text
from ..errors import SmartError
from ..index.ingest.new_documents import NewDocument, new_documents
from ..index.store.records import pack_metadata
from ..inputs import Item, item_of
from ..pictures.pdf_pages import PdfPageImage
from .dataset import Row

if TYPE_CHECKING:
    from PIL.Image import Image

_OWN = ("source", "page", "heading", "metadata")


@dataclass(frozen=True)
class Columns:
    """Which columns mean what.

    ``source``, ``page`` and ``heading`` are what they are in an index. A column ``metadata`` holds an object (or its
    JSON); all other columns are metadata, too, unless ``metadata`` names those that are.

    Args:
        id: Column of the ids; a row of a dataset without it is named by its file and number.
        text: Columns whose texts are joined by blank lines.
        image: Columns of pictures: a path relative to the dataset, several, or objects with ``bytes``; of a PDF, the
            column ``page`` says which page.
        metadata: Columns kept as metadata; None for all others.
    """

    id: str = "id"
    text: tuple[str, ...] = ("text",)
    image: tuple[str, ...] = ("image", "images")
    metadata: tuple[str, ...] | None = None


@dataclass(frozen=True)
class BadDocument:
    """A document that was not encoded.

    Args:
        place: Its file and row, or its file.
        id: Its id, if it has one.
        reason: A short phrase that others of its kind have, too.
        detail: What is particular to it.
        failed: False if it was left out on purpose, such as a file of a type that is not read.
    """

    place: str
    id: str
    reason: str
    detail: str = ""
    failed: bool = True


@dataclass(frozen=True)
class PackedImage:
    """A picture file's bytes; an :class:`~smart_retrieval.inputs.ImageSource`."""

    data: bytes

    def load(self) -> Image:
        """The picture, RGB."""
        from ..pictures.images import load_image

        return load_image(self.data)


class _BadRowError(Exception):
    """Why a row is no document: a reason, and a detail."""


def documents_of(rows: Iterator[Row], columns: Columns, folder: Path) -> Iterator[NewDocument | BadDocument]:
    """The documents of rows, in order."""
    for row in rows:
        if row.reason:
            yield BadDocument(row.name, "", row.reason, row.detail)
            continue
        given = row.values.get(columns.id)
        try:
            yield _document(row, columns, folder)
        except _BadRowError as error:
            yield BadDocument(row.name, str(given or "")[:1000], *error.args)
        except SmartError as error:
            yield BadDocument(row.name, str(given or "")[:1000], "cannot be stored", str(error))


def _document(row: Row, columns: Columns, folder: Path) -> NewDocument:
    values = row.values
    text = "\n\n".join(part for name in columns.text if (part := _text(values.get(name)))).strip()
    given = [one for name in columns.image if values.get(name) is not None for one in _several(values[name])]
    page = _page(values.get("page"))
    images = tuple(_image(one, page, folder) for one in given)
    if not text and not images:
        raise _BadRowError("no text and no picture", f"found columns {', '.join(sorted(values)[:10]) or 'none'}")
    id = _id(values[columns.id]) if columns.id in values else row.name
    metadata = _metadata(values, columns)
    pack_metadata(metadata, id)  # here, where an error costs one document and not a batch
    places = {"source": values.get("source"), "heading": values.get("heading")}
    given_places: dict[str, Any] = {f"{name}s": [_text(one)] for name, one in places.items() if one is not None}
    item = Item(text, images) if images else item_of(text)
    columns_of = partial(new_documents, embeddings=None)
    (document,) = columns_of(
        [item], [id], [metadata], sources=given_places.get("sources"), pages=None if page is None else [page],
        headings=given_places.get("headings"),
    )  # fmt: skip
    return document


def _id(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise _BadRowError("no id", f"found {str(value)[:80]!r}, expected text or a whole number")
    return clean_text(str(value)).strip()


def _text(value: Any) -> str:
    if isinstance(value, str):
        return clean_text(value).strip("\n").rstrip()
    if isinstance(value, list):
        return "\n".join(text for one in value if not isinstance(one, list) and (text := _text(one)))
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else ""


def _page(value: Any) -> int | None:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        raise _BadRowError("no page number", f"found {str(value)[:80]!r} in 'page', expected a whole number")
    return int(value)


def _several(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _image(value: Any, page: int | None, folder: Path) -> Any:
    if isinstance(value, Mapping):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes):
        return PackedImage(value)
    if not isinstance(value, str) or not value.strip():
        raise _BadRowError("no picture", f"found {type(value).__name__}, expected a path or the bytes of a file")
    if "://" in value or value.startswith("data:"):
        raise _BadRowError("a picture that is no file", f"found {value[:80]!r}: nothing is fetched; download it first")
    path = folder / value
    if not path.is_file():
        raise _BadRowError("a picture that is not there", value[:200])
    if path.suffix.lower() != ".pdf":
        return path
    if page is None:
        raise _BadRowError("a PDF without a page", f"{value[:200]}: expected its number in the column 'page'")
    return PdfPageImage(path, page)


def _metadata(values: Mapping[str, Any], columns: Columns) -> dict[str, Any]:
    import json

    own = values.get("metadata")
    if isinstance(own, str):
        try:
            own = json.loads(own)
        except ValueError as error:
            raise _BadRowError("metadata that is not JSON", str(error)) from None
    if isinstance(own, list):  # Parquet's maps are lists of pairs
        own = dict(own) if all(isinstance(pair, tuple) and len(pair) == 2 for pair in own) else own
    if own is not None and not isinstance(own, Mapping):
        raise _BadRowError("metadata that is no object", f"found {type(own).__name__}")
    used = {columns.id, *columns.text, *columns.image, *_OWN}
    names = [name for name in values if name not in used] if columns.metadata is None else columns.metadata
    others = {name: values[name] for name in names if values.get(name) is not None}
    found = {name: _plain(value) for name, value in {**others, **(own or {})}.items()}
    cleaned: dict[str, Any] = clean_json({name: value for name, value in found.items() if value is not None})
    return cleaned


def _plain(value: Any) -> Any:
    """A value as JSON has it; bytes and what is not a number are none."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    return value if isinstance(value, str | int | float | None) else None
