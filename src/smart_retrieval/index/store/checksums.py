"""Checksums of the rows of ``index.sqlite``."""

from __future__ import annotations

import struct
import zlib
from typing import Any


class RawText(bytes):
    """TEXT as bytes. As a connection's ``text_factory`` it keeps damaged UTF-8 readable, and TEXT apart from BLOB."""


def checksum(*values: Any) -> int:
    """CRC-32 over values of any SQLite type, each with its type and length, so that no two rows read alike.

    CRC-32 finds every error within 32 neighbouring bits, so every flipped byte.
    """
    crc = 0
    for value in values:
        if value is None:
            head, body = b"n", b""
        elif isinstance(value, int):
            head, body = b"i", b"%d" % value
        elif isinstance(value, float):
            head, body = b"f", struct.pack("<d", value)
        elif isinstance(value, str | RawText):
            head, body = b"t", value.encode() if isinstance(value, str) else value
        else:
            head, body = b"b", value
        crc = zlib.crc32(body, zlib.crc32(b"%s%d:" % (head, len(body)), crc))
    return crc


def blob_checksum(rowid: int, id: str | bytes, count: int, *blobs: bytes) -> int:
    """Checksum of a ``vectors`` or ``codes`` row; it knows its document, so a row in the wrong place is found too."""
    name = id.encode() if isinstance(id, str) else bytes(id)
    crc = zlib.crc32(b"%r" % ((rowid, name, count, [len(blob) for blob in blobs]),))
    for blob in blobs:
        crc = zlib.crc32(blob, crc)
    return crc
