"""Checksums of files and arrays: is this still what was written?

CRC-32 throughout: zlib's runs at some 3 GB/s and finds every error within 32 neighbouring bits. It guards against
damage, not against somebody who can write the checksum, too.
"""

from __future__ import annotations

import json
import os
import threading
import zlib
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from .types import Array

BLOCK = 4 << 20
#: Which content of a file was looked at: inode, bytes, and the times of its last changes.
FileIdentity: TypeAlias = "tuple[int, int, int, int]"

# By path, first byte and number of bytes: of which identity the file was when it was read, and the checksum.
_known: OrderedDict[tuple[str, int, int | None], tuple[FileIdentity, int]] = OrderedDict()
_lock = threading.Lock()
_KEPT = 4096


def file_identity(path: Path) -> FileIdentity:
    """What changes when a file is written to, even where its times are set back (``ctime``)."""
    found = os.stat(path)
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def file_checksum(path: Path, size: int | None = None, start: int = 0) -> int:
    """CRC-32 of a file from a byte on, of ``size`` bytes or to its end."""
    with path.open("rb") as file:
        file.seek(start)
        checksum, left = 0, os.fstat(file.fileno()).st_size - start if size is None else size
        while left > 0 and (block := file.read(min(left, BLOCK))):
            checksum, left = zlib.crc32(block, checksum), left - len(block)
    return checksum


def known_checksum(path: Path, size: int | None = None, start: int = 0) -> int:
    """:func:`file_checksum`, read once a process as long as nothing writes to the file."""
    key, identity = (str(path), start, size), file_identity(path)
    with _lock:
        found = _known.get(key)
    if found is not None and found[0] == identity:
        return found[1]
    checksum = file_checksum(path, size, start)
    with _lock:
        _known[key] = (identity, checksum)
        while len(_known) > _KEPT:
            _known.popitem(last=False)
    return checksum


def bytes_checksum(array: Array, start: int = 0) -> int:
    """CRC-32 of an array's values in C order, block by block, going on from ``start``."""
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8) if array.size else np.zeros(0, np.uint8)
    for place in range(0, len(flat), BLOCK):
        start = zlib.crc32(flat[place : place + BLOCK].data, start)
    return start


def arrays_checksum(about: Mapping[str, Any], arrays: Mapping[str, Array]) -> int:
    """CRC-32 of named arrays, their shapes and types, and of what is said about them in JSON."""
    crc = zlib.crc32(json.dumps(about, sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        crc = zlib.crc32(f"{name} {array.dtype.str} {array.shape}".encode(), crc)
        crc = bytes_checksum(array, crc)
    return crc


def signed(body: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object with its own checksum under ``checksum``."""
    return {**body, "checksum": zlib.crc32(json.dumps(body, sort_keys=True).encode())}


def unsigned(body: Any, *, optional: bool = False) -> dict[str, Any]:
    """The inverse of :func:`signed`.

    Raises:
        ValueError: It is no object, or not what was written; with ``optional`` it may lack a checksum.
    """
    if not isinstance(body, dict):
        raise ValueError(f"found {type(body).__name__}, expected an object")
    plain: dict[str, Any] = dict(body)
    found = plain.pop("checksum", None)
    if not (found is None and optional) and found != signed(plain)["checksum"]:
        raise ValueError("it does not match its checksum")
    return plain
