"""The anchor of LamRA: the state just before ``<emb>``."""

from __future__ import annotations

from typing import Any

import torch
from sentence_transformers.base.modules import Module

from ...errors import UnsupportedModelError

# Written by preprocessing where a family pools at a place of its own: [B] int64.
ANCHOR_POSITIONS = "anchor_positions"


class PositionPooling(Module):
    """Takes each item's state at the position its preprocessing named.

    Args:
        pooling_mode: What that position is, for descriptions.
    """

    config_keys: list[str] = ["pooling_mode"]  # noqa: RUF012 (as its base class declares it)

    def __init__(self, pooling_mode: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.pooling_mode = pooling_mode

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Add ``sentence_embedding`` ``[B, H]``."""
        if ANCHOR_POSITIONS not in features:
            raise UnsupportedModelError(
                f"found features without {ANCHOR_POSITIONS!r}, expected those of this model's own preprocessing"
            )
        states = features["token_embeddings"]
        rows = torch.arange(len(states), device=states.device)
        features["sentence_embedding"] = states[rows, features[ANCHOR_POSITIONS].to(states.device)]
        return features

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Nothing to save: the family's name says it all."""
