"""Anchors that no stock pooling takes: the mean of the states that preprocessing marked, one or many."""

from __future__ import annotations

from typing import Any

from sentence_transformers.base.modules import Module

from ...errors import UnsupportedModelError

# Written by preprocessing where a family pools at places of its own: [B, T] bool.
ANCHOR_MARKS = "anchor_marks"


class MarkedPooling(Module):
    """Takes the mean of each item's marked states.

    Args:
        pooling_mode: Which those are, for descriptions.
    """

    config_keys: list[str] = ["pooling_mode"]  # noqa: RUF012 (as its base class declares it)

    def __init__(self, pooling_mode: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.pooling_mode = pooling_mode

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Add ``sentence_embedding`` ``[B, H]``."""
        if ANCHOR_MARKS not in features:
            raise UnsupportedModelError(
                f"found features without {ANCHOR_MARKS!r}, expected those of this model's own preprocessing"
            )
        states = features["token_embeddings"]
        marks = features[ANCHOR_MARKS].to(states.device).unsqueeze(-1)
        total = (states * marks).sum(dim=1)
        features["sentence_embedding"] = total / marks.sum(dim=1)
        return features

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Nothing to save: the family's name says it all."""
