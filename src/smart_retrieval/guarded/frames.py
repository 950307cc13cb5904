"""Messages between a process and its guarded child: what kind, how long, and the bytes."""

from __future__ import annotations

import struct
from contextlib import suppress
from enum import IntEnum
from io import FileIO

_HEAD = struct.Struct("<BQ")
_PIECE = 2**20  # Windows refuses to write very much at once


class Kind(IntEnum):
    """What a message is."""

    READY = 0
    CALL = 1
    STEP = 2  # how many, in eight bytes
    RESULT = 3
    UNREADABLE = 4  # reason and detail
    MISSING_EXTRA = 5  # the message


class FrameError(Exception):
    """The other side is gone, or does not speak this language."""


def write_frame(file: FileIO, kind: Kind, data: bytes = b"") -> None:
    """Write one message whole; raises `OSError` if nobody reads it."""
    for part in (_HEAD.pack(kind, len(data)), data):
        left = memoryview(part)
        while left:
            left = left[file.write(left[:_PIECE]) :]


def read_frame(file: FileIO, most: int) -> tuple[Kind, bytearray]:
    """Read one message of at most so many bytes."""
    kind, size = _HEAD.unpack(_read(file, _HEAD.size))
    if kind not in list(Kind) or size > most:
        raise FrameError(f"found a message of kind {kind} and {size:,} bytes")
    return Kind(kind), _read(file, size)


def _read(file: FileIO, size: int) -> bytearray:
    data = bytearray(size)
    left = memoryview(data)
    while left:
        count = file.readinto(left)
        if not count:
            raise FrameError("the other side is gone")
        left = left[count:]
    return data


def widen(pipe: FileIO) -> None:
    """Let a pipe hold more at once, where it can be told so: pictures go through in half the time."""
    with suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIECE)
