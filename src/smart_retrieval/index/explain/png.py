"""An explanation of a picture as a PNG: the whole query's map over it, and the maps of the words that matter most."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import SmartError
from .heatmap import Scale, draw_over, file_bytes, overlay
from .score import ScoreBreakdown, VisualExplanation
from .shown_pictures import ShownPicture, ShownPictures, map_notes

if TYPE_CHECKING:
    from PIL.Image import Image

_INK, _SOFT, _PAPER, _LINE, _RING = (28, 29, 33), (98, 101, 110), (255, 255, 255), (226, 228, 233), (36, 87, 197)
_MARK = (255, 163, 26)  # the page's colour of marked words
_MARGIN = 20
_LARGE = 640  # longest side of the picture under the whole query's map
_SMALL = 210  # of those under a word's
_FRAME = 325  # of frames side by side
_FRAMES_A_LINE = 2
_WORDS = 6  # shown by themselves
_COLUMNS = 3


def draw_png(score: ScoreBreakdown, shown: ShownPictures) -> bytes:
    """The PNG file of an explanation whose maps are drawn on these pictures."""
    visual = score.visual
    if not shown.pictures:
        raise SmartError(
            f"document {score.id!r}: found no picture to draw, expected an image, a page or a video; "
            + (f"{shown.note} " if shown.note else "")
            + "As a web page (html) its words are shown"
        )
    parts = [_heading(score, shown.note)]
    if visual is None:
        return file_bytes(_stack([*parts, *map(_marked, shown.pictures)], _MARGIN, _MARGIN), "png")
    moving = [picture for picture in shown.pictures if picture.score is not None]
    if moving:
        parts += _lines([_whole(visual, picture, _FRAME) for picture in moving], _FRAMES_A_LINE)
        best = max(moving, key=lambda picture: picture.score or 0.0)
        parts += [_ramp(visual.whole_scale), _text([(f"the words over the best frame, {best.caption}", 14, _SOFT)])]
        parts.append(_words(visual, best))
    for picture in shown.pictures:
        if picture.score is None:
            parts.append(_whole(visual, picture, _LARGE))
            if picture.grid is not None:
                parts += [_ramp(visual.whole_scale), _words(visual, picture)]
    return file_bytes(_stack(parts, _MARGIN, _MARGIN), "png")


def _heading(score: ScoreBreakdown, note: str) -> Image:
    place = score.id if score.page is None else f"{score.source or score.id}  page {score.page}"
    formula = (
        f"{score.score:.4f} = {score.lambda_anchor:g} × {score.anchor:.4f} anchor + "
        f"{score.lambda_late:g} × {score.late:.4f} late"
    )
    lines: list[tuple[str, int, Any]] = [(score.query or score.id, 22, _INK), (place, 15, _SOFT), (formula, 15, _INK)]
    # Without the first note: there is no word to choose here.
    notes = [*map_notes(score)[1:], *filter(None, [note])]
    lines += [(line, 13, _SOFT) for text in notes for line in textwrap.wrap(text, 105)]
    return _text(lines, _LARGE + _COLUMNS * (_SMALL + _MARGIN))


def _whole(visual: VisualExplanation, picture: ShownPicture, longest: int) -> Image:
    image = _fitted(picture.image, longest)
    if picture.grid is not None:
        image = draw_over(image, visual.maps[picture.grid].whole[picture.step], visual.whole_scale)
    caption = "  ".join(filter(None, ["the whole query" if picture.grid is not None else "", picture.caption]))
    return _stack([image, _text([(caption, 14, _SOFT)], image.width)], 4)


def _marked(picture: ShownPicture) -> Image:
    """A page with the words that matched, the strongest darkest."""
    from PIL import Image as images
    from PIL import ImageChops, ImageDraw

    colours = images.new("RGB", picture.image.size, _PAPER)
    draw = ImageDraw.Draw(colours)
    most = max((word.shaded.contribution for word in picture.words), default=1.0)
    for word in sorted(picture.words, key=lambda word: word.shaded.contribution):
        left, top, right, bottom = word.box
        share = 0.15 + 0.6 * word.shaded.contribution / most
        place = (left * colours.width, top * colours.height, right * colours.width, bottom * colours.height)
        draw.rectangle(place, fill=tuple(round(255 - share * (255 - part)) for part in _MARK))
    return ImageChops.multiply(picture.image, colours)


def _words(visual: VisualExplanation, picture: ShownPicture) -> Image:
    """Maps of the words that contribute most, in the order of the query; of special tokens where there are no words."""
    assert picture.grid is not None
    one, rows = visual.maps[picture.grid], visual.rows
    words = [number for number, row in enumerate(rows) if not row.special] or list(range(len(rows)))
    best = sorted(words, key=lambda number: (-rows[number].contribution, number))
    tiles = []
    for number in sorted(best[:_WORDS]):
        row = rows[number]
        image = draw_over(_fitted(picture.image, _SMALL), one.rows[number, picture.step], visual.row_scale)
        if row.place is not None and row.place[:2] == (picture.grid, picture.step):
            _outline(image, row.place[2], row.place[3], one.grid.h, one.grid.w)
        label = textwrap.shorten(row.label.strip() or repr(row.label), 22, placeholder="…")
        tiles.append(_stack([image, _text([(f"{label}  {row.contribution:.3f}", 13, _INK)], _SMALL)], 2))
    return _stack([*_lines(tiles, _COLUMNS), _ramp(visual.row_scale)], 8)


def _outline(image: Image, y: int, x: int, h: int, w: int) -> None:
    from PIL import ImageDraw

    left, top = x * image.width / w, y * image.height / h
    # A token of sound may be narrower than a pixel.
    box = (left, top, left + max(2, image.width / w) - 1, top + max(2, image.height / h) - 1)
    ImageDraw.Draw(image).rectangle(box, outline=_RING, width=2)


def _ramp(scale: Scale) -> Image:
    """The colour scale with its ends."""
    from PIL import Image as images

    cells = overlay(np.linspace(0, 1, 160, dtype=np.float32)[None, :], (0, 1)).resize((160, 10))
    bar = images.new("RGBA", (162, 12), (*_LINE, 255))
    bar.paste(images.new("RGBA", (160, 10), (*_PAPER, 255)), (1, 1))
    bar.alpha_composite(cells, (1, 1))
    low, high = (_text([(f"{value:.3f}", 13, _SOFT)], 60) for value in scale)
    return _stack([low, bar.convert("RGB"), high], 6, down=False)


def _text(lines: list[tuple[str, int, Any]], width: int = _LARGE) -> Image:
    """Lines of text, size and colour, no wider than ``width`` pixels."""
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


def _lines(tiles: list[Image], columns: int) -> list[Image]:
    return [_stack(tiles[start : start + columns], _MARGIN, down=False) for start in range(0, len(tiles), columns)]


def _stack(parts: list[Image], gap: int, edge: int = 0, *, down: bool = True) -> Image:
    """Parts in a column, or side by side."""
    from PIL import Image as images

    along, across = (1, 0) if down else (0, 1)
    size = [2 * edge + max(part.size[across] for part in parts)] * 2
    size[along] = 2 * edge + sum(part.size[along] for part in parts) + gap * (len(parts) - 1)
    whole = images.new("RGB", (size[0], size[1]), _PAPER)
    at = edge
    for part in parts:
        whole.paste(part, (edge, at) if down else (at, edge))
        at += part.size[along] + gap
    return whole
