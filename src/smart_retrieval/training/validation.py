"""Held-out queries: set apart, and ranked by anchor, late and hybrid score."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..core.hybrid import anchor_scores
from ..core.late import late_scores
from ..core.scoring import Scoring
from ..embeddings import SmartEmbeddings
from ..errors import SmartWarning, TrainingError
from ..types import Array
from .data.batches import blocks
from .data.examples import TrainingSet, split
from .hidden_states import StateSource

if TYPE_CHECKING:
    from ..core.head import TokenHead
    from ..model.smart_model import SmartModel

DEPTH = 10
SYSTEMS = ("anchor", "late", "hybrid")
#: Weights of the mean MaxSim that are tried where one is to be chosen; a factor of 2 is as fine as nDCG can resolve.
LAMBDAS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
_BLOCK = 256


def hold_out(
    model: SmartModel, data: TrainingSet, validation: TrainingSet | float, *, distractors: int, seed: int
) -> tuple[TrainingSet, TrainingSet]:
    """The training side and the validation side (a set of its own, or a share of the data), with distractors."""
    training, held = split(data, validation, seed) if isinstance(validation, float) else (data, validation)
    if len(training) < 2:
        raise TrainingError(
            f"found {len(training)} examples to train on, expected at least 2: there is nothing to contrast"
        )
    instructions = sum(item.instruction is not None for item in training.queries)
    if instructions and model.backbone.family == "sentence-transformers":
        warnings.warn(
            f"{instructions} queries bring an instruction, which model {model.name!r} does not read; put it into their "
            "text",
            SmartWarning,
            stacklevel=3,  # the line that called the training
        )
    return training, held.with_distractors(training, distractors)


@dataclass(frozen=True)
class Validation:
    """Held-out queries, and everything they are ranked against."""

    data: TrainingSet
    queries: StateSource
    documents: StateSource
    lambda_anchor: float = 1.0
    lambda_late: float = 1.0
    choose_lambda: bool = False  # the best of lambda_late and LAMBDAS, of equals the one next to lambda_late

    def measure(self, head: TokenHead) -> dict[str, float]:
        """nDCG@10 of each of :data:`SYSTEMS` with a head's token vectors, and the hybrid's ``lambda_late``."""
        blocks_of_queries = blocks(len(self.data.queries), _BLOCK)
        queries = SmartEmbeddings.concatenate([_read(head, self.queries, block) for block in blocks_of_queries])
        anchor = np.empty((len(queries), len(self.documents)), np.float32)
        late = np.empty_like(anchor)
        for block in blocks(len(self.documents), _BLOCK):
            documents = _read(head, self.documents, block)
            columns = slice(block.start, block.stop)
            anchor[:, columns] = anchor_scores(queries, documents)
            late[:, columns] = late_scores(queries, documents)
        tried = {self.lambda_late, *(LAMBDAS if self.choose_lambda else ())}
        weights = sorted(tried, key=lambda weight: abs(math.log(weight / self.lambda_late)))
        hybrids = [
            self._ndcg(Scoring("uniform", self.lambda_anchor, weight).combine(anchor, late)) for weight in weights
        ]
        best = int(np.argmax(hybrids))
        found = (self._ndcg(anchor), self._ndcg(late), hybrids[best])
        return {**dict(zip(SYSTEMS, found, strict=True)), "lambda_late": weights[best]}

    def _ndcg(self, scores: Array) -> float:
        values = []
        for example in self.data.examples:
            row = scores[example.query].copy()
            row[list(example.identical)] = -np.inf
            values.append(ndcg(row, set(example.positives), DEPTH))
        return float(np.mean(values))


@torch.no_grad()
def _read(head: TokenHead, source: StateSource, chosen: range) -> SmartEmbeddings:
    device = next((p.device for p in head.parameters()), torch.device("cpu"))
    batch = source.batch(chosen).to(device)
    offsets = np.concatenate([[0], np.cumsum(batch.lengths.cpu().numpy())])
    return SmartEmbeddings(
        batch.anchors.cpu().numpy(), head.vectors(batch.states, batch.lengths).cpu().numpy(), offsets
    )


def ndcg(scores: Array, relevant: set[int], depth: int) -> float:
    """The nDCG of one query with equal grades; equal scores in the order of the documents."""
    order = np.argsort(-scores, kind="stable")[:depth]
    gains = np.array([document in relevant for document in order.tolist()], float)
    discounts = 1 / np.log2(np.arange(2, depth + 2))
    best = discounts[: min(len(relevant), depth)].sum()
    return float((gains * discounts[: len(gains)]).sum() / best)


def figures(values: Mapping[str, float]) -> str:
    """What :meth:`Validation.measure` found, in words."""
    return ", ".join(f"{name} {values[name]:.4f}" for name in SYSTEMS) + f" (lambda {values['lambda_late']:g})"
