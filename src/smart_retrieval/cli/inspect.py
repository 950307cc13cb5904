"""``smart inspect``: what a model is, and whether SMART applies to it."""

from __future__ import annotations

import sys

import typer

from .options import AsJson, ModelArgument, ModelGiven, with_model_options
from .output import echo_json


@with_model_options
def inspect(
    model: ModelArgument = "minilm",
    as_json: AsJson = False,
    *,
    model_options: ModelGiven,
) -> None:
    """Show family, pooling, dimensions, layers, special tokens and prompts of MODEL, and whether SMART applies."""
    from ..model.describe import describe_model, render_description

    description = describe_model(model, **model_options)
    if as_json:
        echo_json(description)
    else:
        from rich.console import Console

        Console(file=sys.stdout, highlight=False).print(render_description(description))
    if not description["smart"]["applies"]:
        raise typer.Exit(1)
