"""``smart demo``: a real model beaten by its own hidden states, on this machine, in minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import AsJson, CacheFolder, known_model


def demo(
    visual: Annotated[bool, typer.Option("--visual", help="Search images of pages instead of text.")] = False,
    model: Annotated[
        str | None,
        typer.Option(
            callback=known_model,
            help="A packaged name, a folder, or a hub name. [default: minilm; with --visual, glyph]",
        ),
    ] = None,
    preset: Annotated[str, typer.Option(help="paper or default; for texts.")] = "default",
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --visual, where to write the explanation. [default: the user's cache]"),
    ] = None,
    cache: CacheFolder = None,
    as_json: AsJson = False,
) -> None:
    """Search the documentation of this Python's standard library, or drawn pages, with and without token vectors."""
    if visual:
        from ..demo.visual_demo import run_visual_demo

        run_visual_demo(model=model or "glyph", cache=cache, out=out, as_json=as_json)
    else:
        from ..demo.text_demo import run_demo

        run_demo(model=model or "minilm", preset=preset, cache=cache, as_json=as_json)
