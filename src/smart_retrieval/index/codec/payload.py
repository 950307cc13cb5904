"""A document's token codes as bytes that stand alone, to lie beside its anchor in any store.

    offset  bytes  content
    0       4      "SMB" and the version of this format, 1
    4       8      the first bytes of the codec's hash
    12      4      T, token codes
    16      4      I, token ids: 0, T, or more where tokens were pooled
    20      2      B, bytes of a code
    22      1      bytes of a token id, 0 to 4
    23      1      0
    24      4      CRC-32 of everything else
    28      T * B  token codes
            I * w  token ids + 1

All numbers are little-endian. 100 tokens of the default codec and their ids are 28 + 600 + 200 bytes.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ...errors import CodecError, IndexDamagedError
from ...types import Array

MOST_TOKENS = 1 << 20  # of one document, far more than any model takes
MAGIC, VERSION = b"SMB", 1
_HEAD = struct.Struct("<3sB8sIIHBB")
HEADER_BYTES = _HEAD.size + 4
# The header with its checksum, for many at once.
_HEADS = np.dtype(
    {
        "names": ["magic", "version", "mark", "tokens", "ids", "width", "id_width", "zero", "checksum"],
        "formats": ["S3", "u1", "<u8", "<u4", "<u4", "<u2", "u1", "u1", "<u4"],
    }
)
_WHERE = "blob {}: found {}; {}"


class CodedDocuments(NamedTuple):
    """Token codes of some documents, and their token ids."""

    codes: Array  # [sum T, B] uint8
    offsets: Array  # [N + 1] int64 into codes
    token_ids: Array  # [sum I] int32, -1 where there is none
    id_offsets: Array  # [N + 1] int64 into token_ids


def pack_blob(codec_hash: str, codes: Array, token_ids: Array | None = None) -> bytes:
    """One document's blob."""
    packed = b"" if token_ids is None else pack_token_ids(token_ids)
    ids = 0 if token_ids is None else len(token_ids)
    width = len(packed) // ids if ids else 0
    mark = bytes.fromhex(codec_hash)[:8]
    head = _HEAD.pack(MAGIC, VERSION, mark, len(codes), ids, codes.shape[1], width, 0)
    body = codes.tobytes() + packed
    return head + struct.pack("<I", zlib.crc32(body, zlib.crc32(head))) + body


def unpack_blobs(blobs: Sequence[bytes], codec_hash: str, code_width: int, *, with_ids: bool = True) -> CodedDocuments:
    """The inverse of :func:`pack_blob`, for blobs of one codec; without their token ids if none are wanted.

    Raises:
        CodecError: A blob is damaged, cut off, no blob at all, of another version or of another codec; the message says
            which one by its position.
    """
    mark = bytes.fromhex(codec_hash)[:8]
    tokens, counts = _lengths(blobs, mark, code_width)
    ends = (HEADER_BYTES + code_width * tokens).tolist()
    codes = b"".join([blob[HEADER_BYTES:end] for blob, end in zip(blobs, ends, strict=True)])
    ids = []
    for place, (blob, end, count) in enumerate(zip(blobs, ends, counts.tolist(), strict=True) if with_ids else ()):
        try:
            ids.append(unpack_token_ids(bytes(blob[end:]), count))
        except IndexDamagedError as error:
            raise CodecError(_WHERE.format(place, f"token ids that cannot be ({error})", "restore it")) from error
    return CodedDocuments(
        np.frombuffer(codes, np.uint8).reshape(-1, code_width),
        np.concatenate([np.zeros(1, np.int64), np.cumsum(tokens)]),
        np.concatenate([np.zeros(0, np.int32), *ids]),
        np.concatenate([np.zeros(1, np.int64), np.cumsum(counts if with_ids else 0 * counts)]),
    )


