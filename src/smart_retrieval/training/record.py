"""What a training leaves in its folder beside the weights: its result, ``training.json`` and a model card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.readout import Readout
from ..errors import TrainingError
from .data.examples import TrainingSet
from .recipes import AdapterRecipe, FinetuneRecipe
from .validation import SYSTEMS

RECORD = "training.json"


@dataclass
class TrainingResult:
    """The result of a training, JSON-able by :meth:`to_dict`.

    Args:
        folder: Holds the adapter or the model.
        before: nDCG@10 of anchor, late and hybrid on the held-out queries, with the frozen readout; under
            ``lambda_late`` the late score's weight in the hybrid.
        after: The same with the weights that were kept.
        best_step: The step they are of.
        steps: Steps in all.
        curve: One entry for each validation: step, mean loss since the last one, and what ``before`` holds.
        seconds: Of training, validations included, encoding not.
        states: Where the states came from, in words.
    """

    folder: Path
    before: dict[str, float]
    after: dict[str, float]
    best_step: int
    steps: int
    curve: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    states: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {**vars(self), "folder": str(self.folder)}


def refuse_finished(folder: Path) -> None:
    """A folder that holds a finished training is not trained into again."""
    if (folder / RECORD).exists():
        raise TrainingError(f"{str(folder)!r}: found a finished training, expected a new folder")


def write_record(
    result: TrainingResult,
    recipe: AdapterRecipe | FinetuneRecipe,
    readout: Readout,
    backbone: Mapping[str, Any],
    training: TrainingSet,
    held: TrainingSet,
    **title: str,
) -> None:
    """Write ``training.json`` and ``README.md``; ``backbone`` is its identity as it was before the training."""
    record = {
        **title,
        "result": result.to_dict(),
        "recipe": recipe.to_dict(),
        "readout": readout.to_dict(),
        "backbone": dict(backbone),
        "data": training.describe(),
        "validation": held.describe(),
    }
    (result.folder / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    (result.folder / "README.md").write_text(_card(record), encoding="utf-8")


def _card(record: Mapping[str, Any]) -> str:
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
