"""Does the pooled contrastive loss alone shape the token states so that their cosine means relevance?

Takes trainings of ``examples/glyph_pages/train.py`` with ``--snapshots``: ``--objective anchor`` (the pooled
loss), and as controls ``--objective language`` or ``language_queries`` (the same pages and optimiser, next-token
prediction alone). The other control is the first weights as they are. At every snapshot the token states of test
pages and queries are measured; what is measured is defined in `Flow.states`, and what it shows is told in
docs/gradient_flow.md.

    python benchmarks/gradient_flow.py --anchor runs/anchor3 --language runs/language3 --final runs/seed0 runs/hybrid0
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lib.glyph_runs import ROOT, Glyph, parse_runs
from lib.record import record

from smart_retrieval.core.hybrid import anchor_scores
from smart_retrieval.core.late import late_scores
from smart_retrieval.embeddings import SmartEmbeddings
from smart_retrieval.evaluation.metrics import per_query_metrics, rank

LINES = {
    "anchor": ("#0b6e4f", "-", "pooled contrastive loss"),
    "language": ("#c0392b", "-", "language modelling alone"),
    "language_queries": ("#d98c2b", "-", "language modelling, queries too"),
    "random": ("#555555", "--", "first weights, untrained"),
    "random_plain": ("#999999", ":", "random weights of transformers"),
}
PANELS = {
    "late_paper": "late only, nDCG@10",
    "anchor": "anchor, nDCG@10",
    "separation": "separation of MaxSim (standard deviations)",
    "alignment": "alignment, relevant (full) and other pages (thin)",
    "pointing": "named object's best token is its own cell",
    "uniformity_pages": "uniformity of the pages' tokens",
}

Measure = Callable[[Any], dict[str, float]]

#: Scores are float32 of about 1; pages whose scores spread by less than this are not told apart.
ROUNDING = 1e-6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parse_runs(parser, "--anchor", "trained with the pooled loss, with snapshots")
    parse_runs(parser, "--language", "trained with language modelling alone, with snapshots")
    parse_runs(parser, "--final", "further runs of any objective, of which the last weights alone are measured")
    parser.add_argument("--pages", type=int, default=1000, help="test pages")
    parser.add_argument("--cache", type=Path, help="folder for what was measured, from which a second run takes it")
    parser.add_argument("--plot", type=Path, default=ROOT / "docs" / "images" / "gradient_flow.svg")
    options = parser.parse_args()
    flow = Flow(Glyph(), options.pages, options.cache)
    trained = [*options.anchor, *options.language]
    curves = []
    for run in trained:
        fast = flow.glyph.random(run.settings["seed"], **run.settings["config"])
        losses = {point["step"]: point["loss"] for point in run.state["curve"]}
        points = []
        for step, path in run.snapshots():
            fast.model.load_state_dict(torch.load(path, weights_only=True))
            points.append({"step": step, "loss": losses[step], **flow.cached(f"{run.name}-{step:05d}", fast)})
        layers = flow.cached(f"{run.name}-layers", fast, flow.by_layer)
        curves.append({**run.facts(), "points": points, "late_paper_by_layer": layers})
    final = [flow.end(run.name, flow.glyph.saved(run)) | run.facts() for run in options.final]
    random = []
    for seed in sorted({run.settings["seed"] for run in trained}):
        for weights, plain in (("random", False), ("random_plain", True)):
            found = flow.end(f"{weights}{seed}", flow.glyph.random(seed, plain=plain))
            random.append({"weights": weights, "seed": seed, **found})
    record("gradient_flow", {"pages": options.pages, "curves": curves, "final": final, "random": random})
    plot(curves, random, options.plot)


class Flow:
    """Test pages and queries, and what the token states of a model are measured by."""

    def __init__(self, glyph: Glyph, pages: int, cache: Path | None = None) -> None:
        self.glyph, self.cache = glyph, cache
        self.held = glyph.judged(pages)
        collection = self.held.collection
        self.pages = [page.id for page in collection.pages]
        self.queries = [query.id for query in collection.queries]
        self.relevant = np.array([[page in collection.qrels[query] for page in self.pages] for query in self.queries])
        # Every named object: its query, the places of its words in the query, its cell on the query's own page, and a
        # page drawn from those without it.
        rng = np.random.default_rng(0)
        contents = [set(page.objects) for page in collection.pages]
        words, self.owner, self.cell, self.other = [], [], [], []
        for number, (query, page) in enumerate(zip(collection.queries, collection.pages, strict=True)):
            start = 0
            for place, kind in enumerate(query.objects):
                ids = (glyph.texts.later if place else glyph.texts.first)[glyph.kinds[kind]]
                # A comma before all objects but the first, then colour and shape, each one token.
                words.append(range(start + len(ids) - 2, start + len(ids)))
                start += len(ids)
                self.owner.append(number)
                self.cell.append(page.objects.index(kind))
                self.other.append(int(rng.choice([n for n, held in enumerate(contents) if kind not in held])))
        self.words = torch.tensor([list(places) for places in words])

    def cached(
        self, name: str, fast: Any, measure: Callable[[Any], dict[str, float]] | None = None
    ) -> dict[str, float]:
        """What a measure of a model gives, from the cache where that has it."""
        file = None if self.cache is None else self.cache / f"{name}-{len(self.pages)}.json"
        if file is not None and file.exists():
            return dict(json.loads(file.read_text(encoding="utf-8")))
        found = (measure or self.measure)(fast)
        print(f"{name}: " + ", ".join(f"{key} {value:.3f}" for key, value in found.items()), file=sys.stderr)
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(found), encoding="utf-8")
        return found

    def end(self, name: str, fast: Any) -> dict[str, Any]:
        """The measures of one model, and late interaction by layer."""
        return {
            **self.cached(f"{name}-end", fast),
            "late_paper_by_layer": self.cached(f"{name}-layers", fast, self.by_layer),
        }

    def measure(self, fast: Any) -> dict[str, float]:
        """All measures of one model, under the paper's token filter."""
        queries, pages = self.glyph.measure.encode(fast, self.held, ("paper",))["paper"]
        late = late_scores(queries, pages)
        return {
            "anchor": self.ndcg(anchor_scores(queries, pages)),
            "late_paper": self.ndcg(late),
            "separation": self.separation(late),
            **self.states(fast, queries, pages),
        }

    def by_layer(self, fast: Any) -> dict[str, float]:
        """Late-only nDCG@10 of the states after each layer but the last, read through the final norm."""
        language = fast.model.language_model
        layers, found = language.layers, {}
        try:
            for depth in range(1, len(layers)):
                language.layers = layers[:depth]
                found[str(depth)] = self.ndcg(
                    late_scores(*self.glyph.measure.encode(fast, self.held, ("paper",))["paper"])
                )
        finally:
            language.layers = layers
        return found

    def ndcg(self, scores: Any) -> float:
        ranked = dict(zip(self.queries, rank(scores, self.pages, 10), strict=True))
        return float(per_query_metrics(self.held.collection.qrels, ranked)["ndcg@10"].mean())

    def separation(self, scores: Any) -> float:
        """How far relevant pages' scores lie above the others', in standard deviations of the others'; mean of queries.

        A collapse that brings everything together lowers every distance, but leaves this at 0. So does a query all of
        whose tokens find the template's opening nearest: all pages then score alike but for rounding.
        """
        found = []
        for row, relevant in zip(scores.astype(np.float64), self.relevant, strict=True):
            others = row[~relevant]
            spread = float(others.std())
            found.append((row[relevant].mean() - others.mean()) / spread if spread > ROUNDING else 0.0)
        return float(np.mean(found))

    def states(self, fast: Any, queries: SmartEmbeddings, pages: SmartEmbeddings) -> dict[str, float]:
        """Alignment, uniformity and pointing (Wang and Isola 2020, arXiv 2005.10242, on token states).

        ``alignment``: mean squared distance of the two token states that name an object in a query to the visual token
        nearest to each on the query's own page; ``alignment_other`` the same on a page without that object. The visual
        tokens alone: the opening's are the same on all pages. ``alignment_cell``: to the visual token of the cell in
        which the object stands. ``pointing``: the share of objects whose second state has its nearest visual token
        there; 1 / 20 by chance. ``uniformity``: log of the mean of exp(-2 d^2) over pairs of token states, of different
        pages or queries; 0 is a collapse.
        """
        # All tokens kept stand behind those of the opening; a page's first are its visual ones.
        before = int(self.glyph.measure.TokenFilter(fast, "paper").opening.sum())
        visual = torch.from_numpy(pages.token_vectors).view(len(pages.anchors), -1, pages.token_vectors.shape[1])
        visual = visual[:, before : before + fast.visual_tokens]
        owner, cell = torch.tensor(self.owner), torch.tensor(self.cell)
        starts = torch.from_numpy(queries.offsets)[owner] + before
        named = torch.from_numpy(queries.token_vectors)[starts[:, None] + self.words]
        similar = torch.einsum("owd,otd->owt", named, visual[owner])
        other = torch.einsum("owd,otd->owt", named, visual[torch.tensor(self.other)])
        at_cell = similar.gather(2, cell[:, None, None].expand(-1, 2, 1))
        return {
            "alignment": distance(similar.amax(2)),
            "alignment_other": distance(other.amax(2)),
            "alignment_cell": distance(at_cell),
            "pointing": float((similar[:, 1].argmax(1) == cell).float().mean()),
            "uniformity_pages": uniformity(visual),
            "uniformity_queries": uniformity(named),
        }


