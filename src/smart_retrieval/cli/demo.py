"""``smart demo``: a real model beaten by its own hidden states, on this machine, in minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    model: Annotated[str, typer.Option(help="A packaged name, a folder, or a hub name.")] = "minilm",
    preset: Annotated[str, typer.Option(help="paper or default.")] = "default",
    cache: Annotated[
        Path | None,
        typer.Option("--cache", metavar="DIR", help="Where encodings are kept. [default: the user's cache]"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
) -> None:
    """Search the documentation of this Python's standard library with and without token vectors."""
    from ..demo.show import run_demo

    run_demo(model=model, preset=preset, cache=cache, as_json=as_json)
