"""``smart probe``: does SMART help this model on these data, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .output import cache_of, deliver


def probe(
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            metavar="DIR",
            help="A folder with corpus.jsonl, queries.jsonl and qrels/<split>.tsv; or without judgments, or of text "
            "files: then queries are made from the documents.",
        ),
    ],
    model: Annotated[str, typer.Option(help="A packaged name, a folder, or a hub name.")] = "minilm",
    documents: Annotated[int, typer.Option(min=2, help="Most documents; relevant ones are always kept.")] = 4_000,
    queries: Annotated[int, typer.Option(min=1, help="Most queries.")] = 400,
    known_item: Annotated[
        bool, typer.Option("--known-item", help="Make queries from the documents although there are judgments.")
    ] = False,
    split: Annotated[str, typer.Option(help="Which qrels file to judge by.")] = "test",
    seed: Annotated[int, typer.Option(help="Of every random choice.")] = 0,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Most texts in one forward pass.")] = None,
    cache: Annotated[
        Path | None,
        typer.Option("--cache", metavar="DIR", help="Where encodings are kept. [default: the user's cache]"),
    ] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Keep no encodings and use none.")] = False,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write one page of HTML with every plot and table.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of the table.")] = False,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write the JSON object to a file.")] = None,
) -> None:
    """Find out whether SMART helps a model on your data, and where that comes from.

    Measures anchor, late and hybrid under the paper's and the default setting, layer by layer, over λ_late, filters,
    weights, floors and lengths, all with intervals. Everything is encoded once.
    """
    encodings = cache_of(cache, no_cache)
    # Imported here, so that --help needs neither NumPy nor a model.
    from ..evaluation.probing.page import write_page
    from ..evaluation.probing.probe import probe as run
    from ..evaluation.probing.table import print_probe

    result = run(
        data,
        model=model,
        documents=documents,
        queries=queries,
        known_item=known_item,
        split=split,
        seed=seed,
        cache=encodings,
        batch_size=batch_size,
        progress=None,
    )
    if html is not None:
        write_page(result, html)
    deliver(result, print_probe, as_json=as_json, out=out)
