"""The anchor carried as the first rows of the token matrix.

Sentence Transformers' multi-vector losses, trainer, evaluators and token pooling move one matrix an item. With the
anchor in front of its token vectors they carry the hybrid as they are (gradients are equal to 7e-7). A narrower anchor
is padded with zeros; a wider one is cut into several rows, which keeps dot products.
"""

from __future__ import annotations

from typing import Any

import torch
from sentence_transformers.base.modules import Module
from torch import Tensor

from .head import unit_vectors


def anchor_rows(anchor_dim: int, token_dim: int) -> int:
    """How many rows of the token width an anchor takes."""
    return max(1, -(-anchor_dim // token_dim))


def pack(anchors: Tensor, token_vectors: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """Put anchors ``[B, Da]``, normalised, in front of token vectors ``[B, T, Dt]``.

    Gives the packed matrix ``[B, R + T, Dt]`` and its mask ``[B, R + T]``, R = :func:`anchor_rows`. Positions that are
    not kept are zero rows, as stock scorers expect of padding.
    """
    batch, _, token_dim = token_vectors.shape
    rows = anchor_rows(anchors.shape[-1], token_dim)
    flat = token_vectors.new_zeros(batch, rows * token_dim)
    flat[:, : anchors.shape[-1]] = unit_vectors(anchors).to(flat.dtype)
    packed = torch.cat([flat.view(batch, rows, token_dim), token_vectors * kept.unsqueeze(-1)], dim=1)
    return packed, torch.cat([kept.new_ones(batch, rows), kept], dim=1)


def unpack(packed: Tensor, anchor_dim: int) -> tuple[Tensor, Tensor]:
    """Undo :func:`pack`: anchors ``[..., Da]`` and token vectors ``[..., T, Dt]`` of one item or a batch."""
    rows = anchor_rows(anchor_dim, packed.shape[-1])
    return packed[..., :rows, :].flatten(-2)[..., :anchor_dim], packed[..., rows:, :]


class AnchorPacker(Module):
    """The last module of :attr:`SmartModel.encoder`: writes the packed matrix where stock code looks for it."""

    config_keys: list[str] = []  # noqa: RUF012 (as its base class declares it)

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Overwrite ``token_embeddings`` and ``attention_mask`` with the packed matrix and its mask."""
        packed, mask = pack(features["sentence_embedding"], features["token_vectors"], features["kept"])
        features["token_embeddings"], features["attention_mask"] = packed, mask.to(torch.int64)
        return features

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Nothing to save."""
