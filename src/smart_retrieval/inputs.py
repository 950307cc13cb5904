"""What a model is given: one item of text, images, video or sound, before anything is opened or decoded."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from .errors import EmptyInputError, MediaError
from .pictures.sources import VIDEO_SUFFIXES, Frames, ImageSource, VideoSource
from .sound.sources import Sound, SoundSource, is_recording

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "AnyImage", "AnySound", "AnyVideo", "Frames", "ImageSource", "Item", "Sound", "SoundSource", "VideoSource",
    "is_one_item", "item_of", "named_media", "refuse_table",
]  # fmt: skip

AnyImage: TypeAlias = "Image | Path | ImageSource"
AnyVideo: TypeAlias = "Frames | Path | VideoSource"
AnySound: TypeAlias = "Sound | Path | SoundSource"

_SURROGATE = re.compile("[\ud800-\udfff]")
_KEYS = ("text", "image", "video", "audio", "instruction")
_PAGE = re.compile(r"(?P<file>.+\.pdf)#page=(?P<page>[1-9][0-9]{0,5})", re.IGNORECASE)
_SECONDS = re.compile(r"(?P<file>.+)#t=(?P<start>[0-9]+(?:\.[0-9]+)?)?(?:,(?P<end>[0-9]+(?:\.[0-9]+)?))?")


@dataclass(frozen=True)
class Item:
    """One input: text, images, a video, sound, or several of them together.

    Args:
        text: The text; a string is always text, never a path or a URL. Halves of characters become U+FFFD.
        images: Pictures, paths of picture files, or :class:`ImageSource`.
        video: :class:`Frames`, the path of a video file, or a :class:`VideoSource`.
        instruction: The task this item is encoded for; replaces the model's prompt.
        audio: :class:`~smart_retrieval.sound.Sound` (samples and their rate), the path of a recording, or a
            :class:`~smart_retrieval.sound.SoundSource`.

    Example:
        >>> item_of({"text": "a chart", "image": Path("chart.png")}).images
        (PosixPath('chart.png'),)
    """

    text: str = ""
    images: tuple[AnyImage, ...] = ()
    video: AnyVideo | None = None
    instruction: str | None = None
    audio: AnySound | None = None

    def __post_init__(self) -> None:
        for name in ("text", "instruction"):
            value = getattr(self, name)
            if isinstance(value, str) and _SURROGATE.search(value):
                # Two halves become their character and a lone one U+FFFD: no tokenizer takes it.
                whole = value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
                object.__setattr__(self, name, whole)

    @property
    def modalities(self) -> frozenset[str]:
        """Those of ``"text"``, ``"image"``, ``"video"``, ``"audio"`` that are present; an empty item is text."""
        media = {"image": self.images, "video": self.video is not None, "audio": self.audio is not None}
        found = {name for name, present in media.items() if present}
        return frozenset(found | ({"text"} if self.text or not found else set()))


def is_one_item(value: Any) -> bool:
    """Whether a value is one item and not several; lists, tuples and iterators are several, a table is an error."""
    refuse_table(value)
    return isinstance(value, str | Mapping | Path | Item | Frames | VideoSource | Sound | SoundSource) or _is_image(
        value
    )


def refuse_table(value: Any) -> None:
    """Data frames and Arrow tables iterate over the names of their columns, or over the columns."""
    if hasattr(value, "columns") and len(getattr(value, "shape", ())) == 2:
        name = type(value).__name__
        raise EmptyInputError(f"found a table ({name}), expected its column of texts, such as table['text']")


def item_of(value: Any, position: int = 0) -> Item:
    """Turn what a user gives into an item.

    Args:
        value: A string (text), a PIL image, a :class:`~pathlib.Path` of an image, a video or a recording, an
            :class:`ImageSource`, a :class:`VideoSource`, :class:`Frames`, a :class:`SoundSource`, :class:`Sound`, an
            :class:`Item`, or a mapping with some of the keys ``text``, ``image`` (one or several), ``video``,
            ``audio``, ``instruction``. In a mapping, a string under ``image``, ``video`` or ``audio`` is the
            path of a local file; URLs are refused. Under ``audio`` also a dict with ``array`` and ``sampling_rate``.
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
    if isinstance(value, Frames | VideoSource) or (isinstance(value, Path) and value.suffix.lower() in VIDEO_SUFFIXES):
        return Item(video=value)
    if isinstance(value, Sound | SoundSource) or (isinstance(value, Path) and is_recording(value)):
        return Item(audio=value)
    if isinstance(value, Path) or _is_image(value):
        return Item(images=(value,))
    raise EmptyInputError(
        f"item {position}: found {type(value).__name__} ({str(value)[:40]!r}), expected a string, an image, a Path, "
        f"Sound, or a dict with some of {', '.join(_KEYS)}"
    )


