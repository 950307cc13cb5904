"""An item's pictures and video, opened and brought to the size the model takes."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import MediaError
from ...inputs import Frames, ImageSource, Item, VideoSource
from .family import VisualLimits
from .pixels import PatchSettings, fitting_size, resized

if TYPE_CHECKING:
    from PIL.Image import Image


def open_item(item: Item, settings: PatchSettings, limits: VisualLimits) -> Item:
    """The item with pictures and frames as RGB of a fitting size.

    Raises:
        MediaError: A file cannot be read, or a picture has an impossible shape.
    """
    opened = opened_item(item, limits.max_frames)
    images = tuple(_fitted(image, settings, limits) for image in opened.images)
    video = _fitted_video(opened.video, settings, limits) if isinstance(opened.video, Frames) else None
    return replace(opened, images=images, video=video)


def opened_item(item: Item, max_frames: int) -> Item:
    """The item with pictures and at most so many frames as RGB, each of its own size.

    Raises:
        MediaError: A file cannot be read.
    """
    if not item.images and item.video is None:
        return item
    images = tuple(_opened(image) for image in item.images)
    return replace(item, images=images, video=None if item.video is None else _frames(item.video, max_frames))


def visual_sizes(item: Item, settings: PatchSettings, limits: VisualLimits) -> list[int]:
    """Visual tokens of each picture and of the video; the most they may take where they are not opened yet."""
    from PIL.Image import Image

    sizes = []
    for image in item.images:
        known = isinstance(image, Image)
        sizes.append(_tokens(image, settings, limits) if known else limits.max_tokens)
    if isinstance(item.video, Frames) and item.video.images:
        steps = -(-min(len(item.video.images), limits.max_frames) // settings.temporal)
        height, width = _frame_size(item.video, settings, limits)
        sizes.append(steps * (height * width // settings.factor**2))
    elif item.video is not None:
        steps = -(-limits.max_frames // settings.temporal)
        sizes.append(min(limits.max_video_tokens, steps * limits.max_frame_tokens))
    return sizes


def _tokens(image: Any, settings: PatchSettings, limits: VisualLimits) -> int:
    try:
        height, width = fitting_size(image.height, image.width, settings.factor, limits.min_tokens, limits.max_tokens)
    except (MediaError, ZeroDivisionError):
        return 0  # refused with its reason when it is opened
    return height * width // settings.factor**2


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


def _fitted(image: Any, settings: PatchSettings, limits: VisualLimits) -> Any:
    rounds = [(limits.min_tokens, limits.max_tokens)]
    if limits.first_resize is not None and image.size != _wide_high(image, settings, *rounds[0]):
        rounds.insert(0, limits.first_resize)
    for fewest, most in rounds:
        image = resized(image, fitting_size(image.height, image.width, settings.factor, fewest, most))
    return image


def _wide_high(image: Image, settings: PatchSettings, fewest: int, most: int) -> tuple[int, int]:
    height, width = fitting_size(image.height, image.width, settings.factor, fewest, most)
    return width, height


def _frames(video: Any, most: int) -> Frames:
    from ...pictures.video import VideoFile

    if isinstance(video, Path):
        video = VideoFile(video)
    if isinstance(video, VideoSource):
        video = video.frames(most)
    if not video.images:
        raise MediaError("found a video without frames, expected at least one")
    if len(video.images) != len(video.times):
        raise MediaError(f"found {len(video.images)} frames and {len(video.times)} times, expected one for each")
    if len(video.images) <= most:
        frames: Frames = video
        return frames
    chosen = np.linspace(0, len(video.images) - 1, most).astype(int).tolist()
    return Frames(tuple(video.images[i] for i in chosen), tuple(video.times[i] for i in chosen))


def _fitted_video(frames: Frames, settings: PatchSettings, limits: VisualLimits) -> Frames:
    from ...pictures.images import as_rgb

    size = _frame_size(frames, settings, limits)
    return Frames(tuple(resized(as_rgb(image), size) for image in frames.images), frames.times)


def _frame_size(frames: Frames, settings: PatchSettings, limits: VisualLimits) -> tuple[int, int]:
    first = frames.images[0]
    steps = -(-min(len(frames.images), limits.max_frames) // settings.temporal)
    # A little above the fewest, so that some multiple of the factor fits between the two.
    above_fewest = math.ceil(limits.min_frame_tokens * 1.05)
    most = min(limits.max_frame_tokens, max(above_fewest, limits.max_video_tokens // steps))
    return fitting_size(first.height, first.width, settings.factor, limits.min_frame_tokens, most)
