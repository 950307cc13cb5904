"""``smart eval mteb``: retrieval tasks and benchmarks of mteb."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .. import options
from ..output import echo_json, on_terminal


@options.with_model_options
def mteb(
    tasks: Annotated[
        list[str],
        typer.Option("--tasks", "--task", "-t", metavar="NAME,…", help="Tasks or benchmarks: ViDoRe(v2), NanoBEIR, …"),
    ],
    model: options.Model = "minilm",
    preset: options.Preset = None,
    weights: options.Weights = None,
    lambda_anchor: options.LambdaAnchor = None,
    lambda_late: options.LambdaLate = None,
    floor: options.Floor = None,
    candidates: Annotated[
        int | None,
        typer.Option(help="Documents chosen by anchor score for late scoring. [default: all; in an index, 400]"),
    ] = None,
    index: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Search an index of each task in two stages; kept here for later runs."),
    ] = None,
    codec: Annotated[
        str | None,
        typer.Option(
            help="How an index stores token vectors; without --index, a temporary one. [default: the index's]"
        ),
    ] = None,
    batch_size: options.BatchSize = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where mteb writes its results.")] = Path("mteb-results"),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Rerun tasks that already have results there.")
    ] = False,
    as_json: options.AsJson = False,
    *,
    model_options: options.ModelGiven,
) -> None:
    """Measure a model's hybrid ranking on mteb's retrieval tasks; results are written in its own format."""
    from ...evaluation.mteb import IndexSearch, SmartSearch, evaluate_mteb
    from ...extras import require
    from ...index.codec.names import parse_codec
    from ...model.smart_model import SmartModel

    require("mteb", "mteb")
    if codec is not None:
        parse_codec(codec)  # a wrong one is refused before a model is loaded
    smart = SmartModel(model, preset=preset or "default", **model_options)
    given = {"candidates": candidates, "codec": codec}
    settings: dict[str, Any] = {
        **options.scoring_of(weights, lambda_anchor, lambda_late, floor),
        **{name: value for name, value in given.items() if value is not None},
    }
    in_index = index is not None or codec is not None
    search = IndexSearch(smart, folder=index, **settings) if in_index else SmartSearch(smart, **settings)
    result = evaluate_mteb(
        options.parts_of(tasks), search, out, batch_size=batch_size, progress=on_terminal(), overwrite=overwrite
    )
    if as_json:
        echo_json(result)
        return
    for name, task in result["tasks"].items():
        typer.echo(f"{name}  {task['main_score']:.4f}")
    typer.echo(f"results of {result['model']} in {out}")
