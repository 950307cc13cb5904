"""Documents on their way into an index, before they are encoded."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from ...documents.sections import clean_json
from ...embeddings import SmartEmbeddings
from ...errors import EmptyInputError, SmartError
from ...files import content_hash, typed_name
from ...inputs import Frames, Item, Sound, item_of, refuse_table
from ..text.folding import clean_item
from .recorded_pictures import FEW_FRAMES, RecordedPicture, open_image, place_of, record_picture

if TYPE_CHECKING:
    from PIL.Image import Image

_NOT_IN_IDS = re.compile("[\0\ud800-\udfff]")
# Weight of the documents that are encoded and committed together.
BATCH_WEIGHT = 256
# Weight of a picture, what is in memory of it while it is encoded, where that of a passage is 1.
PICTURE_WEIGHT = 16


@dataclass(frozen=True, slots=True)
class NewDocument:
    """A document to add: what the model encodes, and what is stored beside its vectors.

    Args:
        id: Its id.
        item: What the model encodes; its text is stored.
        source: The file it comes from.
        page: Its page there.
        heading: Its heading path there.
        metadata: A JSON object, for ``where``.
        picture: The item's first picture, if it has one, where size and thumbnail are to be stored.

    Raises:
        SmartError: The id is no text that can be stored, or the page no whole number.
    """

    id: str
    item: Item = field(default_factory=Item)
    source: str | None = None
    page: int | None = None
    heading: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    picture: RecordedPicture | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.id, str) or not self.id or _NOT_IN_IDS.search(self.id):
            # Replaced, it would be another document's.
            raise SmartError(
                f"found document id {self.id!r}, expected a non-empty string without NUL and halves of characters"
            )
        if self.page is not None and (isinstance(self.page, bool) or not isinstance(self.page, int)):
            raise SmartError(f"document {self.id!r}: found page {self.page!r}, expected a whole number")

    @property
    def weight(self) -> int:
        """What it counts in a batch."""
        return 1 if self.picture is None else PICTURE_WEIGHT


class DocumentColumns(TypedDict, total=False):
    """What is added beside the items, one entry for each document; see :meth:`SmartIndex.add`."""

    ids: Iterable[str] | None
    metadata: Iterable[Mapping[str, Any]] | None
    embeddings: SmartEmbeddings | None
    sources: Iterable[str | None] | None
    pages: Iterable[int | None] | None
    headings: Iterable[str | None] | None


def new_documents(
    items: Iterable[Any] | None,
    ids: Iterable[str] | None = None,
    metadata: Iterable[Mapping[str, Any]] | None = None,
    embeddings: SmartEmbeddings | None = None,
    sources: Iterable[str | None] | None = None,
    pages: Iterable[int | None] | None = None,
    headings: Iterable[str | None] | None = None,
) -> Iterator[NewDocument]:
    """Documents from the columns that :meth:`SmartIndex.add` takes, which must be of one length."""
    if items is None and (embeddings is None or ids is None):
        raise EmptyInputError("found no texts, expected texts, or embeddings with ids")
    for name, value in (("texts", items), ("ids", ids)):
        if isinstance(value, str):
            raise EmptyInputError(f"{name}: found one string, expected several: add([text], ids=[id])")
    refuse_table(items)
    if isinstance(metadata, Mapping):
        raise EmptyInputError("metadata: found one object, expected one for each document: metadata=[{...}, ...]")
    given = {
        "item": items,
        "id": ids,
        "metadata": metadata,
        "source": sources,
        "page": pages,
        "heading": headings,
        "embeddings": range(len(embeddings)) if embeddings is not None else None,
    }
    columns = {name: values for name, values in given.items() if values is not None}
    try:
        for position, values in enumerate(zip(*columns.values(), strict=True)):
            yield _new_document(position, dict(zip(columns, values, strict=True)))
    except ValueError as error:
        if not str(error).startswith("zip() argument"):
            raise  # an error of the caller's own iterator
        raise SmartError(f"add: the columns {', '.join(columns)} have different lengths ({error})") from error


def _new_document(position: int, row: dict[str, Any]) -> NewDocument:
    item = item_of(row["item"], position) if "item" in row else Item()
    id = row["id"] if "id" in row else content_id(item)
    item = clean_item(item)
    source, page, picture = row.get("source"), row.get("page"), None
    if item.modalities != {"text"}:
        own_source, own_page = place_of(item)
        source, page = row.get("source", own_source), row.get("page", own_page)
        item, picture = record_picture(item)
    heading, metadata = row.get("heading"), row.get("metadata") or {}
    if isinstance(source, str):
        source = typed_name(source)
    return NewDocument(id, item, source, page, clean_json(heading), metadata, picture)


def batches(documents: Iterable[NewDocument], weight: int) -> Iterator[list[NewDocument]]:
    """Documents in groups of at least a weight.

    Example:
        >>> [len(batch) for batch in batches([NewDocument(str(number)) for number in range(5)], 2)]
        [2, 2, 1]
    """
    batch: list[NewDocument] = []
    total = 0
    for document in documents:
        batch.append(document)
        total += document.weight
        if total >= weight:
            yield batch
            batch, total = [], 0
    if batch:
        yield batch


def content_id(item: Item) -> str:
    """An id made of what an item holds: equal content, equal id, wherever its files lie.

    Example:
        >>> content_id(Item(text="sea animals"))
        '354b929d69beda0b'
    """
    text = item.text.encode("utf-8", "surrogatepass")
    if item.modalities == {"text"}:
        return hashlib.sha256(text).hexdigest()[:16]
    parts = [hashlib.sha256(text).hexdigest(), *(_digest(image) for image in item.images)]
    if item.video is not None:
        parts.append(f"video {_digest(item.video)}")
    if item.audio is not None:
        parts.append(f"audio {_digest(item.audio)}")
    if item.instruction is not None:
        parts.append(f"instruction {item.instruction}")
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _digest(source: Any) -> str:
    """Of a file its bytes, and the part of it that is meant; of anything else what it shows."""
    path = source if isinstance(source, Path) else getattr(source, "path", None)
    if isinstance(path, Path) and path.is_file():
        part = [getattr(source, name, None) for name in ("page", "start", "end")]
        return f"{content_hash(path)} {part}" if any(value is not None for value in part) else content_hash(path)
    if isinstance(source, Sound):
        return f"{hashlib.sha256(source.samples.tobytes()).hexdigest()} {source.rate}"
    if isinstance(source, Frames) or hasattr(source, "frames"):
        frames = source if isinstance(source, Frames) else source.frames(FEW_FRAMES)
        return " ".join([*map(_pixels, frames.images), *(f"{time:.3f}" for time in frames.times)])
    return _pixels(open_image(source))


def _pixels(image: Image) -> str:
    about = f"{image.mode} {image.size} ".encode()
    return hashlib.sha256(about + image.tobytes()).hexdigest()
