"""A folder of pictures as a video, the way benchmarks hand out videos."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..inputs import Frames
from .images import load_image
from .problems import UnreadableFileError, os_error
from .video import FRAME_PIXELS

if TYPE_CHECKING:
    from PIL.Image import Image

_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
_DIGITS = re.compile(r"(\d+)")


@dataclass(frozen=True)
class FrameFolder:
    """Frames of a video as pictures in a folder: a :class:`~smart_retrieval.inputs.VideoSource`.

    Pictures are ordered as people count (``frame2.jpg`` before ``frame10.jpg``).

    Args:
        path: The folder.
        fps: Frames a second the pictures were taken at; what times are reckoned from.
        max_pixels: Larger pictures are scaled down.

    Example:
        >>> FrameFolder(Path("frames/v_12"), fps=2).frames(8).times  # doctest: +SKIP
        (0.0, 4.0, 8.5, 13.0, 17.0, 21.5, 26.0, 30.5)
    """

    path: Path
    fps: float = 1.0
    max_pixels: int = FRAME_PIXELS

    def frames(self, max_frames: int) -> Frames:
        """At most so many pictures, evenly spread from the first to the last; all if there are fewer.

        Raises:
            UnreadableFileError: There is no such folder, it holds no picture, one of those taken cannot be read, or
                their shapes differ.
        """
        import numpy as np

        if max_frames < 1 or not self.fps > 0:
            found = f"max_frames={max_frames}, fps={self.fps}, expected at least 1 and more than 0"
            raise UnreadableFileError(self.path, "no frames asked for", found)
        files = self.files()
        chosen = list(range(len(files)))
        if len(files) > max_frames:
            chosen = [int(place) for place in np.linspace(0, len(files) - 1, max_frames)]
        images: list[Image] = []
        for place in chosen:
            image = load_image(files[place])
            if image.width * image.height > self.max_pixels:
                shrink = (self.max_pixels / (image.width * image.height)) ** 0.5
                image = image.resize((max(1, int(image.width * shrink)), max(1, int(image.height * shrink))))
            if images and image.size != images[0].size:
                raise UnreadableFileError(
                    files[place], "a frame of another size", f"{image.size}, expected {images[0].size}"
                )
            images.append(image)
        return Frames(tuple(images), tuple(place / self.fps for place in chosen))

    def files(self) -> list[Path]:
        """The pictures in their order.

        Raises:
            UnreadableFileError: There is no such folder, or no picture in it.
        """
        try:
            found = [path for path in self.path.iterdir() if path.suffix.lower() in _SUFFIXES and path.is_file()]
        except OSError as error:
            raise os_error(self.path, error) from error
        if not found:
            raise UnreadableFileError(self.path, "a folder without frames", "expected .jpg, .jpeg or .png files")
        return sorted(found, key=lambda path: (_natural(path.name), path.name))


def _natural(name: str) -> list[tuple[int, int, str]]:
    """A sort key by which numbers count as numbers.

    Example:
        >>> sorted(["f10", "f9", "f"], key=_natural)
        ['f', 'f9', 'f10']
    """
    parts = _DIGITS.split(name.lower())
    return [(0, int(part), "") if place % 2 else (1, 0, part) for place, part in enumerate(parts)]
