"""As what the files of a folder are indexed: as text, or as what they look like."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Generator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import MediaError, SmartError, UnsupportedModelError, one_of
from ...files import FoundFile, SkipLog, content_hash
from ...inputs import AnyImage, AnyVideo, Frames, Item, VideoSource
from ...pictures.images import as_rgb, load_image
from ...pictures.sources import visual_format_of
from ...pictures.video import VideoFile
from ...pictures.visual_inputs import thumbnail, visual_inputs
from ..store.pictures import Media

if TYPE_CHECKING:
    from PIL.Image import Image

# Frames looked at where a video has no file whose bytes could be hashed.
_FRAMES = 8


class Watched:
    """One item with pictures, and what was seen of them when the model decoded them.

    Give ``item`` to the model; afterwards :meth:`media` knows the size, the frames' times and a thumbnail of the first
    picture, without a second decoding.

    Args:
        item: With at least one image, or a video.
        kind: ``"image"``, ``"page"`` or ``"video"``; made out from the item when None.

    Example:
        >>> from PIL import Image
        >>> seen = Watched(Item(images=(Image.new("RGB", (40, 30)),)))
        >>> seen.item.images[0].load().size, seen.media().width
        ((40, 30), 40)
    """

    def __init__(self, item: Item, kind: str | None = None) -> None:
        self.kind = kind or kind_of(item)
        self._first: _WatchedImage | _WatchedVideo
        if item.images:
            self._first = _WatchedImage(item.images[0])
            self.item = replace(item, images=(self._first, *item.images[1:]))
        elif item.video is not None:
            self._first = _WatchedVideo(item.video)
            self.item = replace(item, video=self._first)
        else:
            raise MediaError("found an item without a picture, expected an image or a video to watch")

    @property
    def error(self) -> MediaError | None:
        """Why the picture could not be decoded, if it was tried and could not."""
        return self._first.error

    def media(self) -> Media:
        """What was seen; decodes the picture now if the model has not.

        Raises:
            MediaError: The picture cannot be read.
        """
        if self._first.seen is None:
            self._first.look()
        seen = self._first.seen
        assert seen is not None
        return Media(self.kind, seen.width, seen.height, seen.times, preview=seen.thumbnail)


@dataclass(frozen=True)
class _Seen:
    width: int
    height: int
    thumbnail: bytes
    times: tuple[float, ...] = ()


@dataclass(eq=False)
class _WatchedImage:
    source: AnyImage
    seen: _Seen | None = field(default=None, repr=False)
    error: MediaError | None = field(default=None, repr=False)

    def load(self) -> Image:
        try:
            image = opened(self.source)
        except MediaError as error:
            self.error = error
            raise
        if self.seen is None:
            self.seen = _Seen(*image.size, thumbnail(image))
        return image

    def look(self) -> None:
        self.load()


@dataclass(eq=False)
class _WatchedVideo:
    source: AnyVideo
    seen: _Seen | None = field(default=None, repr=False)
    error: MediaError | None = field(default=None, repr=False)

    def frames(self, max_frames: int) -> Frames:
        try:
            frames = opened_video(self.source, max_frames)
        except MediaError as error:
            self.error = error
            raise
        # The middle says more of a video than its first frame, which is often black.
        middle = frames.images[len(frames.images) // 2]
        self.seen = _Seen(*middle.size, thumbnail(middle), tuple(float(time) for time in frames.times))
        return frames

    def look(self) -> None:
        self.frames(_FRAMES)


def kind_of(item: Item) -> str:
    """What an item shows: ``"video"``, ``"page"`` where its image says which page it is, or ``"image"``."""
    if not item.images:
        return "video"
    return "page" if isinstance(getattr(item.images[0], "page", None), int) else "image"


def opened(source: AnyImage) -> Image:
    """The picture of any image, RGB.

    Raises:
        MediaError: It cannot be read.
    """
    if isinstance(source, Path):
        return load_image(source)
    from PIL.Image import Image as Picture

    # A picture in memory has a ``load`` of its own, which decodes it in place.
    return as_rgb(source if isinstance(source, Picture) else source.load())


def opened_video(source: AnyVideo, max_frames: int) -> Frames:
    """At most so many frames of any video, evenly spread.

    Raises:
        MediaError: It cannot be read.
    """
    if isinstance(source, Frames):
        chosen = _spread(len(source.images), max_frames)
        return Frames(tuple(source.images[i] for i in chosen), tuple(source.times[i] for i in chosen))
    return (VideoFile(source) if isinstance(source, Path) else source).frames(max_frames)


def _spread(count: int, most: int) -> list[int]:
    """Evenly spread numbers below ``count``, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return [round(number * (count - 1) / max(1, most - 1)) for number in range(most)]


def place_of(item: Item) -> tuple[str | None, int | None]:
    """The file an item's picture comes from and its page there, as far as it says so."""
    picture: Any = item.images[0] if len(item.images) == 1 else item.video if not item.images else None
    path = picture if isinstance(picture, Path) else getattr(picture, "path", None)
    page = getattr(picture, "page", None)
    return (str(path) if isinstance(path, Path) else None), page if isinstance(page, int) else None


