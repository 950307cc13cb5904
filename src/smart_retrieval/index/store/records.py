"""What goes into the store and what comes out of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ...documents.sections import clean_json
from ...errors import IndexDamagedError, SmartError
from ...types import Array
from .pictures import Media

MOST_ID = 1 << 26  # of a vocabulary: weights are kept in an array as long as this
MOST_WITHOUT_IDS = 1 << 20  # tokens of one document of which none has an id, such as visual ones


@dataclass(frozen=True, slots=True)
class Record:
    """One document to store."""

    id: str  # unique in the index
    anchor: Array  # [Da] float; kept as float32, as the backbone gave it
    codes: Array  # [T, B] uint8, T token codes of B bytes each
    token_ids: Array  # vocabulary ids, -1 where a position has none; [T], or more than codes where tokens were pooled
    text: str = ""
    source: str | None = None  # file the passage came from
    page: int | None = None
    heading: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)  # JSON object that ``where`` filters on
    media: Media | None = None  # the picture it is, where it is one


@dataclass(frozen=True, slots=True)
class Document:
    """One stored document without its vectors; ``commit`` is the commit that added it, ``media`` its picture."""

    rowid: int
    id: str
    text: str
    source: str | None
    page: int | None
    heading: str | None
    metadata: dict[str, Any]
    commit: int
    media: Media | None = None


class Vectors(NamedTuple):
    """Vectors of some rows, in the order given."""

    rowids: Array  # [N] int64
    anchors: Array  # [N, Da] float32, as they were added
    codes: Array  # [sum T, B] uint8
    offsets: Array  # [N + 1] int64 into codes
    token_ids: Array  # [sum I] int32
    id_offsets: Array  # [N + 1] int64 into token_ids; equal to offsets unless tokens were pooled


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file whose passages are all in the index (they carry its path as their ``source``)."""

    path: str
    size: int
    mtime_ns: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Added:
    """What one :meth:`Store.add` did: rowids of the new rows, rows replaced, records skipped, commit number."""

    rowids: list[int]
    replaced: int
    skipped: int
    commit: int


def pack_metadata(metadata: Mapping[str, Any], owner: str) -> str:
    """Metadata as the JSON text that is stored.

    Not ASCII-escaped: SQLite compares JSON keys as they are written. Cleaned as texts of files are: half a character
    cannot be stored, and SQLite's ``json_extract`` ends a string at NUL.
    """
    try:
        if not isinstance(metadata, Mapping):
            raise TypeError(f"it is a {type(metadata).__name__}")
        if not all(isinstance(key, str) for key in metadata):
            raise TypeError("a key is no string")
        return json.dumps(clean_json(metadata), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise SmartError(f"metadata of document {owner!r}: expected a JSON object ({error})") from error


def pack_token_ids(token_ids: Array) -> bytes:
    """Ids as little-endian ``id + 1`` of just as many bytes as the largest needs: 2 a token for BERT, 0 without ids.

    Example:
        >>> len(pack_token_ids(np.array([7, -1, 30521]))), len(pack_token_ids(np.array([-1, -1])))
        (6, 0)
    """
    shifted = np.asarray(token_ids, np.int64) + 1
    width = (int(shifted.max(initial=0)).bit_length() + 7) // 8
    return shifted.astype("<u4").view(np.uint8).reshape(-1, 4)[:, :width].tobytes()


def unpack_token_ids(blob: bytes, count: int) -> Array:
    """The inverse of :func:`pack_token_ids`: ``[count]`` int32."""
    width, rest = divmod(len(blob), count) if count > 0 else (0, len(blob))
    # Ids of no bytes, all -1, may be so many at most: a count alone must not take memory.
    if rest or width > 4 or count < 0 or (not width and count > MOST_WITHOUT_IDS):
        raise IndexDamagedError(f"found {len(blob)} bytes for {count} token ids")
    padded = np.zeros((count, 4), np.uint8)
    padded[:, :width] = np.frombuffer(blob, np.uint8).reshape(count, width)
    return padded.view("<u4").reshape(count).astype(np.int32) - 1
