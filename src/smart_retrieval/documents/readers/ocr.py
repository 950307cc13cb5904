"""OCR of pages and pictures with rapidocr (extra ``ocr``), whose package carries its models.

It runs in a guarded child of its own, which keeps the models from call to call and has no network.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ...errors import MissingExtraError
from ...extras import check, require
from ...files import UnreadableFileError
from ...guarded import Limits, guarded, step
from ...pictures.contained import ContainedPicture
from ...pictures.images import count_image_pages, load_image
from ...pictures.pdf_drawing import draw_page, page_size
from ...pictures.pdf_pages import PAGE_PIXELS

if TYPE_CHECKING:
    from PIL.Image import Image

#: Which pages and pictures are read by OCR: those without text, all, none.
OcrMode = Literal["auto", "always", "never"]
OCR_MODES = ("auto", "always", "never")
#: Notes: what was read, in letters of the languages that the models know, and where there was nothing.
READ_BY_OCR = "read by OCR (Latin letters, Chinese, Japanese)"
NOTHING_FOUND = "OCR finds no text"
#: Why pages and pictures are left out where the extra is not installed.
NOT_INSTALLED = 'pages and pictures that OCR (extra ocr) would read: run  pip install "smart-retrieval[ocr]"'

_NEEDS = {"rapidocr": "ocr", "onnxruntime": "ocr", "PIL": "image"}
# Pages take about 0.6 GiB, 0.3 of them the models and libraries.
_LIMITS = Limits(memory=2 * 2**30, seconds=300, seconds_a_step=60, idle=2**30, result=2**26)
_LONGEST = 2000  # pixels; rapidocr makes larger pictures smaller
_TALL = 2.0  # heights of a screenshot that is read in parts, each 1.5 times as high as wide
_TILE, _OVERLAP = 1.5, 0.15
_SHAPE = 4  # heights: the width of what the model of directions sees
_SAMPLED = 7  # lines that say which way up a page is

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class OcrLine:
    """A line of text, and its corners clockwise from the upper left one, in pixels from the top."""

    text: str
    corners: list[Point]


@dataclass(frozen=True, slots=True)
class OcrPage:
    """What OCR finds on a page of so many pixels, once it is turned clockwise by `turn` quarters to stand upright.

    `points` is the size of a PDF's page as it is shown, None for pictures.
    """

    width: int
    height: int
    turn: int = 0
    lines: list[OcrLine] = field(default_factory=list)
    points: tuple[float, float] | None = None


def installed() -> bool:
    """Whether OCR can be done."""
    try:
        for module, extra in _NEEDS.items():
            check(module, extra)
    except MissingExtraError:
        return False
    return True


@guarded(_LIMITS, needs=_NEEDS, child="ocr")
def count_pages(path: Path) -> int:
    """How many pages a picture file has: more than one only a TIFF."""
    return count_image_pages(path)


@guarded(_LIMITS, needs=_NEEDS, child="ocr")
def read_picture(path: Path, page: int) -> OcrPage:
    """The lines of a page, from 1, of a picture file."""
    return _read(load_image(path, page=page))


@guarded(_LIMITS, needs=_NEEDS, child="ocr")
def read_contained(path: Path, name: str) -> OcrPage:
    """The lines of a picture within a file."""
    return _read(ContainedPicture(path, name).load())


@guarded(_LIMITS, needs={**_NEEDS, "pypdfium2": "pdf"}, child="ocr")
def read_page(path: Path, page: int) -> OcrPage:
    """The lines of a page of a PDF, drawn."""
    from PIL import Image as pillow

    size = page_size(path, page)
    pixels = draw_page(path, page, PAGE_PIXELS, close_after_last=True)
    image = pillow.frombuffer("RGB", (pixels.width, pixels.height), bytes(pixels.data), "raw", "BGR", pixels.stride, 1)
    found = _read(image)
    return OcrPage(found.width, found.height, found.turn, found.lines, size)


@cache
def _engine() -> Any:
    """The engine with its models."""
    _unplug()
    rapidocr = require("rapidocr", "ocr")
    try:
        return rapidocr.RapidOCR(params={"Global.log_level": "critical"})
    except Exception as error:
        raise UnreadableFileError("models", "OCR cannot be started", f"{type(error).__name__}: {error}") from error


def _unplug() -> None:
    """Leave this process, which is the child, without network: rapidocr would download models it lacks."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError("there is no network here")

    socket.socket.connect = socket.socket.connect_ex = refuse  # type: ignore[method-assign, assignment]
    socket.getaddrinfo = refuse  # type: ignore[assignment]


