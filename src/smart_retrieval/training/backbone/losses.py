"""The objectives as Sentence Transformers' losses over packed matrices, with their caching and gathering."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from sentence_transformers.multi_vector_encoder.losses import (
    CachedMultiVectorMultipleNegativesRankingLoss,
    MultiVectorMultipleNegativesRankingLoss,
)
from torch import Tensor

from ...core.packing import anchor_rows
from ..objectives import hybrid_matrix


class HybridScores:
    """The hybrid score ``lambda_anchor * cosine + lambda_late * late`` of :mod:`~smart_retrieval.core.packing`."""

    def __init__(self, anchor_dim: int, lambda_anchor: float = 1.0, lambda_late: float = 1.0) -> None:
        self.anchor_dim, self.lambdas = anchor_dim, (lambda_anchor, lambda_late)
        self.ignore(None)

    def ignore(self, pairs: Tensor | None) -> None:
        """Leave pairs, ``[Nq, Nd]`` bool, out of the next loss, whose queries come in blocks, in order."""
        self.ignored, self._scored = pairs, 0

    def __call__(self, queries: Tensor, documents: Tensor, queries_mask: Tensor, documents_mask: Tensor) -> Tensor:
        """Score every query ``[Nq, R + Tq, Dt]`` against every document ``[B, N, R + Td, Dt]`` of the batch.

        The scores are ``[Nq, B * N]``, each query's own documents first, then the next one's.
        """
        documents, mask = documents.flatten(0, 1), documents_mask.flatten(0, 1).bool()
        rows = anchor_rows(self.anchor_dim, documents.shape[-1])
        kept = queries_mask[:, rows:].bool()
        anchors, document_anchors = (part[:, :rows].flatten(1) for part in (queries, documents))
        scores = hybrid_matrix(
            self.lambdas, anchors, document_anchors,
            queries[:, rows:][kept], kept.sum(dim=1), documents[:, rows:], mask[:, rows:],
        )  # fmt: skip
        if not self.lambdas[1]:
            # Every column must have a gradient where they are cached, of zero if need be.
            scores = scores + 0.0 * (queries.float().sum() + documents.float().sum())
        if self.ignored is not None:
            own = self.ignored[self._scored : self._scored + len(scores)]
            self._scored += len(scores)
            scores = scores.masked_fill(own, -torch.inf)
        return scores


class HybridTeacherScores(HybridScores):
    """The same for distillation: each query against its own candidates only."""

    def __call__(self, queries: Tensor, documents: Tensor, queries_mask: Tensor, documents_mask: Tensor) -> Tensor:
        """Score ``[Nq, R + Tq, Dt]`` queries against ``[Nq, N, R + Td, Dt]`` documents: ``[Nq, N]``."""
        score, packed = super().__call__, (queries, documents, queries_mask, documents_mask)
        return torch.cat([score(*(part[i : i + 1] for part in packed)) for i in range(len(queries))])


class _RelevanceMasked:
    """Removes from the negatives what else answers a query; ``labels`` ``[B, 1 + N]`` number it and its documents."""

    relevant: Mapping[int, frozenset[int]]  # the documents of each query, by number; set before training
    similarity_fct: Any
    gather_across_devices: bool

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor | None = None) -> Tensor:
        self.similarity_fct.ignore(None if labels is None else self._ignored(labels))
        try:
            loss: Tensor = super().forward(sentence_features, labels)  # type: ignore[misc]
        finally:
            self.similarity_fct.ignore(None)
        return loss

    def _ignored(self, labels: Tensor) -> Tensor:
        everywhere, first = labels, 0
        if self.gather_across_devices and torch.distributed.is_available() and torch.distributed.is_initialized():
            parts = [torch.empty_like(labels) for _ in range(torch.distributed.get_world_size())]
            torch.distributed.all_gather(parts, labels.contiguous())
            everywhere = torch.cat(parts)
            first = torch.distributed.get_rank() * len(labels)
        documents = everywhere[:, 1:].flatten().tolist()
        rows = []
        for row, query in enumerate(labels[:, 0].tolist(), start=first):
            target = row * (everywhere.shape[1] - 1)
            known = self.relevant.get(query, frozenset()) | {documents[target]}
            rows.append([document in known and column != target for column, document in enumerate(documents)])
        return torch.tensor(rows, device=labels.device)


class HybridLoss(_RelevanceMasked, MultiVectorMultipleNegativesRankingLoss):
    """InfoNCE over :class:`HybridScores`."""


class CachedHybridLoss(_RelevanceMasked, CachedMultiVectorMultipleNegativesRankingLoss):
    """The same with cached gradients (GradCache): batches of any size in the memory of a small one."""
