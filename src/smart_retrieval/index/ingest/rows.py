"""From what is added, given as columns, to the records that are stored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

from ...embeddings import SmartEmbeddings
from ...errors import EmbeddingsError, EmptyInputError, SmartError
from ...inputs import item_of
from ...types import Array
from ..store.pictures import Media, place_grids
from ..store.records import Record
from .pictures import Watched, content_id, place_of

# Passages that a picture weighs as much as, in a batch: what is in memory of it while it is encoded.
PICTURE_WEIGHT = 16


def rows_of_columns(
    items: Iterable[Any] | None,
    ids: Iterable[str] | None,
    metadata: Iterable[Mapping[str, Any]] | None,
    embeddings: SmartEmbeddings | None,
    sources: Iterable[str | None] | None,
    pages: Iterable[int | None] | None,
    headings: Iterable[str | None] | None,
) -> Iterator[dict[str, Any]]:
    """Rows of what was given as columns, which must be of one length."""
    if items is None and (embeddings is None or ids is None):
        raise EmptyInputError("found no texts, expected texts, or embeddings with ids")
    for name, value in (("texts", items), ("ids", ids)):
        if isinstance(value, str):
            raise EmptyInputError(f"{name}: found one string, expected several: add([text], ids=[id])")
    given = {
        "item": items,
        "id": ids,
        "metadata": metadata,
        "source": sources,
        "page": pages,
        "heading": headings,
        "_": range(len(embeddings)) if embeddings is not None else None,
    }
    columns = {name: values for name, values in given.items() if values is not None}
    positions = count()
    try:
        for values in zip(*columns.values(), strict=True):
            row = dict(zip(columns, values, strict=True))
            row.pop("_", None)
            yield _row(row, next(positions)) if "item" in row else row
    except ValueError as error:
        if not str(error).startswith("zip() argument"):
            raise  # an error of the caller's own iterator
        raise SmartError(f"add: the columns {', '.join(columns)} have different lengths ({error})") from error


def _row(row: dict[str, Any], position: int) -> dict[str, Any]:
    """A row whose item was looked at: its text, its pictures, an id if it has none."""
    item = item_of(row["item"], position)
    row["text"] = item.text
    if "id" not in row:
        row["id"] = content_id(item)
    if item.images or item.video is not None:
        source, page = place_of(item)
        row.setdefault("source", source)
        row.setdefault("page", page)
        row["media"] = Watched(item)
        row["item"] = row["media"].item
    return row


def batches(rows: Iterable[dict[str, Any]], most: int) -> Iterator[list[dict[str, Any]]]:
    """Rows in groups of so many passages, or of a sixteenth as many pictures.

    Example:
        >>> [len(batch) for batch in batches([{"id": str(number)} for number in range(5)], 2)]
        [2, 2, 1]
    """
    batch: list[dict[str, Any]] = []
    weight = 0
    for row in rows:
        batch.append(row)
        weight += row_weight(row)
        if weight >= most:
            yield batch
            batch, weight = [], 0
    if batch:
        yield batch


def row_weight(row: Mapping[str, Any]) -> int:
    """What a row counts in a batch: 1, or more where it is a picture."""
    return PICTURE_WEIGHT if row.get("media") is not None else 1


def records_of(
    rows: Sequence[Mapping[str, Any]], encoded: SmartEmbeddings, coded: SmartEmbeddings, codes: Array
) -> list[Record]:
    """Records of one batch.

    Args:
        rows: ``id``, and as wanted ``text``, ``metadata``, ``source``, ``page``, ``heading``, ``media`` of each.
        encoded: Their encodings, whose token ids are kept for the IDF table.
        coded: What the codes stand for: the same, or with pooled tokens.
        codes: ``[sum T, B]`` uint8, of ``coded``.
    """
    if len(rows) != len(encoded):
        raise EmbeddingsError(f"found {len(encoded)} encodings for {len(rows)} documents, expected one each")
    for row in rows:
        page = row.get("page")
        if page is not None and (isinstance(page, bool) or not isinstance(page, int)):
            raise SmartError(f"document {row['id']!r}: found page {page!r}, expected a whole number")
    return [
        Record(
            row["id"],
            encoded.anchors[i],
            codes[coded.offsets[i] : coded.offsets[i + 1]],
            encoded.token_ids[encoded.offsets[i] : encoded.offsets[i + 1]],
            row.get("text") or "",
            row.get("source"),
            row.get("page"),
            row.get("heading"),
            row.get("metadata") or {},
            _media(row.get("media"), encoded, coded, i),
        )
        for i, row in enumerate(rows)
    ]


def _media(
    given: Watched | Media | None, encoded: SmartEmbeddings, coded: SmartEmbeddings, number: int
) -> Media | None:
    """A row's picture with its grids; pooling leaves none, since a merged token has no place."""
    media = given.media() if isinstance(given, Watched) else given
    own = encoded.grids[number]
    if media is None and own:
        media = Media("video" if own[0].kind == "video" else "image")
    if media is None or coded is not encoded:
        return media
    roles = encoded.roles[encoded.offsets[number] : encoded.offsets[number + 1]]
    return replace(media, grids=place_grids(own, roles))
