"""Rows that hold every layer of a token side by side: which of them a filter keeps, and one readout's vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..embeddings import SmartEmbeddings
from ..readout.roles import TokenRole, kept_roles

Array = NDArray[Any]

#: Layers that are kept of a model with more.
MOST_LAYERS = 8


@dataclass(frozen=True)
class KeptRows:
    """The rows of wide embeddings that a token filter keeps.

    Attributes:
        rows: Their numbers, ascending.
        offsets: ``[N + 1]``; an item of which nothing is kept has its first row here.
        bare: Numbers of those items.
    """

    rows: Array
    offsets: Array
    bare: Array

    @classmethod
    def of(cls, wide: SmartEmbeddings, token_filter: str) -> KeptRows:
        """Choose rows by their roles. Special tokens are there only where they stand in for an empty item."""
        kept = np.isin(wide.roles, [int(role) for role in kept_roles(token_filter) if role != TokenRole.SPECIAL])
        filled = np.diff(np.concatenate([[0], np.cumsum(kept)])[wide.offsets]) > 0
        bare = np.flatnonzero(~filled & (wide.lengths > 0))
        kept[wide.offsets[bare]] = True
        return cls(np.flatnonzero(kept), np.concatenate([[0], np.cumsum(kept)])[wide.offsets], bare)


def spread(states: int, own: Sequence[int]) -> tuple[int, ...]:
    """All layers, or as many as are kept of them: evenly spread, with the last three and a readout's own."""
    if states <= MOST_LAYERS:
        return tuple(range(states))
    spread = np.linspace(0, states - 4, MOST_LAYERS - 3).round().astype(int).tolist()
    return tuple(sorted({*spread, *range(states - 3, states), *own}))


def mixed(states: Array, slices: Sequence[int] | None, layers: int, mix: str) -> Array:
    """Token vectors of some layers out of rows that hold all of them side by side."""
    if slices is None:
        return states
    width = states.shape[1] // layers
    parts = [_unit(states[:, place * width : (place + 1) * width]) for place in slices]
    if len(parts) == 1:
        return parts[0]
    if mix == "concat":
        return np.concatenate(parts, axis=1) / np.float32(np.sqrt(len(parts)))
    total = parts[0]
    for other in parts[1:]:
        total += other
    return _unit(total)


def _unit(rows: Array) -> Array:
    values = np.array(rows, np.float32)
    norms = np.sqrt(np.einsum("ij,ij->i", values, values))[:, None]
    values /= np.where(norms > 0, norms, 1)
    return values
