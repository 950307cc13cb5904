"""``smart train``: an adapter over a frozen model, or the model itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import AsJson, Device, Layers, Model, TokenFilter, layers_of

if TYPE_CHECKING:
    from ..model.smart_model import SmartModel
    from ..training import TrainingSet

_Data = Annotated[
    Path, typer.Option(metavar="PAIRS", help="A .jsonl of pairs, a BEIR folder, ColPali parquet, or a LamRA folder.")
]
_Out = Annotated[Path, typer.Option(metavar="DIR", help="A new folder; the same command resumes an interrupted run.")]
_Validation = Annotated[
    str, typer.Option(metavar="SHARE|PAIRS", help="Share of the queries to hold out, or a set of its own.")
]
_Split = Annotated[str, typer.Option(help="Which judgments of a BEIR folder to learn from.")]
_Mine = Annotated[int, typer.Option(metavar="N", help="Find N hard negatives for each query with the hybrid itself.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan and exit.")]


def adapter(
    model: Model,
    data: _Data,
    out: _Out,
    objective: Annotated[str, typer.Option(help="late or hybrid.")] = "late",
    width: Annotated[
        int | None, typer.Option(help="Dimensions of a token vector; the model's own when left out.")
    ] = None,
    layers: Layers = None,
    fusion: Annotated[str, typer.Option(help="How several layers become one: learned or concat.")] = "learned",
    token_filter: TokenFilter = None,
    start: Annotated[str, typer.Option(help="frozen: begin as the frozen readout; random.")] = "frozen",
    epochs: Annotated[int, typer.Option(help="Passes over the pairs.")] = 2,
    batch_size: Annotated[int, typer.Option(help="Queries in a step.")] = 64,
    learning_rate: Annotated[float, typer.Option(help="AdamW's, at its highest.")] = 1e-3,
    temperature: Annotated[float, typer.Option(help="What scores are divided by.")] = 0.03,
    negatives: Annotated[int, typer.Option(help="Most hard negatives of a query in a step.")] = 4,
    lambda_late: Annotated[float, typer.Option(help="Weight of the late score in the hybrid.")] = 1.0,
    choose_lambda: Annotated[
        bool, typer.Option("--choose-lambda", help="Keep the weight of the late score that is best on validation.")
    ] = False,
    distill: Annotated[float, typer.Option(help="Share of the loss that follows the scores in the data.")] = 0.0,
    mine_negatives: _Mine = 0,
    validation: _Validation = "0.1",
    validate: Annotated[int, typer.Option(help="Validations in each epoch.")] = 2,
    seed: Annotated[int, typer.Option(help="Seed of the start, the order and the draws.")] = 0,
    split: _Split = "train",
    cache: Annotated[Path | None, typer.Option(metavar="DIR", help="Keep the states there for the next run.")] = None,
    budget: Annotated[float, typer.Option(metavar="GB", help="Most space the states may take; 0 for no cache.")] = 20.0,
    device: Device = None,
    dry_run: _DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Train a projection of the token states; the model stays as it is.

    The backbone's states are computed once and kept on disk. What is written is a folder of a few MB that names its
    model; SmartModel, `smart index --model` and `smart eval` take it like any other.
    """
    from ..training import AdapterRecipe, train_adapter

    recipe = AdapterRecipe(
        objective=objective, width=width, fusion=fusion, start=start, epochs=epochs, batch_size=batch_size,
        learning_rate=learning_rate, temperature=temperature, negatives=negatives, lambda_late=lambda_late,
        choose_lambda=choose_lambda, distill=distill, validate=validate, seed=seed,
    )  # fmt: skip
    training, held = _sets(data, split, validation, seed)
    loaded = _open(model, layers, token_filter, device, plain=True)
    if mine_negatives:
        training = _mined(loaded, training, mine_negatives, distill > 0)
    if dry_run:
        _show_plan(loaded, training, held, batch_size, epochs, as_json, {"recipe": recipe.to_dict()})
        return
    result = train_adapter(
        loaded, training, out, recipe, validation=held, cache=cache, budget=int(budget * 1e9), say=_say
    )
    _show_result(result.to_dict(), as_json)


