"""Training examples as rows of numbers, which a trainer moves, and their features when a batch is made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ...backbones.backbone import GRIDS_KEY, Backbone
from ...errors import TrainingError
from ...inputs import item_of
from ..data.examples import TrainingSet


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
            taken = {*example.positives, *drawn}
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


class RowCollator:
    """Turns rows of numbers into the backbone's features, rendered as at inference."""

    valid_label_columns = ("label",)

    def __init__(self, backbone: Backbone, data: TrainingSet) -> None:
        self.backbone, self.data = backbone, data

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Features of all columns, under names that begin with the column's."""
        batch: dict[str, Any] = {"label": torch.tensor([row["label"] for row in rows])}
        for column in (name for name in rows[0] if name != "label"):
            task = "query" if column == "query" else "document"
            items = self.data.queries if task == "query" else self.data.documents
            chosen = [self.backbone.load(item_of(items[row[column]])) for row in rows]
            features = self.backbone.preprocess(chosen, prompt=self.backbone.prompt_for(task, None, None), task=task)
            if (grids := features.pop(GRIDS_KEY, None)) is not None and "input_ids" in features:
                # How many pictures each item has, by which cached gradients cut a batch.
                for kind in ("image", "video"):
                    counts = [sum(grid.kind == kind for grid in own) for own in grids]
                    features[f"num_{kind}s_per_sample"] = torch.tensor(counts)
            for key, value in features.items():
                if isinstance(value, torch.Tensor) or key == "modality":
                    batch[f"{column}_{key}"] = value
            batch[f"{column}_task"] = task
        return batch
