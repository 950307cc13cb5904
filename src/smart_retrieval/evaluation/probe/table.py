"""A probe for people to read in a terminal: the verdict and a short table."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..significance import p_value_text
from ..terminal import notes

if TYPE_CHECKING:
    from rich.console import RenderableType


def render_probe(result: Mapping[str, Any]) -> RenderableType:
    """Draw a probe: its verdict, the systems, the best of the layers and of the weights, and what is to be noted.

    Args:
        result: What `probe.probe` returned, or its JSON read back.

    Returns:
        Something rich can print. It fits 80 columns.
    """
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("", no_wrap=True)
    for title in ("nDCG@10", "over the anchor", "95 % interval", "p"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in result["systems"]:
        gain = row["gain"]
        told = ("", "", "")
        if gain is not None:
            told = (
                f"{gain['difference']:+.4f}",
                f"{gain['ci_low']:+.4f} to {gain['ci_high']:+.4f}",
                p_value_text(gain["p_value"]),
            )
        table.add_row(row["name"], f"{row['value']:.4f}", *told)
    said = result["verdict"]
    # What is in the headline need not be told twice.
    told_notes = [*result["notes"], *(note for note in notes(result) if note not in result["notes"])]
    return Group(
        Text(said["headline"], style="bold"),
        Text(""),
        table,
        Text(""),
        *(Text(f"- {sentence}") for sentence in said["sentences"]),
        Text(""),
        *(Text(f"note: {note}") for note in told_notes),
    )


def print_probe(result: Mapping[str, Any]) -> None:
    """Print a probe to stdout, in colour on a terminal only."""
    from rich.console import Console

    # Piped into a file there is no width to fit: lines stay whole.
    Console(width=None if sys.stdout.isatty() else 400, highlight=False).print(render_probe(result))
