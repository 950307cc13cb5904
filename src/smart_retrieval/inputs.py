"""What a model is given: one item of text, images or video, before anything is opened or decoded."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from .errors import EmptyInputError

if TYPE_CHECKING:
    from PIL.Image import Image

_KEYS = ("text", "image", "video", "instruction")


@runtime_checkable
class ImageSource(Protocol):
    """An image that is opened when it is its turn: a file, a page of a PDF."""

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
    """A video that is opened when it is its turn."""

    def frames(self, max_frames: int) -> Frames:
        """At most so many frames, evenly spread.

        Raises:
            MediaError: It cannot be read, or holds no frame.
        """
        ...


AnyImage: TypeAlias = "Image | Path | ImageSource"
AnyVideo: TypeAlias = "Frames | Path | VideoSource"


@dataclass(frozen=True)
class Item:
    """One input: text, images, a video, or several of them together.

    Args:
        text: The text; a string is always text, never a path or a URL.
        images: Pictures, paths of picture files, or :class:`ImageSource`.
        video: :class:`Frames`, the path of a video file, or a :class:`VideoSource`.
        instruction: What this item is asked for, over the model's prompt.

    Example:
        >>> item_of({"text": "a chart", "image": Path("chart.png")}).images
        (PosixPath('chart.png'),)
    """

    text: str = ""
    images: tuple[AnyImage, ...] = ()
    video: AnyVideo | None = None
    instruction: str | None = None

    @property
    def modalities(self) -> frozenset[str]:
        """``"text"``, ``"image"``, ``"video"``, as far as they are there; an empty item is text."""
        found = {name for name, there in (("image", self.images), ("video", self.video is not None)) if there}
        return frozenset(found | ({"text"} if self.text or not found else set()))


def is_one_item(value: Any) -> bool:
    """Whether a value is one item and not several; lists, tuples and iterators are several."""
    return isinstance(value, str | Mapping | Path | Item | Frames | VideoSource) or _is_image(value)


def item_of(value: Any, position: int = 0) -> Item:
    """Take what a user gives for one item.

    Args:
        value: A string (text), a PIL image, a :class:`~pathlib.Path` of an image or a video file, an
            :class:`ImageSource`, a :class:`VideoSource`, :class:`Frames`, an :class:`Item`, or a mapping with some
            of the keys ``text``, ``image`` (one or several), ``video``, ``instruction``. In a mapping, a string under
            ``image`` or ``video`` is the path of a local file; URLs are refused.
        position: Of the item among those given, for the message.

    Raises:
        EmptyInputError: Something else.
    """
    if isinstance(value, Item):
        return value
    if isinstance(value, str):
        return Item(text=value)
    if isinstance(value, Mapping):
        return _item_of_mapping(value, position)
    if isinstance(value, Path):
        return Item(video=value) if _is_video(value) else Item(images=(value,))
    if isinstance(value, Frames | VideoSource):
        return Item(video=value)
    if _is_image(value):
        return Item(images=(value,))
    raise EmptyInputError(
        f"item {position}: found {type(value).__name__} ({str(value)[:40]!r}), expected a string, an image, a Path, or "
        f"a dict with some of {', '.join(_KEYS)}"
    )


def _item_of_mapping(value: Mapping[str, Any], position: int) -> Item:
    if unknown := sorted(str(key) for key in set(value) - set(_KEYS)):
        raise EmptyInputError(f"item {position}: found keys {unknown}, expected some of {', '.join(_KEYS)}")
    for key in ("text", "instruction"):
        if not isinstance(value.get(key), str | None):
            raise EmptyInputError(f"item {position}: found {type(value[key]).__name__} as {key}, expected a string")
    if all(value.get(key) is None or (key != "text" and value[key] in ([], ())) for key in _KEYS[:3]):
        raise EmptyInputError(f"item {position}: found nothing in it, expected at least one text, image or video")
    images = value.get("image")
    several = images if isinstance(images, Sequence) and not isinstance(images, str) else [images]
    video = value.get("video")
    return Item(
        value.get("text") or "",
        tuple(_image(image, position) for image in several if image is not None),
        None if video is None else _video(video, position),
        value.get("instruction"),
    )


def _image(value: Any, position: int) -> AnyImage:
    if isinstance(value, str):
        value = _local(value, position)
    if isinstance(value, Path) or _is_image(value):
        image: AnyImage = value
        return image
    raise EmptyInputError(
        f"item {position}: found {type(value).__name__} as image, expected a picture or the path of one"
    )


def _video(value: Any, position: int) -> AnyVideo:
    if isinstance(value, str):
        value = _local(value, position)
    if isinstance(value, Path | Frames | VideoSource):
        return value
    raise EmptyInputError(f"item {position}: found {type(value).__name__} as video, expected a path or Frames")


def _local(name: str, position: int) -> Path:
    if "://" in name or name.startswith("data:"):
        raise EmptyInputError(
            f"item {position}: found {name[:60]!r}, expected the path of a local file: nothing is fetched; download it "
            "first"
        )
    return Path(name)


def _is_image(value: Any) -> bool:
    # Text needs no Pillow; and as long as nobody has imported it, nothing is one of its pictures.
    pillow = sys.modules.get("PIL.Image")
    if pillow is not None and isinstance(value, pillow.Image):
        return True
    # A source is one picture: whatever has a length (embeddings have a ``load``, too) is a collection.
    return isinstance(value, ImageSource) and not hasattr(value, "__len__")


def _is_video(path: Path) -> bool:
    from .pictures.video import VIDEO_SUFFIXES

    return path.suffix.lower() in VIDEO_SUFFIXES
