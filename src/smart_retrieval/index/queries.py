"""From what a user asks to what is searched: encoded queries, settled settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from ..embeddings import SmartEmbeddings
from ..errors import EmptyInputError, NonFiniteError, ScoringError
from ..scoring import IdfWeights, Preset
from ..scoring.late import QueryWeights
from .search import Settings

if TYPE_CHECKING:
    from ..model import SmartModel


def encode_queries(
    queries: str | Sequence[str] | SmartEmbeddings, model: Callable[[], SmartModel]
) -> tuple[list[str] | None, SmartEmbeddings]:
    """The queries' texts, where they were given as texts, and their encodings.

    Args:
        queries: A text, several, or encodings.
        model: Called only for texts.

    Raises:
        EmptyInputError: No query, or one without words.
    """
    if isinstance(queries, SmartEmbeddings):
        if not len(queries):
            raise EmptyInputError("found no query, expected at least one")
        if not (np.isfinite(queries.anchors).all() and np.isfinite(queries.token_vectors).all()):
            raise NonFiniteError("found NaN or infinity in the encoded queries, expected finite numbers")
        return None, queries
    texts = [queries] if isinstance(queries, str) else list(queries)
    if not texts or any(not isinstance(text, str) or not text.strip() for text in texts):
        raise EmptyInputError("found an empty query, expected some words")
    # One at a time: padding changes the last bits of a batch's encodings, and with them ties.
    parts = [model().encode_query(text, show_progress=False) for text in texts]
    return texts, SmartEmbeddings.concatenate(parts)


def settle(
    preset: Callable[[], Preset],
    idf: Callable[[], IdfWeights],
    settings: Settings,
    *,
    lambda_anchor: float | None,
    lambda_late: float | None,
    floor: float | Literal["preset"] | None,
    weights: QueryWeights | Literal["preset"],
    deadline: float | None = None,
) -> tuple[Settings, QueryWeights]:
    """Settings and query-token weights, the preset's where a search names none.

    Args:
        preset: Called only where something is left to it; it may load the model.
        idf: Gives the collection's weights, where the preset wants them.
        settings: Everything else.
        lambda_anchor: Over the preset's.
        lambda_late: Over the preset's.
        floor: Over the preset's.
        weights: Over the preset's.
        deadline: When scoring stops.
    """
    for name, value in (("floor", floor), ("weights", weights)):
        if isinstance(value, str) and value != "preset":
            raise ScoringError(f"{name}: found {value!r}, expected numbers, None, or 'preset'")
    if lambda_anchor is None:
        lambda_anchor = preset().lambda_anchor
    if lambda_late is None:
        lambda_late = preset().lambda_late
    if isinstance(floor, str):
        floor = preset().floor
    if isinstance(weights, str):
        weights = idf() if preset().weights == "idf" else None
    settled = replace(settings, lambda_anchor=lambda_anchor, lambda_late=lambda_late, floor=floor, deadline=deadline)
    return settled, weights