def _lengths(blobs: Sequence[bytes], mark: bytes, code_width: int) -> tuple[Array, Array]:
    """T and I of blobs ``[N]`` int64, whose lengths and checksums fit them; all headers are looked at together."""
    if all(isinstance(blob, bytes | bytearray | memoryview) and len(blob) >= HEADER_BYTES for blob in blobs):
        heads = np.frombuffer(b"".join([blob[:HEADER_BYTES] for blob in blobs]), _HEADS)
        tokens, ids = heads["tokens"].astype(np.int64), heads["ids"].astype(np.int64)
        lengths = np.fromiter(map(len, blobs), np.int64, len(blobs))
        right = (
            (heads["magic"] == MAGIC)
            & (heads["version"] == VERSION)
            & (heads["mark"] == int.from_bytes(mark, "little"))
            & (heads["width"] == code_width)
            & (heads["zero"] == 0)
            & (heads["id_width"] <= 4)
            & (lengths == HEADER_BYTES + tokens * code_width + ids * heads["id_width"])
        )
        if right.all() and [_checksum(blob) for blob in blobs] == heads["checksum"].tolist():
            return tokens, ids
    for place, blob in enumerate(blobs):
        if (reason := _reason(blob, mark, code_width)) is not None:
            raise CodecError(_WHERE.format(place, *reason))
    raise AssertionError("one of the blobs is not right")


def _checksum(blob: bytes) -> int:
    return zlib.crc32(blob[HEADER_BYTES:], zlib.crc32(blob[: _HEAD.size]))


def _reason(blob: bytes, mark: bytes, code_width: int) -> tuple[str, str] | None:
    """What is wrong with a blob, and what to do; None where nothing is."""
    if not isinstance(blob, bytes | bytearray | memoryview):
        return type(blob).__name__, "expected bytes, as Codec.encode_blobs gives them"
    again = "it is damaged: store it again"
    if len(blob) < HEADER_BYTES:
        return f"{len(blob)} bytes, fewer than a header's {HEADER_BYTES}", again
    magic, version, found, tokens, ids, width, id_width, zero = _HEAD.unpack_from(blob)
    if magic != MAGIC:
        return f"bytes that begin with {magic!r}", "expected one that Codec.encode_blobs gave"
    if version != VERSION:
        return f"version {version}", f"expected {VERSION}: it was written by another version of this package"
    if len(blob) != HEADER_BYTES + tokens * width + ids * id_width or id_width > 4 or zero:
        return f"{len(blob)} bytes, which are not those that its header tells of", again
    if int.from_bytes(blob[_HEAD.size : HEADER_BYTES], "little") != _checksum(blob):
        return "a checksum that does not match", again
    if found != mark:
        return f"codec {found.hex()}", f"expected {mark.hex()}: code the document with this codec"
    return None if width == code_width else (f"codes of {width} bytes", f"expected {code_width}")


def pack_token_ids(token_ids: Array) -> bytes:
    """Ids as little-endian ``id + 1`` of just as many bytes as the largest needs: 2 a token for BERT, 0 without ids.

    Example:
        >>> len(pack_token_ids(np.array([7, -1, 30521]))), len(pack_token_ids(np.array([-1, -1])))
        (6, 0)
    """
    shifted = np.asarray(token_ids, np.int64) + 1
    width = (int(shifted.max(initial=0)).bit_length() + 7) // 8
    return shifted.astype("<u4").view(np.uint8).reshape(-1, 4)[:, :width].tobytes()


def unpack_token_ids(blob: bytes, count: int, most: int = MOST_TOKENS) -> Array:
    """The inverse of :func:`pack_token_ids`: ``[count]`` int32, no more than ``most``."""
    width, rest = divmod(len(blob), count) if count > 0 else (0, len(blob))
    # A count must not take memory, and ids of no bytes, all -1, least of all.
    if rest or width > 4 or not 0 <= count <= most:
        raise IndexDamagedError(f"found {len(blob)} bytes for {count} token ids")
    padded = np.zeros((count, 4), np.uint8)
    padded[:, :width] = np.frombuffer(blob, np.uint8).reshape(count, width)
    return padded.view("<u4").reshape(count).astype(np.int32) - 1
