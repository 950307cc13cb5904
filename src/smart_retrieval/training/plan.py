"""A training's data, size and time, before it is started."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from .data.batches import steps_in_epoch
from .data.examples import TrainingSet

if TYPE_CHECKING:
    from ..inputs import Item
    from ..model.smart_model import SmartModel

_SAMPLE = 32
_SHOWN = 2


@dataclass(frozen=True)
class Plan:
    """Counts, renderings and estimates, JSON-able by :meth:`to_dict`.

    Args:
        training: Name and counts of the training side.
        validation: The same of what is held out.
        rendered: The first examples as the model sees them.
        tokens: Mean and longest of a sample: of queries and documents, all tokens and kept ones.
        steps: Steps in all.
        state_bytes: Estimated size of all states.
        seconds: Estimated seconds of computing all states, measured on a sample.
    """

    training: dict[str, Any]
    validation: dict[str, Any]
    rendered: list[dict[str, str]]
    tokens: dict[str, dict[str, float]]
    steps: int
    state_bytes: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return dict(vars(self))


def plan_training(model: SmartModel, training: TrainingSet, held: TrainingSet, *, batch_size: int, epochs: int) -> Plan:
    """Describe a training without starting it; some inputs are rendered and passed through the model.

    Args:
        model: The model.
        training: The training side.
        held: The validation side.
        batch_size: Queries in a step.
        epochs: Passes over the examples.

    Returns:
        The plan.

    Raises:
        MediaError: A picture of the sample cannot be read.

    Example:
        >>> plan_training(model, training, held, batch_size=64, epochs=2).steps  # doctest: +SKIP
        120
    """
    tokens: dict[str, dict[str, float]] = {}
    seconds = kept = 0.0
    for task, items, more in (
        ("query", training.queries, held.queries),
        ("document", training.documents, held.documents),
    ):
        sample = [items[i] for i in np.linspace(0, len(items) - 1, min(_SAMPLE, len(items))).astype(int)]
        lengths = [len(_tokens(model, item, task)) for item in sample]
        clock = time.perf_counter()
        embeddings = getattr(model, f"encode_{task}")(sample, show_progress=False)
        each = (time.perf_counter() - clock) / len(sample)
        kept_mean = float(embeddings.lengths.mean())
        seconds += each * (len(items) + len(more))
        kept += kept_mean * (len(items) + len(more))
        tokens[task] = {"mean": float(np.mean(lengths)), "longest": float(max(lengths)), "kept_mean": kept_mean}
    return Plan(
        training.describe(),
        held.describe(),
        [_shown(model, training, index) for index in range(min(_SHOWN, len(training)))],
        tokens,
        epochs * steps_in_epoch(len(training), batch_size),
        int(kept * len(model.readout.layers) * (2 * model.state_dim + 4)),
        seconds,
    )


def _tokens(model: SmartModel, item: Item, task: str) -> list[tuple[str, Any]]:
    return model.backbone.rendered(item, prompt=model.backbone.prompt_for(task, None, None), task=task)


def _shown(model: SmartModel, data: TrainingSet, index: int) -> dict[str, str]:
    example = data.examples[index]
    shown = {"query": _line(model, data.queries[example.query], "query")}
    for name, documents in (("positive", example.positives), ("negative", example.negatives)):
        if documents:
            shown[name] = _line(model, data.documents[documents[0]], "document")
    return shown


def _line(model: SmartModel, item: Item, task: str) -> str:
    """Tokens in a row, the placeholders of one picture counted."""
    words: list[str] = []
    for role, run in groupby(_tokens(model, item, task), key=lambda token: token[1]):
        own = [token for token, _ in run]
        words += [f"<{role.name.lower()} x {len(own)}>"] if role.name in ("IMAGE", "VIDEO", "AUDIO") else own
    return " ".join(words)
