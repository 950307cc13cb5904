"""From what a user asks to what is searched: encoded queries, settled settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from ...core.late import QueryWeights
from ...core.presets import Preset
from ...core.weights import IdfWeights
from ...embeddings import SmartEmbeddings
from ...errors import EmptyInputError, NonFiniteError, ScoringError
from ...inputs import Frames, ImageSource, Item, VideoSource, item_of
from .stages import Settings

if TYPE_CHECKING:
    from PIL.Image import Image

    from ...model.smart_model import SmartModel

OneQuery: TypeAlias = "str | Item | Mapping[str, Any] | Path | ImageSource | VideoSource | Frames | Image"


def encode_queries(
    queries: Sequence[Any] | SmartEmbeddings, model: Callable[[], SmartModel]
) -> tuple[list[str] | None, SmartEmbeddings]:
    """The queries' texts (empty where one has none), and their encodings.

    Args:
        queries: Several texts, images or items, or encodings.
        model: Called only for what is not encoded.

    Raises:
        EmptyInputError: No query, or one with neither words nor a picture.
        MediaError: A picture cannot be read.
    """
    if isinstance(queries, SmartEmbeddings):
        if not len(queries):
            raise EmptyInputError("found no query, expected at least one")
        if not (np.isfinite(queries.anchors).all() and np.isfinite(queries.token_vectors).all()):
            raise NonFiniteError("found NaN or infinity in the encoded queries, expected finite numbers")
        return None, queries
    items = [item_of(query, position) for position, query in enumerate(queries)]
    if not items or any(not item.text.strip() and item.modalities == {"text"} for item in items):
        raise EmptyInputError("found an empty query, expected some words or a picture")
    # One at a time: padding changes the last bits of a batch's encodings, and with them ties.
    parts = [model().encode_query(item.text if _is_text(item) else item, show_progress=False) for item in items]
    return [item.text for item in items], SmartEmbeddings.concatenate(parts)


def _is_text(item: Item) -> bool:
    return item == Item(text=item.text)


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
