"""What a picture or a video can be given as before it is decoded, and which files are taken for one by their suffix."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from PIL.Image import Image

#: Lower-case suffixes of files that are taken for pictures.
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".tif", ".tiff", ".bmp"})
#: Lower-case suffixes of files that are taken for videos. Not ``.ts`` and ``.mts``: those are TypeScript more often.
VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".m2ts", ".flv", ".wmv", ".asf", ".ogv", ".3gp"}
)
#: Lower-case suffixes of the frames in a folder that stands for a video.
FRAME_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
#: Frames a second of a list of frames whose times nobody knows, as Qwen's published code dates them.
LIST_RATE = 2.0


@runtime_checkable
class ImageSource(Protocol):
    """An image that is opened only when it is needed: a file, a page of a PDF."""

    def load(self) -> Image:
        """The picture, RGB.

        Raises:
            MediaError: It cannot be read; the message names the file and the reason.
        """
        ...


@dataclass(frozen=True)
class Frames:
    """Frames of a video, already decoded.

    Args:
        images: The frames in order, RGB, all of one size.
        times: The second in the video each was taken at.
    """

    images: tuple[Image, ...]
    times: tuple[float, ...]


@runtime_checkable
class VideoSource(Protocol):
    """A video that is opened only when it is needed."""

    def frames(self, max_frames: int) -> Frames:
        """At most so many frames, evenly spread.

        Raises:
            MediaError: It cannot be read, or holds no frame.
        """
        ...


def visual_format_of(path: Path) -> str:
    """What kind of visual file a path is, by its suffix: ``"image"``, ``"pdf"``, ``"video"``; empty for any other.

    Example:
        >>> [visual_format_of(Path(name)) for name in ("a.JPG", "b.pdf", "c.mkv", "d.txt")]
        ['image', 'pdf', 'video', '']
    """
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return "image"
    return "video" if suffix in VIDEO_SUFFIXES else "pdf" if suffix == ".pdf" else ""
