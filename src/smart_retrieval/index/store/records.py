"""What goes into the store and what comes out of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ...documents.sections import clean_json
from ...errors import SmartError
from ...types import Array
from .pictures import Media

MOST_ID = 1 << 26  # of a vocabulary: weights are kept in an array as long as this


@dataclass(frozen=True, slots=True)
class Record:
    """One document to store."""

    id: str  # unique in the index
    anchor: Array  # [Da] float, kept as the manifest says
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
    anchors: Array  # [N, Da] float32, as they are kept
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
