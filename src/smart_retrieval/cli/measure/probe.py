"""``smart probe``: does SMART help this model on these data, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import options
from ..output import deliver


@options.with_model_options
def probe(
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            metavar="DIR",
            help="A folder with corpus.jsonl, queries.jsonl and qrels/<split>.tsv. For one without judgments, or a "
            "folder of text files, queries are made from the documents.",
        ),
    ],
    model: options.Model = "minilm",
    documents: options.Documents = 4_000,
    queries: options.Queries = 400,
    known_item: options.KnownItem = False,
    split: options.Split = "test",
    seed: options.Seed = 0,
    token_filter: options.TokenFilter = None,
    batch_size: options.BatchSize = None,
    cache: options.CacheFolder = None,
    no_cache: options.NoCache = False,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also write an HTML page with every plot and table (extra plot)."),
    ] = None,
    as_json: options.AsJson = False,
    out: options.Out = None,
    *,
    model_options: options.ModelGiven,
) -> None:
    """Find out whether SMART helps a model on your data, and why.

    Measures anchor, late and hybrid under the paper's and the default setting, layer by layer, over λ_late, filters,
    weights, floors and lengths, all with confidence intervals. Everything is encoded once.
    """
    encodings = options.cache_of(cache, no_cache)
    # Imported here, so that --help needs neither NumPy nor a model.
    from ...evaluation.probe import print_probe
    from ...evaluation.probe import probe as run

    result = run(
        data,
        model=model,
        documents=documents,
        queries=queries,
        known_item=known_item,
        split=split,
        seed=seed,
        token_filter=token_filter,
        html=html,
        cache=encodings,
        batch_size=batch_size,
        progress=None,
        model_options=model_options,
    )
    deliver(result, print_probe, as_json=as_json, out=out)
