"""Pictures of requests: bytes of anybody, decoded in the guarded child."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import MediaError
from ...extras import require
from ...files import UnreadableFileError
from ...guarded import Limits, guarded

if TYPE_CHECKING:
    from PIL.Image import Image

_A_PICTURE = "a picture of the request"


@dataclass(frozen=True)
class DecodedPicture:
    """A picture's RGB bytes."""

    width: int
    height: int
    rgb: bytes


@guarded(Limits(seconds=20.0), needs={"PIL": "image"}, child="uploads")
def decode_picture(path: Path, max_pixels: int) -> DecodedPicture:
    """Decode a picture file, in the child."""
    from ...pictures.images import load_image

    image = load_image(path, max_pixels=max_pixels)
    return DecodedPicture(image.width, image.height, image.tobytes())


def picture_of(data: bytes, max_pixels: int) -> Image:
    """The picture that a request's bytes are.

    Raises:
        MediaError: They are none, or one that is too large.
        MissingExtraError: Pillow is not installed.
    """
    pillow = require("PIL.Image", "image")
    with tempfile.TemporaryDirectory(prefix="smart-upload-") as folder:
        file = Path(folder) / "picture"
        file.write_bytes(data)
        try:
            found = decode_picture(file, max_pixels)
        except UnreadableFileError as error:
            detail = f" ({error.detail})" if error.detail and folder not in error.detail else ""
            raise MediaError(f"cannot read {_A_PICTURE}: {error.reason}{detail}") from None
    if len(found.rgb) != 3 * found.width * found.height or found.width * found.height > max_pixels:
        raise MediaError(f"cannot read {_A_PICTURE}: its reader gave something else than a picture")
    image: Image = pillow.frombytes("RGB", (found.width, found.height), found.rgb)
    return image
