"""The model card of a trained folder: recipe, data, curve, and quality before and after."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .validation import SYSTEMS


def write_card(file: Path, record: Mapping[str, Any]) -> None:
    """Write ``README.md``.

    Args:
        file: Where to.
        record: What ``training.json`` holds: result, recipe, readout, backbone, data, validation.
    """
    file.write_text(card(record), encoding="utf-8")


def card(record: Mapping[str, Any]) -> str:
    """The card's text, Markdown."""
    result, backbone, data, held = (record[key] for key in ("result", "backbone", "data", "validation"))
    kept = result["best_step"]
    lines = [
        "---",
        "library_name: smart-retrieval",
        f"base_model: {_cell(backbone['name'])}",
        "---",
        "",
        f"# {record.get('title', 'SMART adapter')} for {_cell(backbone['name'])}",
        "",
        f"Load it with `SmartModel({str(result['folder'])!r})` of the package `smart-retrieval`. "
        f"Backbone: {_cell(backbone['name'])}, revision {backbone.get('revision')}, weights {backbone['fingerprint']}.",
        "",
        "## Before and after",
        "",
        f"nDCG@10 of {held['examples']:,} held-out queries against {held['documents']:,} documents; none of their own "
        "documents was trained on. These queries also chose the checkpoint, so the gain is a little flattered.",
        "",
        "| | " + " | ".join(SYSTEMS) + " | lambda_late |",
        "|---|" + "---|" * (len(SYSTEMS) + 1),
        "| frozen | " + _figures(result["before"]),
        "| trained | " + _figures(result["after"]),
        "",
        f"Kept: step {kept} of {result['steps']}" + (" (training did not improve on the start)." if not kept else "."),
        "",
        "## Data",
        "",
        f"{_cell(data['name'])}: {data['examples']:,} queries, {data['documents']:,} documents, "
        f"{data['positives']:,} positives, {data['negatives']:,} hard negatives"
        + (", with a teacher's scores." if data["teacher"] else "."),
        *(f"* {_cell(warning)}" for warning in data["warnings"]),
        "",
        "## Recipe",
        "",
        "| setting | value |",
        "|---|---|",
        *(f"| {name} | {_cell(value)} |" for name, value in {**record["readout"], **record["recipe"]}.items()),
        "",
        "## Curve",
        "",
        "| step | loss | " + " | ".join(SYSTEMS) + " | lambda_late |",
        "|---|---|" + "---|" * (len(SYSTEMS) + 1),
        *(f"| {point['step']} | {point['loss']:.4f} | " + _figures(point) for point in result["curve"]),
        "",
    ]
    return "\n".join(lines)


def _figures(values: Mapping[str, float]) -> str:
    """The rest of a row."""
    return "".join(f"{values[name]:.4f} | " for name in SYSTEMS) + f"{values['lambda_late']:g} |"


def _cell(value: Any) -> str:
    """Text that cannot break out of its line or its cell."""
    return " ".join(str(value).split()).replace("|", "\\|")
