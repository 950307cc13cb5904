"""The batch of a step: a function of the seed, the epoch and the step, so that a run can resume anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .examples import TrainingSet


@dataclass(frozen=True)
class Batch:
    """The examples of a step: numbers of queries, and of the documents of all of them, each once."""

    queries: list[int]
    documents: list[int]
    targets: NDArray[np.int64]  # [Nq] the column of each query's document
    ignored: NDArray[np.bool_]  # [Nq, Nd] other documents that answer the query, too
    teacher: NDArray[np.float32] | None = None  # [Nq, Nd], -inf where there is no score


def steps_in_epoch(examples: int, batch_size: int) -> int:
    """Steps of one pass; a last batch of a single query, which has nothing to contrast with, is left out."""
    whole, rest = divmod(examples, batch_size)
    return whole + (rest > 1)


def batch_of_step(data: TrainingSet, step: int, *, batch_size: int, negatives: int, seed: int) -> Batch:
    """The batch of a step, counted over all epochs; ``negatives`` is the most hard negatives of each query."""
    epoch, within = divmod(step, steps_in_epoch(len(data), batch_size))
    order = np.random.default_rng([seed, epoch]).permutation(len(data))
    chosen = order[within * batch_size : (within + 1) * batch_size]
    rng = np.random.default_rng([seed, epoch, within])
    columns: dict[int, int] = {}
    targets: list[int] = []
    examples = [data.examples[index] for index in chosen.tolist()]
    for example in examples:
        positive = example.positives[int(rng.integers(len(example.positives)))]
        drawn = rng.permutation(len(example.negatives))[:negatives].tolist()
        for document in (positive, *(example.negatives[place] for place in drawn)):
            columns.setdefault(document, len(columns))
        targets.append(columns[positive])
    ignored = np.zeros((len(chosen), len(columns)), bool)
    teacher = np.full(ignored.shape, -np.inf, np.float32) if data.has_scores else None
    for row, example in enumerate(examples):
        for document in example.positives:
            if document in columns and columns[document] != targets[row]:
                ignored[row, columns[document]] = True
        if teacher is not None and example.scores is not None:
            for document, score in zip((*example.positives, *example.negatives), example.scores, strict=True):
                if document in columns:
                    teacher[row, columns[document]] = score
    queries = [example.query for example in examples]
    return Batch(queries, list(columns), np.asarray(targets, np.int64), ignored, teacher)


def blocks(count: int, size: int) -> Iterator[range]:
    """Numbers from 0 in blocks."""
    for start in range(0, count, size):
        yield range(start, min(count, start + size))
