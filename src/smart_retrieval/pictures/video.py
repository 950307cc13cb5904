"""Frames of a video, evenly spread in time: of a video file, or of a folder of pictures as benchmarks provide them."""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import UnreadableFileError, os_error, settled
from .images import MAX_ASPECT, load_image
from .sources import FRAME_SUFFIXES, Frames
from .video_stream import open_video

if TYPE_CHECKING:
    from PIL.Image import Image

#: Larger frames are scaled down as they are decoded: 64 of them take 400 MB.
FRAME_PIXELS = 1920 * 1080


@dataclass(frozen=True)
class VideoFile:
    """A video file or a clip of one, decoded only when it is needed: a :class:`~smart_retrieval.pictures.VideoSource`.

    Args:
        path: The file.
        start: Second the clip begins at; the beginning of the video when None.
        end: Second it ends at; the end of the video when None.
        fps: Frames a second to take, where that is fewer than `frames` may return.
        max_pixels: Larger frames are scaled down.

    Example:
        >>> VideoFile(Path("talk.mp4"), start=60, end=90).frames(8).times  # doctest: +SKIP
        (60.0, 64.28, 68.56, 72.84, 77.12, 81.4, 85.68, 90.0)
    """

    path: Path
    start: float | None = None
    end: float | None = None
    fps: float | None = None
    max_pixels: int = FRAME_PIXELS

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", settled(self.path))

    def frames(self, max_frames: int) -> Frames:
        """At most so many frames, evenly spread.

        Raises:
            UnreadableFileError: See `read_frames`.
        """
        return read_frames(
            self.path, max_frames=max_frames, start=self.start, end=self.end, fps=self.fps, max_pixels=self.max_pixels
        )


def read_frames(
    path: Path,
    *,
    max_frames: int,
    start: float | None = None,
    end: float | None = None,
    fps: float | None = None,
    max_pixels: int = FRAME_PIXELS,
) -> Frames:
    """Decode frames of a local video file, evenly spread in time from the first to the last.

    All frames if there are no more than `max_frames`; otherwise those on display at evenly spaced moments. Only the
    frames taken are ever held in memory.

    Args:
        path: The file.
        max_frames: Most frames to take.
        start: Second of the video the clip begins at; the beginning when None.
        end: Second it ends at; the end of the video when None.
        fps: Take so many a second; still spread evenly over all of it where that would be more than `max_frames`.
        max_pixels: Larger frames are scaled down.

    Returns:
        The frames, upright, RGB, all of one size; and the second each is shown at, as the file says.

    Raises:
        UnreadableFileError: No video (a list of other files is none), no frame in the clip, cut off, or damaged; or
            the arguments contradict each other.
        MissingExtraError: PyAV or Pillow is not installed.

    Example:
        >>> read_frames(Path("talk.mp4"), max_frames=8).images[0].size  # doctest: +SKIP
        (1280, 720)
    """
    path = Path(path)
    _check_request(path, max_frames, start, end, fps)
    with open_video(path) as stream:
        shown = stream.shown(start, end)
        wanted = pick_frames(shown.ticks, max_frames, None if fps is None else Fraction(fps) * stream.time_base)
        images: list[Image] = []
        times: list[float] = []
        for tick, frame in stream.decode(shown, wanted):
            if not times or tick > times[-1]:
                images.append(_image(frame, path, stream.size, max_pixels, images[0].size if images else None))
                times.append(tick)
        if len(images) < len(wanted):
            found = f"{len(wanted) - len(images)} of {len(wanted)} frames cannot be decoded"
            raise UnreadableFileError(path, "a damaged video", found)
        seconds = tuple(float((tick - stream.origin) * stream.time_base) for tick in times)
        return Frames(tuple(images), seconds)


def _check_request(path: Path, max_frames: int, start: float | None, end: float | None, fps: float | None) -> None:
    if max_frames < 1:
        raise UnreadableFileError(path, "no frames requested", f"max_frames={max_frames}, expected at least 1")
    if fps is not None and not 0 < fps < math.inf:
        raise UnreadableFileError(path, "no frames requested", f"fps={fps}, expected more than 0")
    low, high = 0.0 if start is None else start, math.inf if end is None else end
    if not 0 <= low <= high or math.isinf(low):
        raise UnreadableFileError(path, "not a clip", f"{start} to {end} s, expected 0 <= start <= end")


