"""The batch of a step, a function of seed, epoch and step; and examples as rows, of which a trainer makes batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import TrainingError
from .examples import TrainingSet


@dataclass(frozen=True)
class Batch:
    """The examples of a step: numbers of queries, and of the documents of all of them, each once."""

    queries: list[int]
    documents: list[int]
    targets: NDArray[np.int64]  # [Nq] the column of each query's document
    ignored: NDArray[np.bool_]  # [Nq, Nd] other documents that answer the query, or are it
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
        for document in (*example.positives, *example.identical):
            if document in columns and columns[document] != targets[row]:
                ignored[row, columns[document]] = True
        if teacher is not None and example.scores is not None:
            for document, score in zip((*example.positives, *example.negatives), example.scores, strict=True):
                if document in columns:
                    teacher[row, columns[document]] = score
    queries = [example.query for example in examples]
    return Batch(queries, list(columns), np.asarray(targets, np.int64), ignored, teacher)


def training_rows(data: TrainingSet, negatives: int, seed: int, *, scored: bool = False) -> dict[str, list[Any]]:
    """Columns of numbers by name, a row for each positive of each query: query, positive, negatives, and a label.

    The label is a teacher's scores of the candidates with ``scored``, else the numbers of query and candidates. Where
    an example has too few negatives, random documents fill up; with a teacher, who did not score those, it is left out.
    """
    if scored and not (data.has_scores and negatives):
        raise TrainingError("distill: expected a teacher's scores in every row, and at least one negative")
    if negatives >= len(data.documents):
        raise TrainingError(f"negatives: found {negatives}, expected fewer than the {len(data.documents)} documents")
    rng = np.random.default_rng(seed)
    names = ["query", "positive", *(f"negative_{n + 1}" for n in range(negatives)), "label"]
    rows: list[tuple[Any, ...]] = []
    for example in data.examples:
        if scored and len(example.negatives) < negatives:
            continue
        for place, positive in enumerate(example.positives):
            order = rng.permutation(len(example.negatives)).tolist()[:negatives]
            drawn = [example.negatives[i] for i in order]
            taken = {*example.positives, *example.identical, *drawn}
            while len(drawn) < negatives:
                other = int(rng.integers(len(data.documents)))
                if other not in taken or len(taken) >= len(data.documents):
                    drawn.append(other)
                    taken.add(other)
            label: list[Any] = [example.query, positive, *drawn]
            if scored and example.scores is not None:
                own = len(example.positives)
                label = [example.scores[place], *(example.scores[own + i] for i in order)]
            rows.append((example.query, positive, *drawn, label))
    if not rows:
        raise TrainingError(f"distill: found no query with {negatives} scored negatives, expected some; ask for fewer")
    return {name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


def blocks(count: int, size: int) -> Iterator[range]:
    """Numbers from 0 in blocks."""
    for start in range(0, count, size):
        yield range(start, min(count, start + size))
