"""``smart optimize``: reclaim space, fit the codec."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from .options import AsJson, IndexModel, IndexPath
from .output import echo_json, size


def optimize(
    index_path: IndexPath,
    refit: Annotated[
        bool, typer.Option("--refit", help="Refit the codec; encodes every passage again from its text.")
    ] = False,
    model: IndexModel = None,
    as_json: AsJson = False,
) -> None:
    """Reclaim the space of deleted passages, and fit the codec if that is still pending."""
    from ..index.smart_index import SmartIndex

    started = time.perf_counter()
    with SmartIndex.open(index_path, model) as index:
        before = index.info()
        index.optimize(refit=refit)
        after = index.info()
    sizes = [info["bytes"]["database"] + info["bytes"]["wal"] for info in (before, after)]
    if not as_json:
        typer.echo(f"{size(sizes[0])} before, {size(sizes[1])} after; codec {after['codec']}")
        return
    echo_json(
        {
            "index": str(index_path),
            "bytes": {"before": sizes[0], "after": sizes[1]},
            "codec": {"before": before["codec"], "after": after["codec"]},
            "seconds": round(time.perf_counter() - started, 3),
        }
    )
