"""``smart inspect``: what a model is, and whether SMART applies to it."""

from __future__ import annotations

import sys
from typing import Annotated

import typer


def inspect(
    model: Annotated[str, typer.Argument(help="A packaged name, a folder, or a hub name.")] = "minilm",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of the table.")] = False,
) -> None:
    """Show family, pooling, dimensions, layers, special tokens and prompts of MODEL, and whether SMART applies."""
    from ..backbones.describe import describe_model, render_description

    description = describe_model(model)
    if as_json:
        import json

        typer.echo(json.dumps(description, indent=1, ensure_ascii=False))
    else:
        from rich.console import Console

        Console(file=sys.stdout, highlight=False).print(render_description(description))
    if not description["smart"]["applies"]:
        raise typer.Exit(1)
