"""``smart eval beir``: measure a model with and without its token vectors on a judged collection."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from .. import options
from ..output import deliver, if_stopped


@options.with_model_options
def beir(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder with corpus.jsonl, queries.jsonl and qrels/<split>.tsv.")
    ],
    model: options.Model = "minilm",
    preset: options.Preset = None,
    layers: options.Layers = None,
    mix: Annotated[str | None, typer.Option(help="How layers are combined: mean or concat.")] = None,
    token_filter: options.TokenFilter = None,
    weights: options.Weights = None,
    lambda_anchor: options.LambdaAnchor = None,
    lambda_late: options.LambdaLate = None,
    floor: options.Floor = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Compare with BM25, anchor + BM25 (two fusions) and SMART + BM25.")
    ] = False,
    codec: Annotated[
        str | None,
        typer.Option(
            metavar="all|NAME,…", help="Compare codecs by size and quality: all, or some such as int8,float32/pool2."
        ),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --codec: plot quality against size (extra plot).")
    ] = None,
    per_query: Annotated[
        bool, typer.Option("--per-query", help="Keep the metrics of every query, for paired tests in smart report.")
    ] = False,
    lexical: options.Lexical = False,
    lexical_weight: options.LexicalWeight = None,
    feedback: options.Feedback = 0.0,
    neighbours: options.Neighbours = 0.0,
    rerank: options.Rerank = None,
    rerank_depth: options.RerankDepth = None,
    split: options.Split = "test",
    batch_size: options.BatchSize = None,
    cache: options.CacheFolder = None,
    no_cache: options.NoCache = False,
    as_json: options.AsJson = False,
    out: options.Out = None,
    *,
    model_options: options.ModelGiven,
) -> None:
    """Compare a model's anchor with late and hybrid ranking on a BEIR-layout folder.

    Encodings are cached, so other weights of the same model need no new encoding. --lexical, --feedback, --neighbours
    and --rerank add a row, compared with the hybrid.
    """
    chosen_layers = options.layers_of(layers)
    scoring = options.scoring_of(weights, lambda_anchor, lambda_late, floor)
    encodings = options.cache_of(cache, no_cache)
    if compare and codec is not None:
        raise typer.BadParameter("found both --compare and --codec, expected one of them")
    refinements: dict[str, Any] = dict(options.refinements_of(feedback, neighbours, rerank, rerank_depth))
    words = lexical or lexical_weight is not None
    if (compare and (lexical or refinements)) or (codec is not None and (words or refinements)):
        raise typer.BadParameter(
            "found --lexical, --feedback, --neighbours or --rerank with --compare or --codec, expected neither; "
            "--compare measures BM25 itself, and takes --lexical-weight"
        )
    if plot is not None and codec is None:
        raise typer.BadParameter("found --plot without --codec, add --codec all or --codec NAME")
    # Imported here, so that --help needs neither NumPy nor a model.
    from ...evaluation.terminal import print_table

    if words:
        refinements["lexical_weight"] = options.lexical_of(lexical, lexical_weight)
    measure: Callable[..., Any]
    if compare:
        from ...evaluation.compare import compare_beir as measure
    elif codec is not None:
        from ...evaluation.codecs import evaluate_codecs as measure
        from ...extras import require

        if plot is not None:
            require("matplotlib", "plot")
        refinements["codecs"] = codec
    else:
        from ...evaluation.evaluate import evaluate_beir as measure
    with if_stopped("encodings that were finished stay in the cache"):
        result = measure(
            folder,
            model=model,
            preset=preset,
            layers=chosen_layers,
            mix=mix,
            token_filter=token_filter,
            split=split,
            cache=encodings,
            batch_size=batch_size,
            progress=None,
            model_options=model_options,
            **refinements,
            **scoring,
            **({"per_query": True} if per_query else {}),
        )
    if plot is not None:
        from ...evaluation.codecs import plot_codecs

        plot_codecs(result, plot)
    deliver(result, print_table, as_json=as_json, out=out)
