"""Which part of a picture answered which part of a query: similarities laid out over its grids of visual tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...core.late import above_floor
from ...types import Array
from ..store.pictures import PlacedGrid


@dataclass(frozen=True, eq=False)
class GridMap:
    """One grid of a picture, seen by a query.

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
            "rows": _rounded(self.rows),
            "whole": _rounded(self.whole),
            "frames": _rounded(self.frames),
        }


def grid_maps(
    similarities: Array,
    shares: Array,
    grids: Sequence[PlacedGrid],
    *,
    floor: float | None = None,
    rows: Sequence[Sequence[int]] | None = None,
) -> tuple[GridMap, ...]:
    """Lay similarities out over grids.

    Args:
        similarities: ``[Tq, Td]`` of every query token with every token of the document.
        shares: ``[Tq]`` weights of the query tokens, which sum to 1.
        grids: The document's grids.
        floor: Similarities that count as none in ``whole`` and ``frames``.
        rows: Query tokens that are shown as one; each by itself when None. Their map is the weighted mean.

    Returns:
        One map a grid.

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
        maps.append(
            GridMap(
                grid,
                shown.reshape(len(groups), *shape),
                parts.sum(axis=0).reshape(shape),
                best.sum(axis=0),
            )
        )
    return tuple(maps)


def row_scale(maps: Sequence[GridMap]) -> tuple[float, float]:
    """The one colour scale of all rows and grids: the lowest and the highest similarity.

    Example:
        >>> row_scale(())
        (0.0, 1.0)
    """
    return _scale([one.rows for one in maps])


def whole_scale(maps: Sequence[GridMap]) -> tuple[float, float]:
    """The colour scale of the whole query, over all grids."""
    return _scale([one.whole for one in maps])


def intensities(values: Array, scale: tuple[float, float]) -> Array:
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


def _mean(values: Array, weights: Array) -> Array:
    total = float(weights.sum())
    share = weights / total if total > 0 else np.full(len(weights), 1 / max(1, len(weights)), np.float32)
    mean: Array = (share[:, None] * values).sum(axis=0)
    return mean


def _scale(arrays: Sequence[Array]) -> tuple[float, float]:
    filled = [array for array in arrays if array.size]
    if not filled:
        return 0.0, 1.0
    return min(float(array.min()) for array in filled), max(float(array.max()) for array in filled)


def _rounded(array: Array) -> Any:
    return np.round(array.astype(np.float64), 4).tolist()
