"""The video stream of a local file with PyAV (extra ``video``): when its frames are shown, and any of them decoded.

FFmpeg knows many formats that are lists of other files or of URLs. Only containers that hold their own frames are
opened here, through a file object, and whatever else FFmpeg may want to open is refused.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from io import BufferedReader
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from ..extras import require
from ..files import UnreadableFileError, open_local
from .images import MAX_ASPECT, MAX_PIXELS

_CONTAINERS = "mov,matroska,avi,mpegts,mpeg,flv,asf,ogg"
# Containers whose header says how long they are; for the others a missing end cannot be noticed.
_SAY_DURATION = ("mov", "matroska", "avi", "flv")
_BUFFER_BYTES = 2**18


@dataclass(frozen=True)
class Shown:
    """When the frames of a clip are shown, in ticks of the stream's time base.

    `keys` are the ticks of frames decoding can begin at; none if it has to begin at the file's beginning. `counted`
    are the ticks of all frames of the file, where a decoded frame's tick is known only by counting.
    """

    ticks: Sequence[int]
    keys: Sequence[int] = ()
    counted: Sequence[int] = ()


class _Scan(NamedTuple):
    """What the packets say; the last two are None if the file's end was not reached."""

    ticks: list[int]
    keys: list[int]
    shown_until: int | None  # the tick until which the last frame is shown
    end: float | None  # in seconds, of all streams


class VideoStream:
    """The first true video stream of an open file; made by `open_video`."""

    def __init__(self, path: Path, container: Any, stream: Any) -> None:
        self.path = path
        self._container = container
        self._stream = stream
        self.time_base: Fraction = stream.time_base
        #: What is second 0 for a player, in ticks.
        self.origin: int = round(Fraction(container.start_time or 0, 1_000_000) / self.time_base)
        # An AVI does not say when its frames are shown, only in which order they are decoded: its frames have to be
        # counted from the beginning.
        self._counted = container.format.name.startswith("avi")
        # MPEG program streams give some frames no time, and FFmpeg computes it wrongly after seeking.
        self._seekable = container.format.name != "mpeg" and not self._counted
        self._at_start = True

    @property
    def size(self) -> tuple[int, int]:
        """Width and height as shown, pixels square, before any rotation."""
        ratio = self._stream.sample_aspect_ratio or 1
        return max(1, round(self._stream.width * ratio)), self._stream.height

    @property
    def has_sound(self) -> bool:
        """Whether the file has a sound track, too."""
        return bool(self._container.streams.audio)

    @property
    def duration(self) -> float | None:
        """Length in seconds, as the file says."""
        return None if self._container.duration is None else float(self._container.duration / 1_000_000)

    def shown(self, start: float | None, end: float | None) -> Shown:
        """Read when the frames between two seconds are shown, that on display at `start` included; none is decoded."""
        first = None if start is None else self._tick(start)
        last = None if end is None else self._tick(end)
        scan = self._scan(first if self._seekable else None, None if self._counted else last)
        if first is not None and self._seekable and (not scan.ticks or scan.ticks[0] > first):
            scan = self._scan(None, last)  # some containers seek past the wanted tick
        if scan.end is not None:
            self._check_length(scan.end)
        ticks = scan.ticks
        if not ticks and first is None and last is None:
            raise UnreadableFileError(self.path, "a video without frames")
        low = 0 if first is None else max(0, bisect_right(ticks, first) - 1)
        high = len(ticks) if last is None else bisect_right(ticks, last)
        beyond = first is not None and scan.shown_until is not None and first >= scan.shown_until
        if low >= high or beyond:
            raise UnreadableFileError(self.path, "no frame in the clip", f"{start or 0:g} s to {end or 'end'}")
        return Shown(ticks[low:high], scan.keys if self._seekable else (), ticks if self._counted else ())

    def decode(self, shown: Shown, wanted: Sequence[int]) -> Iterator[tuple[int, Any]]:
        """Decode the frames of some ticks, ascending, one at a time, seeking where that is shorter."""
        if shown.counted:
            ticks = set(wanted)
            for tick, frame in zip(shown.counted, self._frames(None), strict=False):
                if tick in ticks:
                    yield tick, frame
                if tick >= wanted[-1]:
                    return
            return
        frames: Iterator[Any] = iter(())
        position: int | None = None
        for tick in wanted:
            place = bisect_right(shown.keys, tick)
            key = shown.keys[place - 1] if place else None
            if position is None or (key is not None and key > position):
                frames = self._frames(key)
                found = _first_from(frames, tick)
                if found is None or found.pts > tick:
                    frames = self._frames(None)  # it began too late
                    found = _first_from(frames, tick)
            else:
                found = _first_from(frames, tick)
            if found is None:
                return
            position = found.pts
            yield position, found

    def _tick(self, second: float) -> int:
        # Rounded, so that 1.2 is the 30th frame at 25 a second and not the 29th.
        return self.origin + math.floor(Fraction(second).limit_denominator(1_000_000) / self.time_base)

    def _seek(self, tick: int | None) -> None:
        """Go to the last key frame before a tick, or to the very first packet."""
        if tick is not None or not self._at_start:
            # The very first packet may be shown before second 0.
            first = min(0, self.origin, self._stream.start_time or 0)
            self._container.seek(first if tick is None else tick, stream=self._stream)
        self._at_start = False

    def _frames(self, tick: int | None) -> Iterator[Any]:
        """Decoded frames from the last key frame before a tick on; damaged packets are left out."""
        import av

        self._seek(tick)
        for packet in self._container.demux(self._stream):
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:
                continue
            yield from (frame for frame in frames if frame.pts is not None)

    def _scan(self, first: int | None, last: int | None) -> _Scan:
        """Read the packets around a clip, or all of them."""
        self._seek(first)
        ticks: set[int] = set()
        keys: list[int] = []
        shown_until = 0
        end = Fraction(0)
        for packet in self._container.demux():
            tick = packet.dts if self._counted or packet.pts is None else packet.pts
            if tick is None:
                continue
            until = tick + (packet.duration or 0)
            end = max(end, until * packet.time_base)
            if packet.stream_index != self._stream.index:
                continue
            if last is not None and packet.dts is not None and packet.dts > last:
                return _Scan(sorted(ticks), sorted(keys), None, None)
            if packet.is_keyframe:
                keys.append(tick)
            if not packet.is_discard:  # cut away by an edit list: decoded, not shown
                ticks.add(tick)
                shown_until = max(shown_until, until)
        return _Scan(sorted(ticks), sorted(keys), shown_until, float(end))

    def _check_length(self, end: float) -> None:
        """Refuse a file that ends long before its header says."""
        if not self._container.format.name.startswith(_SAY_DURATION):
            return
        length = end - (self._container.start_time or 0) / 1_000_000
        expected = self.duration or 0.0
        rate = self._stream.average_rate
        tolerance = max(min(1.0, expected / 4), float(2 / rate) if rate else 0.0)
        if length < expected - tolerance:
            raise UnreadableFileError(self.path, "cut off", f"{length:.1f} of {expected:.1f} s are there")


