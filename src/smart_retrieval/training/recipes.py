"""Every setting of the two trainings, with the paper's values as defaults."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from typing import Any

from ..errors import TrainingError, one_of

OBJECTIVES = ("anchor", "late", "hybrid")
STARTS = ("frozen", "random")


def objective_weights(objective: str, lambda_anchor: float = 1.0, lambda_late: float = 1.0) -> tuple[float, float]:
    """The weights of anchor and late score that make an objective."""
    if objective not in OBJECTIVES:
        raise TrainingError(f"objective: {one_of(objective, OBJECTIVES)}")
    return {"anchor": (1.0, 0.0), "late": (0.0, 1.0), "hybrid": (lambda_anchor, lambda_late)}[objective]


class _Recipe:
    """What both trainings have."""

    objective: str
    lambda_anchor: float
    lambda_late: float

    @property
    def lambdas(self) -> tuple[float, float]:
        """Weights of anchor and late score in the loss."""
        return objective_weights(self.objective, self.lambda_anchor, self.lambda_late)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return dict(vars(self))

    def _check_least(self, **least: int) -> None:
        """None passes."""
        for name, value in least.items():
            found = getattr(self, name)
            if found is not None and found < value:
                raise TrainingError(f"{name}: found {found}, expected at least {value}")

    def _check_positive(self, *names: str) -> None:
        for name in names:
            if not 0 < getattr(self, name) < math.inf:
                raise TrainingError(f"{name}: found {getattr(self, name)}, expected a number above 0")


@dataclass(frozen=True)
class AdapterRecipe(_Recipe):
    """How an adapter is trained (arXiv 2605.24938, where not said otherwise).

    Args:
        objective: ``"late"`` (MaxSim alone) or ``"hybrid"`` (one loss over the summed score).
        width: Dimensions of a token vector; the backbone's own when None.
        fusion: How several layers become one: ``"learned"`` (a softmax over them) or ``"concat"``.
        kind: ``"linear"``, which the authors also call residual; ``"mlp"``; or ``"self-attention"`` between an input's
            tokens.
        inner: Dimensions of the MLP's hidden layer.
        heads: Heads of the self-attention.
        blocks: How often it attends.
        start: ``"frozen"``: as the frozen readout, on its principal axes where the width is smaller (ours); an MLP
            has no such start. ``"random"``: as torch initialises a Linear.
        temperature: What scores are divided by.
        epochs: Passes over the examples.
        batch_size: Queries in a step.
        learning_rate: AdamW's, at its highest.
        weight_decay: AdamW's; the layer norm and the layer vector have none.
        warmup: Share of the steps in which the rate rises; it falls along a cosine afterwards.
        clip: Largest norm of the gradient (ours).
        negatives: Most hard negatives of a query in a step.
        lambda_anchor: Weight of the anchor score in ``"hybrid"``.
        lambda_late: Weight of the late score in ``"hybrid"``.
        choose_lambda: Choose the weight of the late score in the result on the validation queries, for the frozen
            readout (before) and at each validation alike (ours); the loss keeps ``lambda_late``.
        distill: Share of the loss that follows a teacher's scores, where the data have them.
        teacher_temperature: What the teacher's scores are divided by.
        validate: Validations in each epoch.
        distractors: Training documents that validation queries are ranked against, beside their own.
        seed: Of the start, the order and the draws.

    Raises:
        TrainingError: A value is out of range.
    """

    objective: str = "late"
    width: int | None = None
    fusion: str = "learned"
    kind: str = "linear"
    inner: int = 4096
    heads: int = 8
    blocks: int = 1
    start: str = "frozen"
    temperature: float = 0.03
    epochs: int = 2
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup: float = 0.03
    clip: float = 1.0
    negatives: int = 4
    lambda_anchor: float = 1.0
    lambda_late: float = 1.0
    choose_lambda: bool = False
    distill: float = 0.0
    teacher_temperature: float = 1.0
    validate: int = 2
    distractors: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES or self.objective == "anchor":
            raise TrainingError(
                f"objective: {one_of(self.objective, ('late', 'hybrid'))}: an adapter leaves the anchor as it is"
            )
        from ..core.adapter import FUSIONS, KIND_ALIASES, KINDS  # torch, which the defaults do not need

        object.__setattr__(self, "kind", KIND_ALIASES.get(self.kind, self.kind))
        for name, allowed in (("fusion", FUSIONS), ("kind", KINDS)):
            if getattr(self, name) not in allowed:
                raise TrainingError(f"{name}: {one_of(getattr(self, name), allowed)}")
        if self.start not in STARTS:
            raise TrainingError(f"start: {one_of(self.start, STARTS)}")
        self._check_least(
            epochs=1, batch_size=2, negatives=0, validate=1, distractors=0, seed=0, width=1, inner=1, heads=1, blocks=1
        )
        for name, kind in (("inner", "mlp"), ("heads", "self-attention"), ("blocks", "self-attention")):
            if getattr(self, name) != getattr(type(self), name) and self.kind != kind:
                raise TrainingError(
                    f"{name}: found {getattr(self, name)} for an adapter of kind {self.kind!r}, which has none; "
                    f"expected kind {kind!r}, or no {name}"
                )
        self._check_positive("temperature", "learning_rate", "clip", "teacher_temperature", "lambda_late")
        for name, most in (("warmup", 1.0), ("distill", 1.0), ("weight_decay", math.inf), ("lambda_anchor", math.inf)):
            if not 0 <= getattr(self, name) <= most:
                raise TrainingError(f"{name}: found {getattr(self, name)}, expected a number from 0 to {most:g}")

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of a step, counted from 0."""
        rising = math.ceil(self.warmup * steps)
        if step < rising:
            return self.learning_rate * (step + 1) / rising
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over every setting."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class FinetuneRecipe(_Recipe):
    """How a backbone is fine-tuned (arXiv 2605.24938, where not said otherwise).

    Args:
        objective: ``"anchor"``, ``"late"`` or ``"hybrid"``.
        lora_rank: Rank of the LoRA matrices; 0 trains every weight.
        lora_alpha: Their scale; twice the rank when None.
        width: Put an adapter of this width over the states and train it along; None keeps what the model has.
        temperature: What scores are divided by.
        epochs: Passes over the examples.
        batch_size: Queries in a step on each device.
        mini_batch: Inputs in one forward pass, with cached gradients; None runs the whole batch at once.
        learning_rate: AdamW's, at its highest.
        weight_decay: AdamW's.
        warmup: Share of the steps in which the rate rises.
        negatives: Hard negatives of each query; where data have fewer, documents drawn at random fill up.
        lambda_anchor: Weight of the anchor score in ``"hybrid"``.
        lambda_late: Weight of the late score in ``"hybrid"``.
        distill: Follow a teacher's scores of the candidates instead of contrasting them.
        teacher_temperature: What the teacher's scores are divided by.
        bf16: Mixed precision.
        gradient_checkpointing: Compute activations twice instead of keeping them.
        validate: Validations in each epoch.
        distractors: Training documents that validation queries are ranked against, beside their own.
        max_steps: Stop after so many; -1 for the end of the epochs.
        seed: Of order and draws.

    Raises:
        TrainingError: A value is out of range.
    """

    objective: str = "hybrid"
    lora_rank: int = 128
    lora_alpha: int | None = None
    width: int | None = None
    temperature: float = 0.05
    epochs: int = 1
    batch_size: int = 64
    mini_batch: int | None = None
    learning_rate: float = 1e-4
    weight_decay: float = 0.01
    warmup: float = 0.03
    negatives: int = 0
    lambda_anchor: float = 1.0
    lambda_late: float = 1.0
    distill: bool = False
    teacher_temperature: float = 1.0
    bf16: bool = False
    gradient_checkpointing: bool = False
    validate: int = 2
    distractors: int = 200
    max_steps: int = -1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise TrainingError(f"objective: {one_of(self.objective, OBJECTIVES)}")
        self._check_least(
            lora_rank=0, epochs=1, batch_size=2, negatives=0, validate=1, width=1, mini_batch=1, lora_alpha=1
        )
        self._check_positive("temperature", "learning_rate", "teacher_temperature")
