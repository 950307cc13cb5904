"""Pictures, films and items that the tests of the visual families share: seeded, and of many sizes."""

from __future__ import annotations

import numpy as np
from PIL import Image
from reference_recipes import Input

# Frames of these sides need no resizing in any family: a multiple of 32, of 28 and of 64 each.
SIDE_16, SIDE_14 = 384, 392


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """A smooth random picture: neighbouring pixels alike, as in a photograph."""
    noise = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def film(side: int, frames: int = 4, seed: int = 50) -> tuple[Image.Image, ...]:
    """Frames of a video, each its own picture."""
    return tuple(picture(side, side, seed + index) for index in range(frames))


def times(frames: int, every: float = 0.5) -> tuple[float, ...]:
    """When the frames were taken."""
    return tuple(every * index for index in range(frames))


def inputs(patch: int) -> dict[str, Input]:
    """One item of every kind a family may be given, as documents.

    Args:
        patch: Side of the family's patches.
    """
    side = SIDE_16 if patch == 16 else SIDE_14
    return {
        "text": Input("The otter swims in the cold river."),
        "long-text": Input("Many of the animals sleep when the day is long and cold, and no one comes: ☃ tax is due."),
        "image": Input(images=(picture(160, 96, 1),)),
        "odd-image": Input(images=(picture(301, 203, 2),)),
        "image-text": Input("The sun and the moon.", (picture(128, 192, 3),)),
        "images": Input(images=(picture(96, 160, 4), picture(224, 112, 5), picture(64, 64, 6))),
        "images-text": Input("Bread and butter.", (picture(96, 160, 7), picture(224, 112, 8))),
        "video": Input(frames=film(side), times=times(4)),
        "video-text": Input("One two one two.", frames=film(side, 6, 70), times=times(6, 1.0)),
    }
