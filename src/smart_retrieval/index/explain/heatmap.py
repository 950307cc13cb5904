"""Heat maps: similarities laid out over a picture's grids of visual tokens, and drawn as transparent colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.late import above_floor
from ...types import Array
from ..store.pictures import PlacedGrid

if TYPE_CHECKING:
    from PIL.Image import Image

Scale = tuple[float, float]  # the values drawn weakest and strongest

HUE = (235, 64, 0)  # visible on print, photographs and white alike, over a greyed picture
STRONGEST = 0.8  # opacity of the highest value
_GREY = 0.75  # how much of its colour a picture loses under a map


@dataclass(frozen=True, eq=False)
class GridMap:
    """One grid of a picture, as a query matches it.

    Args:
        grid: The grid.
        rows: ``[R, t, h, w]`` float32, similarity of each row of the query (a token, or several together) to each
            visual token.
        whole: ``[t, h, w]`` float32, the whole query: the sum over its tokens of weight times similarity above the
            floor. It is the late score the document would have with this visual token alone.
        frames: ``[t]`` float32, the late score it would have with this frame alone.
    """

    grid: PlacedGrid
    rows: Array
    whole: Array
    frames: Array

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, four digits."""
        return {
            "kind": self.grid.kind,
            "t": self.grid.t,
            "h": self.grid.h,
            "w": self.grid.w,
            **{name: np.round(getattr(self, name).astype(np.float64), 4).tolist() for name in _LAYERS},
        }


_LAYERS = ("rows", "whole", "frames")


def grid_maps(
    similarities: Array,
    shares: Array,
    grids: Sequence[PlacedGrid],
    *,
    floor: float | None = None,
    rows: Sequence[Sequence[int]] | None = None,
) -> tuple[GridMap, ...]:
    """Lay similarities out over grids, one map a grid.

    Args:
        similarities: ``[Tq, Td]`` of every query token with every token of the document.
        shares: ``[Tq]`` weights of the query tokens, which sum to 1.
        grids: The document's grids.
        floor: Similarities that count as none in ``whole`` and ``frames``.
        rows: Query tokens shown as one, as their weighted mean; each by itself when None.

    Example:
        >>> grid = PlacedGrid("image", 1, 1, 2, ((1, 2),))
        >>> one, = grid_maps(np.float32([[0.75, 0.25, 0.5]]), np.float32([1]), [grid])
        >>> one.rows.tolist(), one.frames.tolist()
        ([[[[0.25, 0.5]]]], [0.5])
    """
    values = np.asarray(similarities, np.float32)
    weights = np.asarray(shares, np.float32)
    groups = [[token] for token in range(len(values))] if rows is None else [list(row) for row in rows]
    maps = []
    for grid in grids:
        own = values[:, grid.positions()]
        parts = weights[:, None] * above_floor(own, floor)
        shape = (grid.t, grid.h, grid.w)
        best = parts.reshape(len(parts), grid.t, grid.h * grid.w).max(axis=2) if len(parts) else parts[:, : grid.t]
        shown = np.stack([_mean(own[group], weights[group]) for group in groups]) if groups else own[:0]
        shown = shown.reshape(len(groups), *shape)
        maps.append(GridMap(grid, shown, parts.sum(axis=0).reshape(shape), best.sum(axis=0)))
    return tuple(maps)


def _mean(values: Array, weights: Array) -> Array:
    total = float(weights.sum())
    share = weights / total if total > 0 else np.full(len(weights), 1 / max(1, len(weights)), np.float32)
    mean: Array = (share[:, None] * values).sum(axis=0)
    return mean


def row_scale(maps: Sequence[GridMap]) -> Scale:
    """The one colour scale of all rows and grids: the lowest and the highest similarity.

    Example:
        >>> row_scale(())
        (0.0, 1.0)
    """
    return _scale([one.rows for one in maps])


def whole_scale(maps: Sequence[GridMap]) -> Scale:
    """The colour scale of the whole query, over all grids."""
    return _scale([one.whole for one in maps])


def _scale(arrays: Sequence[Array]) -> Scale:
    filled = [array for array in arrays if array.size]
    if not filled:
        return 0.0, 1.0
    return min(float(array.min()) for array in filled), max(float(array.max()) for array in filled)


def best_frames(scores: Array, count: int) -> list[int]:
    """The frames that matched best, best first, the earlier of equals first.

    Example:
        >>> best_frames(np.float32([0.1, 0.4, 0.4, 0.2]), 2)
        [1, 2]
    """
    order = np.argsort(-np.asarray(scores), kind="stable")
    return [int(frame) for frame in order[:count]]


def place_in_grid(grid: PlacedGrid, position: int) -> tuple[int, int, int] | None:
    """Frame, row and column of a document's token; None where it is not of this grid.

    Example:
        >>> place_in_grid(PlacedGrid("image", 1, 2, 3, ((5, 6),)), 9)
        (0, 1, 1)
    """
    before = 0
    for first, length in grid.runs:
        if first <= position < first + length:
            frame, rest = divmod(before + position - first, grid.h * grid.w)
            return (frame, *divmod(rest, grid.w))
        before += length
    return None


def frame_of_step(step: int, steps: int, frames: int) -> int:
    """The first of the video's frames that a step of its grid was made of (some models merge two or more).

    Example:
        >>> [frame_of_step(step, 4, 7) for step in range(4)]
        [0, 2, 4, 6]
    """
    merged = -(-frames // max(1, steps))
    return max(0, min(step * merged, frames - 1))


def intensities(values: Array, scale: Scale) -> Array:
    """Values brought to 0..1 by a scale, float32 of the same shape.

    Example:
        >>> intensities(np.float32([0.2, 0.5, 0.9]), (0.2, 0.8)).round(1).tolist()
        [0.0, 0.5, 1.0]
    """
    low, high = scale
    if high <= low:
        return np.zeros(np.shape(values), np.float32)
    lifted: Array = np.clip((np.asarray(values, np.float32) - np.float32(low)) / np.float32(high - low), 0, 1)
    return lifted


def overlay(values: Array, scale: Scale) -> Image:
    """A map ``[h, w]`` as an RGBA picture with one pixel a visual token."""
    from PIL import Image as images

    strength = intensities(values, scale)
    pixels = np.empty((*strength.shape, 4), np.uint8)
    pixels[..., :3] = HUE
    # Squared: weak matches are everywhere, and should not hide the picture.
    pixels[..., 3] = np.round(255 * STRONGEST * strength**2)
    return images.fromarray(pixels, "RGBA")


def draw_over(image: Image, values: Array, scale: Scale) -> Image:
    """A greyed picture under a map, RGB; the map's cells keep hard edges, since there is nothing finer."""
    from PIL import Image as images

    grey = images.blend(image.convert("RGB"), image.convert("L").convert("RGB"), _GREY)
    cells = overlay(values, scale).resize(image.size, images.Resampling.NEAREST)
    return images.alpha_composite(grey.convert("RGBA"), cells).convert("RGB")


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
