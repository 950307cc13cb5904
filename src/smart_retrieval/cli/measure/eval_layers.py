"""``smart eval layers``: which layer late interaction reads, on a judged collection or on MMEB-V2."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .. import options
from ..output import console, echo_json


@options.with_model_options
def layers(
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="[DIR]", help="A folder with corpus.jsonl, queries.jsonl and qrels/<split>.tsv."),
    ] = None,
    data_root: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Instead of it, the folder MMEB-V2 was downloaded to.")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="MMEB-V2: where the results go.")] = Path("mmeb-layers"),
    layers: Annotated[
        list[str] | None,
        typer.Option("--layers", metavar="4,8,…", help="Hidden states. [default: seven up to the last]"),
    ] = None,
    tasks: Annotated[
        list[str] | None, typer.Option(metavar="NAME,…|paper|all", help="MMEB-V2: tasks by name. [default: paper]")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            callback=options.known_model,
            help="A packaged name, a folder, or a hub name. [default: minilm; with --data-root, glyph]",
        ),
    ] = None,
    lambda_late: Annotated[float, typer.Option(help="Weight of the late score.")] = 1.0,
    skip_incomplete: options.SkipIncomplete = False,
    batch_size: options.BatchSize = None,
    discard: options.Discard = False,
    split: options.Split = "test",
    dtype: options.StoredType = "float16",
    cache: options.CacheFolder = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Also draw the curves (extra plot).")] = None,
    as_json: options.AsJson = False,
    *,
    model_options: options.ModelGiven,
) -> None:
    """Measure each layer's late score, beside the model's anchor and with an anchor of the same layer.

    On a judged collection in the BEIR layout, of texts or of pictures (`"image": "page.png"` in corpus.jsonl), or on
    MMEB-V2. Everything is encoded once.
    """
    if (folder is None) == (data_root is None):
        raise typer.BadParameter("found both DIR and --data-root or neither, expected one of them")
    if plot is not None:
        from ...extras import require

        require("matplotlib", "plot")
    from ...evaluation.layers import draw_layers, layers_table

    name = model or ("minilm" if folder else "glyph")
    chosen: dict[str, Any] = {
        "layers": options.layers_of(layers) or (), "model": name, "lambda_late": lambda_late,
        "batch_size": batch_size, "progress": None, "dtype": dtype, **model_options,
    }  # fmt: skip
    if folder is not None:
        from ...evaluation.probe.layers import ablate_collection

        found = ablate_collection(folder, split=split, cache=options.cache_of(cache, no_cache=False), **chosen)
    else:
        from ...evaluation.mmeb.layers import ablate_layers

        assert data_root is not None
        found = ablate_layers(
            data_root, out, tasks=options.parts_of(tasks) or ["paper"], skip_incomplete=skip_incomplete,
            discard=discard, cache=cache, **chosen,
        )  # fmt: skip
    if plot is not None:
        draw_layers(found, plot)
    if as_json:
        echo_json(found)
    else:
        console().print(layers_table(found))
