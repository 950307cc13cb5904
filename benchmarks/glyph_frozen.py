"""The paper's claim on a model trained from scratch: the frozen hybrid against the anchor on held-out glyph pages.

Takes the output folders of ``examples/glyph_pages/train.py`` (one a seed), measures each saved checkpoint on the test
pages, and draws the learning curves. A control with random weights is measured beside them. The curves and the paper's
setting are measured by the example's own fast forward pass, the library's default by the library as a user calls it.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from lib.record import record

from smart_retrieval import SmartModel
from smart_retrieval.core.hybrid import anchor_scores, hybrid_scores
from smart_retrieval.demo.glyph_pages import STYLES, held
from smart_retrieval.evaluation.metrics import per_query_metrics, rank
from smart_retrieval.evaluation.significance import paired_comparison

ROOT = Path(__file__).resolve().parent.parent
SCORES = ("late_paper", "hybrid_paper", "late_content", "hybrid_content")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="output folders of the training, one a seed")
    parser.add_argument("--longer", type=Path, nargs="*", default=[], help="runs of some seed that went on for longer")
    parser.add_argument("--pages", type=int, default=1000)
    parser.add_argument("--plot", type=Path, default=ROOT / "docs" / "images" / "glyph_curve.svg")
    arguments = parser.parse_args()
    bench = Bench(arguments.pages)
    seeds = [bench.run(folder) for folder in arguments.runs]
    longer = [bench.run(folder) for folder in arguments.longer]
    figures = {"pages": arguments.pages, "levels": bench.levels, "seeds": seeds, "longer": longer}
    record("glyph_frozen", figures)
    plot(seeds, arguments.plot)


class Bench:
    """The test pages, and the code of the example, imported from its folder."""

    def __init__(self, pages: int) -> None:
        sys.path.insert(0, str(ROOT / "examples" / "glyph_pages"))
        self.transformers: Any = importlib.import_module("transformers")
        self.checkpoint: Any = importlib.import_module("checkpoint")
        self.fast_forward: Any = importlib.import_module("fast_forward")
        self.measure: Any = importlib.import_module("measure")
        self.training: Any = importlib.import_module("train")
        self.pages = pages
        self.judged: Any = None
        self.levels: dict[str, Any] = {}

    def run(self, folder: Path) -> dict[str, Any]:
        """Measure the checkpoint of one training run; the first one also sets up pages and control."""
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        settings = state["arguments"]
        size = STYLES[settings["style"]].size
        grid = (size[0] // 16, size[1] // 16)
        tokenizer = self.transformers.AutoTokenizer.from_pretrained(folder / "model")
        # Stored in float16, run in float32, as a user of the checkpoint would on a CPU.
        model = self.transformers.AutoModel.from_pretrained(folder / "model", dtype="float32").eval()
        fast = self.fast_forward.PageModel(model, tokenizer, grid)
        if self.judged is None:
            texts = self.training.Texts(tokenizer, settings["style"], fast.closing, fast.pad_id)
            self.judged = self.measure.Held("test", self.pages, settings["style"], texts)
            config = self.checkpoint.build_config(tokenizer, **settings["config"])
            random = self.fast_forward.PageModel(
                self.transformers.AutoModel.from_config(config).eval(), tokenizer, grid
            )
            self.levels = chance_and_oracle(self.judged, settings["style"])
            self.levels["random_weights"] = self.measure.judge(random, self.judged)
        values = self.measure.per_query(self.judged, self.measure.encode(fast, self.judged))
        compared = {name: paired_comparison(values["anchor"], values[name]).to_dict() for name in SCORES}
        library = through_library(folder / "model", self.judged.collection)
        for name in ("hybrid_paper", "hybrid_default"):
            compared[f"library_{name}"] = paired_comparison(library["anchor"], library[name]).to_dict()
            gain = compared[f"library_{name}"]
            print(
                f"seed {settings['seed']}, {state['step']} steps: anchor {gain['mean_baseline']:.4f}, {name} "
                f"{gain['mean_treatment']:.4f} ({gain['relative']:+.1%}, p = {gain['p_value']:.1g})",
                file=sys.stderr,
            )
        return {
            "seed": settings["seed"],
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "ndcg@10": {name: float(value.mean()) for name, value in values.items()},
            "ndcg@10_through_library": {name: float(value.mean()) for name, value in library.items()},
            "by_objects_named": by_length(self.judged, values),
            "over_anchor": compared,
            "steps": state["step"],
            "decay_from": state["decay_from"],
            "why_decayed": state.get("reason"),
            "training_seconds": round(state["seconds"]),
            "settings": {name: value for name, value in settings.items() if name != "out"},
            "curve": state["curve"],
        }


def through_library(model: Path, collection: Any) -> dict[str, Any]:
    """nDCG@10 of each query as a user gets it: `SmartModel`, and the paper's and the default scoring."""
    smart = SmartModel(model, preset="default", device="cpu")
    queries = smart.encode_query([query.text for query in collection.queries])
    pages = smart.encode_document([page.image() for page in collection.pages])
    scores = {
        "anchor": anchor_scores(queries, pages),
        "hybrid_paper": hybrid_scores(queries, pages),
        "hybrid_default": smart.similarity(queries, pages),
    }  # fmt: skip
    ids, names = [page.id for page in collection.pages], [query.id for query in collection.queries]
    return {
        name: per_query_metrics(collection.qrels, dict(zip(names, rank(values, ids, 10), strict=True)))["ndcg@10"]
        for name, values in scores.items()
    }


