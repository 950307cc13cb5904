"""``smart delete``: delete passages from an index."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from .options import AsJson, IndexAddress
from .output import echo_json, plural


def delete(
    index_path: IndexAddress,
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID", help="Ids, as search prints them.")] = None,
    where: Annotated[str | None, typer.Option(help="Delete what passes this filter: \"source = 'old.md'\".")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before deleting by filter.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete passages by id or by filter, as one commit.

    A later run of index does not restore passages unless their file changes.
    """
    if bool(ids) == (where is not None):
        raise typer.BadParameter("expected either ids or --where")
    from ..stores.index import StoreIndex
    from ..stores.opening import open_index

    with open_index(index_path) as index:
        if where is not None and not yes:
            count = index.count(where)
            if not sys.stdin.isatty():
                raise typer.BadParameter(f"--where chooses {count:,} passages; add --yes to delete them")
            typer.confirm(f"Delete {count:,} passages?", abort=True, err=True)
        deleted = index.delete(ids or None, where=where)
        # Without the password that an address may hold.
        shown = index.path if isinstance(index, StoreIndex) else index_path
    if as_json:
        echo_json({"index": shown, "deleted": deleted})
    else:
        typer.echo(f"deleted {plural(deleted, 'passage')}")
