"""``smart eval mmeb``: the 78 tasks of MMEB-V2."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .. import options
from ..output import console, echo_json


@options.with_model_options
def mmeb(
    data_root: Annotated[Path | None, typer.Option(metavar="DIR", help="The folder MMEB-V2 was downloaded to.")] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the results go.")] = Path("mmeb-results"),
    tasks: Annotated[
        list[str] | None, typer.Option(metavar="NAME,…|paper|all", help="Tasks by name; paper: its 41. [default: all]")
    ] = None,
    modality: Annotated[
        list[str] | None, typer.Option(metavar="image|video|visdoc", help="All tasks of a modality.")
    ] = None,
    list_tasks: Annotated[bool, typer.Option("--list", help="List the tasks and exit.")] = False,
    check: Annotated[bool, typer.Option("--check", help="List what is missing and exit; loads no model.")] = False,
    from_hub: Annotated[
        bool, typer.Option("--from-hub", help="Fetch the tasks' missing annotations into DIR and exit.")
    ] = False,
    revision: Annotated[
        list[str] | None,
        typer.Option(metavar="DATA_SET=COMMIT|FILE.toml", help="Commits of data sets to fetch, or to require."),
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Do not contact the hub.")] = False,
    model: options.Model = "glyph",
    preset: options.Preset = None,
    prompts: Annotated[
        str | None, typer.Option(help="Prompt templates: qwen or v2v. [default: by the model's family]")
    ] = None,
    token_filter: options.TokenFilter = None,
    weights: options.Weights = None,
    lambda_anchor: options.LambdaAnchor = None,
    lambda_late: Annotated[
        str | None,
        typer.Option(metavar="N,…", help="Weights of the late score, one result row each. [default: the preset's]"),
    ] = None,
    floor: options.Floor = None,
    mode: Annotated[str, typer.Option(help="Metrics: correct or official-compatible.")] = "correct",
    ties: Annotated[str, typer.Option(help="Order of equal candidates: official or name.")] = "official",
    skip_incomplete: options.SkipIncomplete = False,
    batch_size: options.BatchSize = None,
    dtype: options.StoredType = "float16",
    cache: options.CacheFolder = None,
    discard: options.Discard = False,
    as_json: options.AsJson = False,
    *,
    model_options: options.ModelGiven,
) -> None:
    """Measure a model on MMEB-V2: anchor, late and hybrid ranking of images, videos and document pages.

    Every input is encoded once and cached; another lambda, weighting or token filter needs no new encoding.
    """
    from ...evaluation.mmeb.tasks import choose

    chosen = choose(options.parts_of(tasks), options.parts_of(modality))
    if list_tasks:
        _print_tasks(chosen, as_json)
        return
    if data_root is None:
        raise typer.BadParameter("found no --data-root, expected the folder MMEB-V2 was downloaded to")
    from ...evaluation.mmeb.hub import fetch, read_pins

    pins = read_pins(revision or [])
    if from_hub:
        for line in fetch(chosen, data_root, offline=offline, pins=pins):
            typer.echo(line)
        return
    if check:
        _check(chosen, data_root, prompts, pins, as_json)
        return
    from ...evaluation.mmeb.run import MmebOptions, evaluate_mmeb
    from ...evaluation.results import write_json

    if preset is not None:
        model_options["preset"] = preset
    if offline:
        model_options["local_files_only"] = True
    result = evaluate_mmeb(
        data_root,
        out,
        tasks=[task.name for task in chosen],
        model=model,
        weights=weights or "preset",
        floor=options.floor_of(floor),
        token_filter=token_filter,
        lambda_anchor=lambda_anchor,
        options=MmebOptions(prompts, _lambdas(lambda_late), mode, ties, 100, skip_incomplete, discard),
        revisions=pins,
        cache=cache,
        batch_size=batch_size,
        progress=None,
        dtype=dtype,
        **model_options,
    )
    if not result["settings"]:  # one of several processes, and not the one that ranks
        return
    if as_json:
        write_json(result)
    else:
        from ...evaluation.mmeb.report import render_table

        console().print(render_table(result))


def _lambdas(value: str | None) -> tuple[float, ...] | None:
    if value is None:
        return None
    try:
        return tuple(float(part) for part in value.split(","))
    except ValueError:
        raise typer.BadParameter(f"lambda-late: found {value!r}, expected numbers such as 0,0.5,1,2") from None


def _print_tasks(chosen: tuple[Any, ...], as_json: bool) -> None:
    if as_json:
        echo_json([task.to_dict() for task in chosen])
        return
    rows = [("task", "modality", "meta-task", "ranks", "metric", "annotations")]
    for task in chosen:
        where = " ".join(part for part in (task.data_set, task.config, task.split) if part)
        rows.append((task.name, task.modality, task.meta_task, task.scope, task.metric, where))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    for row in rows:
        padded = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        typer.echo("  ".join([*padded, row[5]]))


def _check(chosen: tuple[Any, ...], data_root: Path, prompts: str | None, pins: dict[str, str], as_json: bool) -> None:
    from ...evaluation.mmeb.hub import check_revisions
    from ...evaluation.mmeb.prompts import get_prompts
    from ...evaluation.mmeb.run import preflight
    from ...evaluation.mmeb.task_data import check_root

    root = check_root(data_root)
    check_revisions(chosen, root, pins)
    lacking = preflight(chosen, root, get_prompts(prompts or "qwen"))
    if as_json:
        echo_json({name: missing.all() for name, missing in lacking.items()})
    else:
        for name, missing in lacking.items():
            for path in missing.all():
                typer.echo(f"{name}\t{path}")
        typer.echo(f"{len(chosen) - len(lacking)} of {len(chosen)} tasks are complete")
    if lacking:
        raise typer.Exit(1)