def distance(cosines: torch.Tensor) -> float:
    """Mean squared distance of unit vectors."""
    return float((2 - 2 * cosines).mean())


def uniformity(vectors: torch.Tensor, sample: int = 4000) -> float:
    """Over all pairs of a sample of ``[N, T, d]`` unit vectors that are of different ones of the N."""
    chosen = torch.from_numpy(np.random.default_rng(0).permutation(vectors.shape[0] * vectors.shape[1])[:sample])
    kept, item = vectors.flatten(0, 1)[chosen], chosen // vectors.shape[1]
    squared = 2 - 2 * (kept @ kept.T)
    return float(torch.exp(-2 * squared[item[:, None] != item]).mean().log())


def plot(curves: Iterable[dict[str, Any]], random: list[dict[str, Any]], target: Path) -> None:
    """Draw every measure over training; the untrained weights are level lines."""
    matplotlib: Any = importlib.import_module("matplotlib")
    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "glyph"
    pyplot: Any = importlib.import_module("matplotlib.pyplot")
    figure, panels = pyplot.subplots(2, 3, figsize=(10.5, 6), layout="constrained")
    drawn: set[str] = set()
    for axes, (name, title) in zip(panels.flat, PANELS.items(), strict=True):
        for curve in curves:
            colour, style, label = LINES[curve["objective"]]
            steps = [point["step"] for point in curve["points"]]
            shown = label if label not in drawn and not drawn.add(label) else None  # type: ignore[func-returns-value]
            axes.plot(steps, [p[name] for p in curve["points"]], style, color=colour, linewidth=1.5, label=shown)
            if name == "alignment":
                others = [point["alignment_other"] for point in curve["points"]]
                axes.plot(steps, others, style, color=colour, linewidth=0.7)
        for weights in ("random", "random_plain"):
            colour, style, label = LINES[weights]
            level = float(np.mean([entry[name] for entry in random if entry["weights"] == weights]))
            shown = label if label not in drawn and not drawn.add(label) else None  # type: ignore[func-returns-value]
            axes.axhline(level, color=colour, linestyle=style, linewidth=1.1, label=shown)
        axes.set_title(title, fontsize=9)
        axes.grid(alpha=0.25)
    for axes in panels[1]:
        axes.set_xlabel("training steps")
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, metadata={"Date": None})
    print(f"wrote {target}", file=sys.stderr)


if __name__ == "__main__":
    main()
