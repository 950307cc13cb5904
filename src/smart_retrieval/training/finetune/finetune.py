"""Fine-tune the backbone itself, with LoRA or whole, on Sentence Transformers' trainer."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import TrainingError, one_of
from ...extras import require
from ..adapter.train import RECORD, TrainingResult, _figures, _with_distractors, describe, warn_of_instructions
from ..card import write_card
from ..data.examples import TrainingSet, split
from ..hidden_states import LiveStates
from ..objectives import OBJECTIVES, objective_weights
from ..validation import SYSTEMS, Validation
from .rows import RowCollator, training_rows

if TYPE_CHECKING:
    from ...model.smart_model import SmartModel

CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class FinetuneRecipe:
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
        gradient_checkpointing: Compute activations twice, hold them once.
        validate: Validations in each epoch.
        distractors: Training documents that validation queries are ranked against, beside their own.
        max_steps: Stop there; -1 for the end of the epochs.
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
        for name, least in (("lora_rank", 0), ("epochs", 1), ("batch_size", 2), ("negatives", 0), ("validate", 1)):
            if getattr(self, name) < least:
                raise TrainingError(f"{name}: found {getattr(self, name)}, expected at least {least}")
        for name in ("temperature", "learning_rate", "teacher_temperature"):
            if not 0 < getattr(self, name) < float("inf"):
                raise TrainingError(f"{name}: found {getattr(self, name)}, expected a number above 0")
        for name in ("width", "mini_batch", "lora_alpha"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise TrainingError(f"{name}: found {getattr(self, name)}, expected at least 1")

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


def finetune(
    model: SmartModel,
    data: TrainingSet,
    out: str | Path,
    recipe: FinetuneRecipe | None = None,
    *,
    validation: TrainingSet | float = 0.1,
    show_progress: bool | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> TrainingResult:
    """Fine-tune a model in place and write the best of its checkpoints, by validation hybrid, as a whole model.

    A run that was cut off goes on at its last checkpoint when it is called again with the same arguments.

    Args:
        model: It; its weights are changed.
        data: What it learns from.
        out: The folder to write; ``SmartModel(out)`` and ``SentenceTransformer(out)`` load it.
        recipe: Every setting; the paper's when None.
        validation: A set of its own, or the share of the examples to hold out.
        show_progress: Draw a bar on stderr; None draws it on a terminal.
        say: Called with a sentence on what is being done.

    Returns:
        Quality before and after, and the curve.

    Raises:
        MissingExtraError: accelerate, datasets or peft is not installed.
        TrainingError: Nothing to learn from, or a loss that is not a number; checkpoints until then are in ``out``.
    """
    for module in ("accelerate", "datasets", "peft"):
        require(module, "train")
    from .trainer import train

    recipe, folder = recipe or FinetuneRecipe(), Path(out)
    if (folder / RECORD).exists():
        raise TrainingError(f"{str(folder)!r}: found a finished training, expected a new folder")
    training, held = split(data, validation, recipe.seed) if isinstance(validation, float) else (data, validation)
    if len(training) < 2:
        raise TrainingError(f"found {len(training)} examples to train on, expected at least 2")
    warn_of_instructions(model, training)
    rows = training_rows(training, recipe.negatives, recipe.seed, scored=recipe.distill)
    if recipe.width is not None:
        model = _with_new_adapter(model, training, recipe.width)
    held = _with_distractors(held, training, recipe.distractors)
    check = Validation(
        held,
        LiveStates(model, held.queries, "query"),
        LiveStates(model, held.documents, "document"),
        recipe.lambda_anchor,
        recipe.lambda_late,
    )
    identity = model.backbone.identity()
    clock = time.perf_counter()
    head = model.head
    marker = folder / "before.json"
    if marker.exists():
        before = json.loads(marker.read_text(encoding="utf-8"))
    else:
        before = check.measure(head)
        folder.mkdir(parents=True, exist_ok=True)
        marker.write_text(json.dumps(before), encoding="utf-8")
    say(f"before: {_figures(before)}")
    merge = _add_lora(model, recipe) if recipe.lora_rank else _unfreeze(model)
    trainer = train(
        model,
        rows,
        RowCollator(model.backbone, training),
        training.relevant(),
        recipe,
        folder / CHECKPOINTS,
        measure=lambda: check.measure(head),
        weights=objective_weights(recipe.objective, recipe.lambda_anchor, recipe.lambda_late),
        show_progress=show_progress,
        say=say,
    )
    merge()
    model.backbone.model.eval()
    model.backbone.__dict__.pop("fingerprint", None)  # other weights, another fingerprint
    after = check.measure(head)
    if model.adapter is not None:
        lambdas: dict[str, Any] = {"lambda_anchor": recipe.lambda_anchor, "lambda_late": recipe.lambda_late}
        model = model.with_adapter(model.adapter, scoring=model.preset.scoring.override(weights="uniform", **lambdas))
    model.save_pretrained(folder)
    curve = trainer.curve
    best = max(curve, key=lambda point: point["hybrid"], default={"step": 0})
    result = TrainingResult(
        folder,
        before,
        after,
        int(best["step"]),
        trainer.steps,
        curve,
        time.perf_counter() - clock,
        "computed each step",
    )
    record = {
        "title": f"SMART {recipe.objective} fine-tuning",
        "result": result.to_dict(),
        "recipe": recipe.to_dict(),
        "readout": model.readout.to_dict(),
        "backbone": identity,
        "data": describe(training),
        "validation": describe(held),
    }
    (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    write_card(folder / "README.md", record)
    marker.unlink(missing_ok=True)
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    say(f"after: {', '.join(f'{name} {after[name]:.4f}' for name in SYSTEMS)}")
    return result


def _with_new_adapter(model: SmartModel, data: TrainingSet, width: int) -> SmartModel:
    import torch

    from ...core.adapter import Adapter, AdapterConfig

    torch.manual_seed(0)
    adapter = Adapter(AdapterConfig(model.state_dim, width, len(model.readout.layers))).to(model.device)
    source = LiveStates(model, data.documents, "document")
    adapter.start_frozen(source.batch(range(min(64, len(source)))).to(model.device).states)
    return model.with_adapter(adapter)


def lora_targets(model: SmartModel) -> list[str]:
    """Names of the linear layers that LoRA changes: the language model's, without poolers and the vision tower."""
    import torch

    names = [name for name, module in _network(model).named_modules() if isinstance(module, torch.nn.Linear)]
    language = [name for name in names if "language_model." in name]
    return [name for name in language or names if "pooler" not in name]


def _network(model: SmartModel) -> Any:
    return model.backbone.transformer.model


def _add_lora(model: SmartModel, recipe: FinetuneRecipe) -> Callable[[], None]:
    import torch
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=recipe.lora_rank,
        lora_alpha=recipe.lora_alpha or 2 * recipe.lora_rank,
        target_modules=lora_targets(model),
        lora_dropout=0.0,
        bias="none",
    )
    for parameter in model.backbone.model.parameters():
        parameter.requires_grad_(False)
    torch.manual_seed(recipe.seed)  # LoRA's first matrices are random
    wrapped = get_peft_model(_network(model), config)
    if recipe.gradient_checkpointing:
        # Otherwise no gradient would reach the blocks: their inputs, the frozen embeddings, have none.
        _network(model).enable_input_require_grads()

    def merge() -> None:
        wrapped.merge_and_unload()
        for parameter in model.backbone.model.parameters():
            parameter.requires_grad_(True)

    return merge


def _unfreeze(model: SmartModel) -> Callable[[], None]:
    for name, parameter in model.backbone.model.named_parameters():
        # A pooler that nothing reads has no gradient, which distributed training refuses.
        parameter.requires_grad_("pooler." not in name)
    return lambda: None
