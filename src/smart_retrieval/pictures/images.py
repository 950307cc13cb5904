"""Picture files and pictures in memory to plain RGB: turned upright, alpha over white, all bits used.

Only a few formats are tried, whatever the file's name; sizes are checked before anything is decoded, and a picture that
is cut off is refused. Colour profiles are not applied, as vision models were trained without them.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..extras import require
from ..files import UnreadableFileError, read_bytes, settled

if TYPE_CHECKING:
    from PIL.Image import Image

#: Pictures with more pixels are refused; below the number at which Pillow itself warns.
MAX_PIXELS = 80_000_000
MAX_IMAGE_BYTES = 256 * 2**20
MAX_ASPECT = 200  # what Qwen's processors refuse beyond; a page or a photograph never gets near

_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP")
_IN_MEMORY = "a picture in memory"
_LARGEST_TILE, _MOST_SCANS = 2**24, 1000
_TIFF_TILE = (322, 323)
_ORIENTATION, _TIFF_BITS, _TIFF_PHOTOMETRIC = 274, 258, 262
#: EXIF orientation -> how the stored picture is to be turned. Pillow turns a TIFF by itself.
_TURNS = dict(
    enumerate(
        ("FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90"), 2
    )
)
_BITS_16 = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})


@dataclass(frozen=True)
class ImageFile:
    """A picture file, decoded only when it is needed: an :class:`~smart_retrieval.pictures.ImageSource`.

    Args:
        path: The file.
        max_pixels: Pictures with more are refused before they are decoded.

    Example:
        >>> ImageFile(Path("chart.png")).load().mode  # doctest: +SKIP
        'RGB'
    """

    path: Path
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", settled(self.path))

    def load(self) -> Image:
        """The picture, RGB.

        Raises:
            UnreadableFileError: See `load_image`.
        """
        return load_image(self.path, max_pixels=self.max_pixels)


def load_image(source: Path | bytes, *, max_pixels: int = MAX_PIXELS, page: int = 1) -> Image:
    """Decode a PNG, JPEG, WebP, BMP, the first frame of a GIF or a page of a TIFF.

    Args:
        source: The file, or its bytes.
        max_pixels: Pictures with more are refused before they are decoded.
        page: Of a TIFF, from 1.

    Returns:
        The picture, RGB, upright as its EXIF data says, what is transparent white.

    Raises:
        UnreadableFileError: It cannot be opened, is of another format, cut off, damaged, too large, or a strip more
            than 200 times as long as wide.
        MissingExtraError: Pillow is not installed.

    Example:
        >>> load_image(b"GIF?")
        Traceback (most recent call last):
        smart_retrieval.files.UnreadableFileError: cannot read a picture in memory: not a picture ...
    """
    with _opened(source, max_pixels, page) as image:
        rgb = _upright_rgb(image, _name(source))
        rgb = rgb.copy() if rgb is image else rgb  # a copy does not hold on to the file
        rgb.info = {}
        return rgb


def image_size(source: Path | bytes) -> tuple[int, int]:
    """Width and height of a picture as `load_image` returns it; only the header is decoded."""
    with _opened(source, MAX_PIXELS) as image:
        width, height = image.size
        turned = image.format != "TIFF" and _orientation(image) >= 5
    return (height, width) if turned else (width, height)


def count_image_pages(source: Path | bytes) -> int:
    """How many pages a TIFF has; 1 for other pictures."""
    with _opened(source, MAX_PIXELS) as image:
        try:
            return max(1, int(getattr(image, "n_frames", 1))) if image.format == "TIFF" else 1
        except Exception as error:
            raise _damaged(_name(source), error) from error


def as_rgb(image: Image, *, max_pixels: int = MAX_PIXELS) -> Image:
    """Convert a Pillow image to plain RGB, as `load_image` would.

    EXIF data turn a picture only as long as it is as ``Image.open`` returned it: what was made from it (resized,
    cropped) may have been turned already.

    Args:
        image: Any Pillow image.
        max_pixels: Pictures with more are refused.

    Returns:
        The picture, RGB; the same object if it was so already.

    Raises:
        UnreadableFileError: It is empty, too large, a strip, of a mode that has no colours, or its file is damaged.
    """
    _check_size(image.size, _IN_MEMORY, max_pixels)
    return _upright_rgb(image, str(getattr(image, "filename", "")) or _IN_MEMORY)


def _name(source: Path | bytes) -> str:
    return _IN_MEMORY if isinstance(source, bytes) else str(source)


@contextmanager
def _opened(source: Path | bytes, max_pixels: int, page: int = 1) -> Iterator[Image]:
    """A picture whose header was read and whose size was checked; nothing is decoded yet."""
    module: Any = require("PIL.Image", "image")
    for plugin in ("TiffImagePlugin", "WebPImagePlugin"):  # else Pillow imports all its forty to find these two
        require(f"PIL.{plugin}", "image")
    name = _name(source)
    data = source if isinstance(source, bytes) else read_bytes(source, MAX_IMAGE_BYTES)
    if not data:
        raise UnreadableFileError(name, "empty, expected a picture")
    try:
        image = module.open(BytesIO(data), formats=_FORMATS)
        if page > 1:
            image.seek(page - 1)
    except module.UnidentifiedImageError as error:
        raise UnreadableFileError(name, "not a picture of a known format", f"expected {', '.join(_FORMATS)}") from error
    except (module.DecompressionBombError, module.DecompressionBombWarning) as error:
        raise UnreadableFileError(name, f"more than {max_pixels:,} pixels", str(error)) from error
    except Exception as error:  # a damaged header makes plugins raise anything
        raise _damaged(name, error) from error
    with image:
        _check_size(image.size, name, max_pixels)
        _check_work(image, data, name)
        yield image


def _check_size(size: tuple[int, int], name: str, max_pixels: int) -> None:
    width, height = size
    if width < 1 or height < 1:
        reason = "a picture without pixels"
    elif width * height > max_pixels:
        reason = f"more than {max_pixels:,} pixels"
    elif max(width, height) > MAX_ASPECT * min(width, height):
        reason = f"more than {MAX_ASPECT} times as long as wide"
    else:
        return
    raise UnreadableFileError(name, reason, f"{width} x {height}")


def _check_work(image: Any, data: bytes, name: str) -> None:
    """Refuse small files that take far more memory or time to decode than their pictures have pixels."""
    width, height = image.size
    tile = [getattr(image, "tag_v2", {}).get(tag, 1) for tag in _TIFF_TILE]
    if all(isinstance(side, int) for side in tile) and math.prod(tile) > max(width * height, _LARGEST_TILE):
        raise UnreadableFileError(name, "tiles of an implausible size", f"{tile[0]} x {tile[1]}")
    # Each scan of a progressive JPEG goes over the whole picture; encoders make about ten.
    if image.info.get("progressive") and (scans := data.count(b"\xff\xda")) > _MOST_SCANS:
        raise UnreadableFileError(name, "implausibly many scans", f"{scans:,}")


def _damaged(name: str, error: Exception) -> UnreadableFileError:
    detail = str(error) or type(error).__name__
    reason = "cut off" if "truncated" in detail.lower() else "a damaged picture"
    return UnreadableFileError(name, reason, detail)


def _upright_rgb(image: Image, name: str) -> Image:
    """Decode, convert and turn."""
    from PIL import ImageFile as PillowFile
    from PIL.Image import Transpose

    try:
        with _STRICT:
            image.load()
        as_opened = isinstance(image, PillowFile.ImageFile) and image.format != "TIFF"
        turn = _TURNS.get(_orientation(image)) if as_opened else None
        rgb = _rgb(image, name)
        return rgb.transpose(Transpose[turn]) if turn else rgb
    except UnreadableFileError:
        raise
    except Exception as error:
        raise _damaged(name, error) from error


def _orientation(image: Image) -> int:
    """How a picture is to be turned by its EXIF data, 1 to 8; damaged data lose the rotation, not the picture."""
    try:
        found = image.getexif().get(_ORIENTATION)
    except Exception:
        return 1
    return found if found in _TURNS else 1


def _rgb(image: Image, name: str) -> Image:
    """Convert a decoded picture of any mode."""
    if image.mode in _BITS_16 or image.mode in {"I", "F"}:
        return _rgb_of_deep_grey(image, name)
    if image.has_transparency_data:
        return _over_white(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _over_white(image: Image) -> Image:
    from PIL import Image as module

    transparency = image.info.get("transparency")
    if image.mode == "RGB" and isinstance(transparency, tuple) and max(transparency) > 255:
        image = image.copy()  # 16 bits a channel: Pillow keeps the high byte of pixels, but all of this colour
        image.info["transparency"] = tuple(value >> 8 for value in transparency)
    rgba = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    canvas = module.new("RGB", image.size, "white")
    canvas.paste(rgba, mask=rgba.getchannel("A"))
    return canvas


def _rgb_of_deep_grey(image: Image, name: str) -> Image:
    """Grey with more than 8 bits: scaled, where Pillow's own conversion would clip all above 255 to white."""
    import numpy as np
    from PIL import Image as module

    values = np.asarray(image)
    tags = getattr(image, "tag_v2", {})
    if image.mode in _BITS_16:
        white = 2 ** int(tags.get(_TIFF_BITS, (16,))[0]) - 1
    else:
        white = 1 if image.mode == "F" else 65_535
        # Negated, so that NaN is refused too.
        if not (values.min() >= 0 and values.max() <= white):
            found = f"found {values.min()} to {values.max()}, expected 0 to {white}"
            raise UnreadableFileError(name, "grey levels of 32 bits", found)
    grey = np.rint(values.astype(np.float32) * (255 / white)).clip(0, 255).astype(np.uint8)
    if image.mode in _BITS_16 and tags.get(_TIFF_PHOTOMETRIC) == 0:
        grey = 255 - grey  # 0 is white, which Pillow handles for 8 bits only
    if isinstance(transparent := image.info.get("transparency"), int):
        grey[values == transparent] = 255
    return module.fromarray(grey).convert("RGB")


class _Strict:
    """While a thread is inside, Pillow refuses pictures that are cut off.

    Some libraries set ``LOAD_TRUNCATED_IMAGES`` for the whole process; half a picture would then be decoded as one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before = False

    def __enter__(self) -> None:
        from PIL import ImageFile as module

        with self._lock:
            if self._inside == 0:
                self._before, module.LOAD_TRUNCATED_IMAGES = module.LOAD_TRUNCATED_IMAGES, False
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        from PIL import ImageFile as module

        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                module.LOAD_TRUNCATED_IMAGES = self._before


_STRICT = _Strict()
