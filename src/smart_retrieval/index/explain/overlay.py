"""Maps as colours: transparent where nothing matched, one strong hue where most did, over a greyed picture."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

from ...types import Array
from .heatmap import intensities

if TYPE_CHECKING:
    from PIL.Image import Image


HUE = (235, 64, 0)  # seen on print, photographs and white alike, once what lies beneath is grey
STRONGEST = 0.8  # opacity of the highest value
_GREY = 0.75  # how much of its colour a picture loses beneath a map


def overlay(values: Array, scale: tuple[float, float]) -> Image:
    """One map as a picture of as many pixels as it has visual tokens, RGBA.

    Args:
        values: ``[h, w]``.
        scale: Lowest and highest value of the colour scale.
    """
    from PIL import Image as images

    strength = intensities(values, scale)
    pixels = np.empty((*strength.shape, 4), np.uint8)
    pixels[..., :3] = HUE
    # Squared: what matched a little is everywhere, and should not hide the picture.
    pixels[..., 3] = np.round(255 * STRONGEST * strength**2)
    return images.fromarray(pixels, "RGBA")


def greyed(image: Image) -> Image:
    """A picture with little colour left, so that a map over it can be told from it."""
    from PIL import Image as images

    return images.blend(image.convert("RGB"), image.convert("L").convert("RGB"), _GREY)


def composed(image: Image, values: Array, scale: tuple[float, float]) -> Image:
    """A picture beneath a map, RGB; the map's cells have hard edges, since there is nothing finer."""
    from PIL import Image as images

    base = greyed(image).convert("RGBA")
    cells = overlay(values, scale).resize(base.size, images.Resampling.NEAREST)
    return images.alpha_composite(base, cells).convert("RGB")


def png_bytes(image: Image) -> bytes:
    """A picture as a PNG file."""
    buffer = BytesIO()
    image.save(buffer, "PNG", optimize=image.width * image.height < 1_000_000)
    return buffer.getvalue()


def jpeg_bytes(image: Image) -> bytes:
    """A picture as a JPEG file."""
    buffer = BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
