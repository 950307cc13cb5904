"""``smart backup``: a copy of an index that is in use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..options import AsJson, IndexPath
from ..output import echo_json, plural, printable


def backup(
    index_path: IndexPath,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder.")],
    as_json: AsJson = False,
) -> None:
    """Copy INDEX, or a folder of shards, into the folder OUT, while it is searched and written to.

    The copy is of one whole commit (of shards: of each one's newest), and an index like any other.
    """
    from ...index.shards.sharded_index import open_index

    with open_index(index_path, mode="r") as index:
        index.backup(out)
    with open_index(out, mode="r") as copied:
        found = copied.info()
    if as_json:
        echo_json(
            {"index": str(index_path), "backup": str(out), **{name: found[name] for name in ("documents", "updated")}}
        )
    else:
        typer.echo(printable(f"{plural(found['documents'], 'passage')} as of {found['updated']} in {out}"))
