"""``smart tune``: choose layers, filter, weights, floor and λ_late on judged queries, by cross-validation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import options
from ..output import deliver


@options.with_model_options
def tune(
    data: Annotated[
        list[Path],
        typer.Option(
            "--data",
            metavar="DIR",
            help="A folder with corpus.jsonl, queries.jsonl and qrels/<split>.tsv. Repeatable; all folders count "
            "equally.",
        ),
    ],
    model: options.Model = "minilm",
    folds: Annotated[int, typer.Option(min=2, help="Number of cross-validation folds.")] = 5,
    write: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Write the setting there if it is significantly better: a new folder, or the one --model names.",
        ),
    ] = None,
    documents: options.Documents = 4_000,
    queries: options.Queries = 400,
    known_item: options.KnownItem = False,
    split: options.Split = "test",
    seed: options.Seed = 0,
    batch_size: options.BatchSize = None,
    cache: options.CacheFolder = None,
    no_cache: options.NoCache = False,
    as_json: options.AsJson = False,
    out: options.Out = None,
    *,
    model_options: options.ModelGiven,
) -> None:
    """Find the setting of a model that ranks your data best, and its gain on held-out queries.

    Layers, token filter, query-token weights, floor and λ_late are chosen by cross-validation over the queries. Nothing
    is trained, and everything is encoded once.
    """
    encodings = options.cache_of(cache, no_cache)
    # Imported here, so that --help needs neither NumPy nor a model.
    from ...evaluation.tune import print_tune
    from ...evaluation.tune import tune as run

    result = run(
        data,
        model=model,
        folds=folds,
        documents=documents,
        queries=queries,
        known_item=known_item,
        split=split,
        seed=seed,
        write=write,
        cache=encodings,
        batch_size=batch_size,
        progress=None,
        model_options=model_options,
    )
    deliver(result, print_tune, as_json=as_json, out=out)