def _first_from(frames: Iterator[Any], tick: int) -> Any:
    """The first frame shown at a tick or later, or None."""
    return next((frame for frame in frames if frame.pts >= tick), None)


@contextmanager
def open_video(path: Path) -> Iterator[VideoStream]:
    """Open the video stream of a local file; what goes wrong while it is open is an `UnreadableFileError`, too."""
    av = require("av", "video")
    require("PIL.Image", "image")
    with open_local(path) as file:
        try:
            with open_container(av, path, file, _CONTAINERS, "a video") as container:
                yield VideoStream(path, container, _video_stream(av, path, container))
        except av.error.FFmpegError as error:
            detail = str(error.strerror or error).lower()
            raise UnreadableFileError(path, "not a readable video", detail) from error


def open_container(av: Any, path: Path, file: BufferedReader, formats: str, what: str) -> Any:
    """A container of one of some formats that holds all its streams itself; ``what`` it should be, for errors."""

    def refuse(url: str, flags: int, options: Any) -> Any:
        raise UnreadableFileError(path, f"{what} that refers to other files", str(url)[:200])

    if not file.peek(1):
        raise UnreadableFileError(path, f"empty, expected {what}")
    # Without a name, so that FFmpeg goes by what the file holds and not by its suffix.
    nameless = SimpleNamespace(read=file.read, seek=file.seek, tell=file.tell)
    return av.open(
        nameless,
        mode="r",
        # Not as `options`: PyAV before 18 crashes on those where streams are found late.
        container_options={"format_whitelist": formats, "protocol_whitelist": "none", "enable_drefs": "0"},
        buffer_size=_BUFFER_BYTES,
        io_open=refuse,
        metadata_errors="replace",
    )


def _video_stream(av: Any, path: Path, container: Any) -> Any:
    cover = av.stream.Disposition.attached_pic
    stream = next((stream for stream in container.streams.video if not stream.disposition & cover), None)
    if stream is None:
        raise UnreadableFileError(path, "no video in it")
    if stream.codec_context is None:
        raise UnreadableFileError(path, "a codec that is not known")
    width, height = stream.width, stream.height
    if width < 1 or height < 1:
        raise UnreadableFileError(path, "a video without frames")
    if width * height > MAX_PIXELS or max(width, height) > MAX_ASPECT * min(width, height):
        raise UnreadableFileError(path, "frames of an implausible size", f"{width} x {height}")
    # FFmpeg's own bound, on frames that turn out larger than the header says; it counts a margin, too.
    stream.codec_context.options = {"max_pixels": str(2 * MAX_PIXELS)}
    return stream
