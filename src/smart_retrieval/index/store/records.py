"""What goes into the store and what comes out of it, and how one row becomes bytes with a checksum."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ...errors import IndexDamagedError, SmartError
from ...types import Array
from .checksums import blob_checksum, checksum
from .pictures import Media


@dataclass(frozen=True, slots=True)
class Record:
    """One document to store.

    Args:
        id: Stable string id, unique in the index.
        anchor: ``[Da]`` float; kept as float32, as the backbone gave it.
        codes: ``[T, B]`` uint8, T token codes of B bytes each.
        token_ids: int32 vocabulary ids, -1 where a position has none. Usually ``[T]``; pooling may leave fewer codes
            than ids.
        text: The passage.
        source: File the passage came from.
        page: Its page.
        heading: Its heading path.
        metadata: JSON object that ``where`` filters on.
        media: The picture it is, where it is one.
    """

    id: str
    anchor: Array
    codes: Array
    token_ids: Array
    text: str = ""
    source: str | None = None
    page: int | None = None
    heading: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    media: Media | None = None


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
    """Vectors of some rows, in the order asked for.

    Attributes:
        rowids: ``[N]`` int64.
        anchors: ``[N, Da]`` float32, as they were added.
        codes: ``[sum T, B]`` uint8.
        offsets: ``[N + 1]`` int64 into ``codes``.
        token_ids: ``[sum I]`` int32.
        id_offsets: ``[N + 1]`` int64 into ``token_ids``; equal to ``offsets`` unless tokens were pooled.
    """

    rowids: Array
    anchors: Array
    codes: Array
    offsets: Array
    token_ids: Array
    id_offsets: Array


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

    Not ASCII-escaped: SQLite compares JSON keys as they are written. NUL is refused because SQLite's ``json_extract``
    ends a string there.

    Raises:
        SmartError: It is no JSON object, or holds NaN, NUL or a lone surrogate.
    """
    try:
        if not isinstance(metadata, Mapping):
            raise TypeError(f"it is a {type(metadata).__name__}")
        if not all(isinstance(key, str) for key in metadata):
            raise TypeError("a key is no string")
        packed = json.dumps(dict(metadata), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        packed.encode()
        if "\\u0000" in packed and "\0" in _strings(metadata):
            raise ValueError("a string holds a NUL character")
    except (TypeError, ValueError, RecursionError) as error:
        raise SmartError(f"metadata of document {owner!r}: expected a JSON object ({error})") from error
    return packed


def _strings(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return "".join(_strings(part) for pair in value.items() for part in pair)
    if isinstance(value, Sequence):
        return "".join(_strings(part) for part in value)
    return ""


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
    """The inverse of :func:`pack_token_ids`: ``[count]`` int32.

    Raises:
        IndexDamagedError: The length does not fit.
    """
    width, rest = divmod(len(blob), count) if count else (0, len(blob))
    if rest or width > 4:
        raise IndexDamagedError(f"found {len(blob)} bytes for {count} token ids")
    wide = np.zeros((count, 4), np.uint8)
    wide[:, :width] = np.frombuffer(blob, np.uint8).reshape(count, width)
    return wide.view("<u4").reshape(count).astype(np.int32) - 1


@dataclass(frozen=True, slots=True)
class Row:
    """A record turned into the values of its three rows, before it has a rowid."""

    id: str
    document: tuple[Any, ...]  # source, page, heading, metadata, text
    anchor: bytes
    n_ids: int
    ids: bytes
    unique_ids: Array
    n_tokens: int
    codes: bytes
    media: Media | None = None

    def document_values(self, rowid: int, commit: int) -> tuple[Any, ...]:
        """Values of the ``documents`` row."""
        head = (rowid, self.id, commit, *self.document)
        return (*head, checksum(*head))

    def vector_values(self, rowid: int) -> tuple[Any, ...]:
        """Values of the ``vectors`` row."""
        return (
            rowid,
            self.n_ids,
            self.anchor,
            self.ids,
            blob_checksum(rowid, self.id, self.n_ids, self.anchor, self.ids),
        )

    def code_values(self, rowid: int) -> tuple[Any, ...]:
        """Values of the ``codes`` row."""
        return rowid, self.n_tokens, self.codes, blob_checksum(rowid, self.id, self.n_tokens, self.codes)


def pack(record: Record, anchor_dim: int, code_width: int) -> Row:
    """Check a record against the index and turn it into bytes.

    Raises:
        SmartError: The id is empty, a field is of the wrong type, or a shape does not fit the index.
    """
    if not isinstance(record.id, str) or not record.id or "\0" in record.id:
        raise SmartError(f"found document id {record.id!r}, expected a non-empty string without NUL")
    anchor = np.ascontiguousarray(record.anchor, np.dtype("<f4"))
    codes = np.ascontiguousarray(record.codes)
    ids = np.asarray(record.token_ids)
    if anchor.shape != (anchor_dim,) or codes.ndim != 2 or codes.shape[1] != code_width or codes.dtype != np.uint8:
        raise SmartError(
            f"document {record.id!r}: found an anchor of shape {anchor.shape} and {codes.dtype} codes of shape "
            f"{codes.shape}, expected ({anchor_dim},) and uint8 (tokens, {code_width})"
        )
    if ids.ndim != 1 or (ids.size and (ids.dtype.kind not in "iu" or ids.min() < -1 or ids.max() >= 2**31 - 1)):
        raise SmartError(f"document {record.id!r}: expected token ids as one row of integers from -1 up")
    if not math.isfinite(float(np.abs(anchor).sum(dtype=np.float64))):
        raise SmartError(f"document {record.id!r}: its anchor holds NaN or infinity")
    page = None if record.page is None else int(record.page)
    if page is not None and not -(2**63) <= page < 2**63:
        raise SmartError(f"document {record.id!r}: found page {page}, expected a page number")
    try:
        for part in (record.id, record.text, record.source or "", record.heading or ""):
            part.encode()
    except (UnicodeEncodeError, AttributeError) as error:
        raise SmartError(f"document {record.id!r}: expected Unicode text ({error})") from error
    document = (record.source, page, record.heading, pack_metadata(record.metadata, record.id), record.text)
    unique = np.unique(ids[ids >= 0]).astype(np.int64)
    packed = pack_token_ids(ids)
    return Row(
        record.id, document, anchor.tobytes(), len(ids), packed, unique, len(codes), codes.tobytes(), record.media
    )
