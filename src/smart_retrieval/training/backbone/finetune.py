"""Fine-tune the backbone itself, with LoRA or whole, on Sentence Transformers' trainer."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.adapter import Adapter, AdapterConfig
from ...errors import TrainingError
from ...extras import require
from ..data.batches import training_rows
from ..data.examples import TrainingSet
from ..hidden_states import LiveStates
from ..recipes import FinetuneRecipe
from ..record import TrainingResult, refuse_finished, write_record
from ..validation import Validation, figures, hold_out

if TYPE_CHECKING:
    from peft import PeftModel

    from ...model.smart_model import SmartModel

CHECKPOINTS = "checkpoints"


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

    An interrupted run resumes at its last checkpoint when it is called again with the same arguments.

    Args:
        model: The model; its weights are changed.
        data: The examples, as :func:`~smart_retrieval.training.load_pairs` reads them.
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

    Example:
        >>> result = finetune(SmartModel("minilm"), load_pairs("pairs.jsonl"), "out")  # doctest: +SKIP
    """
    recipe = recipe or FinetuneRecipe()
    moving = {kind for item in chain(data.queries, data.documents) for kind in item.modalities & {"video", "audio"}}
    if recipe.mini_batch is not None and moving and model.max_seconds is not None:
        raise TrainingError(
            f"mini_batch: found {' and '.join(sorted(moving))} among the items, expected text and pictures: batches of "
            f"those cannot be cut for model {model.name!r}; take a smaller batch_size instead"
        )
    for module in ("accelerate", "datasets", "peft"):
        require(module, "train")
    from .trainer import train

    if model.backbone.family == "served":
        raise TrainingError(f"model {model.name!r}: its weights are on a server, expected a model here; or an adapter")
    folder = Path(out)
    refuse_finished(folder)
    training, held = hold_out(model, data, validation, distractors=recipe.distractors, seed=recipe.seed)
    rows = training_rows(training, recipe.negatives, recipe.seed, scored=recipe.distill)
    if recipe.width is not None:
        model = _with_new_adapter(model, training, recipe.width)
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
    # Measured once, also for a run that is resumed.
    marker = folder / "before.json"
    if marker.exists():
        before = json.loads(marker.read_text(encoding="utf-8"))
    else:
        before = check.measure(head)
        folder.mkdir(parents=True, exist_ok=True)
        marker.write_text(json.dumps(before), encoding="utf-8")
    say(f"before: {figures(before)}")
    lora = _add_lora(model, recipe) if recipe.lora_rank else None
    if lora is None:
        for name, parameter in model.backbone.model.named_parameters():
            # A pooler that nothing reads has no gradient, which distributed training refuses.
            parameter.requires_grad_("pooler." not in name)
    curve, steps = train(
        model,
        training,
        rows,
        recipe,
        folder / CHECKPOINTS,
        measure=lambda: check.measure(head),
        show_progress=show_progress,
        say=say,
    )
    if lora is not None:
        lora.merge_and_unload()
    model.backbone.model.requires_grad_(True).eval()
    model.backbone.__dict__.pop("fingerprint", None)  # other weights, another fingerprint
    after = check.measure(head)
    if model.adapter is not None:
        scoring = model.preset.scoring.override(
            weights="uniform", lambda_anchor=recipe.lambda_anchor, lambda_late=recipe.lambda_late
        )
        model = model.with_adapter(model.adapter, scoring=scoring)
    model.save_pretrained(folder)
    best = max(curve, key=lambda point: point["hybrid"], default={"step": 0})
    seconds = time.perf_counter() - clock
    result = TrainingResult(
        folder, before, after, int(best["step"]), steps, curve, seconds, states="computed each step"
    )
    write_record(result, recipe, model.readout, identity, training, held, title=f"SMART {recipe.objective} fine-tuning")
    marker.unlink(missing_ok=True)
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    say(f"after: {figures(after)}")
    return result


def _with_new_adapter(model: SmartModel, data: TrainingSet, width: int) -> SmartModel:
    import torch

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


def _add_lora(model: SmartModel, recipe: FinetuneRecipe) -> PeftModel:
    """Train LoRA matrices alone; returns the model that merges them into the weights."""
    import torch
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=recipe.lora_rank,
        lora_alpha=recipe.lora_alpha or 2 * recipe.lora_rank,
        target_modules=lora_targets(model),
        lora_dropout=0.0,
        bias="none",
    )
    model.backbone.model.requires_grad_(False)
    torch.manual_seed(recipe.seed)  # LoRA's first matrices are random
    wrapped = get_peft_model(_network(model), config)
    if recipe.gradient_checkpointing:
        # Otherwise no gradient would reach the blocks: their inputs, the frozen embeddings, have none.
        _network(model).enable_input_require_grads()
    return wrapped
