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
    """The model card; no name or value can break out of its line or its cell."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    # Markdown: escaping for HTML would change names and paths.
    environment = Environment(loader=PackageLoader(__package__), undefined=StrictUndefined, trim_blocks=True)
    environment.filters |= {
        "cell": lambda value: " ".join(str(value).split()).replace("|", "\\|"),
        "count": "{:,}".format,
        "repr": repr,
    }
    template = environment.get_template("card.md.j2")
    return template.render(record, settings={**record["readout"], **record["recipe"]})
