"""Train an adapter over a frozen backbone's states."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...core.adapter import Adapter, AdapterConfig
from ...core.scoring import Scoring
from ...errors import ReadoutError, TrainingError
from ...model.saving import read_tensors_and_metadata, write_tensors
from ...progress import progress
from ..data.batches import Batch, batch_of_step, steps_in_epoch
from ..data.examples import TrainingSet, content_key
from ..hidden_states import LiveStates, StateSource, cache_states
from ..objectives import contrastive_loss, distillation_loss, hybrid_matrix, padded
from ..recipes import AdapterRecipe
from ..record import TrainingResult, refuse_finished, write_record
from ..validation import Validation, figures, hold_out

if TYPE_CHECKING:
    from ...model.smart_model import SmartModel

CHECKPOINT = "checkpoint.safetensors"
FORMAT = "smart-training/1"
# States that an ordinary disk has room for; what is larger is computed anew each step.
DEFAULT_BUDGET = 20 * 2**30
_SAMPLE = 256  # items whose states the start is fitted on


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

    The backbone stays in evaluation mode and is not changed. An interrupted run resumes when it is called again with
    the same arguments; it then ends with the same weights as one that was not interrupted.

    Args:
        model: The backbone, and the readout (layers, token filter) the adapter reads.
        data: The examples, as :func:`~smart_retrieval.training.load_pairs` reads them.
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
    recipe, folder = recipe or AdapterRecipe(), Path(out)
    training, held = hold_out(model, data, validation, distractors=recipe.distractors, seed=recipe.seed)
    if recipe.distill and not training.has_scores:
        raise TrainingError("distill: found examples without a teacher's scores, expected scores in every row")
    run = AdapterTraining(model.with_adapter(None), training, held, folder, recipe)
    run.open_states(cache or folder / "cache", budget, show_progress, say)
    result = run.train(show_progress, say)
    if cache is None:
        # What is left is a folder of a few MB.
        del run  # closes the files
        shutil.rmtree(folder / "cache", ignore_errors=True)
    return result


class AdapterTraining:
    """One run: its adapter and optimizer, its states, and the best weights so far."""

    queries: StateSource
    documents: StateSource
    validation: Validation

    def __init__(
        self, model: SmartModel, training: TrainingSet, held: TrainingSet, out: Path, recipe: AdapterRecipe
    ) -> None:
        self.model, self.training, self.held, self.recipe, self.out = model, training, held, recipe, out
        self.steps = recipe.epochs * steps_in_epoch(len(training), recipe.batch_size)
        self.every = max(1, self.steps // (recipe.epochs * recipe.validate))
        self.device = torch.device(model.device)
        # Whatever mode the caller left it in: dropout would blur the states, and nothing may learn here.
        model.backbone.model.eval()
        torch.manual_seed(recipe.seed)
        config = AdapterConfig(
            model.state_dim, recipe.width or model.state_dim, len(model.readout.layers), recipe.fusion, recipe.kind,
            recipe.inner, recipe.heads, recipe.blocks,
        )  # fmt: skip
        self.adapter = Adapter(config).to(self.device)
        weights = list(self.adapter.parameters())
        groups = [
            {"params": [weight for weight in weights if weight.ndim > 1], "weight_decay": recipe.weight_decay},
            {"params": [weight for weight in weights if weight.ndim == 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate)
        self.head = model.backbone.token_head(model.readout, self.adapter)
        self.losses: list[float] = []
        self.best: dict[str, Tensor] = {}
        self.result = TrainingResult(out, {}, {}, 0, self.steps)

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
                spent += 0 if found is None else found.nbytes
                sources.append(LiveStates(self.model, items, task) if found is None else found)
        live = sum(isinstance(source, LiveStates) for source in sources)
        states = f"{spent / 1e6:,.0f} MB of states cached in {cache}"
        if live:
            states += f"; {live} of 4 sets are over the budget of {budget / 1e6:,.0f} MB and are computed each step"
        say(states)
        self.result.states = states
        self.queries, self.documents, *held = sources
        recipe = self.recipe
        self.validation = Validation(
            self.held, held[0], held[1], recipe.lambda_anchor, recipe.lambda_late, recipe.choose_lambda
        )

    def train(self, show_progress: bool | None, say: Callable[[str], None]) -> TrainingResult:
        """All steps, from the start or from the last checkpoint."""
        result, file = self.result, self.out / CHECKPOINT
        if file.exists():
            start = self._resume(file)
            say(f"going on at step {start} of {self.steps}")
        else:
            refuse_finished(self.out)
            start = 0
            self._begin()
            say(f"before: {figures(result.before)}; at the start: {figures(result.after)}")
        clock = time.perf_counter()
        with progress("Training", self.steps, show_progress) as advance:
            advance(start)
            for step in range(start, self.steps):
                self.step(step)
                advance(1)
                if (step + 1) % self.every == 0 or step + 1 == self.steps:
                    self._validate(step + 1)
                    result.seconds += time.perf_counter() - clock
                    clock = time.perf_counter()
                    self._save(step + 1)
                    last = result.curve[-1]
                    say(f"step {step + 1} of {self.steps}: loss {last['loss']:.4f}, {figures(last)}")
        self._keep_best()
        write_record(result, self.recipe, self.model.readout, self.model.backbone.identity(), self.training, self.held)
        for left in (file, *self.out.glob(f".{CHECKPOINT}.*.part")):  # partial ones are of runs that were killed
            left.unlink(missing_ok=True)
        return result

    # -- steps -------------------------------------------------------------------------------------------------

    def step(self, step: int) -> None:
        """One step of the optimizer."""
        recipe = self.recipe
        batch = batch_of_step(
            self.training, step, batch_size=recipe.batch_size, negatives=recipe.negatives, seed=recipe.seed
        )
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.rate(step, self.steps)
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(batch)
        value = loss.item()
        if not math.isfinite(value):
            self._keep_best()
            raise TrainingError(
                f"found a loss of {value} at step {step + 1}, expected a number: the best adapter until then (step "
                f"{self.result.best_step}) is kept in {str(self.out)!r}; lower the learning rate, or look at the "
                "examples"
            )
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.adapter.parameters(), recipe.clip)
        self.optimizer.step()
        self.losses.append(value)

    def loss(self, batch: Batch) -> Tensor:
        """The recipe's loss of a batch."""
        recipe = self.recipe
        queries = self.queries.batch(batch.queries).to(self.device)
        documents = self.documents.batch(batch.documents).to(self.device)
        block, mask = padded(self.head.vectors(documents.states, documents.lengths), documents.lengths)
        scores = hybrid_matrix(
            recipe.lambdas, queries.anchors, documents.anchors,
            self.head.vectors(queries.states, queries.lengths), queries.lengths, block, mask,
        )  # fmt: skip
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
        self.result.before = self.validation.measure(self.model.backbone.token_head(self.model.readout))
        if self.recipe.start == "frozen":
            sample = self.documents.batch(range(min(_SAMPLE, len(self.documents)))).to(self.device)
            self.adapter.start_frozen(sample.states)
        self._take_as_best(self.validation.measure(self.head), 0)

    def _validate(self, step: int) -> None:
        found = self.validation.measure(self.head)
        self.result.curve.append({"step": step, "loss": sum(self.losses) / len(self.losses), **found})
        self.losses = []
        if found["hybrid"] > self.result.after["hybrid"]:
            self._take_as_best(found, step)

    def _take_as_best(self, found: dict[str, float], step: int) -> None:
        self.result.after, self.result.best_step = found, step
        self.best = {name: tensor.clone() for name, tensor in self.adapter.state_dict().items()}
        self._keep_best()

    def _keep_best(self) -> None:
        kept = Adapter(self.adapter.config)
        kept.load_state_dict({name: tensor.cpu() for name, tensor in self.best.items()})
        # As it is validated: equal token weights, and its lambdas.
        scoring = Scoring("uniform", self.recipe.lambda_anchor, self.result.after["lambda_late"])
        self.model.with_adapter(kept, scoring=scoring).save_adapter(self.out)

    def _save(self, step: int) -> None:
        result = self.result
        about = {
            "run": self._run_id(), "step": step, "losses": self.losses, "curve": result.curve,
            "before": result.before, "after": result.after, "best_step": result.best_step, "seconds": result.seconds,
        }  # fmt: skip
        tensors = {f"weights.{name}": tensor for name, tensor in self.adapter.state_dict().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self.best.items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
        write_tensors(self.out / CHECKPOINT, tensors, {"format": FORMAT, "about": json.dumps(about)})

    def _resume(self, file: Path) -> int:
        where = f"checkpoint {str(file)!r}"
        try:
            tensors, metadata = read_tensors_and_metadata(file)
            about = json.loads(metadata.get("about", "null"))
        except (ReadoutError, ValueError) as error:
            raise TrainingError(f"{where}: cannot be read ({error}); delete it to start anew") from error
        if metadata.get("format") != FORMAT or not isinstance(about, dict):
            raise TrainingError(f"{where}: found format {metadata.get('format')!r}, expected {FORMAT!r}")
        parts: dict[str, dict[str, Tensor]] = {"weights": {}, "best": {}}
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            kind, _, own = name.partition(".")
            if kind == "optimizer":
                index, _, own = own.partition(".")
                state.setdefault(int(index), {})[own] = tensor
            else:
                parts[kind][own] = tensor
        wanted = set(self.adapter.state_dict())
        if any(set(part) != wanted for part in parts.values()):
            raise ReadoutError(f"{where}: found weights {sorted(parts['weights'])}, expected {sorted(wanted)}")
        if about.get("run") != self._run_id():
            raise TrainingError(
                f"{str(self.out)!r}: found the checkpoint of another run (other model, examples or recipe), expected "
                "this run's; take another folder, or delete it"
            )
        self.adapter.load_state_dict(parts["weights"])
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        self.best, self.losses = parts["best"], about["losses"]
        for name in ("curve", "before", "after", "best_step", "seconds"):
            setattr(self.result, name, about[name])
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
