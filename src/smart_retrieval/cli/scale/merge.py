"""``smart merge``: one index of shards."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from ..options import AsJson
from ..output import echo_json, plural, printable


def merge(
    sources: Annotated[
        list[Path],
        typer.Argument(metavar="INDEX...", help="Indexes of one model and codec, or a folder that split wrote."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The new index's folder.")],
    as_json: AsJson = False,
) -> None:
    """Copy shards, or any indexes of one model, settings and codec, into one new index."""
    from ...index.shards.split import merge_indexes, shard_folders
    from ...index.smart_index import SmartIndex

    places = [place for source in sources for place in shard_folders(source) or [source]]
    with ExitStack() as stack:
        indexes = [stack.enter_context(SmartIndex.open(place, mode="r")) for place in places]
        merge_indexes(indexes, out)
        documents = sum(map(len, indexes))
    if as_json:
        echo_json({"index": str(out), "merged": [str(place) for place in places], "documents": documents})
    else:
        typer.echo(printable(f"{plural(documents, 'passage')} of {len(places)} indexes in {out}"))