def pick_frames(ticks: Sequence[int], most: int, per_tick: Fraction | None) -> list[int]:
    """The ticks of the frames on display at evenly spaced moments, `per_tick` frames a tick or spread over all."""
    first, last = ticks[0], ticks[-1]
    if per_tick is not None and (count := int((last - first) * per_tick) + 1) <= most:
        moments = [first + int(step / per_tick) for step in range(count)]
    elif len(ticks) <= most:
        return list(ticks)
    else:
        moments = [first + (last - first) * step // max(1, most - 1) for step in range(most)]
    return sorted({ticks[bisect_right(ticks, moment) - 1] for moment in moments})


def _image(frame: Any, path: Path, shown: tuple[int, int], max_pixels: int, like: tuple[int, int] | None) -> Image:
    """A decoded frame as a picture: pixels square, upright, no larger than allowed."""
    from PIL.Image import Resampling, Transpose

    if max(shown) > MAX_ASPECT * min(shown):
        raise UnreadableFileError(path, "frames of an implausible size", f"{shown[0]} x {shown[1]}")
    size = _bounded(shown, max_pixels)
    scaled = frame.reformat(*size, format="rgb24", interpolation="BICUBIC" if size == shown else "AREA")
    image: Image = scaled.to_image()
    turns = {90: Transpose.ROTATE_90, 180: Transpose.ROTATE_180, 270: Transpose.ROTATE_270}
    # The display matrix says how far to turn against the clock, as Pillow does.
    if turn := turns.get(round(frame.rotation / 90) * 90 % 360):
        image = image.transpose(turn)
    return image if like in {None, image.size} else image.resize(like or image.size, Resampling.BICUBIC)


def _bounded(size: tuple[int, int], max_pixels: int) -> tuple[int, int]:
    """The size, or a smaller one of the same shape with at most so many pixels."""
    shrink = min(1.0, math.sqrt(max_pixels / (size[0] * size[1])))
    return max(1, int(size[0] * shrink)), max(1, int(size[1] * shrink))


_DIGITS = re.compile(r"(\d+)")


@dataclass(frozen=True)
class FrameFolder:
    """Frames of a video as pictures in a folder: a :class:`~smart_retrieval.pictures.VideoSource`.

    Pictures are ordered by the numbers in their names (``frame2.jpg`` before ``frame10.jpg``).

    Args:
        path: The folder.
        fps: Frames a second the pictures were taken at; times are computed from it.
        max_pixels: Larger pictures are scaled down.

    Example:
        >>> FrameFolder(Path("frames/v_12"), fps=2).frames(8).times  # doctest: +SKIP
        (0.0, 4.0, 8.5, 13.0, 17.0, 21.5, 26.0, 30.5)
    """

    path: Path
    fps: float = 1.0
    max_pixels: int = FRAME_PIXELS

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", settled(self.path))

    def frames(self, max_frames: int) -> Frames:
        """At most so many pictures, evenly spread from the first to the last; all if there are fewer.

        Raises:
            UnreadableFileError: There is no such folder, it holds no picture, one of those taken cannot be read, or
                their shapes differ.
        """
        import numpy as np

        if max_frames < 1 or not self.fps > 0:
            found = f"max_frames={max_frames}, fps={self.fps}, expected at least 1 and more than 0"
            raise UnreadableFileError(self.path, "no frames requested", found)
        files = self.files()
        chosen = list(range(len(files)))
        if len(files) > max_frames:
            chosen = [int(place) for place in np.linspace(0, len(files) - 1, max_frames)]
        images: list[Image] = []
        for place in chosen:
            image = load_image(files[place])
            image = image.resize(_bounded(image.size, self.max_pixels))
            if images and image.size != images[0].size:
                raise UnreadableFileError(
                    files[place], "a frame of another size", f"{image.size}, expected {images[0].size}"
                )
            images.append(image)
        return Frames(tuple(images), tuple(place / self.fps for place in chosen))

    def files(self) -> list[Path]:
        """The pictures in their order."""
        try:
            found = [path for path in self.path.iterdir() if path.suffix.lower() in FRAME_SUFFIXES and path.is_file()]
        except OSError as error:
            raise os_error(self.path, error) from error
        if not found:
            raise UnreadableFileError(self.path, "a folder without frames", "expected .jpg, .jpeg or .png files")
        return sorted(found, key=lambda path: (_natural(path.name), path.name))


def _natural(name: str) -> list[tuple[int, int, str]]:
    """A sort key by which numbers count as numbers: "f9" before "f10"."""
    parts = _DIGITS.split(name.lower())
    return [(0, int(part), "") if place % 2 else (1, 0, part) for place, part in enumerate(parts)]
