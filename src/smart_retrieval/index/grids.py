"""Where the picture is among a document's token vectors: its grids of visual tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import IndexDamagedError

Array = NDArray[Any]

# Of TokenRole, which is not imported, so that this file knows arrays only.
SPECIAL = (0, 1, 2)  # special, template and prompt tokens
VISUAL = (4, 5)  # image and video


class GridLike(Protocol):
    """What an encoding says of one picture: t frames of h x w visual tokens."""

    @property
    def kind(self) -> str: ...  # noqa: D102
    @property
    def t(self) -> int: ...  # noqa: D102
    @property
    def h(self) -> int: ...  # noqa: D102
    @property
    def w(self) -> int: ...  # noqa: D102


@dataclass(frozen=True)
class PlacedGrid:
    """One picture's grid, and which token vectors of its document it is.

    Args:
        kind: ``"image"`` or ``"video"``.
        t: Frames; 1 for an image.
        h: Rows of visual tokens.
        w: Columns.
        runs: Token vectors that belong to it, frame by frame and row by row: (first, how many) of each stretch. There
            are several where a template writes something between frames.

    Example:
        >>> PlacedGrid("image", 1, 1, 3, ((5, 3),)).positions().tolist()
        [5, 6, 7]
    """

    kind: str
    t: int
    h: int
    w: int
    runs: tuple[tuple[int, int], ...]

    @property
    def size(self) -> int:
        """Visual tokens."""
        return self.t * self.h * self.w

    def positions(self) -> Array:
        """Positions among the document's token vectors, ``[t * h * w]`` int64."""
        return np.concatenate([np.zeros(0, np.int64), *(np.arange(first, first + count) for first, count in self.runs)])

    def to_list(self) -> list[Any]:
        """JSON-able."""
        return [self.kind, self.t, self.h, self.w, [list(run) for run in self.runs]]

    @classmethod
    def from_list(cls, value: Any) -> PlacedGrid:
        """The inverse of :meth:`to_list`.

        Raises:
            IndexDamagedError: It is something else.
        """
        try:
            kind, t, h, w, runs = value
            grid = cls(str(kind), int(t), int(h), int(w), tuple((int(first), int(count)) for first, count in runs))
        except (TypeError, ValueError) as error:
            raise IndexDamagedError(f"found {str(value)[:60]!r}, expected the grid of a picture") from error
        if min(grid.t, grid.h, grid.w) < 1 or sum(count for _, count in grid.runs) != grid.size:
            raise IndexDamagedError(f"found {str(value)[:60]!r}, expected the grid of a picture")
        return grid


def place_grids(grids: Iterable[GridLike], roles: Sequence[int] | Array) -> tuple[PlacedGrid, ...]:
    """Find an item's grids among its token vectors.

    Args:
        grids: The item's grids, in the order of its visual tokens.
        roles: ``[T]`` role of each of its token vectors.

    Returns:
        The grids that are there whole: what a model's length limit cut off is left out. None where there are more
        visual tokens than the grids tell of, since nobody knows then which is which.

    Example:
        >>> from types import SimpleNamespace
        >>> place_grids([SimpleNamespace(kind="image", t=1, h=1, w=2)], [1, 4, 4, 3])[0].runs
        ((1, 2),)
    """
    visual = np.flatnonzero(np.isin(np.asarray(roles), VISUAL))
    asked = list(grids)
    if sum(grid.t * grid.h * grid.w for grid in asked) < len(visual):
        return ()
    placed: list[PlacedGrid] = []
    done = 0
    for grid in asked:
        own = visual[done : done + grid.t * grid.h * grid.w]
        if len(own) < grid.t * grid.h * grid.w:
            break
        done += len(own)
        placed.append(PlacedGrid(str(grid.kind), int(grid.t), int(grid.h), int(grid.w), _runs(own)))
    return tuple(placed)


def _runs(positions: Array) -> tuple[tuple[int, int], ...]:
    pieces = np.split(positions, np.flatnonzero(np.diff(positions) != 1) + 1)
    return tuple((int(piece[0]), len(piece)) for piece in pieces if len(piece))
