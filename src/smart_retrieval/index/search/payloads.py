"""Hybrid scores of documents whose anchors and codes were brought here from wherever they are kept."""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ...core.late import token_shares, weighted_parts
from ...core.scoring import Scoring
from ...core.vectors import unit_rows
from ...embeddings import SmartEmbeddings
from ...errors import ScoringError
from ...types import Array
from ..codec.base import Codec
from ..mirror.files import unit_anchors

# Documents scored between two checks of the deadline.
_AT_ONCE = 256


class PartScores(NamedTuple):
    """Scores of n documents for one query, ``[n]`` float32 each."""

    hybrid: Array
    anchor: Array
    late: Array


def score_codes(
    codec: Codec,
    query: SmartEmbeddings,
    anchors: ArrayLike,
    codes: Array,
    offsets: Array,
    scoring: Scoring,
    deadline: float | None = None,
) -> PartScores:
    """What :meth:`SmartIndex.search` gives these documents; of the first ones only once the deadline has passed."""
    rows = np.asarray(anchors, np.float32)
    count = len(offsets) - 1
    check_shapes(codec, query, rows, count)
    units = unit_anchors(rows)
    late = np.zeros(count, np.float32)
    done = count
    if scoring.lambda_late and len(query.token_vectors):
        tables = codec.prepare(np.asarray(query.token_vectors, np.float32))
        shares = token_shares(query, scoring.query_weights)
        step = count if deadline is None else _AT_ONCE
        for start in range(0, count, max(1, step)):
            if start and deadline is not None and time.perf_counter() > deadline:
                done = start
                break
            stop = min(count, start + step)
            around = units[start:stop] if codec.anchor_dim is not None else None
            best = codec.best_similarities(tables, codes, offsets[start : stop + 1], anchors=around)
            late[start:stop] = weighted_parts(best, shares, scoring.late_floor).sum(axis=0)
    anchor: Array = np.einsum("nd,d->n", units[:done], unit_rows(query.anchors)[0])
    if not np.isfinite(late).all():
        raise ScoringError("found codes that are not finite numbers; store these documents again")
    return PartScores(scoring.combine(anchor, late[:done]), anchor, late[:done])


def check_shapes(codec: Codec, query: SmartEmbeddings, anchors: Array, count: int) -> None:
    """Refuse a query or anchors that do not fit, or that are no numbers."""
    shape = (count, query.anchor_dim)
    if len(query) != 1 or anchors.shape != shape or query.token_dim != codec.token_dim:
        raise ScoringError(
            f"found {len(query)} queries of {query.anchor_dim} (anchor) and {query.token_dim} (token) dimensions and "
            f"anchors of shape {anchors.shape}, expected one query of {codec.token_dim} dimensions a token, and "
            f"anchors of shape {shape}"
        )
    if not np.isfinite(anchors).all():
        raise ScoringError("found anchors that are not finite numbers; store these documents again")
