"""Which examples meet in a step: a function of the seed, the epoch and the step, so that a run can go on anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .examples import TrainingSet


@dataclass(frozen=True)
class Batch:
    """The examples of a step; every document once.

    Args:
        queries: Numbers of the queries.
        documents: Numbers of the documents, positives and negatives of all queries together.
        targets: ``[Nq]`` the column of each query's document.
        ignored: ``[Nq, Nd]`` documents that answer the query, too.
        teacher: ``[Nq, Nd]`` float32, ``-inf`` where there is no score; None without a teacher.
    """

    queries: list[int]
    documents: list[int]
    targets: NDArray[np.int64]
    ignored: NDArray[np.bool_]
    teacher: NDArray[np.float32] | None = None


def steps_in_epoch(examples: int, batch_size: int) -> int:
    """Steps of one pass; a last batch of a single query, which has nobody to be told from, is left out."""
    whole, rest = divmod(examples, batch_size)
    return whole + (rest > 1)


def batch_of_step(data: TrainingSet, step: int, *, batch_size: int, negatives: int, seed: int) -> Batch:
    """The batch of a step, counted over all epochs.

    Args:
        data: The examples.
        step: Which.
        batch_size: Queries in a batch.
        negatives: Most hard negatives of each.
        seed: Decides order and draws.
    """
    epoch, within = divmod(step, steps_in_epoch(len(data), batch_size))
    order = np.random.default_rng([seed, epoch]).permutation(len(data))
    chosen = order[within * batch_size : (within + 1) * batch_size]
    rng = np.random.default_rng([seed, epoch, within])
    columns: dict[int, int] = {}
    targets: list[int] = []
    for index in chosen.tolist():
        example = data.examples[index]
        positive = example.positives[int(rng.integers(len(example.positives)))]
        drawn = rng.permutation(len(example.negatives))[:negatives].tolist()
        for document in (positive, *(example.negatives[place] for place in drawn)):
            columns.setdefault(document, len(columns))
        targets.append(columns[positive])
    ignored = np.zeros((len(chosen), len(columns)), bool)
    teacher = np.full(ignored.shape, -np.inf, np.float32) if data.has_scores else None
    for row, index in enumerate(chosen.tolist()):
        example = data.examples[index]
        for document in example.positives:
            if document in columns and columns[document] != targets[row]:
                ignored[row, columns[document]] = True
        if teacher is not None and example.scores is not None:
            for document, score in zip((*example.positives, *example.negatives), example.scores, strict=True):
                if document in columns:
                    teacher[row, columns[document]] = score
    return Batch(
        [data.examples[index].query for index in chosen.tolist()],
        list(columns),
        np.asarray(targets, np.int64),
        ignored,
        teacher,
    )


def blocks(count: int, size: int) -> Iterator[range]:
    """Numbers from 0 in blocks."""
    for start in range(0, count, size):
        yield range(start, min(count, start + size))
