"""``smart eval beir``: measure a model with and without its token vectors on a judged collection."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from ..options import (
    AsJson,
    BatchSize,
    CacheFolder,
    Floor,
    LambdaAnchor,
    LambdaLate,
    Layers,
    Model,
    NoCache,
    Out,
    Preset,
    Split,
    TokenFilter,
    Weights,
    cache_of,
    floor_of,
    layers_of,
)
from ..output import deliver


def beir(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder with corpus.jsonl, queries.jsonl and qrels/<split>.tsv.")
    ],
    model: Model = "minilm",
    preset: Preset = None,
    layers: Layers = None,
    mix: Annotated[str | None, typer.Option(help="How several layers become one vector: mean or concat.")] = None,
    token_filter: TokenFilter = None,
    weights: Weights = None,
    lambda_anchor: LambdaAnchor = None,
    lambda_late: LambdaLate = None,
    floor: Floor = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Compare with BM25, anchor + BM25 (two fusions) and SMART + BM25.")
    ] = False,
    codec: Annotated[
        str | None,
        typer.Option(metavar="all|NAME,…", help="Quality against bytes: all, or codecs such as int8,float32/pool2."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --codec: plot quality against bytes (extra plot).")
    ] = None,
    per_query: Annotated[
        bool, typer.Option("--per-query", help="Keep every query's metrics, for paired tests in smart report.")
    ] = False,
    split: Split = "test",
    batch_size: BatchSize = None,
    cache: CacheFolder = None,
    no_cache: NoCache = False,
    as_json: AsJson = False,
    out: Out = None,
) -> None:
    """Compare a model's anchor with late and hybrid ranking on a BEIR-layout folder.

    Encodings are kept, so that another weighting of the same model encodes nothing again.
    """
    chosen_layers = layers_of(layers)
    encodings = cache_of(cache, no_cache)
    if compare and codec is not None:
        raise typer.BadParameter("found both --compare and --codec, expected one of them")
    if plot is not None and codec is None:
        raise typer.BadParameter("found --plot without --codec, expected --codec all or --codec NAME beside it")
    # Imported here, so that --help needs neither NumPy nor a model.
    from ...evaluation.terminal import print_table

    measure: Callable[..., Any]
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
        layers=chosen_layers,
        mix=mix,
        token_filter=token_filter,
        weights=weights or "preset",
        lambda_anchor=lambda_anchor,
        lambda_late=lambda_late,
        floor=floor_of(floor),
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
