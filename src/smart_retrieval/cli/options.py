"""Options that several measuring commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[str, typer.Option(help="A packaged name, a folder, or a hub name.")]
Documents = Annotated[int, typer.Option(min=2, help="Most documents; relevant ones are always kept.")]
Queries = Annotated[int, typer.Option(min=1, help="Most queries.")]
Split = Annotated[str, typer.Option(help="Which qrels file to judge by.")]
Seed = Annotated[int, typer.Option(help="Of every random choice.")]
CacheFolder = Annotated[
    Path | None,
    typer.Option("--cache", metavar="DIR", help="Where encodings are kept. [default: the user's cache]"),
]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Keep no encodings and use none.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of the table.")]
Out = Annotated[Path | None, typer.Option(metavar="FILE", help="Also write the JSON object to a file.")]
