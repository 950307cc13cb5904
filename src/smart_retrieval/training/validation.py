"""Rank held-out queries by anchor, late and hybrid score."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..core.hybrid import anchor_scores
from ..core.late import late_scores
from ..embeddings import SmartEmbeddings
from .data.batches import blocks
from .data.examples import TrainingSet
from .hidden_states import StateSource

if TYPE_CHECKING:
    from ..core.head import TokenHead

DEPTH = 10
SYSTEMS = ("anchor", "late", "hybrid")
#: Weights of the mean MaxSim that are tried where one is to be chosen; a factor of 2 is as fine as nDCG can tell.
LAMBDAS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
_BLOCK = 256


@dataclass(frozen=True)
class Validation:
    """Held-out queries, and everything they are ranked against.

    Args:
        data: Their examples; documents are numbered as in ``documents``.
        queries: States of the queries.
        documents: States of the documents, then of distractors.
        lambda_anchor: Weight of the anchors in the hybrid.
        lambda_late: Weight of the mean MaxSim in it.
        choose_lambda: Take the best of this weight and :data:`LAMBDAS` instead; of equals the one next to this weight.
    """

    data: TrainingSet
    queries: StateSource
    documents: StateSource
    lambda_anchor: float = 1.0
    lambda_late: float = 1.0
    choose_lambda: bool = False

    def measure(self, head: TokenHead) -> dict[str, float]:
        """nDCG@10 of each of :data:`SYSTEMS` with a head's token vectors, and the hybrid's ``lambda_late``.

        Args:
            head: It, adapter or not.
        """
        queries = self._read(head, self.queries, range(len(self.data.queries)))
        anchor = np.empty((len(queries), len(self.documents)), np.float32)
        late = np.empty_like(anchor)
        for block in blocks(len(self.documents), _BLOCK):
            documents = self._read(head, self.documents, block)
            columns = slice(block.start, block.stop)
            anchor[:, columns] = anchor_scores(queries, documents)
            late[:, columns] = late_scores(queries, documents)
        weights = sorted({self.lambda_late, *(LAMBDAS if self.choose_lambda else ())}, key=self._distance)
        hybrids = [self._ndcg(self.lambda_anchor * anchor + weight * late) for weight in weights]
        best = int(np.argmax(hybrids))
        found = (self._ndcg(anchor), self._ndcg(late), hybrids[best])
        return {**dict(zip(SYSTEMS, found, strict=True)), "lambda_late": weights[best]}

    def _distance(self, weight: float) -> float:
        return abs(math.log(weight / self.lambda_late))

    @torch.no_grad()
    def _read(self, head: TokenHead, source: StateSource, chosen: range) -> SmartEmbeddings:
        device = next((p.device for p in head.parameters()), torch.device("cpu"))
        parts = []
        for block in blocks(len(chosen), _BLOCK):
            batch = source.batch([chosen[i] for i in block]).to(device)
            vectors = head.vectors(batch.states).float().cpu().numpy()
            lengths = batch.lengths.cpu().numpy()
            parts.append(
                SmartEmbeddings(batch.anchors.cpu().numpy(), vectors, np.concatenate([[0], np.cumsum(lengths)]))
            )
        return SmartEmbeddings.concatenate(parts)

    def _ndcg(self, scores: NDArray[Any]) -> float:
        return float(np.mean([ndcg(scores[e.query], set(e.positives), DEPTH) for e in self.data.examples]))


def ndcg(scores: NDArray[Any], relevant: set[int], depth: int) -> float:
    """The nDCG of one query with equal grades; equal scores in the order of the documents.

    Example:
        >>> round(ndcg(np.array([0.2, 0.9, 0.5]), {2}, 10), 3)
        0.631
    """
    order = np.argsort(-scores, kind="stable")[:depth]
    gains = np.array([document in relevant for document in order.tolist()], float)
    discounts = 1 / np.log2(np.arange(2, depth + 2))
    best = discounts[: min(len(relevant), depth)].sum()
    return float((gains * discounts[: len(gains)]).sum() / best)
