"""``smart train``: an adapter over a frozen model, or the model itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..training.recipes import AdapterRecipe, FinetuneRecipe
from .options import AsJson, Layers, Model, ModelGiven, TokenFilter, layers_of, with_model_options
from .output import echo_json, if_stopped, printable, size

if TYPE_CHECKING:
    from ..model.smart_model import SmartModel
    from ..training import TrainingSet

_Data = Annotated[
    Path,
    typer.Option(
        metavar="PAIRS", exists=True, help="A .jsonl of pairs, a BEIR folder, ColPali parquet, or a LamRA folder."
    ),
]
_Out = Annotated[Path, typer.Option(metavar="DIR", help="A new folder; the same command resumes an interrupted run.")]
_Epochs = Annotated[int, typer.Option(help="Passes over the pairs.")]
_LearningRate = Annotated[float, typer.Option(help="Peak learning rate of AdamW.")]
_Temperature = Annotated[float, typer.Option(help="Scores are divided by it.")]
_LambdaLate = Annotated[float, typer.Option(help="Weight of the late score in the hybrid.")]
_Mine = Annotated[int, typer.Option(metavar="N", help="Mine N hard negatives per query with the hybrid itself.")]
_Validation = Annotated[
    str, typer.Option(metavar="SHARE|PAIRS", help="Share of the queries to hold out, or a validation set.")
]
_Validate = Annotated[int, typer.Option(help="Validations per epoch.")]
_Seed = Annotated[int, typer.Option(help="Seed of every random choice.")]
_Split = Annotated[str, typer.Option(help="Which judgments of a BEIR folder to train on.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan and exit.")]


@with_model_options
def adapter(
    model: Model,
    data: _Data,
    out: _Out,
    objective: Annotated[str, typer.Option(help="late or hybrid.")] = AdapterRecipe.objective,
    width: Annotated[
        int | None, typer.Option(help="Dimensions of a token vector. [default: the model's]")
    ] = AdapterRecipe.width,
    layers: Layers = None,
    fusion: Annotated[str, typer.Option(help="How layers are combined: learned or concat.")] = AdapterRecipe.fusion,
    kind: Annotated[str, typer.Option(help="linear, mlp, or self-attention between tokens.")] = AdapterRecipe.kind,
    inner: Annotated[int, typer.Option(help="mlp: dimensions of its hidden layer.")] = AdapterRecipe.inner,
    heads: Annotated[int, typer.Option(help="self-attention: heads.")] = AdapterRecipe.heads,
    blocks: Annotated[int, typer.Option(help="self-attention: how often.")] = AdapterRecipe.blocks,
    token_filter: TokenFilter = None,
    start: Annotated[str, typer.Option(help="Start: frozen (as the frozen readout) or random.")] = AdapterRecipe.start,
    epochs: _Epochs = AdapterRecipe.epochs,
    batch_size: Annotated[int, typer.Option(help="Queries per step.")] = AdapterRecipe.batch_size,
    learning_rate: _LearningRate = AdapterRecipe.learning_rate,
    temperature: _Temperature = AdapterRecipe.temperature,
    negatives: Annotated[int, typer.Option(help="Most hard negatives per query and step.")] = AdapterRecipe.negatives,
    lambda_late: _LambdaLate = AdapterRecipe.lambda_late,
    choose_lambda: Annotated[
        bool, typer.Option("--choose-lambda", help="Choose the weight of the late score on the validation set.")
    ] = AdapterRecipe.choose_lambda,
    distill: Annotated[
        float, typer.Option(help="Share of the loss that is distillation from the scores in the data.")
    ] = AdapterRecipe.distill,
    mine_negatives: _Mine = 0,
    validation: _Validation = "0.1",
    validate: _Validate = AdapterRecipe.validate,
    seed: _Seed = AdapterRecipe.seed,
    split: _Split = "train",
    cache: Annotated[Path | None, typer.Option(metavar="DIR", help="Keep hidden states here for later runs.")] = None,
    budget: Annotated[float, typer.Option(metavar="GB", help="Most space for hidden states; 0 for no cache.")] = 20.0,
    dry_run: _DryRun = False,
    as_json: AsJson = False,
    *,
    model_options: ModelGiven,
) -> None:
    """Train a projection of the token states; the model stays as it is.

    The model's hidden states are computed once and kept on disk. The result is a folder of a few MB that names its
    model; SmartModel, `smart index --model` and `smart eval` take it like any other model.
    """
    from ..training import mine_negatives as mine
    from ..training import train_adapter

    recipe = AdapterRecipe(
        objective=objective, width=width, fusion=fusion, kind=kind, inner=inner, heads=heads, blocks=blocks,
        start=start, epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, temperature=temperature,
        negatives=negatives, lambda_late=lambda_late,
        choose_lambda=choose_lambda, distill=distill, validate=validate, seed=seed,
    )  # fmt: skip
    training, held = _sets(data, split, validation, seed)
    loaded = _model(model, layers, token_filter, model_options, keep_adapter=False)
    if mine_negatives:
        training = mine(loaded, training, mine_negatives, teach=distill > 0)
    if dry_run:
        _show_plan(loaded, training, held, recipe, as_json)
        return
    result = train_adapter(
        loaded, training, out, recipe, validation=held, cache=cache, budget=int(budget * 1e9), say=_to_stderr
    )
    _show_result(result.to_dict(), as_json)


@with_model_options
def finetune(
    model: Model,
    data: _Data,
    out: _Out,
    objective: Annotated[str, typer.Option(help="anchor, late or hybrid.")] = FinetuneRecipe.objective,
    lora_rank: Annotated[int, typer.Option(help="Rank of the LoRA matrices.")] = FinetuneRecipe.lora_rank,
    full: Annotated[bool, typer.Option("--full", help="Train every weight instead of LoRA's.")] = False,
    width: Annotated[int | None, typer.Option(help="Also train an adapter of this width.")] = FinetuneRecipe.width,
    layers: Layers = None,
    token_filter: TokenFilter = None,
    epochs: _Epochs = FinetuneRecipe.epochs,
    max_steps: Annotated[int, typer.Option(help="Most steps; -1 for all of the epochs.")] = FinetuneRecipe.max_steps,
    batch_size: Annotated[int, typer.Option(help="Queries per step on each device.")] = FinetuneRecipe.batch_size,
    mini_batch: Annotated[
        int | None, typer.Option(help="Inputs per forward pass; gradients are cached, so that batches can be large.")
    ] = FinetuneRecipe.mini_batch,
    learning_rate: _LearningRate = FinetuneRecipe.learning_rate,
    temperature: _Temperature = FinetuneRecipe.temperature,
    negatives: Annotated[int, typer.Option(help="Hard negatives per query.")] = FinetuneRecipe.negatives,
    lambda_late: _LambdaLate = FinetuneRecipe.lambda_late,
    distill: Annotated[
        bool, typer.Option("--distill", help="Distil the scores in the data instead of contrastive training.")
    ] = FinetuneRecipe.distill,
    mine_negatives: _Mine = 0,
    bf16: Annotated[bool, typer.Option("--bf16", help="Mixed precision.")] = FinetuneRecipe.bf16,
    gradient_checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing", help="Use less memory; takes a third longer.")
    ] = FinetuneRecipe.gradient_checkpointing,
    validation: _Validation = "0.1",
    validate: _Validate = FinetuneRecipe.validate,
    seed: _Seed = FinetuneRecipe.seed,
    split: _Split = "train",
    dry_run: _DryRun = False,
    as_json: AsJson = False,
    *,
    model_options: ModelGiven,
) -> None:
    """Train the model itself, with LoRA or whole, and write a model that SmartModel and SentenceTransformer open."""
    from ..training import finetune as run
    from ..training import mine_negatives as mine

    recipe = FinetuneRecipe(
        objective=objective, lora_rank=0 if full else lora_rank, width=width, epochs=epochs, max_steps=max_steps,
        batch_size=batch_size, mini_batch=mini_batch, learning_rate=learning_rate, temperature=temperature,
        negatives=negatives, lambda_late=lambda_late, distill=distill, bf16=bf16,
        gradient_checkpointing=gradient_checkpointing, validate=validate, seed=seed,
    )  # fmt: skip
    training, held = _sets(data, split, validation, seed)
    loaded = _model(model, layers, token_filter, model_options, keep_adapter=True)
    if mine_negatives:
        training = mine(loaded, training, mine_negatives, teach=distill)
    if dry_run:
        _show_plan(loaded, training, held, recipe, as_json)
        return
    with if_stopped(f"the last checkpoint stays in {out}"):
        result = run(loaded, training, out, recipe, validation=held, say=_to_stderr).to_dict()
    _show_result(result, as_json)


def _model(
    model: str, layers: list[str] | None, token_filter: str | None, given: ModelGiven, *, keep_adapter: bool
) -> SmartModel:
    from ..model.smart_model import SmartModel

    chosen = layers_of(layers)
    loaded = SmartModel(model, preset="paper", **given)
    readout = loaded.readout
    readout = replace(readout, layers=chosen or readout.layers, token_filter=token_filter or readout.token_filter)
    return loaded.with_readout(readout) if keep_adapter else loaded.with_adapter(None, readout)


def _sets(data: Path, split: str, validation: str, seed: int) -> tuple[TrainingSet, TrainingSet]:
    from ..training import load_pairs
    from ..training.data.examples import split as divide

    training = load_pairs(data, split)
    try:
        share = float(validation)
    except ValueError:
        return training, load_pairs(validation, split)
    return divide(training, share, seed)


def _to_stderr(sentence: str) -> None:
    typer.echo(sentence, err=True)


def _show_result(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        echo_json(result)
        return
    for name, values in (("frozen", result["before"]), ("trained", result["after"])):
        typer.echo(f"{name:8} " + "  ".join(f"{key} {value:.4f}" for key, value in values.items()))
    typer.echo(f"kept: step {result['best_step']} of {result['steps']}, in {result['folder']}")


def _show_plan(
    model: SmartModel, training: TrainingSet, held: TrainingSet, recipe: AdapterRecipe | FinetuneRecipe, as_json: bool
) -> None:
    from ..training import plan_training

    plan = plan_training(model, training, held, batch_size=recipe.batch_size, epochs=recipe.epochs)
    if as_json:
        echo_json({**plan.to_dict(), "recipe": recipe.to_dict()})
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
