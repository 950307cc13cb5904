"""``smart optimize``: give space back, fit the codec."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer


def optimize(
    index_path: Annotated[Path, typer.Argument(metavar="INDEX", help="The index's folder.")],
    refit: Annotated[
        bool, typer.Option("--refit", help="Fit the codec anew; encodes every passage again from its text.")
    ] = False,
    model: Annotated[str | None, typer.Option(help="The index's model, if it lies elsewhere by now.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Give the space of deleted passages back, and fit the codec if that is still to be done."""
    from ..index.smart_index import SmartIndex
    from .output import echo_json, size

    started = time.perf_counter()
    with SmartIndex.open(index_path, model) as index:
        before = index.info()
        index.optimize(refit=refit)
        after = index.info()
    sizes = [info["bytes"]["database"] + info["bytes"]["wal"] for info in (before, after)]
    if as_json:
        echo_json(
            {
                "index": str(index_path),
                "bytes": {"before": sizes[0], "after": sizes[1]},
                "codec": {"before": before["codec"], "after": after["codec"]},
                "seconds": round(time.perf_counter() - started, 3),
            }
        )
        return
    typer.echo(f"{size(sizes[0])} before, {size(sizes[1])} after; codec {after['codec']}")
