"""One explanation of a picture as a PNG: the whole query over it, and the words that did most beside it."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from ...errors import SmartError
from .explanation import Explanation
from .overlay import composed, overlay, png_bytes
from .page import sentences
from .shots import Shot, Shots
from .visual import Row, VisualExplanation

if TYPE_CHECKING:
    from PIL.Image import Image

_INK, _SOFT, _PAPER, _LINE = (28, 29, 33), (98, 101, 110), (255, 255, 255), (226, 228, 233)
_MARGIN = 20
_LARGE = 640  # longest side of the picture beneath the whole query's map
_SMALL = 210  # of those beneath a word's
_FRAME = 325  # of frames side by side
_FRAMES_A_LINE = 2
_WORDS = 6  # shown by themselves
_COLUMNS = 3


def explanation_png(explanation: Explanation, shots: Shots) -> bytes:
    """Draw an explanation.

    Args:
        explanation: Of a picture.
        shots: What its maps are drawn on.

    Returns:
        A PNG file.

    Raises:
        SmartError: The document is text.
    """
    visual = explanation.visual
    if visual is None or not shots.shots:
        raise SmartError(
            f"document {explanation.id!r}: found no picture to draw, expected an image, a page or a video; write a "
            "web page (.html) instead"
        )
    parts = [_heading(explanation, shots)]
    moving = [shot for shot in shots.shots if shot.score is not None]
    if moving:
        tiles = [_whole(visual, shot, _FRAME) for shot in moving]
        parts += [_beside(tiles[start : start + _FRAMES_A_LINE]) for start in range(0, len(tiles), _FRAMES_A_LINE)]
        best = max(moving, key=lambda shot: shot.score or 0.0)
        parts += [_ramp(visual.whole_scale), _text([(f"the words over the best frame, {best.caption}", 14, _SOFT)])]
        parts.append(_words(visual, best))
    for shot in shots.shots:
        if shot.score is None:
            parts.append(_whole(visual, shot, _LARGE))
            if shot.grid is not None:
                parts += [_ramp(visual.whole_scale), _words(visual, shot)]
    return png_bytes(_beneath(parts))


def _heading(explanation: Explanation, shots: Shots) -> Image:
    place = (
        explanation.id
        if explanation.page is None
        else f"{explanation.source or explanation.id}  page {explanation.page}"
    )
    score = (
        f"{explanation.score:.4f} = {explanation.lambda_anchor:g} × {explanation.anchor:.4f} anchor + "
        f"{explanation.lambda_late:g} × {explanation.late:.4f} late"
    )
    lines: list[tuple[str, int, Any]] = [(explanation.query or explanation.id, 22, _INK), (place, 15, _SOFT)]
    lines.append((score, 15, _INK))
    # The page's sentence on choosing words has no place here.
    told = [*sentences(explanation)[1:], *filter(None, [shots.note])]
    lines += [(line, 13, _SOFT) for text in told for line in textwrap.wrap(text, 105)]
    return _text(lines, _LARGE + _COLUMNS * (_SMALL + _MARGIN))


def _whole(visual: VisualExplanation, shot: Shot, longest: int) -> Image:
    image = _fitted(shot.image, longest)
    if shot.grid is not None:
        image = composed(image, visual.maps[shot.grid].whole[shot.step], visual.whole_scale)
    caption = "  ".join(filter(None, ["the whole query" if shot.grid is not None else "", shot.caption]))
    return _beneath([image, _text([(caption, 14, _SOFT)], image.width)], 4)


def _words(visual: VisualExplanation, shot: Shot) -> Image:
    """Maps of the words that brought most, side by side, in the order of the query; special tokens if nothing else."""
    assert shot.grid is not None
    one = visual.maps[shot.grid]
    rows = visual.rows
    asked = [number for number, row in enumerate(rows) if not row.special] or list(range(len(rows)))
    best = sorted(asked, key=lambda number: (-rows[number].contribution, number))
    tiles = []
    for number in sorted(best[:_WORDS]):
        row = visual.rows[number]
        image = composed(_fitted(shot.image, _SMALL), one.rows[number, shot.step], visual.row_scale)
        if row.place is not None and row.place[:2] == (shot.grid, shot.step):
            _outline(image, row.place[2:], (one.grid.h, one.grid.w))
        tiles.append(_beneath([image, _text([(_label(row), 13, _INK)], _SMALL)], 2))
    lines = [_beside(tiles[start : start + _COLUMNS]) for start in range(0, len(tiles), _COLUMNS)]
    return _beneath([*lines, _ramp(visual.row_scale)], 8)


def _label(row: Row) -> str:
    return f"{textwrap.shorten(row.label.strip() or repr(row.label), 22, placeholder='…')}  {row.contribution:.3f}"


def _outline(image: Image, place: tuple[int, ...], size: tuple[int, int]) -> None:
    from PIL import ImageDraw

    (y, x), (h, w) = place, size
    box = (x * image.width / w, y * image.height / h, (x + 1) * image.width / w - 1, (y + 1) * image.height / h - 1)
    ImageDraw.Draw(image).rectangle(box, outline=(36, 87, 197), width=2)


def _ramp(scale: tuple[float, float]) -> Image:
    """The colour scale with its ends."""
    import numpy as np
    from PIL import Image as images

    cells = overlay(np.linspace(0, 1, 160, dtype=np.float32)[None, :], (0, 1)).resize((160, 10))
    bar = images.new("RGBA", (162, 12), (*_LINE, 255))
    bar.paste(images.new("RGBA", (160, 10), (*_PAPER, 255)), (1, 1))
    bar.alpha_composite(cells, (1, 1))
    low, high = (_text([(f"{value:.3f}", 13, _SOFT)], 60) for value in scale)
    return _beside([low, bar.convert("RGB"), high], 6)


def _text(lines: list[tuple[str, int, Any]], width: int = _LARGE) -> Image:
    from PIL import Image as images
    from PIL import ImageDraw

    fonts = [_font(size) for _, size, _ in lines]
    heights = [round(size * 1.45) for _, size, _ in lines]
    widest = max([1, *(round(font.getlength(text)) for font, (text, _, _) in zip(fonts, lines, strict=True))])
    image = images.new("RGB", (min(width, widest), max(1, sum(heights))), _PAPER)
    draw = ImageDraw.Draw(image)
    top = 0
    for font, height, (text, _, colour) in zip(fonts, heights, lines, strict=True):
        draw.text((0, top), text, font=font, fill=colour)
        top += height
    return image


def _font(size: int) -> Any:
    """A font with more than Latin letters where the system has one, else the one that comes with Pillow."""
    from PIL import ImageFont

    try:
        return ImageFont.truetype("DejaVuSans.ttf", size)
    except OSError:
        return ImageFont.load_default(size)


def _fitted(image: Image, longest: int) -> Image:
    factor = longest / max(image.size)
    return image.resize((max(1, round(image.width * factor)), max(1, round(image.height * factor))))


def _beside(parts: list[Image], gap: int = _MARGIN) -> Image:
    from PIL import Image as images

    width = sum(part.width for part in parts) + gap * (len(parts) - 1)
    whole = images.new("RGB", (max(1, width), max([1, *(part.height for part in parts)])), _PAPER)
    left = 0
    for part in parts:
        whole.paste(part, (left, 0))
        left += part.width + gap
    return whole


def _beneath(parts: list[Image], gap: int | None = None) -> Image:
    """Parts in a column; with a margin around it when no gap is given."""
    from PIL import Image as images

    edge = _MARGIN if gap is None else 0
    gap = _MARGIN if gap is None else gap
    height = sum(part.height for part in parts) + gap * (len(parts) - 1) + 2 * edge
    whole = images.new("RGB", (max(part.width for part in parts) + 2 * edge, height), _PAPER)
    top = edge
    for part in parts:
        whole.paste(part, (edge, top))
        top += part.height + gap
    return whole
