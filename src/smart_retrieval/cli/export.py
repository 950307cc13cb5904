"""``smart export``: this package's models in other people's formats."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Write other formats.")


@app.callback()
def _group() -> None:
    """Keep ``st`` a named command."""


@app.command()
def st(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A packaged name, a folder, or a hub name.")],
    out: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to write.")],
    layers: Annotated[
        str | None, typer.Option(metavar="-1", help="Hidden states to read, over the model's own.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, …; the best at hand when left out.")] = None,
) -> None:
    """Write a stock late-only MultiVectorEncoder where that is exact; refuse and say why where it is not."""
    from ..core.readout import Readout
    from ..model.smart_model import SmartModel
    from ..training.finetune.export_st import export_multi_vector_encoder
    from .train import _layers

    readout = Readout(_layers(layers)) if layers else None
    folder = export_multi_vector_encoder(SmartModel(model, readout=readout, preset="paper", device=device), out)
    typer.echo(f"{folder}: MultiVectorEncoder({str(folder)!r}) gives the token vectors; the anchor is left out")
