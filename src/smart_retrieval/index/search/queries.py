"""From what a user asks to what is searched: encoded queries, settled settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ...embeddings import SmartEmbeddings
from ...errors import EmptyInputError, NonFiniteError
from ...inputs import Frames, ImageSource, Item, VideoSource, item_of

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
