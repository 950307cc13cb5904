"""Trainings of ``examples/glyph_pages/train.py``: the example's own code, its saved weights, and the test pages."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from smart_retrieval.demo.glyph_pages import STYLES, glyph_page, held

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Run:
    """The output folder of one training.

    Attributes:
        folder: Where it lies.
        settings: The arguments it was started with.
        state: Its curve, the step it ended at, and its seconds.
    """

    folder: Path
    settings: dict[str, Any]
    state: dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> Run:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        return cls(folder, {"objective": "anchor", **state.pop("arguments")}, state)

    @property
    def name(self) -> str:
        """Objective and seed."""
        return f"{self.settings['objective']}{self.settings['seed']}"

    def facts(self) -> dict[str, Any]:
        """What a result says of the training, without where it lies."""
        settings = {name: value for name, value in self.settings.items() if name != "out"}
        return {"objective": settings["objective"], "seed": settings["seed"], "settings": settings}

    def snapshots(self) -> list[tuple[int, Path]]:
        """The steps measured, and the files of the weights then."""
        return [(int(path.stem), path) for path in sorted((self.folder / "snapshots").glob("*.pt"))]


class Glyph:
    """The example's code, and what it needs for one style of pages."""

    def __init__(self, style: str = "shapes") -> None:
        sys.path.insert(0, str(ROOT / "examples" / "glyph_pages"))
        self.checkpoint: Any = importlib.import_module("checkpoint")
        self.forward: Any = importlib.import_module("fast_forward")
        self.measure: Any = importlib.import_module("measure")
        self.objectives: Any = importlib.import_module("objectives")
        self.training: Any = importlib.import_module("train")
        self.transformers: Any = importlib.import_module("transformers")
        self.style = style
        self.kinds = {kind: number for number, kind in enumerate(STYLES[style].kinds)}
        self.grid = tuple(side // 16 for side in STYLES[style].size)
        self.tokenizer: Any = self.checkpoint.build_tokenizer()
        fast = self.random(0)
        self.texts: Any = self.objectives.Texts(self.tokenizer, style, fast.closing, fast.pad_id)

    def random(self, seed: int, *, plain: bool = False, **config: Any) -> Any:
        """The forward pass of a model as training with this seed starts out, or as transformers does."""
        torch.manual_seed(seed)
        model = self.transformers.Qwen3VLModel(self.checkpoint.build_config(self.tokenizer, **config)).eval()
        if not plain:
            self.checkpoint.initialise(model)
        return self.forward.PageModel(model, self.tokenizer, self.grid)

    def saved(self, run: Run) -> Any:
        """The forward pass of the model that a training saved, stored in float16 and run in float32 as on any CPU."""
        model = self.transformers.AutoModel.from_pretrained(run.folder / "model", dtype="float32").eval()
        return self.forward.PageModel(model, self.tokenizer, self.grid)

    def judged(self, pages: int) -> Any:
        """Test pages and queries."""
        return self.measure.Held("test", pages, self.style, self.texts)

    def batch(self, size: int, draws: int, number: int = 0) -> Any:
        """A batch of training pages and queries, for timings."""
        pages = [glyph_page("train", number * size + i, style=self.style) for i in range(size)]
        marks = torch.from_numpy(held([page.objects for page in pages], self.style))
        queries, spurious = self.training.draw_queries(marks, draws, np.random.default_rng(number))
        patches = torch.cat([self.forward.to_patches(torch.from_numpy(page.pixels())[None]) for page in pages])
        objects = [np.array([self.kinds[kind] for kind in page.objects]) for page in pages]
        return self.objectives.Batch(patches, queries, spurious, objects)


def parse_runs(parser: argparse.ArgumentParser, name: str, text: str) -> None:
    """Add an option that takes output folders of the training."""
    parser.add_argument(name, type=lambda value: Run.read(Path(value)), nargs="+", default=[], metavar="RUN", help=text)
