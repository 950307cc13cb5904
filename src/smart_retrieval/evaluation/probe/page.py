"""A probe as one web page that loads nothing and runs nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log2
from pathlib import Path
from typing import Any

from ...files import write_text
from ...templates import render
from ..significance import p_value_text
from .charts import Chart, Series, columns, curves, dots
from .verdict import all_notes

Result = Mapping[str, Any]


def write_page(result: Result, file: Path) -> None:
    """Write `probe_page` to a file; its folder is made if need be.

    Raises:
        MissingExtraError: matplotlib is not installed.
        SmartError: The file cannot be written.
    """
    write_text(probe_page(result), file)


def probe_page(result: Result) -> str:
    """Draw a probe: the verdict, then every curve and table it rests on.

    Nothing is loaded from anywhere, nothing runs; everything that is shown is escaped.

    Args:
        result: What `probe` returned, or its JSON read back.

    Returns:
        A page of HTML.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    from markupsafe import Markup

    charts = {name: chart._replace(svg=Markup(chart.svg)) for name, chart in _charts(result).items()}
    notes = all_notes(result)
    return render(__package__, "probe.html.j2", result=result, charts=charts, notes=notes, p_value=p_value_text)


def _charts(result: Result) -> dict[str, Chart]:
    systems, anchor = result["systems"], result["systems"][0]["value"]
    changes: list[tuple[str, Any]]
    changes = [(row["name"], {**row["gain"], "value": row["gain"]["difference"]}) for row in result["variants"]]
    by_weight = [
        Series(one["preset"], [(log2(1 + row["lambda_late"]), row) for row in one["points"]], log2(1 + one["chosen"]))
        for one in result["lambda_late"]
    ]
    charts = {
        "systems": dots("nDCG@10", [(row["name"], row) for row in systems], x_label="nDCG@10", baseline=anchor),
        "late_by_layer": _by_layer(result["layers"]["points"], "late", anchor),
        "hybrid_by_layer": _by_layer(result["layers"]["points"], "hybrid", anchor),
        "lambda_late": curves(
            "nDCG@10 of the hybrid by the weight of the late score",
            by_weight,
            x_label="λ_late (anchor: 1); large: the preset's own",
            ticks=[(log2(1 + value), f"{value:g}") for value in (0, 0.5, 1, 2, 4, 8)],
            anchor=anchor,
        ),
        "query_length": _by_length(result["query_length"], "tokens of the query"),
        "document_length": _by_length(result["document_length"], "tokens of its relevant documents"),
    }
    if changes:
        charts["variants"] = dots(
            "Differences from the default", changes, x_label="nDCG@10 over the default", baseline=0
        )
    return charts


def _by_layer(points: Sequence[Result], system: str, anchor: float) -> Chart:
    """Quality of one system over the layers, by weighting; layer None is what an adapter reads."""
    by_weights: dict[str, list[Any]] = {}
    ticks: dict[float, str] = {}
    for row in points:
        if row["system"] == system:
            x = row["layer"] or 0
            by_weights.setdefault(row["weights"], []).append((x, row))
            ticks[x] = "adapter" if row["layer"] is None else str(x)
    return curves(
        f"nDCG@10 of {system} by layer",
        [Series(f"{system}, {name} weights", own) for name, own in by_weights.items()],
        x_label="hidden state (0: embeddings)",
        ticks=list(ticks.items()),
        anchor=anchor,
    )


def _by_length(bins: Sequence[Any], label: str) -> Chart:
    rows = []
    for row in bins:
        low, high = f"{row['low']:.0f}", f"{row['high']:.0f}"
        rows.append((f"{low if low == high else f'{low}–{high}'}\nn = {row['queries']}", row))
    return columns(f"Gain over the anchor by {label}", rows, x_label=label, y_label="gain in nDCG@10")