def content_id(item: Item) -> str:
    """An id made of what an item holds: equal content, equal id, wherever its files lie.

    Raises:
        MediaError: A picture cannot be read.

    Example:
        >>> content_id(Item(text="sea animals"))
        '354b929d69beda0b'
    """
    text = item.text.encode("utf-8", "surrogatepass")
    if not item.images and item.video is None:
        return hashlib.sha256(text).hexdigest()[:16]
    parts = [hashlib.sha256(text).hexdigest(), *(_digest(image) for image in item.images)]
    if item.video is not None:
        parts.append(f"video {_digest(item.video)}")
    if item.instruction is not None:
        parts.append(f"instruction {item.instruction}")
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _digest(source: Any) -> str:
    """Of a file its bytes, and the part of it that is meant; of anything else what it shows."""
    path = source if isinstance(source, Path) else getattr(source, "path", None)
    if isinstance(path, Path) and path.is_file():
        part = [getattr(source, name, None) for name in ("page", "start", "end")]
        return f"{content_hash(path)} {part}" if any(value is not None for value in part) else content_hash(path)
    if isinstance(source, Frames) or hasattr(source, "frames"):
        frames = source if isinstance(source, Frames) else source.frames(_FRAMES)
        return " ".join([*map(_pixels, frames.images), *(f"{time:.3f}" for time in frames.times)])
    return _pixels(opened(source))


def _pixels(image: Image) -> str:
    about = f"{image.mode} {image.size} ".encode()
    return hashlib.sha256(about + image.tobytes()).hexdigest()


def picture_id(source: str, kind: str, page: int | None) -> str:
    """The id of a picture.

    Example:
        >>> picture_id("report.pdf", "page", 3), picture_id("clip.mp4", "video", None)
        ('report.pdf#page=3', 'clip.mp4#video')
    """
    return f"{source}#page={page}" if kind == "page" else f"{source}#{kind}"


def picture_rows(file: FoundFile, skipped: SkipLog) -> Generator[dict[str, Any], None, None]:
    """The pictures of one file, in order; none is decoded before the model asks for it.

    Args:
        file: The file.
        skipped: Receives the pages that cannot be read.

    Yields:
        Rows for :meth:`~smart_retrieval.index.smart_index.SmartIndex.add_encoded`, without text. Their ``item`` is what
        the model is to encode.

    Raises:
        MediaError: The file cannot be read.
        MissingExtraError: A package for its format is not installed.
    """
    for found in visual_inputs(file.path, skipped=skipped, relative=file.relative):
        source = found.source
        item = Item(video=source) if isinstance(source, VideoSource) else Item(images=(source,))
        watched = Watched(item, found.kind)
        yield {
            "id": picture_id(file.relative, found.kind, found.page),
            "text": "",
            "source": file.relative,
            "page": found.page,
            "item": watched.item,
            "media": watched,
        }


CHOICES = ("auto", "text", "pages")


def settle_files_as(asked: str, modalities: Collection[str]) -> str:
    """``"text"`` or ``"pages"``, from what was asked for and what the model takes.

    Args:
        asked: ``"pages"``: PDFs as pictures of their pages, pictures, videos, and text files as text. ``"text"``: what
            can be read as text. ``"auto"``: pages if the model takes pictures.
        modalities: Of the model.

    Raises:
        SmartError: It is none of these.
        UnsupportedModelError: Pages, and the model takes no pictures.

    Example:
        >>> settle_files_as("auto", {"text", "image"}), settle_files_as("auto", {"text"})
        ('pages', 'text')
    """
    if asked not in CHOICES:
        raise SmartError(f"files as: {one_of(asked, CHOICES)}")
    if asked == "pages" and "image" not in modalities:
        raise UnsupportedModelError(
            f"files as pages: found a model that takes {', '.join(sorted(modalities))}, expected one that takes "
            "images; choose another model, or text"
        )
    return asked if asked != "auto" else "pages" if "image" in modalities else "text"


@dataclass(frozen=True)
class VisualFiles:
    """Which files of a folder are indexed as pictures.

    Args:
        pages: Whether any are.
        modalities: What the model takes.

    Example:
        >>> files = VisualFiles.of({"files_as": "pages", "modalities": ["text", "image"]})
        >>> [files.takes(Path(name)) for name in ("a.PDF", "b.png", "c.mp4", "d.txt")]
        [True, True, False, False]
    """

    pages: bool = False
    modalities: frozenset[str] = frozenset({"text"})

    @classmethod
    def of(cls, limits: Mapping[str, Any]) -> VisualFiles:
        """As an index's manifest says; text where it was made before it could say so."""
        return cls(limits.get("files_as") == "pages", frozenset(limits.get("modalities", ("text",))))

    def takes(self, path: Path) -> bool:
        """Whether a file is indexed as pictures."""
        kind = visual_format_of(path)
        return self.pages and bool(kind) and ("video" if kind == "video" else "image") in self.modalities