def _item_of_mapping(value: Mapping[str, Any], position: int) -> Item:
    if unknown := sorted(str(key) for key in set(value) - set(_KEYS)):
        raise EmptyInputError(f"item {position}: found keys {unknown}, expected some of {', '.join(_KEYS)}")
    for key in ("text", "instruction"):
        if not isinstance(value.get(key), str | None):
            raise EmptyInputError(f"item {position}: found {type(value[key]).__name__} as {key}, expected a string")
    if all(value.get(key) is None or (isinstance(value[key], list | tuple) and not value[key]) for key in _KEYS[:4]):
        raise EmptyInputError(
            f"item {position}: found nothing in it, expected at least one text, image, video or sound"
        )
    images, video, audio = value.get("image"), value.get("video"), value.get("audio")
    several = images if isinstance(images, Sequence) and not isinstance(images, str) else [images]
    return Item(
        value.get("text") or "",
        tuple(_media(image, "image", position) for image in several if image is not None),
        None if video is None else _media(video, "video", position),
        value.get("instruction"),
        None if audio is None else _media(audio, "audio", position),
    )


def named_media(name: Any, kind: Literal["image", "video", "audio"], folder: Path) -> AnyImage | AnyVideo | AnySound:
    """A picture, video or recording that a line of a data set names, not opened yet.

    Args:
        name: Its path relative to the folder; for a page of a PDF with ``#page=3`` behind it, for seconds of a video or
            a recording with ``#t=60,90``.
        kind: Which of them it is.
        folder: The data set's.

    Raises:
        MediaError: It is no path, a URL, not there, or a whole PDF.
    """
    if not isinstance(name, str) or not name or "\0" in name:
        known = {"image": "'scan.png' or 'a.pdf#page=3'", "video": "'talk.mp4'", "audio": "'talk.mp3'"}[kind]
        raise MediaError(f"found {name!r} as {kind}, expected a path such as {known}")
    if "://" in name or name.startswith("data:"):
        raise MediaError(f"found {name[:60]!r}, expected a local file: nothing is fetched")
    match = (_PAGE if kind == "image" else _SECONDS).fullmatch(name)
    file = folder / (match["file"] if match else name)
    if not file.is_file():
        raise MediaError(f"found no file {str(file)!r}")
    if kind != "image":
        start, end = (None if match is None or match[side] is None else float(match[side]) for side in ("start", "end"))
        if kind == "video":
            from .pictures.video import VideoFile

            return VideoFile(file, start, end)
        from .sound.files import SoundFile

        return SoundFile(file, start, end)
    if match is None:
        if file.suffix.lower() == ".pdf":
            raise MediaError(f"found {name!r} without a page, expected for one {name + '#page=1'!r}")
        return file
    from .pictures.pdf_pages import PdfPageImage

    return PdfPageImage(file, int(match["page"]))


def _media(value: Any, key: str, position: int) -> Any:
    """The image, video or sound under a mapping's key; the path of a local file may be a string there."""
    if isinstance(value, str):
        if "://" in value or value.startswith("data:"):
            raise EmptyInputError(
                f"item {position}: found {value[:60]!r}, expected the path of a local file: nothing is fetched; "
                "download it first"
            )
        return Path(value)
    known = {"image": ImageSource, "video": Frames | VideoSource, "audio": Sound | SoundSource}[key]
    if isinstance(value, Path) or (_is_image(value) if key == "image" else isinstance(value, known)):
        return value
    if key == "audio" and isinstance(value, Mapping) and {"array", "sampling_rate"} <= set(value):
        return Sound(value["array"], value["sampling_rate"])
    names = {
        "image": "a picture or the path of one",
        "video": "a path or Frames",
        "audio": "a path, Sound, or a dict with array and sampling_rate",
    }
    raise EmptyInputError(f"item {position}: found {type(value).__name__} as {key}, expected {names[key]}")


def _is_image(value: Any) -> bool:
    # Text needs no Pillow: while it is not imported, nothing is one of its images.
    pillow = sys.modules.get("PIL.Image")
    if pillow is not None and isinstance(value, pillow.Image):
        return True
    # A source is one picture: whatever has a length (embeddings have a ``load``, too) is a collection.
    return isinstance(value, ImageSource) and not hasattr(value, "__len__")
