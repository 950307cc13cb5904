"""Rows as documents: which column means what, and why a row is none."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, time
from decimal import Decimal
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar

from ..documents.sections import clean_json, clean_text
from ..errors import MediaError, SmartError
from ..files import UnreadableFileError
from ..index.ingest.new_documents import NewDocument, new_documents
from ..index.store.records import pack_metadata
from ..inputs import Frames, Item, Sound
from ..pictures.pdf_pages import PdfPageImage
from ..pictures.video import VideoFile
from ..sound.files import SoundFile
from .dataset import Row

if TYPE_CHECKING:
    from PIL.Image import Image

Opened = TypeVar("Opened")
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
        video: Columns of videos, likewise, one for each row; None for ``video`` if the model takes any.
        audio: Columns of recordings; None for ``audio``.
        metadata: Columns kept as metadata; None for all others.
    """

    id: str = "id"
    text: tuple[str, ...] = ("text",)
    image: tuple[str, ...] = ("image", "images")
    video: tuple[str, ...] | None = None
    audio: tuple[str, ...] | None = None
    metadata: tuple[str, ...] | None = None

    def of(self, modalities: Collection[str]) -> Columns:
        """The same for a model that takes these."""
        video, audio = ((kind,) if kind in modalities else () for kind in ("video", "audio"))
        return replace(
            self,
            video=video if self.video is None else self.video,
            audio=audio if self.audio is None else self.audio,
        )


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


@dataclass(frozen=True)
class PackedFile:
    """The bytes of a video or a recording, which are a file while it is read."""

    data: bytes

    def frames(self, max_frames: int) -> Frames:
        """At most so many frames."""
        return self._read(lambda file: VideoFile(file).frames(max_frames))

    def sound(self, rate: int, most_seconds: float) -> Sound:
        """At most so many seconds."""
        return self._read(lambda file: SoundFile(file).sound(rate, most_seconds))

    def _read(self, reader: Callable[[Path], Opened]) -> Opened:
        with TemporaryDirectory(prefix="smart-row-") as folder:
            file = Path(folder) / "media"
            file.write_bytes(self.data)
            try:
                return reader(file)
            except UnreadableFileError as error:
                raise MediaError(f"cannot read its bytes: {error.reason}") from None


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
    page = _page(values.get("page"))
    images, videos, sounds = (
        [
            _media(kind, one, page, folder)
            for name in names or ()
            if values.get(name) is not None
            for one in _several(values[name])
        ]
        for kind, names in (("picture", columns.image), ("video", columns.video), ("recording", columns.audio))
    )
    if not text and not (images or videos or sounds):
        raise _BadRowError("no text and no picture", f"found columns {', '.join(sorted(values)[:10]) or 'none'}")
    if len(videos) > 1 or len(sounds) > 1:
        found = f"found {len(videos)} videos and {len(sounds)} recordings"
        raise _BadRowError("several videos or recordings", f"{found}, expected at most one of each")
    id = _id(values[columns.id]) if columns.id in values else row.name
    metadata = _metadata(values, columns)
    pack_metadata(metadata, id)  # here, where an error costs one document and not a batch
    places = {"source": values.get("source"), "heading": values.get("heading")}
    given_places: dict[str, Any] = {f"{name}s": [_text(one)] for name, one in places.items() if one is not None}
    item = Item(text, tuple(images), next(iter(videos), None), audio=next(iter(sounds), None))
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


def _media(kind: str, value: Any, page: int | None, folder: Path) -> Any:
    """A picture, video or recording, by its path or bytes."""
    if isinstance(value, Mapping):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes):
        return PackedImage(value) if kind == "picture" else PackedFile(value)
    if not isinstance(value, str) or not value.strip():
        raise _BadRowError(f"no {kind}", f"found {type(value).__name__}, expected a path or the bytes of a file")
    if "://" in value or value.startswith("data:"):
        raise _BadRowError(f"a {kind} that is no file", f"found {value[:80]!r}: nothing is fetched; download it first")
    path = folder / value
    if not path.is_file():
        raise _BadRowError(f"a {kind} that is not there", value[:200])
    if kind != "picture" or path.suffix.lower() != ".pdf":
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
    used = {columns.id, *columns.text, *columns.image, *(columns.video or ()), *(columns.audio or ()), *_OWN}
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
