"""Training from scratch with the hybrid objective against training with the pooled vector alone, at equal steps.

Takes the output folders of ``examples/glyph_pages/train.py`` for ``--objective anchor`` and ``hybrid``, seeds
in the same order. Pages, draws of queries, masks, temperature, optimiser and number of steps are the same. What
is compared first is the hybrid score of the hybrid-trained model with the hybrid score of the anchor-trained
model, which is the frozen hybrid: late interaction that nobody trained.

    python benchmarks/glyph_objective.py --anchor runs/anchor0 runs/anchor1 --hybrid runs/hybrid0 runs/hybrid1
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lib.glyph_runs import ROOT, Glyph, Run, parse_runs
from lib.record import record

from smart_retrieval.evaluation.significance import paired_comparison

SCORES = ("anchor", "late_paper", "hybrid_paper", "late_content", "hybrid_content")
SHOWN = {"anchor": "anchor", "late_paper": "late only", "hybrid_paper": "hybrid"}
COLOURS = {"anchor": "#c0392b", "hybrid": "#0b6e4f"}

#: Neither changes what is computed in a step, nor, in runs that end at the same step, when the learning rate falls.
FREE = {"out", "objective", "patience", "snapshots", "every"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parse_runs(parser, "--anchor", "trained with the pooled loss, one a seed")
    parse_runs(parser, "--hybrid", "trained with the hybrid loss, the same seeds")
    parser.add_argument("--pages", type=int, default=1000, help="test pages")
    parser.add_argument("--timed", type=int, default=30, help="steps timed for each objective")
    parser.add_argument("--plot", type=Path, default=ROOT / "docs" / "images" / "glyph_objective.svg")
    options = parser.parse_args()
    pairs = list(zip(options.anchor, options.hybrid, strict=True))
    for pair in pairs:
        check_equal(*pair)
    glyph = Glyph()
    judged = glyph.judged(options.pages)
    seeds = [compare(glyph, judged, *pair) for pair in pairs]
    over = [seed["hybrid_trained_over_anchor_trained"] for seed in seeds]
    summary = {
        score: {
            "anchor_trained": float(np.mean([seed["anchor_trained"][score] for seed in seeds])),
            "hybrid_trained": float(np.mean([seed["hybrid_trained"][score] for seed in seeds])),
            "relative_by_seed": [entry[score]["relative"] for entry in over],
            "p_values": [entry[score]["p_value"] for entry in over],
        }
        for score in SCORES
    }
    for score, entry in summary.items():
        print(f"{score}: {entry}", file=sys.stderr)
    timed = step_seconds(glyph, options.timed)
    record("glyph_objective", {"pages": options.pages, "mean": summary, "step_cpu_seconds": timed, "seeds": seeds})
    plot(pairs, options.plot)


def check_equal(anchor: Run, hybrid: Run) -> None:
    """Refuse runs that differ in more than their objective."""
    settings = [{name: value for name, value in run.settings.items() if name not in FREE} for run in (anchor, hybrid)]
    ends = [(run.state["step"], run.state["decay_from"]) for run in (anchor, hybrid)]
    if settings[0] != settings[1] or ends[0] != ends[1]:
        sys.exit(f"{anchor.folder} and {hybrid.folder} are not of one recipe: {settings}, ends {ends}")


def compare(glyph: Glyph, judged: Any, anchor: Run, hybrid: Run) -> dict[str, Any]:
    """Both models of a seed on the test pages, under every score."""
    values = {}
    for name, run in (("anchor_trained", anchor), ("hybrid_trained", hybrid)):
        values[name] = glyph.measure.per_query(judged, glyph.measure.encode(glyph.saved(run), judged))
    before, after = values["anchor_trained"], values["hybrid_trained"]
    return {
        "seed": anchor.settings["seed"],
        "steps": anchor.state["step"],
        **{name: {score: float(found[score].mean()) for score in SCORES} for name, found in values.items()},
        "hybrid_trained_over_anchor_trained": {
            score: paired_comparison(before[score], after[score]).to_dict() for score in SCORES
        },
        "hybrid_score_over_anchor_score": {
            name: paired_comparison(found["anchor"], found["hybrid_paper"]).to_dict() for name, found in values.items()
        },
        "hybrid_trained_hybrid_over_anchor_trained_anchor": paired_comparison(
            before["anchor"], after["hybrid_paper"]
        ).to_dict(),
        "settings": {name: value for name, value in hybrid.settings.items() if name != "out"},
        "curves": {"anchor_trained": anchor.state["curve"], "hybrid_trained": hybrid.state["curve"]},
    }


def step_seconds(glyph: Glyph, steps: int) -> dict[str, Any]:
    """Median CPU seconds of loss and gradient, one thread; the objectives in turn, so that other work weighs alike."""
    torch.set_num_threads(1)
    fast = glyph.random(0).train()
    batches = [glyph.batch(32, 4, number) for number in range(4)]
    objectives = ("anchor", "late", "hybrid")
    taken: dict[str, list[float]] = {name: [] for name in objectives}
    for number in range(steps + 2):
        for name in objectives:
            fast.zero_grad()
            started = time.process_time()
            glyph.objectives.batch_loss(name, fast, glyph.texts, batches[number % len(batches)], 0.05).backward()
            taken[name].append(time.process_time() - started)
    medians = {name: float(np.median(found[2:])) for name, found in taken.items()}
    ratio = medians["hybrid"] / medians["anchor"]
    print(f"CPU seconds a step: {medians}, hybrid / anchor {ratio:.2f}", file=sys.stderr)
    return {"steps": steps, "threads": 1, **medians, "hybrid_over_anchor": ratio}


def plot(pairs: list[tuple[Run, Run]], target: Path) -> None:
    """Draw anchor, late and hybrid over training, a line for each objective and seed."""
    matplotlib: Any = importlib.import_module("matplotlib")
    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "glyph"
    pyplot: Any = importlib.import_module("matplotlib.pyplot")
    figure, panels = pyplot.subplots(1, 3, figsize=(9.5, 3.4), sharey=True, layout="constrained")
    for axes, (score, title) in zip(panels, SHOWN.items(), strict=True):
        for number, pair in enumerate(pairs):
            for objective, run in zip(("anchor", "hybrid"), pair, strict=True):
                steps = [point["step"] for point in run.state["curve"]]
                heights = [point["test"][score] for point in run.state["curve"]]
                label = f"trained with {objective}" if number == 0 else None
                axes.plot(steps, heights, color=COLOURS[objective], linewidth=1.4, alpha=0.8, label=label)
                axes.plot(steps[-1:], heights[-1:], "o", color=COLOURS[objective], markersize=4)
        axes.axvline(pairs[0][0].state["decay_from"], color="grey", linewidth=0.6, linestyle=":")
        axes.set_title(f"scored by {title}", fontsize=10)
        axes.set_xlabel("training steps")
        axes.set_ylim(0, 1.03)
        axes.grid(alpha=0.25)
    panels[0].set_ylabel("nDCG@10 on held-out pages")
    panels[0].legend(frameon=False, loc="upper left", fontsize=9)
    figure.suptitle(f"Glyph pages: two objectives at equal steps, {len(pairs)} seeds", fontsize=10)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, metadata={"Date": None})
    print(f"wrote {target}", file=sys.stderr)


if __name__ == "__main__":
    main()
