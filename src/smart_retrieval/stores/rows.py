"""From records to an engine's rows, and back to documents and vectors."""

from __future__ import annotations

import base64
import hashlib
import json
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import CodecError, IndexDamagedError, StoreError
from ..index.codec.base import Codec
from ..index.codec.payload import CodedDocuments, pack_blob, unpack_blobs
from ..index.creation import GivenCodec, new_manifest
from ..index.mirror.files import unit_anchors
from ..index.store.manifest import Manifest
from ..index.store.pictures import Media, PlacedGrid
from ..index.store.records import Document, Record, Vectors
from ..index.store.rows import pack
from ..types import Array
from .engine import Row

if TYPE_CHECKING:
    from ..model.smart_model import SmartModel

# Documents of an index that are exported together.
EXPORT_BATCH = 500


def key_of(id: str) -> int:
    """The key of a document's id, 63 bits of its hash: the same for everyone who writes it."""
    digest = hashlib.blake2b(id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def spellings(id: str) -> list[str]:
    """An id as it is given, composed, and decomposed: the same text to Unicode."""
    return list(dict.fromkeys([id, unicodedata.normalize("NFC", id), unicodedata.normalize("NFD", id)]))


def row_of(record: Record, manifest: Manifest, codec_hash: str, number: int) -> Row:
    """A record as an engine keeps it, if it fits the index."""
    packed = pack(record, manifest)
    (anchor,) = unit_anchors(np.asarray(record.anchor, np.float32)[None])
    document: dict[str, Any] = {
        "id": record.id,
        "text": record.text,
        "source": record.source,
        "page": packed.page,
        "heading": record.heading,
        "metadata": json.loads(packed.metadata),
        "added": number,
    }
    if (media := record.media) is not None:
        document["media"] = {
            "kind": media.kind,
            "width": media.width,
            "height": media.height,
            "times": list(media.times),
            "grids": [grid.to_list() for grid in media.grids],
            "thumbnail": base64.b64encode(media.thumbnail()).decode(),
        }
    blob = pack_blob(codec_hash, record.codes, np.asarray(record.token_ids))
    return Row(key_of(record.id), record.id, anchor, blob, document)


def document_of(row: Row) -> Document:
    """A row's document; IndexDamagedError where it is none."""
    found = row.document
    try:
        return Document(
            row.key,
            str(found["id"]),
            str(found["text"]),
            found["source"],
            found["page"],
            found["heading"],
            dict(found["metadata"]),
            int(found["added"]),
            _media(found.get("media")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise IndexDamagedError(
            f"document {row.id!r}: found a row that is no document ({error}); add it again"
        ) from error


def _media(facts: Mapping[str, Any] | None) -> Media | None:
    if facts is None:
        return None
    grids = tuple(PlacedGrid.from_list(grid) for grid in facts["grids"])
    load = partial(base64.b64decode, facts["thumbnail"])
    return Media(facts["kind"], facts["width"], facts["height"], tuple(facts["times"]), grids, load=load)


def anchors_of(rows: Sequence[Row], anchor_dim: int) -> Array:
    """Anchors ``[n, Da]`` of rows that were read with them."""
    anchors = np.zeros((len(rows), anchor_dim), np.float32)
    for place, row in enumerate(rows):
        anchor = np.zeros(0, np.float32) if row.anchor is None else row.anchor
        if anchor.shape != (anchor_dim,):
            raise IndexDamagedError(
                f"document {row.id!r}: found an anchor of shape {anchor.shape}, expected ({anchor_dim},); add it again"
            )
        anchors[place] = anchor
    return anchors


def vectors_of(rows: Sequence[Row], manifest: Manifest, codec_hash: str, name: str) -> Vectors:
    """Vectors of rows that were read with them."""
    anchors, blobs = anchors_of(rows, manifest.anchor_dim), [row.blob for row in rows]
    coded = unpacked(blobs, codec_hash, manifest.code_width, name, lambda: [row.id for row in rows])
    return Vectors(np.array([row.key for row in rows], np.int64), anchors, *coded)


def unpacked(
    blobs: Sequence[bytes],
    codec_hash: str,
    code_width: int,
    name: str | Path,
    ids: Callable[[], Sequence[str | None]],
    *,
    with_ids: bool = True,
) -> CodedDocuments:
    """The codes of blobs of an index; the first document whose blob cannot be read is named."""
    try:
        return unpack_blobs(blobs, codec_hash, code_width, with_ids=with_ids)
    except CodecError:
        for id, blob in zip(ids(), blobs, strict=True):
            try:
                unpack_blobs([blob], codec_hash, code_width, with_ids=with_ids)
            except CodecError as error:
                reason = str(error).removeprefix("blob 0: ")
                raise IndexDamagedError(
                    f"index {name}, document {id!r}: {reason}, or export the index again"
                ) from error
        raise


def fitted_manifest(model: SmartModel, codec: GivenCodec, pooling: float) -> tuple[Manifest, Codec]:
    """The manifest of a new index elsewhere, whose codec must be fitted already."""
    manifest, start = new_manifest(model, codec, pooling, "text", lexical=False, language="auto")
    if start.name != manifest.limits["codec"]:
        raise StoreError(
            f"codec: found {codec!r}, which is fitted to documents, expected a codec that is fitted already: run smart "
            "codec fit, or export an index"
        )
    return manifest, start
