"""Train an adapter over a frozen backbone's states."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...core.adapter import Adapter, AdapterConfig
from ...core.head import TokenHead
from ...core.scoring import Scoring
from ...errors import SmartWarning, TrainingError
from ...progress import progress
from ..card import write_card
from ..data.batches import Batch, batch_of_step, steps_in_epoch
from ..data.examples import TrainingSet, content_key, split
from ..hidden_states import LiveStates, StateSource, cache_states
from ..objectives import contrastive_loss, distillation_loss, late_matrix, max_similarities, padded
from ..validation import SYSTEMS, Validation
from .checkpoint import load_checkpoint, save_checkpoint
from .recipe import AdapterRecipe

if TYPE_CHECKING:
    from ...model.smart_model import SmartModel

CHECKPOINT = "checkpoint.safetensors"
RECORD = "training.json"
# States that an ordinary disk has room for; what is larger is computed anew each step.
DEFAULT_BUDGET = 20 * 2**30
_SAMPLE = 256  # items whose states the start is fitted on


@dataclass
class TrainingResult:
    """What a training came to, JSON-able by :meth:`to_dict`.

    Args:
        folder: Holds the adapter.
        before: nDCG@10 of anchor, late and hybrid on the held-out queries, with the frozen readout; under
            ``lambda_late`` the late score's weight in the hybrid.
        after: The same with the adapter that was kept.
        best_step: When that was.
        steps: Steps in all.
        curve: One entry for each validation: step, mean loss since the last one, and what ``before`` holds.
        seconds: Of training, validations included, encoding not.
        states: Where the states came from, in words.
    """

    folder: Path
    before: dict[str, float]
    after: dict[str, float]
    best_step: int
    steps: int
    curve: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    states: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {**self.__dict__, "folder": str(self.folder)}


def train_adapter(
    model: SmartModel,
    data: TrainingSet,
    out: str | Path,
    recipe: AdapterRecipe | None = None,
    *,
    validation: TrainingSet | float = 0.1,
    cache: Path | None = None,
    budget: int = DEFAULT_BUDGET,
    show_progress: bool | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> TrainingResult:
    """Train an adapter and keep the one with the best validation hybrid.

    The backbone stays in evaluation mode and is not touched. A run that was cut off goes on where it was when it is
    called again with the same arguments; it then ends with the same weights as one that was not.

    Args:
        model: The backbone, and the readout (layers, token filter) the adapter reads.
        data: What it learns from.
        out: The folder to write; ``SmartModel(out)`` loads it.
        recipe: Every setting; the paper's when None.
        validation: A set of its own, or the share of the examples to hold out.
        cache: Folder for the states, kept for the next run; when None they lie in ``out`` until the end.
        budget: Most bytes of states on disk. What does not fit is computed each step.
        show_progress: Draw a bar on stderr; None draws it on a terminal.
        say: Called with a sentence on what is being done.

    Returns:
        Quality before and after, and the curve.

    Raises:
        TrainingError: Nothing to learn from, another run's checkpoint in ``out``, or a loss that is not a number; the
            best adapter until then is in ``out``.
        DatasetError: The examples cannot be split.

    Example:
        >>> result = train_adapter(SmartModel("minilm"), load_pairs("pairs.jsonl"), "out")  # doctest: +SKIP
        >>> result.after["hybrid"] > result.before["hybrid"]  # doctest: +SKIP
        True
    """
    recipe = recipe or AdapterRecipe()
    training, held = split(data, validation, recipe.seed) if isinstance(validation, float) else (data, validation)
    if recipe.distill and not training.has_scores:
        raise TrainingError("distill: found examples without a teacher's scores, expected scores in every row")
    if steps_in_epoch(len(training), recipe.batch_size) < 1:
        raise TrainingError(
            f"found {len(training)} examples to train on, expected at least 2: there is nothing to contrast"
        )
    warn_of_instructions(model, training)
    run = _Run(model.with_adapter(None), training, held, Path(out), recipe)
    run.open_states(cache or Path(out) / "cache", budget, show_progress, say)
    result = run.train(show_progress, say)
    if cache is None:
        # What is left is a folder of a few MB.
        run.close_states()
        shutil.rmtree(Path(out) / "cache", ignore_errors=True)
    return result


def warn_of_instructions(model: SmartModel, data: TrainingSet) -> None:
    """Say that a text model does not read the instructions its queries bring; it does not at inference, either."""
    count = sum(item.instruction is not None for item in data.queries)
    if count and model.backbone.family == "sentence-transformers":
        warnings.warn(
            f"{count} queries bring an instruction, which model {model.name!r} does not read; put it into their text",
            SmartWarning,
            stacklevel=3,
        )


class _Run:
    def __init__(
        self, model: SmartModel, training: TrainingSet, held: TrainingSet, out: Path, recipe: AdapterRecipe
    ) -> None:
        self.model, self.training, self.recipe, self.out = model, training, recipe, out
        self.steps = recipe.epochs * steps_in_epoch(len(training), recipe.batch_size)
        self.every = max(1, self.steps // (recipe.epochs * recipe.validate))
        self.device = torch.device(model.device)
        self.held = _with_distractors(held, training, recipe.distractors)
        self.states = ""
        # Whatever the caller left it in: dropout would blur the states, and nothing may learn here.
        model.backbone.model.eval()
        torch.manual_seed(recipe.seed)
        config = AdapterConfig(
            model.state_dim, recipe.width or model.state_dim, len(model.readout.layers), recipe.fusion
        )
        self.adapter = Adapter(config).to(self.device)
        self.optimizer = torch.optim.AdamW(_parameter_groups(self.adapter, recipe), lr=recipe.learning_rate)
        self.head = TokenHead(model.readout, model.backbone.roles_without_prompt, self.adapter)
        self.curve: list[dict[str, float]] = []
        self.losses: list[float] = []
        self.before: dict[str, float] = {}
        self.after: dict[str, float] = {}
        self.best: dict[str, Tensor] = {}
        self.best_step = 0
        self.seconds = 0.0

    def open_states(self, cache: Path, budget: int, show_progress: bool | None, say: Callable[[str], None]) -> None:
        """Cache the states of all four sets of items, or run the backbone each time where they do not fit."""
        wanted = (
            (self.training.queries, "query"), (self.training.documents, "document"),
            (self.held.queries, "query"), (self.held.documents, "document"),
        )  # fmt: skip
        sources: list[StateSource] = []
        spent = 0
        total = sum(len(items) for items, _ in wanted)
        with progress("Computing states", total, show_progress) as advance:
            for items, task in wanted:
                found = cache_states(self.model, items, task, cache, budget=budget - spent, advance=advance)
                if found is None:
                    sources.append(LiveStates(self.model, items, task))
                    continue
                spent += found.nbytes
                sources.append(found)
        live = sum(isinstance(source, LiveStates) for source in sources)
        self.states = f"{spent / 1e6:,.0f} MB of states cached in {cache}"
        if live:
            self.states += (
                f"; {live} of 4 sets are over the budget of {budget / 1e6:,.0f} MB and are computed each step"
            )
        say(self.states)
        self.queries, self.documents = sources[0], sources[1]
        self.validation = Validation(
            self.held, sources[2], sources[3], self.recipe.lambda_anchor, self.recipe.lambda_late,
            self.recipe.choose_lambda,
        )  # fmt: skip

    def close_states(self) -> None:
        """Let go of the files."""
        del self.queries, self.documents, self.validation

    def train(self, show_progress: bool | None, say: Callable[[str], None]) -> TrainingResult:
        file = self.out / CHECKPOINT
        if file.exists():
            start = self._resume(file)
            say(f"going on at step {start} of {self.steps}")
        elif (self.out / RECORD).exists():
            raise TrainingError(f"{str(self.out)!r}: found a finished training, expected a new folder")
        else:
            start = 0
            self._begin()
            say(f"before: {_figures(self.before)}; at the start: {_figures(self.after)}")
        clock = time.perf_counter()
        with progress("Training", self.steps, show_progress) as advance:
            advance(start)
            for step in range(start, self.steps):
                self._step(step)
                advance(1)
                if (step + 1) % self.every == 0 or step + 1 == self.steps:
                    self._validate(step + 1)
                    self.seconds += time.perf_counter() - clock
                    clock = time.perf_counter()
                    self._save(step + 1)
                    last = self.curve[-1]
                    say(f"step {step + 1} of {self.steps}: loss {last['loss']:.4f}, {_figures(last)}")
        return self._finish()

    # -- steps -------------------------------------------------------------------------------------------------

    def _step(self, step: int) -> None:
        recipe = self.recipe
        batch = batch_of_step(
            self.training, step, batch_size=recipe.batch_size, negatives=recipe.negatives, seed=recipe.seed
        )
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.rate(step, self.steps)
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._loss(batch)
        value = loss.item()
        if value != value or abs(value) == float("inf"):
            self._keep_best()
            raise TrainingError(
                f"found a loss of {value} at step {step + 1}, expected a number: the best adapter until then (step "
                f"{self.best_step}) is kept in {str(self.out)!r}; lower the learning rate, or look at the examples"
            )
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.adapter.parameters(), recipe.clip)
        self.optimizer.step()
        self.losses.append(value)

    def _loss(self, batch: Batch) -> Tensor:
        recipe = self.recipe
        queries = self.queries.batch(batch.queries).to(self.device)
        documents = self.documents.batch(batch.documents).to(self.device)
        anchor_weight, late_weight = recipe.lambdas
        block, mask = padded(self.head.vectors(documents.states), documents.lengths)
        best = max_similarities(self.head.vectors(queries.states), block, mask)
        scores = late_weight * late_matrix(best, queries.lengths)
        if anchor_weight:
            scores = scores + anchor_weight * (queries.anchors @ documents.anchors.T)
        targets = torch.from_numpy(batch.targets).to(self.device)
        ignored = torch.from_numpy(batch.ignored).to(self.device)
        loss = contrastive_loss(scores, targets, ignored, recipe.temperature)
        if recipe.distill and batch.teacher is not None:
            teacher = torch.from_numpy(batch.teacher).to(self.device)
            taught = distillation_loss(scores, teacher, recipe.temperature, recipe.teacher_temperature)
            loss = (1 - recipe.distill) * loss + recipe.distill * taught
        return loss

    # -- what is kept ------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        frozen = TokenHead(self.model.readout, self.model.backbone.roles_without_prompt)
        self.before = self.validation.measure(frozen)
        if self.recipe.start == "frozen":
            sample = self.documents.batch(range(min(_SAMPLE, len(self.documents)))).to(self.device)
            self.adapter.start_frozen(sample.states)
        self.after = self.validation.measure(self.head)
        self.best = {name: tensor.clone() for name, tensor in self.adapter.state_dict().items()}
        self._keep_best()

    def _validate(self, step: int) -> None:
        found = self.validation.measure(self.head)
        self.curve.append({"step": step, "loss": sum(self.losses) / len(self.losses), **found})
        self.losses = []
        if found["hybrid"] > self.after["hybrid"]:
            self.after, self.best_step = found, step
            self.best = {name: tensor.clone() for name, tensor in self.adapter.state_dict().items()}
            self._keep_best()

    def _keep_best(self) -> None:
        kept = Adapter(self.adapter.config)
        kept.load_state_dict({name: tensor.cpu() for name, tensor in self.best.items()})
        # As it is validated: equal token weights, and its lambdas.
        self.model.with_adapter(
            kept, scoring=Scoring("uniform", self.recipe.lambda_anchor, self.after["lambda_late"])
        ).save_adapter(self.out)

    def _save(self, step: int) -> None:
        about = {
            "run": self._run_id(), "step": step, "losses": self.losses, "curve": self.curve, "before": self.before,
            "after": self.after, "best_step": self.best_step, "seconds": self.seconds,
        }  # fmt: skip
        save_checkpoint(self.out / CHECKPOINT, self.adapter, self.optimizer, self.best, about)

    def _resume(self, file: Path) -> int:
        self.best, about = load_checkpoint(file, self.adapter, self.optimizer)
        if about.get("run") != self._run_id():
            raise TrainingError(
                f"{str(self.out)!r}: found the checkpoint of another run (other model, examples or recipe), expected "
                "this run's; take another folder, or delete it"
            )
        for name in ("losses", "curve", "before", "after", "best_step", "seconds"):
            setattr(self, name, about[name])
        return int(about["step"])

    def _run_id(self) -> str:
        digest = hashlib.sha256()
        for part in (self.model.backbone.fingerprint, self.model.readout.to_dict(), self.recipe.fingerprint):
            digest.update(repr(part).encode())
        for data in (self.training, self.held):
            digest.update(repr([(e.query, e.positives, e.negatives, e.scores) for e in data.examples]).encode())
            for item in (*data.queries, *data.documents):
                digest.update(repr(content_key(item)).encode())
        return digest.hexdigest()[:16]

    def _finish(self) -> TrainingResult:
        self._keep_best()
        result = TrainingResult(
            self.out, self.before, self.after, self.best_step, self.steps, self.curve, self.seconds, self.states
        )
        record = {
            "result": result.to_dict(),
            "recipe": self.recipe.to_dict(),
            "readout": self.model.readout.to_dict(),
            "backbone": self.model.backbone.identity(),
            "data": describe(self.training),
            "validation": describe(self.held),
        }
        (self.out / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        write_card(self.out / "README.md", record)
        (self.out / CHECKPOINT).unlink(missing_ok=True)
        return result


def describe(data: TrainingSet) -> dict[str, Any]:
    """Name and counts of a set, JSON-able."""
    return {
        "name": data.name,
        "examples": len(data),
        "documents": len(data.documents),
        "positives": sum(len(e.positives) for e in data.examples),
        "negatives": sum(len(e.negatives) for e in data.examples),
        "teacher": data.has_scores,
        "warnings": data.warnings,
    }


def _with_distractors(held: TrainingSet, training: TrainingSet, most: int) -> TrainingSet:
    """Rank against some training documents, too, none of them the same as one held out."""
    known = {content_key(item) for item in held.documents}
    step = max(1, len(training.documents) // max(1, most))
    extra = [item for item in training.documents[::step][:most] if content_key(item) not in known]
    groups = [*held.groups, *("" for _ in extra)]
    return replace(held, documents=[*held.documents, *extra], groups=groups)


def _parameter_groups(adapter: Adapter, recipe: AdapterRecipe) -> list[dict[str, Any]]:
    plain = [*adapter.norm.parameters(), *([adapter.layer_vector] if adapter.layer_vector is not None else [])]
    return [
        {"params": [adapter.projection.weight], "weight_decay": recipe.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]


def _figures(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {values[name]:.4f}" for name in SYSTEMS) + f" (lambda {values['lambda_late']:g})"
