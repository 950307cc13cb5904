"""Pictures and sound on their way through the model: decoded once, by it, with what is shown of them kept from then."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import MediaError
from ...files import settled
from ...inputs import AnyImage, AnyVideo, Frames, Item, Sound
from ...pictures.images import as_rgb, load_image
from ...pictures.video import VideoFile
from ...pictures.visual_inputs import thumbnail
from ...sound.files import opened_sound
from ..store.pictures import Media

if TYPE_CHECKING:
    from PIL.Image import Image

# Frames decoded of a video that the model has not decoded, or that has no file whose bytes could be hashed.
FEW_FRAMES = 8


@dataclass(eq=False)
class RecordedPicture:
    """A picture that keeps its size, thumbnail and frame times when the model decodes it."""

    kind: str  # "image", "page", "video" or "audio"
    source: Any  # AnyImage, AnyVideo or AnySound
    error: MediaError | None = field(default=None, init=False, repr=False)  # why it could not be decoded
    _media: Media | None = field(default=None, init=False, repr=False)

    def media(self) -> Media:
        """What was seen of it; decodes it now if the model has not."""
        if self._media is None:
            self._decode(FEW_FRAMES)
        assert self._media is not None
        return self._media

    def _decode(self, max_frames: int) -> Frames:
        """At most so many frames of a video, or the one of an image."""
        video = self.kind == "video"
        try:
            frames = open_video(self.source, max_frames) if video else Frames((open_image(self.source),), ())
        except MediaError as error:
            self.error = error
            raise
        if video or self._media is None:
            # The middle says more of a video than its first frame, which is often black.
            image, times = frames.images[len(frames.images) // 2], tuple(float(time) for time in frames.times)
            self._media = Media(self.kind, image.width, image.height, times, preview=thumbnail(image))
        return frames


class RecordedImage(RecordedPicture):
    """An image or a page; an :class:`~smart_retrieval.inputs.ImageSource`."""

    def load(self) -> Image:
        """The picture, RGB."""
        return self._decode(1).images[0]


class RecordedVideo(RecordedPicture):
    """A video; a :class:`~smart_retrieval.inputs.VideoSource`."""

    def frames(self, max_frames: int) -> Frames:
        """At most so many frames, evenly spread."""
        return self._decode(max_frames)


class RecordedSound(RecordedPicture):
    """Sound; a :class:`~smart_retrieval.inputs.SoundSource`."""

    def media(self) -> Media:
        """Which seconds of its recording it is, as far as that is known; never decodes it."""
        part = [getattr(self.source, name, None) for name in ("start", "end")]
        times = (float(part[0] or 0), float(part[1])) if part[1] is not None else ()
        return self._media or Media(self.kind, times=times)

    def sound(self, rate: int, most_seconds: float) -> Sound:
        """At most so many seconds, at a sampling rate."""
        try:
            found = opened_sound(self.source, rate, most_seconds)
        except MediaError as error:
            self.error = error
            raise
        self._media = Media(self.kind, times=(found.start, found.end))
        return found


def record_picture(item: Item, kind: str | None = None) -> tuple[Item, RecordedPicture]:
    """The same item with its first picture, or its sound, recorded, to give to the model, and that picture."""
    kind = kind or kind_of(item)
    if item.images:
        image = RecordedImage(kind, item.images[0])
        return replace(item, images=(image, *item.images[1:])), image
    if item.video is not None:
        video = RecordedVideo(kind, item.video)
        return replace(item, video=video), video
    if item.audio is not None:
        sound = RecordedSound(kind, item.audio)
        return replace(item, audio=sound), sound
    raise MediaError("found an item without a picture, expected an image, a video or sound")


def kind_of(item: Item) -> str:
    """What an item shows: ``"page"`` where its image says which page it is, ``"image"``, ``"video"`` or ``"audio"``."""
    if not item.images:
        return "audio" if item.video is None else "video"
    return "page" if isinstance(getattr(item.images[0], "page", None), int) else "image"


def place_of(item: Item) -> tuple[str | None, int | None]:
    """The file an item's picture comes from and its page there, as far as it says so."""
    moving = item.video if item.video is not None else item.audio
    picture: Any = item.images[0] if len(item.images) == 1 else moving if not item.images else None
    path = picture if isinstance(picture, Path) else getattr(picture, "path", None)
    page = getattr(picture, "page", None)
    return (str(settled(path)) if isinstance(path, Path) else None), page if isinstance(page, int) else None


def open_image(source: AnyImage) -> Image:
    """The picture of any image, RGB."""
    if isinstance(source, Path):
        return load_image(source)
    from PIL.Image import Image as Picture

    # A picture in memory has a ``load`` of its own, which decodes it in place.
    return as_rgb(source if isinstance(source, Picture) else source.load())


def open_video(source: AnyVideo, max_frames: int) -> Frames:
    """At most so many frames of any video, evenly spread, the first and the last among them."""
    if not isinstance(source, Frames):
        return (VideoFile(source) if isinstance(source, Path) else source).frames(max_frames)
    count = len(source.images)
    if count <= max_frames:
        return source
    chosen = [round(number * (count - 1) / max(1, max_frames - 1)) for number in range(max_frames)]
    return Frames(tuple(source.images[i] for i in chosen), tuple(source.times[i] for i in chosen))
