"""Heat maps: similarities laid out over a picture's grids of visual tokens, and drawn as transparent colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ...core.late import above_floor
from ...sound.sources import TOKENS_A_SECOND
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
    """One grid of a picture, as a query matches it."""

    grid: PlacedGrid
    rows: Array  # [R, t, h, w] float32: similarity of each row of the query to each visual token
    # [t, h, w] float32: the sum over all query tokens of weight times similarity above the floor. It is the late score
    # the document would have with this visual token alone.
    whole: Array
    # [t] float32: the late score the document would have with this frame alone; of sound, with each of its seconds
    frames: Array

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, four digits."""
        return {
            "kind": self.grid.kind,
            "t": self.grid.t,
            "h": self.grid.h,
            "w": self.grid.w,
            "rows": _rounded(self.rows),
            "whole": _rounded(self.whole),
            "frames": _rounded(self.frames),
        }


def _rounded(array: Array) -> Any:
    return np.round(array.astype(np.float64), 4).tolist()


def grid_maps(
    similarities: Array,
    shares: Array,
    grids: Sequence[PlacedGrid],
    *,
    floor: float | None = None,
    rows: Sequence[Sequence[int]] | None = None,
) -> tuple[GridMap, ...]:
    """Lay similarities ``[Tq, Td]`` of all tokens out over the document's grids, one map a grid.

    ``shares`` are the weights ``[Tq]`` of the query tokens, which sum to 1. Similarities up to the floor count as none
    in ``whole`` and ``frames``. Query tokens of one of ``rows`` are shown together, as their weighted mean.
    """
    values = np.asarray(similarities, np.float32)
    weights = np.asarray(shares, np.float32)
    groups = [[token] for token in range(len(values))] if rows is None else [list(row) for row in rows]
    maps = []
    for grid in grids:
        own = values[:, grid.positions()]
        parts = weights[:, None] * above_floor(own, floor)
        shape = (grid.t, grid.h, grid.w)
        # Sound is one row of tokens, 25 of which are a second.
        starts = np.arange(0, own.shape[1], TOKENS_A_SECOND if grid.kind == "audio" else grid.h * grid.w)
        best = np.maximum.reduceat(parts, starts, axis=1)
        shown = np.stack([_mean(own[group], weights[group]) for group in groups]) if groups else own[:0]
        shown = shown.reshape(len(groups), *shape)
        maps.append(GridMap(grid, shown, parts.sum(axis=0).reshape(shape), best.sum(axis=0)))
    return tuple(maps)


def _mean(values: Array, weights: Array) -> Array:
    total = float(weights.sum())
    share = weights / total if total > 0 else np.full(len(weights), 1 / max(1, len(weights)), np.float32)
    mean: Array = (share[:, None] * values).sum(axis=0)
    return mean


def value_scale(arrays: Sequence[Array]) -> Scale:
    """One colour scale for several arrays: their lowest and their highest value; (0, 1) without any."""
    filled = [array for array in arrays if array.size]
    if not filled:
        return 0.0, 1.0
    return min(float(array.min()) for array in filled), max(float(array.max()) for array in filled)


def best_frames(scores: Array, count: int) -> list[int]:
    """The frames that matched best, best first, the earlier of equals first."""
    order = np.argsort(-np.asarray(scores), kind="stable")
    return [int(frame) for frame in order[:count]]


def place_in_grid(grid: PlacedGrid, position: int) -> tuple[int, int, int] | None:
    """Frame, row and column of a document's token; None where it is not of this grid."""
    before = 0
    for first, length in grid.runs:
        if first <= position < first + length:
            frame, rest = divmod(before + position - first, grid.h * grid.w)
            return (frame, *divmod(rest, grid.w))
        before += length
    return None


def frame_of_step(step: int, steps: int, frames: int) -> int:
    """The first of the video's frames that a step of its grid was made of (some models merge two or more)."""
    merged = -(-frames // max(1, steps))
    return max(0, min(step * merged, frames - 1))


def intensities(values: Array, scale: Scale) -> Array:
    """Values brought to 0..1 by a scale, float32 of the same shape."""
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


def file_bytes(image: Image, kind: Literal["png", "jpeg"]) -> bytes:
    """An RGB or RGBA (PNG only) picture as a file."""
    buffer = BytesIO()
    options = {"quality": 85} if kind == "jpeg" else {"optimize": image.width * image.height < 1_000_000}
    image.save(buffer, kind, **options)
    return buffer.getvalue()