def by_length(judged: Any, values: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Mean nDCG@10 of the queries that name one, two, three or four objects."""
    lengths = np.array([len(query.objects) for query in judged.collection.queries])
    return {
        str(length): {name: float(values[name][lengths == length].mean()) for name in ("anchor", "hybrid_paper")}
        for length in sorted(set(lengths.tolist()))
    }


def chance_and_oracle(judged: Any, style: str) -> dict[str, float]:
    """NDCG@10 of random scores, and of the number of named objects that a page holds."""
    collection = judged.collection
    pages, queries = [page.id for page in collection.pages], [query.id for query in collection.queries]
    wanted = held([query.objects for query in collection.queries], style).astype(float)
    counts = wanted @ held([page.objects for page in collection.pages], style).astype(float).T
    scores = {"chance": np.random.default_rng(0).random(counts.shape), "oracle": counts}
    return {
        name: float(
            per_query_metrics(collection.qrels, dict(zip(queries, rank(values, pages, 10), strict=True)))[
                "ndcg@10"
            ].mean()
        )
        for name, values in scores.items()
    }


def plot(seeds: list[dict[str, Any]], target: Path) -> None:
    """Draw anchor, late and hybrid over training, a line for each seed."""
    matplotlib: Any = importlib.import_module("matplotlib")
    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "glyph"
    pyplot: Any = importlib.import_module("matplotlib.pyplot")
    figure, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    lines = {
        "hybrid_paper": ("#0b6e4f", "hybrid"),
        "anchor": ("#c0392b", "anchor"),
        "late_paper": ("#4a6fa5", "late only"),
    }
    for name, (colour, label) in lines.items():
        for seed in seeds:
            steps = [point["step"] for point in seed["curve"]]
            heights = [point["test"][name] for point in seed["curve"]]
            axes.plot(steps, heights, color=colour, linewidth=1.4, alpha=0.8, label=label if seed is seeds[0] else None)
            axes.plot(steps[-1:], heights[-1:], "o", color=colour, markersize=4)
    for seed in seeds:
        axes.axvline(seed["decay_from"], color="grey", linewidth=0.6, linestyle=":")
    axes.set_xlabel("training steps (dotted: the learning rate begins to fall)")
    axes.set_ylabel("nDCG@10 on held-out pages")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, loc="upper left")
    axes.set_title(f"Glyph pages: trained on the pooled vector alone, {len(seeds)} seeds", fontsize=10)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, metadata={"Date": None})
    print(f"wrote {target}", file=sys.stderr)


if __name__ == "__main__":
    main()
