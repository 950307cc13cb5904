"""Hard negatives, found by the hybrid itself."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ...errors import TrainingError
from .batches import blocks
from .examples import Example, TrainingSet

if TYPE_CHECKING:
    from ...model.smart_model import SmartModel

_QUERIES = 64


def mine_negatives(
    model: SmartModel,
    data: TrainingSet,
    count: int = 4,
    *,
    below: float = 0.95,
    teach: bool = False,
    show_progress: bool | None = None,
) -> TrainingSet:
    """Add to each query the documents that the hybrid ranks highest and that are not known to answer it.

    Args:
        model: Ranks the documents, scored as its preset says; IDF weights are those of the documents given.
        data: The examples.
        count: Negatives to add to each.
        below: A document that scores more than this share of the best positive may be an unlabelled answer, and is
            passed over.
        teach: Also give every example the hybrid's scores as a teacher's, for distillation.
        show_progress: Draw bars on stderr; None draws them on a terminal.

    Returns:
        The same queries and documents with more negatives.

    Raises:
        TrainingError: ``count`` is below 1, or ``below`` is not above 0.

    Example:
        >>> mine_negatives(SmartModel("minilm"), load_pairs("pairs.jsonl"), 4)  # doctest: +SKIP
    """
    if count < 1 or not below > 0:
        raise TrainingError(f"found {count} negatives below {below}, expected at least 1 and a share above 0")
    documents = model.encode_document(data.documents, show_progress=show_progress)
    queries = model.encode_query(data.queries, show_progress=show_progress)
    scoring = model.preset.scoring.fitted(model.calibrator.statistics(documents))
    mined: list[Example] = []
    for block in blocks(len(data.examples), _QUERIES):
        chosen = [data.examples[i] for i in block]
        scores = model.similarity(queries[[example.query for example in chosen]], documents, scoring=scoring)
        for example, row in zip(chosen, scores, strict=True):
            limit = below * max(float(row[d]) for d in example.positives)
            known = {*example.positives, *example.negatives, *example.identical}
            order = np.argsort(-row, kind="stable")
            hard = [d for d in order[: len(known) + 10 * count].tolist() if d not in known and row[d] <= limit][:count]
            negatives = (*example.negatives, *hard)
            taught = tuple(float(row[d]) for d in (*example.positives, *negatives)) if teach else None
            mined.append(replace(example, negatives=negatives, scores=taught))
    added = sum(len(new.negatives) - len(old.negatives) for new, old in zip(mined, data.examples, strict=True))
    note = (
        f"{added:,} hard negatives mined with the hybrid, up to {count} a query, below {below:g} of the best positive"
    )
    return replace(data, examples=mined, warnings=[*data.warnings, note])
