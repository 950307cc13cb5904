"""An item's pictures and video: opened, resized, and cut into the patches a Qwen-VL vision tower takes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import MediaError, ModelNotFoundError
from ...inputs import Frames, ImageSource, Item, VideoSource
from ...types import Array
from .family import VisualLimits

if TYPE_CHECKING:
    from PIL.Image import Image

# The publishers' code refuses longer strips, too.
_MAX_ASPECT = 200
# Limits of a picture in Qwen's code where nothing else is said, in visual tokens.
_PICTURE = (4, 16_384)


@dataclass(frozen=True)
class PatchSettings:
    """How a checkpoint cuts pictures up, from its ``preprocessor_config.json``."""

    patch: int  # pixels along one side of a patch
    merge: int  # patches along one side of a visual token
    temporal: int  # frames in one step
    mean: tuple[float, ...]  # of each channel, of values between 0 and 1
    std: tuple[float, ...]

    @property
    def factor(self) -> int:
        """Pixels along one side of a visual token."""
        return self.patch * self.merge

    @classmethod
    def read(cls, config: dict[str, Any], where: str) -> PatchSettings:
        """From the checkpoint's preprocessing file."""
        try:
            mean, std = (tuple(float(value) for value in config[key]) for key in ("image_mean", "image_std"))
            return cls(
                int(config["patch_size"]), int(config["merge_size"]), int(config["temporal_patch_size"]), mean, std
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ModelNotFoundError(
                f"model {where!r}: preprocessor_config.json: found no usable {error}, expected patch_size, merge_size, "
                "temporal_patch_size, image_mean and image_std"
            ) from error


@dataclass(frozen=True)
class Resizer:
    """Opens pictures and videos and brings them to the size a checkpoint takes."""

    settings: PatchSettings
    limits: VisualLimits
    middle_frame: bool = False  # a video's middle frame is a picture in front of the others

    def opened(self, item: Item) -> Item:
        """The item with pictures and frames as RGB of a fitting size."""
        opened = opened_item(item, self.limits.max_frames)
        if self.middle_frame and isinstance(opened.video, Frames):
            from ...pictures.images import as_rgb

            middle = as_rgb(opened.video.images[len(opened.video.images) // 2])
            opened = replace(opened, images=(middle, *opened.images), video=None)
        images = tuple(self._resized(image) for image in opened.images)
        video = self._resized_video(opened.video) if isinstance(opened.video, Frames) else None
        return replace(opened, images=images, video=video)

    def token_counts(self, item: Item) -> list[int]:
        """Visual tokens of each picture and of the video; the most they may take where they are not opened yet."""
        from PIL.Image import Image

        counts = [self._tokens(image) if isinstance(image, Image) else self.limits.max_tokens for image in item.images]
        if self.middle_frame and item.video is not None:
            counts.append(self.limits.max_tokens)
        elif isinstance(item.video, Frames) and item.video.images:
            height, width = self._frame_size(item.video)
            counts.append(self._steps(len(item.video.images)) * (height * width // self.settings.factor**2))
        elif item.video is not None:
            most = self._steps(self.limits.max_frames) * self.limits.max_frame_tokens
            counts.append(min(self.limits.max_video_tokens, most))
        return counts

    def _size(self, image: Image, fewest: int, most: float) -> tuple[int, int]:
        return fitting_size(image.height, image.width, self.settings.factor, fewest, most)

    def _tokens(self, image: Image) -> int:
        try:
            height, width = self._size(image, self.limits.min_tokens, self.limits.max_tokens)
        except (MediaError, ZeroDivisionError):
            return 0  # refused with its reason when it is opened
        return height * width // self.settings.factor**2

    def _resized(self, image: Any) -> Image:
        limits = self.limits
        rounds = [(limits.min_tokens, limits.max_tokens)]
        if limits.first_resize is not None and image.size != self._size(image, *rounds[0])[::-1]:
            rounds.insert(0, limits.first_resize)
        for fewest, most in rounds:
            image = resized(image, self._size(image, fewest, most))
        return image  # type: ignore[no-any-return]

    def _steps(self, frames: int) -> int:
        return -(-min(frames, self.limits.max_frames) // self.settings.temporal)

    def _frame_size(self, frames: Frames) -> tuple[int, int]:
        limits = self.limits
        # A little above the fewest, so that some multiple of the factor fits between the two.
        above_fewest: float = math.ceil(limits.min_frame_tokens * 1.05)
        share: float = limits.max_video_tokens // self._steps(len(frames.images))
        if limits.frames_as_pictures:
            area = self.settings.factor**2
            above_fewest = int(limits.min_frame_tokens * area * 1.05) / area
            share = limits.max_video_tokens / self._steps(len(frames.images))
        most = min(limits.max_frame_tokens, max(above_fewest, share))
        return self._size(frames.images[0], limits.min_frame_tokens, most)

    def _resized_video(self, frames: Frames) -> Frames:
        from ...pictures.images import as_rgb

        images = [as_rgb(image) for image in frames.images]
        size = self._frame_size(frames)
        if self.limits.frames_as_pictures and any(image.size != size[::-1] for image in images):
            images = [resized(image, self._size(image, *_PICTURE)) for image in images]
            size = self._frame_size(Frames(tuple(images), frames.times))
        return Frames(tuple(resized(image, size) for image in images), frames.times)


def opened_item(item: Item, max_frames: int) -> Item:
    """The item with pictures and at most so many frames as RGB, each of its own size."""
    if not item.images and item.video is None:
        return item
    images = tuple(_opened(image) for image in item.images)
    return replace(item, images=images, video=None if item.video is None else _frames(item.video, max_frames))


def _opened(image: Any) -> Image:
    from PIL.Image import Image

    from ...pictures.images import as_rgb, load_image

    if isinstance(image, Image):
        return as_rgb(image)
    if isinstance(image, Path):
        return load_image(image)
    if isinstance(image, ImageSource):
        return as_rgb(image.load())
    raise MediaError(f"found {type(image).__name__}, expected a picture")


def _frames(video: Any, most: int) -> Frames:
    from ...pictures.video import VideoFile

    if isinstance(video, Path):
        video = VideoFile(video)
    found: Frames = video.frames(most) if isinstance(video, VideoSource) else video
    if not found.images:
        raise MediaError("found a video without frames, expected at least one")
    if len(found.images) != len(found.times):
        raise MediaError(f"found {len(found.images)} frames and {len(found.times)} times, expected one for each")
    if len(found.images) <= most:
        return found
    chosen = np.linspace(0, len(found.images) - 1, most).astype(int).tolist()
    return Frames(tuple(found.images[i] for i in chosen), tuple(found.times[i] for i in chosen))


def fitting_size(height: int, width: int, factor: int, min_tokens: int, max_tokens: float) -> tuple[int, int]:
    """Height and width in multiples of ``factor`` that keep the shape and a number of visual tokens within limits.

    The rule is Qwen-VL's own: round both sides; if that is too many or too few pixels, scale both by the same root.
    """
    if max(height, width) > _MAX_ASPECT * min(height, width):
        raise MediaError(f"found a picture of {width} x {height} pixels, expected sides within {_MAX_ASPECT} : 1")
    low, high = min_tokens * factor**2, max_tokens * factor**2
    tall, wide = (max(factor, round(side / factor) * factor) for side in (height, width))
    if tall * wide > high:
        shrink = math.sqrt(height * width / high)
        tall, wide = (max(factor, math.floor(side / shrink / factor) * factor) for side in (height, width))
    elif tall * wide < low:
        grow = math.sqrt(low / (height * width))
        tall, wide = (math.ceil(side * grow / factor) * factor for side in (height, width))
    return tall, wide


def resized(image: Image, size: tuple[int, int]) -> Image:
    """The picture at a (height, width), bicubic as the publishers' code has it."""
    from PIL.Image import Resampling

    height, width = size
    return image if image.size == (width, height) else image.resize((width, height), Resampling.BICUBIC)


def patches(frames: Array, settings: PatchSettings) -> tuple[Array, tuple[int, int, int]]:
    """Patches ``[t x h x w, 3 x temporal x patch x patch]`` float32 in the vision tower's order, and their (t, h, w).

    ``frames`` ``[F, H, W, 3]`` uint8 have sides that are multiples of the factor; a picture is one frame. A last step
    that is not full repeats its last frame; so does a picture's only step.
    """
    missing = -len(frames) % settings.temporal
    if missing:
        frames = np.concatenate([frames, np.repeat(frames[-1:], missing, axis=0)])
    count, height, width, channels = frames.shape
    values: Array = frames.astype(np.float32) * np.float32(1 / 255)
    mean, std = (np.array(each, np.float32) for each in (settings.mean, settings.std))
    values = (values - mean) / std
    t, h, w = count // settings.temporal, height // settings.patch, width // settings.patch
    cut = values.reshape(
        t, settings.temporal, h // settings.merge, settings.merge, settings.patch,
        w // settings.merge, settings.merge, settings.patch, channels,
    )  # fmt: skip
    # To (t, block row, block column, row in block, column in block, channel, frame in step, y, x).
    ordered = cut.transpose(0, 2, 5, 3, 6, 8, 1, 4, 7)
    return np.ascontiguousarray(ordered).reshape(t * h * w, -1), (t, h, w)
