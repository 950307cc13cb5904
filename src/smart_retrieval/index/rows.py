"""From what is added, given as columns, to the records that are stored."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..embeddings import SmartEmbeddings
from ..errors import EmbeddingsError, EmptyInputError, SmartError
from .records import Array, Record


def rows_of_columns(
    texts: Iterable[str] | None,
    ids: Iterable[str] | None,
    metadata: Iterable[Mapping[str, Any]] | None,
    embeddings: SmartEmbeddings | None,
    sources: Iterable[str | None] | None,
    pages: Iterable[int | None] | None,
    headings: Iterable[str | None] | None,
) -> Iterator[dict[str, Any]]:
    """Rows of what was given as columns, which must be of one length."""
    if texts is None and (embeddings is None or ids is None):
        raise EmptyInputError("found no texts, expected texts, or embeddings with ids")
    for name, value in (("texts", texts), ("ids", ids)):
        if isinstance(value, str):
            raise EmptyInputError(f"{name}: found one string, expected several: add([text], ids=[id])")
    given = {
        "text": texts,
        "id": ids,
        "metadata": metadata,
        "source": sources,
        "page": pages,
        "heading": headings,
        "_": range(len(embeddings)) if embeddings is not None else None,
    }
    columns = {name: values for name, values in given.items() if values is not None}
    try:
        for values in zip(*columns.values(), strict=True):
            row = dict(zip(columns, values, strict=True))
            row.pop("_", None)
            if "id" not in row:
                row["id"] = hashlib.sha256(str(row["text"]).encode("utf-8", "surrogatepass")).hexdigest()[:16]
            yield row
    except ValueError as error:
        if not str(error).startswith("zip() argument"):
            raise  # an error of the caller's own iterator
        raise SmartError(f"add: the columns {', '.join(columns)} have different lengths ({error})") from error


def records_of(
    rows: Sequence[Mapping[str, Any]], encoded: SmartEmbeddings, coded: SmartEmbeddings, codes: Array
) -> list[Record]:
    """Records of one batch.

    Args:
        rows: ``id``, and as wanted ``text``, ``metadata``, ``source``, ``page``, ``heading`` of each.
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
        )
        for i, row in enumerate(rows)
    ]
