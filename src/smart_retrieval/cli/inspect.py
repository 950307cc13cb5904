"""``smart inspect``: what a model is, and whether SMART applies to it."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from .options import AsJson, ModelArgument
from .output import echo_json


def inspect(
    model: ModelArgument = "minilm",
    family: Annotated[
        str | None, typer.Option(help="The model family, for a checkpoint that is not known by its name or files.")
    ] = None,
    pooling: Annotated[
        str | None, typer.Option(help="lasttoken, mean or cls, for a model that does not say how it is pooled.")
    ] = None,
    truncate_dim: Annotated[
        int | None, typer.Option(help="Keep so many dimensions of the anchor, for a Matryoshka model.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show family, pooling, dimensions, layers, special tokens and prompts of MODEL, and whether SMART applies."""
    from ..model.describe import describe_model, render_description

    description = describe_model(model, family=family, pooling=pooling, truncate_dim=truncate_dim)
    if as_json:
        echo_json(description)
    else:
        from rich.console import Console

        Console(file=sys.stdout, highlight=False).print(render_description(description))
    if not description["smart"]["applies"]:
        raise typer.Exit(1)
