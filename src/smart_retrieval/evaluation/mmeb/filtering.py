"""A token filter applied to encodings that hold every token, so that another filter encodes nothing again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...core.hybrid import unit_rows
from ...core.roles import kept_roles
from ...embeddings import SmartEmbeddings

if TYPE_CHECKING:
    from ...model.smart_model import SmartModel


def kept_in_full(smart: SmartModel) -> bool:
    """Whether the filter ``paper`` keeps all tokens any other would: not where it drops the pictures of queries."""
    return not smart.backbone.drops_visual_of_queries


def filtered(embeddings: SmartEmbeddings, token_filter: str) -> SmartEmbeddings:
    """The tokens a filter keeps; an item of which it keeps none is left with its anchor as the one token.

    Args:
        embeddings: Encoded with the filter ``paper``.
        token_filter: The filter.
    """
    if token_filter == "paper":
        return embeddings
    kept = np.isin(embeddings.roles, [int(role) for role in kept_roles(token_filter)])
    items = np.repeat(np.arange(len(embeddings)), embeddings.lengths)
    bare = (np.bincount(items[kept], minlength=len(embeddings)) == 0) & (embeddings.lengths > 0)
    vectors = embeddings.token_vectors
    ids, roles = embeddings.token_ids, embeddings.roles
    if bare.any():
        first = embeddings.offsets[:-1][bare]
        kept[first] = True
        vectors, ids = np.array(vectors), np.array(ids)
        if embeddings.token_dim:
            for item, row in zip(np.flatnonzero(bare).tolist(), first.tolist(), strict=True):
                vectors[row] = _stand_in(embeddings, item)
        ids[first] = -1
    counts = np.bincount(items[kept], minlength=len(embeddings))
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return SmartEmbeddings(embeddings.anchors, vectors[kept], offsets, ids[kept], roles[kept], report=embeddings.report)


def _stand_in(embeddings: SmartEmbeddings, item: int) -> NDArray[Any]:
    """As the token head has it: the anchor where it lies in the space of the tokens, else the mean of the tokens."""
    copies, rest = divmod(embeddings.token_dim, embeddings.anchor_dim)
    if rest == 0:
        vector = np.tile(unit_rows(embeddings.anchors[item : item + 1]), copies)
    else:
        own = embeddings.token_vectors[embeddings.offsets[item] : embeddings.offsets[item + 1]]
        vector = np.asarray(own, np.float32).mean(axis=0, keepdims=True)
    row: NDArray[Any] = unit_rows(vector)[0]
    return row
