"""Sentence Transformers' trainer over the packed encoder; the one file here that depends on its less public parts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from sentence_transformers import MultiVectorEncoderTrainer, MultiVectorEncoderTrainingArguments
from sentence_transformers.base.evaluation import BaseEvaluator
from sentence_transformers.multi_vector_encoder.losses import MultiVectorDistillKLDivLoss
from transformers import PrinterCallback

from ...backbones.backbone import GRIDS_KEY, Backbone
from ...errors import TrainingError
from ...model.saving import read_tensors, write_tensors
from ...progress import wants_progress
from ..data.examples import TrainingSet
from ..recipes import FinetuneRecipe
from ..validation import SYSTEMS, figures
from .losses import CachedHybridLoss, HybridLoss, HybridScores, HybridTeacherScores

if TYPE_CHECKING:
    from ...model.smart_model import SmartModel

_WEIGHTS = "trained.safetensors"


class _Measure(BaseEvaluator):
    """Validation nDCG of anchor, late and hybrid, and the curve they make."""

    def __init__(self, measure: Callable[[], dict[str, float]], say: Callable[[str], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.primary_metric = "hybrid"
        self.measure, self.say = measure, say
        self.curve: list[dict[str, float]] = []
        self.losses: list[float] = []

    def __call__(
        self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1
    ) -> dict[str, float]:
        with torch.no_grad():
            found = self.measure()
        mean = sum(self.losses) / len(self.losses) if self.losses else float("nan")
        self.losses.clear()
        self.curve.append({"step": steps, "loss": mean, **found})
        self.say(f"step {steps}: loss {mean:.4f}, {figures(found)}")
        return found


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
            chosen = [self.backbone.load(items[row[column]]) for row in rows]
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


class HybridTrainer(MultiVectorEncoderTrainer):
    """Keeps only what is trained in its checkpoints, as safetensors, and stops at a loss that is no number."""

    measured: _Measure

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        """The loss, checked."""
        loss = super().compute_loss(*args, **kwargs)
        value = float((loss[0] if isinstance(loss, tuple) else loss).detach())
        if not math.isfinite(value):
            raise TrainingError(
                f"found a loss of {value} at step {self.state.global_step + 1}, expected a number: the checkpoints "
                f"until then are kept in {self.args.output_dir!r}; lower the learning rate, or train in float32"
            )
        self.measured.losses.append(value)
        return loss

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        folder = Path(output_dir or str(self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        write_tensors(folder / _WEIGHTS, _trained(self.model))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        found = read_tensors(Path(resume_from_checkpoint) / _WEIGHTS)
        wanted = _trained(self.model)
        if set(found) != set(wanted):
            raise TrainingError(
                f"checkpoint {resume_from_checkpoint!r}: found {len(found)} weights, expected the {len(wanted)} that "
                "are trained now: it is of a run with another recipe"
            )
        with torch.no_grad():
            for name, parameter in wanted.items():
                parameter.copy_(found[name])

    def _load_best_model(self) -> None:
        if self.state.best_model_checkpoint:
            self._load_from_checkpoint(self.state.best_model_checkpoint)

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """Adds none: the card is written at the end, from what was measured."""


def train(
    model: SmartModel,
    data: TrainingSet,
    rows: Mapping[str, list[Any]],
    recipe: FinetuneRecipe,
    folder: Path,
    *,
    measure: Callable[[], dict[str, float]],
    show_progress: bool | None,
    say: Callable[[str], None],
) -> tuple[list[dict[str, float]], int]:
    """Train what requires gradients, up to the best weights; returns the curve, and the number of steps."""
    from datasets import Dataset

    steps = max(1, -(-len(rows["query"]) // recipe.batch_size))
    every = max(1, steps // recipe.validate)
    if recipe.max_steps > 0:
        every = min(every, recipe.max_steps)
    args = MultiVectorEncoderTrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=recipe.batch_size,
        num_train_epochs=recipe.epochs,
        max_steps=recipe.max_steps,
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        lr_scheduler_type="cosine",
        warmup_steps=recipe.warmup,
        seed=recipe.seed,
        bf16=recipe.bf16,
        gradient_checkpointing=recipe.gradient_checkpointing,
        eval_strategy="steps",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="eval_hybrid",
        greater_is_better=True,
        logging_strategy="steps",
        logging_steps=every,
        report_to=[],
        disable_tqdm=not wants_progress(show_progress),
        use_cpu=model.device == "cpu",
        remove_unused_columns=False,
        dataloader_pin_memory=False,
    )
    measured = _Measure(measure, say)
    trainer = HybridTrainer(
        model=model.encoder,
        args=args,
        train_dataset=Dataset.from_dict(dict(rows)),
        loss=_loss(model, recipe, data.relevant()),
        evaluator=measured,
        data_collator=RowCollator(model.backbone, data),  # type: ignore[arg-type]
    )
    trainer.measured = measured
    # It would print dictionaries on stdout; `say` is called instead.
    trainer.remove_callback(PrinterCallback)
    last = _last_checkpoint(folder)
    if last is not None:
        say(f"going on from {last.name}")
    trainer.train(resume_from_checkpoint=str(last) if last is not None else None)
    # A resumed run has its first part from the trainer's own record.
    losses = {entry["step"]: entry["loss"] for entry in trainer.state.log_history if "loss" in entry}
    logged = [
        {
            "step": entry["step"],
            "loss": losses.get(entry["step"], 0.0),
            **{n: entry[f"eval_{n}"] for n in (*SYSTEMS, "lambda_late")},
        }
        for entry in trainer.state.log_history
        if "eval_hybrid" in entry and entry["step"] not in {point["step"] for point in measured.curve}
    ]
    return [*logged, *measured.curve], int(trainer.state.global_step)


def _loss(model: SmartModel, recipe: FinetuneRecipe, relevant: Mapping[int, frozenset[int]]) -> torch.nn.Module:
    if recipe.distill:
        return MultiVectorDistillKLDivLoss(
            model.encoder,
            similarity_fct=HybridTeacherScores(model.anchor_dim, *recipe.lambdas),
            student_temperature=recipe.temperature,
            teacher_temperature=recipe.teacher_temperature,
        )
    kind: Any = HybridLoss
    if recipe.mini_batch is not None:
        kind = partial(CachedHybridLoss, mini_batch_size=recipe.mini_batch)
    loss: HybridLoss | CachedHybridLoss = kind(
        model.encoder,
        scale=1 / recipe.temperature,
        similarity_fct=HybridScores(model.anchor_dim, *recipe.lambdas),
        gather_across_devices=torch.distributed.is_available() and torch.distributed.is_initialized(),
    )
    loss.relevant = relevant
    return loss


def _trained(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def _last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint; the trainer writes its own state last."""
    found = [path for path in folder.glob("checkpoint-*") if (path / "trainer_state.json").is_file()]
    return max(found, key=lambda path: int(path.name.rsplit("-", 1)[-1]), default=None)
