"""A tuning for people to read in a terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType

_COLUMNS = {
    "queries": "queries",
    "anchor": "anchor",
    "paper": "paper",
    "default": "default",
    "out_of_fold": "out of fold",
    "in_sample": "(in sample)",
}


def render_tune(result: Mapping[str, Any]) -> RenderableType:
    """Draw a tuning: its verdict, nDCG@10 of each collection, what each fold chose, and what is to be noted.

    Args:
        result: What `tune.tune` returned, or its JSON read back.

    Returns:
        Something rich can print. It fits 80 columns but for long names of settings.
    """
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("nDCG@10", no_wrap=True)
    for title in _COLUMNS.values():
        table.add_column(title, justify="right", no_wrap=True)
    for row in result["rows"]:
        table.add_row(
            row["name"], f"{row['queries']:,}", *(f"{row[name]:.4f}" for name in _COLUMNS if name != "queries")
        )
    said, agreed = result["verdict"], result["agreement"]
    parts = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in agreed.items() if name != "whole")
    folds = len(result["folds"])
    units = "multiples of the anchor's nDCG@10, each collection equally" if len(result["rows"]) > 1 else "nDCG@10"
    return Group(
        Text(said["headline"], style="bold"),
        Text(""),
        table,
        Text(""),
        *(Text(f"- {sentence}") for sentence in said["sentences"]),
        Text(""),
        *(Text(f"fold {row['fold'] + 1}: {row['chosen']['name']}") for row in result["folds"]),
        Text(f"of {folds} folds agree with the choice on all queries: {parts}"),
        Text(""),
        Text(f"note: {result['settings']:,} settings tried; differences in {units}; paired randomisation test"),
        *(Text(f"note: {note}") for note in result["notes"]),
    )


def print_tune(result: Mapping[str, Any]) -> None:
    """Print a tuning to stdout, in colour on a terminal only."""
    from rich.console import Console

    # Piped into a file there is no width to fit: lines stay whole.
    Console(width=None if sys.stdout.isatty() else 400, highlight=False).print(render_tune(result))
