"""``smart eval layers``: which layer late interaction reads, on MMEB-V2."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .. import options
from ..output import console, echo_json


def layers(
    data_root: Annotated[Path, typer.Option(metavar="DIR", help="The folder MMEB-V2 was downloaded to.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the results go.")] = Path("mmeb-layers"),
    layers: Annotated[
        list[str] | None,
        typer.Option("--layers", metavar="4,8,…", help="Hidden states. [default: seven up to the last]"),
    ] = None,
    tasks: Annotated[
        list[str] | None, typer.Option(metavar="NAME,…|paper|all", help="Tasks by name. [default: paper]")
    ] = None,
    model: options.Model = "glyph",
    family: Annotated[str | None, typer.Option(help="The model's family, if its name does not contain it.")] = None,
    lambda_late: Annotated[float, typer.Option(help="Weight of the late score.")] = 1.0,
    skip_incomplete: options.SkipIncomplete = False,
    batch_size: options.BatchSize = None,
    max_visual_tokens: options.MaxVisualTokens = None,
    max_frames: options.MaxFrames = None,
    dtype: options.StoredType = "float16",
    device: options.Device = None,
    cache: options.CacheFolder = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Also draw the curves (extra plot).")] = None,
    as_json: options.AsJson = False,
) -> None:
    """Measure each layer's late score, beside the model's anchor and with an anchor of the same layer, on MMEB-V2."""
    if plot is not None:
        from ...extras import require

        require("matplotlib", "plot")
    from ...evaluation.layers import draw_layers, layers_table
    from ...evaluation.mmeb.layers import ablate_layers

    given: dict[str, Any] = {
        "family": family, "max_visual_tokens": max_visual_tokens, "max_frames": max_frames, "device": device,
    }  # fmt: skip
    found = ablate_layers(
        data_root,
        out,
        layers=options.layers_of(layers) or (),
        tasks=options.parts_of(tasks) or ["paper"],
        model=model,
        lambda_late=lambda_late,
        skip_incomplete=skip_incomplete,
        cache=cache,
        batch_size=batch_size,
        progress=None,
        dtype=dtype,
        **{name: value for name, value in given.items() if value is not None},
    )
    if plot is not None:
        draw_layers(found, plot)
    if as_json:
        echo_json(found)
    else:
        console().print(layers_table(found))
