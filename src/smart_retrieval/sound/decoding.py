"""Recordings decoded with PyAV (extra ``audio``) in the guarded child, one piece after another without seeking.

Seeking is inexact in formats without an index (MP3, for one). So the recording read last stays open there, and the next
piece is decoded from where the one before ended.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from ..extras import require
from ..files import UnreadableFileError, open_local
from ..guarded import Limits, guarded, step
from ..pictures.video_stream import open_container
from ..types import Array

_CONTAINERS = "wav,w64,flac,mp3,ogg,mov,matroska,aac,aiff,asf,amr"
_MOST_CHANNELS = 64
_NEEDS = {"av": "audio"}
_LIMITS = Limits(seconds_a_step=0.05)  # a step is a packet, some 20 ms of sound


@guarded(_LIMITS, needs=_NEEDS)
def recording_seconds(path: Path, most: float) -> float:
    """How long a recording is by its packets, of which none is decoded; reads no further than so many seconds."""
    with _opened(path) as (container, stream):
        first, last = math.inf, 0.0
        for packet in container.demux(stream):
            if packet.size and packet.pts is not None:
                begin = float(packet.pts * packet.time_base)
                first, last = min(first, begin), max(last, begin + float((packet.duration or 0) * packet.time_base))
                step()
            if last - first > most:
                break
    return max(0.0, last - first)


@guarded(_LIMITS, needs=_NEEDS)
def decode_recording(path: Path, start: float, seconds: float, rate: int) -> memoryview:
    """Samples from a second on, at a rate, their channels averaged: float32 as bytes; fewer where it ends."""
    return memoryview(_OPEN.recording(path, rate, round(start * rate)).read(round(seconds * rate)).tobytes())


class _Recording:
    """An open recording, decoded up to some sample."""

    def __init__(self, path: Path, rate: int) -> None:
        self.position = 0
        self._left: Array = np.zeros(0, np.float32)
        self._stack = ExitStack()
        container, stream = self._stack.enter_context(_opened(path))
        self._pieces = _samples(path, container, stream, rate)

    def read(self, count: int) -> Array:
        """The next samples."""
        pieces, found = [self._left], len(self._left)
        while found < count and (piece := next(self._pieces, None)) is not None:
            pieces.append(piece)
            found += len(piece)
        samples: Array = np.concatenate(pieces)
        # Copied, or the whole would stay.
        self._left = samples[count:].copy()
        self.position += min(count, len(samples))
        return samples[:count]

    def skip(self, count: int) -> None:
        """Leave out the next samples, a second's worth or so at a time."""
        while count > 0 and (done := len(self.read(min(count, 2**16)))):
            count -= done

    def close(self) -> None:
        """Close the file."""
        self._stack.close()


class _Last:
    """The recording that was read last."""

    def __init__(self) -> None:
        self._key: tuple[Any, ...] = ()
        self._open: _Recording | None = None

    def recording(self, path: Path, rate: int, first: int) -> _Recording:
        """The recording of a path at a sample; opened anew where it was read further, or has changed."""
        stamp: tuple[int, ...] = ()
        with suppress(OSError, ValueError):
            status = path.stat()
            stamp = status.st_ino, status.st_size, status.st_mtime_ns
        key = (path, rate, stamp)
        found = self._open
        self._open = None  # after an error below nobody knows where it stands
        if found is not None and (key != self._key or found.position > first):
            found.close()
            found = None
        if found is None:
            found = _Recording(path, rate)
        found.skip(first - found.position)
        self._key, self._open = key, found
        return found


_OPEN = _Last()


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """The container and its first audio stream; what goes wrong while it is open is an `UnreadableFileError`, too."""
    av = require("av", "audio")
    with open_local(path) as file:
        try:
            with open_container(av, path, file, _CONTAINERS, "a recording") as container:
                stream = next(iter(container.streams.audio), None)
                if stream is None:
                    raise UnreadableFileError(path, "no sound in it")
                if stream.codec_context is None:
                    raise UnreadableFileError(path, "a codec that is not known")
                if not stream.rate or not 1 <= stream.channels <= _MOST_CHANNELS:
                    raise UnreadableFileError(
                        path,
                        "sound of an implausible kind",
                        f"{stream.rate} samples a second, {stream.channels} channels",
                    )
                yield container, stream
        except av.error.FFmpegError as error:
            raise UnreadableFileError(path, "not a readable recording", str(error.strerror or error).lower()) from error


def _samples(path: Path, container: Any, stream: Any, rate: int) -> Iterator[Array]:
    """All samples, frame by frame; damaged packets are left out."""
    import av

    # The channels are averaged here: FFmpeg would add them up, weighted, so that speech on both is louder than it was.
    resampler = av.AudioResampler(format="fltp", rate=rate)
    found = damaged = 0
    for packet in container.demux(stream):
        step()
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            damaged += 1
            continue
        for frame in frames:
            found += frame.samples
            try:
                yield from _averaged(resampler.resample(frame))
            except ValueError as error:  # another number of channels or rate from here on
                raise UnreadableFileError(path, "sound that changes its format", str(error)) from error
    if not found:
        raise UnreadableFileError(path, "no sound in it", f"{damaged} damaged packets" if damaged else "")
    yield from _averaged(resampler.resample(None))


def _averaged(frames: list[Any]) -> Iterator[Array]:
    for frame in frames:
        yield frame.to_ndarray().mean(axis=0, dtype=np.float32)