def _read(image: Image) -> OcrPage:
    from PIL.Image import Transpose

    found = _lines(image)
    turn = _turn(image, found)
    if turn:
        # Pillow turns against the clock.
        image = image.transpose((Transpose.ROTATE_270, Transpose.ROTATE_180, Transpose.ROTATE_90)[turn - 1])
        found = _lines(image)
    return OcrPage(image.width, image.height, turn, found)


def _lines(image: Image) -> list[OcrLine]:
    found = []
    for tile, top, first, last in _tiles(image):
        scale = min(1.0, _LONGEST / max(tile.size))
        shown = tile if scale == 1 else tile.resize((max(1, round(tile.width * scale)), round(tile.height * scale)))
        for text, corners in _recognised(shown):
            placed = [(float(x) / scale, float(y) / scale + top) for x, y in corners]
            if first <= sum(y for _, y in placed) / 4 < last:
                found.append(OcrLine(text, placed))
        step()
    return found


def _tiles(image: Image) -> Iterator[tuple[Image, int, float, float]]:
    """Parts of a tall picture that overlap: each with where it begins, and between what heights its lines count."""
    width, height = image.size
    if height <= _TALL * width:
        yield image, 0, 0, height
        return
    overlap, pitch = max(1, round(_OVERLAP * width)), max(1, round((_TILE - _OVERLAP) * width))
    for top in range(0, height - overlap, pitch):
        bottom = min(height, top + pitch + overlap)
        first = top + overlap / 2 if top else 0
        last = bottom - overlap / 2 if bottom < height else height
        yield image.crop((0, top, width, bottom)), top, first, last


def _recognised(image: Image) -> Iterator[tuple[str, Any]]:
    """Text and corners of the lines of a picture."""
    found = _engine()(_array(image), use_det=True, use_cls=True, use_rec=True)
    if found.boxes is not None and found.txts is not None:
        yield from zip(found.txts, found.boxes.tolist(), strict=True)


def _array(image: Image) -> Any:
    """The picture as OpenCV has it: blue, green, red."""
    import numpy as np

    return np.ascontiguousarray(np.asarray(image.convert("RGB"))[:, :, ::-1])


def _turn(image: Image, lines: list[OcrLine]) -> int:
    """Quarters clockwise that make a page upright, by a vote of its longest lines."""
    from PIL.Image import Transpose

    longest = sorted(lines, key=lambda line: -len(line.text))[:_SAMPLED]
    tall, upside = 0, 0.0
    for line in longest:
        xs, ys = zip(*line.corners, strict=True)
        cut = image.crop((int(min(xs)), int(min(ys)), int(max(xs)) + 1, int(max(ys)) + 1))
        if cut.height > 1.5 * cut.width:
            tall += 1
            cut = cut.transpose(Transpose.ROTATE_90)
        cut = cut.crop((0, 0, min(cut.width, _SHAPE * cut.height), cut.height))  # else it is squeezed to this shape
        (label, score), *_ = _engine()(_array(cut), use_det=False, use_cls=True, use_rec=False).cls_res
        upside += score if label == "180" else -score
    if tall > len(longest) / 2:
        return 1 if upside > 0 else 3
    return 2 if upside > 0 else 0
