"""``smart split``: an index in shards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..options import AsJson, IndexPath
from ..output import echo_json, plural, printable


def split(
    index_path: IndexPath,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder, for shard-00000, shard-00001, ...")],
    shards: Annotated[int, typer.Option("--shards", "-n", min=1, help="How many.")],
    as_json: AsJson = False,
) -> None:
    """Copy INDEX into shards in the folder OUT, which search, explain, info and delete take as one index.

    All of them keep the codec and the calibration of INDEX, so the hits stay the same. INDEX is not changed.
    """
    from ...index.shards.split import split_index
    from ...index.smart_index import SmartIndex

    with SmartIndex.open(index_path, mode="r") as index:
        places = split_index(index, out, shards)
        documents = len(index)
    if as_json:
        echo_json({"index": str(index_path), "shards": [str(place) for place in places], "documents": documents})
    else:
        typer.echo(printable(f"{plural(documents, 'passage')} in {plural(len(places), 'shard')} at {out}"))
