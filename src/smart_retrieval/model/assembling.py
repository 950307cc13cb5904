"""From what a model computed to SmartEmbeddings: the same with torch and without it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.roles import CONTENT_ROLES, MEDIA_ROLES, TokenRole, has_role
from ..embeddings import Grid, SmartEmbeddings
from ..errors import NonFiniteError
from ..inputs import Item
from ..types import Array, EncodingReport

_WORDLESS = MEDIA_ROLES | {TokenRole.SPECIAL}


def assembled(
    items: list[tuple[int, Item]],
    anchors: Array,
    vectors: Array,
    *,
    ids: Array,
    roles: Array,
    kept: Array,
    cut: list[int],
    dtype: str = "float32",
    grids: list[tuple[Grid, ...]] | None = None,
    tokenizer: Any = None,
) -> SmartEmbeddings:
    """Embeddings of B items, each with its position in the stream, from arrays ``[B, T]`` and what is kept of them.

    ``vectors`` ``[sum T_i, Dt]`` are those of the kept positions; ``cut`` counts the tokens cut off each item.
    """
    offsets = np.concatenate([[0], np.cumsum(kept.sum(axis=1))])
    _check_finite(anchors, vectors, offsets, items)
    # A position that stands in for an item without content carries the anchor, and a visual one its patch, not the word
    # of its placeholder.
    own = roles[kept]
    wordless = has_role(own, _WORDLESS)
    empty = len(items) - has_role(roles, CONTENT_ROLES).any(axis=1).sum()
    return SmartEmbeddings(
        anchors,
        vectors.astype(dtype, copy=False),
        offsets,
        np.where(wordless, -1, ids[kept]).astype(np.int32),
        own,
        grids=grids,
        tokenizer=tokenizer,
        report=EncodingReport(len(items), sum(count > 0 for count in cut), sum(cut), int(empty)),
    )


def _check_finite(anchors: Array, vectors: Array, offsets: Array, items: list[tuple[int, Item]]) -> None:
    # One sum a row finds NaN and infinity at a fraction of a full scan's cost.
    bad_anchors, bad_vectors = (~np.isfinite(array.sum(axis=1)) for array in (anchors, vectors))
    if not bad_anchors.any() and not bad_vectors.any():
        return
    bad = {*(np.searchsorted(offsets, bad_vectors.nonzero()[0], side="right") - 1), *bad_anchors.nonzero()[0]}
    position, item = min((items[row] for row in bad), key=lambda one: one[0])
    raise NonFiniteError(
        f"found NaN or infinity in the encoding of {len(bad)} of {len(items)} items, first item {position} "
        f"({item.text[:60]!r}); load the model in float32, or remove the item"
    )
