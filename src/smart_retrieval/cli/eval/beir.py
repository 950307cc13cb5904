"""``smart eval``: measure a model with and without its token vectors on judged collections."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ..options import AsJson, CacheFolder, Model, NoCache, Out, Split
from ..output import cache_of, deliver
from . import mmeb as eval_mmeb
from . import mteb as eval_mteb

app = typer.Typer(no_args_is_help=True, help="Measure anchor, late and hybrid ranking on judged collections.")
app.command("mmeb")(eval_mmeb.mmeb)
app.command("mteb")(eval_mteb.mteb)


def _layers(values: list[str] | None) -> tuple[int, ...] | None:
    """Read ``--layer -1 --layer -2`` and ``--layer -1,-2`` alike."""
    if not values:
        return None
    try:
        return tuple(int(part) for value in values for part in value.split(","))
    except ValueError:
        raise typer.BadParameter(f"found {','.join(values)!r}, expected integers such as -1,-2") from None


def _floor(value: str | None) -> float | Literal["preset"] | None:
    """Read ``--floor 0.5`` and ``--floor none``; the preset's where it is left out."""
    if value is None:
        return "preset"
    if value.lower() == "none":
        return None
    try:
        return float(value)
    except ValueError:
        raise typer.BadParameter(f"floor: found {value!r}, expected a number below 1, or none") from None


@app.command()
def beir(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder with corpus.jsonl, queries.jsonl and qrels/<split>.tsv.")
    ],
    model: Model = "minilm",
    preset: Annotated[
        str | None, typer.Option(help="paper or default: the settings that the options below change.")
    ] = None,
    layer: Annotated[
        list[str] | None, typer.Option(help="Hidden states to read: -1 is the last. Repeat it, or give -1,-2.")
    ] = None,
    mix: Annotated[str | None, typer.Option(help="How several layers become one vector: mean or concat.")] = None,
    token_filter: Annotated[
        str | None, typer.Option(help="paper: drop special tokens; content: drop prompt and template tokens too.")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="Query-token weights: uniform or idf.")] = None,
    lambda_anchor: Annotated[float | None, typer.Option(help="Weight of the anchor score.")] = None,
    lambda_late: Annotated[float | None, typer.Option(help="Weight of the late score.")] = None,
    floor: Annotated[
        str | None, typer.Option(help="Token similarities that count as none: a number below 1, or none.")
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Beside BM25, anchor + BM25 (two fusions) and SMART + BM25.")
    ] = False,
    codec: Annotated[
        str | None,
        typer.Option(metavar="all|NAME,…", help="Quality against bytes: all, or codecs such as int8,float32/pool2."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --codec: draw quality against bytes (extra plot).")
    ] = None,
    per_query: Annotated[
        bool, typer.Option("--per-query", help="Keep every query's metrics, for paired tests in smart report.")
    ] = False,
    split: Split = "test",
    batch_size: Annotated[int | None, typer.Option(help="Most texts in one forward pass.")] = None,
    cache: CacheFolder = None,
    no_cache: NoCache = False,
    as_json: AsJson = False,
    out: Out = None,
) -> None:
    """Compare a model's anchor with late and hybrid ranking on a BEIR-layout folder.

    Encodings are kept, so that another weighting of the same model encodes nothing again.
    """
    layers = _layers(layer)
    encodings = cache_of(cache, no_cache)
    if compare and codec is not None:
        raise typer.BadParameter("found both --compare and --codec, expected one of them")
    if plot is not None and codec is None:
        raise typer.BadParameter("found --plot without --codec, expected --codec all or --codec NAME beside it")
    # Imported here, so that --help needs neither NumPy nor a model.
    from ...evaluation.terminal import print_table

    measure: Callable[..., dict[str, Any]]
    if compare:
        from ...evaluation.compare import compare_beir as measure
    elif codec is not None:
        from ...evaluation.codecs import evaluate_codecs
        from ...extras import require

        if plot is not None:
            require("matplotlib", "plot")
        measure = partial(evaluate_codecs, codecs=codec)
    else:
        from ...evaluation.evaluate import evaluate_beir as measure
    result = measure(
        folder,
        model=model,
        preset=preset,
        layers=layers,
        mix=mix,
        token_filter=token_filter,
        weights=weights or "preset",
        lambda_anchor=lambda_anchor,
        lambda_late=lambda_late,
        floor=_floor(floor),
        split=split,
        cache=encodings,
        batch_size=batch_size,
        progress=None,
        **({"per_query": True} if per_query else {}),
    )
    if plot is not None:
        from ...evaluation.codecs import plot_codecs

        plot_codecs(result, plot)
    deliver(result, print_table, as_json=as_json, out=out)