def finetune(
    model: Model,
    data: _Data,
    out: _Out,
    objective: Annotated[str, typer.Option(help="anchor, late or hybrid.")] = "hybrid",
    lora_rank: Annotated[int, typer.Option(help="Rank of the LoRA matrices.")] = 128,
    full: Annotated[bool, typer.Option("--full", help="Train every weight instead of LoRA's.")] = False,
    width: Annotated[int | None, typer.Option(help="Also train an adapter of this width over the states.")] = None,
    layers: Layers = None,
    token_filter: TokenFilter = None,
    epochs: Annotated[int, typer.Option(help="Passes over the pairs.")] = 1,
    max_steps: Annotated[int, typer.Option(help="Stop there; -1 for the end of the epochs.")] = -1,
    batch_size: Annotated[int, typer.Option(help="Queries in a step on each device.")] = 64,
    mini_batch: Annotated[
        int | None, typer.Option(help="Inputs in one forward pass; gradients are cached, so that batches may be large.")
    ] = None,
    learning_rate: Annotated[float, typer.Option(help="AdamW's, at its highest.")] = 1e-4,
    temperature: Annotated[float, typer.Option(help="What scores are divided by.")] = 0.05,
    negatives: Annotated[int, typer.Option(help="Hard negatives of each query.")] = 0,
    lambda_late: Annotated[float, typer.Option(help="Weight of the late score in the hybrid.")] = 1.0,
    distill: Annotated[
        bool, typer.Option("--distill", help="Follow the scores in the data instead of contrasting.")
    ] = False,
    mine_negatives: _Mine = 0,
    bf16: Annotated[bool, typer.Option("--bf16", help="Mixed precision.")] = False,
    gradient_checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing", help="Less memory for a third more time.")
    ] = False,
    validation: _Validation = "0.1",
    validate: Annotated[int, typer.Option(help="Validations in each epoch.")] = 2,
    seed: Annotated[int, typer.Option(help="Seed of the order and the draws.")] = 0,
    split: _Split = "train",
    device: Device = None,
    dry_run: _DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Train the model itself, with LoRA or whole, and write a model that SmartModel and SentenceTransformer open."""
    from ..training import FinetuneRecipe
    from ..training import finetune as run

    recipe = FinetuneRecipe(
        objective=objective, lora_rank=0 if full else lora_rank, width=width, epochs=epochs, max_steps=max_steps,
        batch_size=batch_size, mini_batch=mini_batch, learning_rate=learning_rate, temperature=temperature,
        negatives=negatives, lambda_late=lambda_late, distill=distill, bf16=bf16,
        gradient_checkpointing=gradient_checkpointing, validate=validate, seed=seed,
    )  # fmt: skip
    training, held = _sets(data, split, validation, seed)
    loaded = _open(model, layers, token_filter, device, plain=False)
    if mine_negatives:
        training = _mined(loaded, training, mine_negatives, distill)
    if dry_run:
        _show_plan(loaded, training, held, batch_size, epochs, as_json, {"recipe": recipe.to_dict()})
        return
    _show_result(run(loaded, training, out, recipe, validation=held, say=_say).to_dict(), as_json)


def _open(
    model: str, layers: list[str] | None, token_filter: str | None, device: str | None, plain: bool
) -> SmartModel:
    """The model as the paper reads it, or as it was saved; without its adapter where a new one is to be trained."""
    from dataclasses import replace

    from ..model.smart_model import SmartModel

    chosen = layers_of(layers)
    loaded = SmartModel(model, preset="paper", device=device)
    if plain:
        loaded = loaded.with_adapter(None)
    readout = loaded.readout
    return loaded.with_readout(
        replace(readout, layers=chosen or readout.layers, token_filter=token_filter or readout.token_filter)
    )


def _sets(data: Path, split: str, validation: str, seed: int) -> tuple[TrainingSet, TrainingSet]:
    from ..training import load_pairs
    from ..training.data.examples import split as divide

    training = load_pairs(data, split)
    try:
        share = float(validation)
    except ValueError:
        return training, load_pairs(validation, split)
    return divide(training, share, seed)


def _mined(model: SmartModel, training: TrainingSet, count: int, teach: bool) -> TrainingSet:
    from ..training import mine_negatives

    return mine_negatives(model, training, count, teach=teach)


def _say(sentence: str) -> None:
    typer.echo(sentence, err=True)


def _show_result(result: dict[str, Any], as_json: bool) -> None:
    from .output import echo_json

    if as_json:
        echo_json(result)
        return
    for name, values in (("frozen", result["before"]), ("trained", result["after"])):
        typer.echo(f"{name:8} " + "  ".join(f"{key} {value:.4f}" for key, value in values.items()))
    typer.echo(f"kept: step {result['best_step']} of {result['steps']}, in {result['folder']}")


def _show_plan(
    model: SmartModel,
    training: TrainingSet,
    held: TrainingSet,
    batch_size: int,
    epochs: int,
    as_json: bool,
    more: dict[str, Any],
) -> None:
    from ..training import plan_training
    from .output import echo_json, printable, size

    plan = plan_training(model, training, held, batch_size=batch_size, epochs=epochs)
    if as_json:
        echo_json({**plan.to_dict(), **more})
        return
    for name, data in (("training", plan.training), ("held out", plan.validation)):
        typer.echo(
            f"{name}: {data['examples']:,} queries, {data['documents']:,} documents, {data['positives']:,} positives, "
            f"{data['negatives']:,} hard negatives" + (", a teacher's scores" if data["teacher"] else "")
        )
    for warning in plan.training["warnings"]:
        typer.echo(f"  {printable(warning)}")
    for task, counts in plan.tokens.items():
        typer.echo(
            f"{task} tokens: {counts['mean']:.0f} on average, {counts['longest']:.0f} at most, "
            f"{counts['kept_mean']:.0f} kept (of a sample)"
        )
    typer.echo(f"steps: {plan.steps:,}")
    typer.echo(f"states: about {size(plan.state_bytes)} on disk, about {plan.seconds:,.0f} s to compute once")
    for example in plan.rendered:
        for name, line in example.items():
            typer.echo(f"{name}: {printable(line[:600])}")
