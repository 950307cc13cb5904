"""The two constants of the default preset: chosen on collections and models, and judged where they were not chosen.

    python benchmarks/default_selection.py --data DIR --model minilm --model models/... [--cache DIR]
    python benchmarks/default_selection.py --again    # choose again from the figures that are recorded
    python benchmarks/default_selection.py --again --model models/... --data DIR    # and add a model to them

For each model and collection nDCG@10 and Recall@100 of the anchor, of the paper's preset, of plain IDF (weight 2, no
floor, each token by itself), and of every setting of the grid: the floor's quantile of unrelated similarities, and the
late weight as a multiple of the anchors' spread. The weight is chosen at FLOOR_QUANTILE by one rule, for all pairs of
model and collection together and for each pair without its collection, without its model, and without both: the
smallest weight whose mean nDCG@10 is within half a percent of the best. The grid's mean over all pairs shows how flat
the optimum is.
Writes results/default_selection.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lib.collections import add_collections, named_collections
from lib.record import RESULTS, record

from smart_retrieval import IdfWeights, Readout, Scoring, SmartModel
from smart_retrieval.core.calibration import FLOOR_QUANTILE, Calibration
from smart_retrieval.core.presets import get_preset
from smart_retrieval.evaluation.beir import load_beir
from smart_retrieval.evaluation.cache import EncodingCache
from smart_retrieval.evaluation.probe.sweep import Sweep
from smart_retrieval.types import Array

QUANTILES = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
FACTORS = (4, 6, 8, 10, 12, 14, 16, 20)
TOLERANCE = 0.005
METRICS = ("ndcg@10", "recall@100")
READOUT = Readout(token_filter="content")
IDF_WEIGHT = 2.0  # of the plain IDF that the default is compared with
Pair = tuple[str, str]  # model and collection


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_collections(parser)
    parser.add_argument("--model", action="append", default=[], help="name or folder; may be repeated")
    parser.add_argument("--cache", type=Path, help="where encodings are kept")
    parser.add_argument("--again", action="store_true", help="take what is recorded of the other models")
    parser.add_argument("--compute", choices=["float32", "bfloat16"], default="float32")
    arguments = parser.parse_args()
    pairs: dict[Pair, dict[str, Any]] = {}
    figures: dict[str, Any] = {}
    if arguments.again:
        recorded = json.loads((RESULTS / "default_selection.json").read_text(encoding="utf-8"))
        figures["measured"] = recorded.get("measured") or {key: recorded[key] for key in ("date", "commit", "command")}
        for name, values in recorded["pairs"].items():
            model, _, own = name.rpartition("/")
            pairs[model, own] = values
    elif not arguments.model:
        parser.error("found no --model, expected one or more, or --again")
    if arguments.model:
        with named_collections(arguments) as folders:
            for name in arguments.model:
                smart = SmartModel(name, compute=arguments.compute)
                for folder in folders:
                    pairs[Path(name).name, folder.name] = measure(smart, folder, EncodingCache(arguments.cache))
    chosen = choose(pairs, list(pairs))
    figures |= {"tolerance": TOLERANCE, "quantiles": QUANTILES, "factors": FACTORS}
    figures |= {"quantile": FLOOR_QUANTILE, "chosen": chosen}
    folds = {f"{model}/{own}": out_of_fold(pairs, (model, own)) for model, own in pairs}
    means = {
        str(quantile): {
            str(factor): float(np.mean([gain(pairs[pair], quantile, factor) for pair in pairs])) for factor in FACTORS
        }
        for quantile in QUANTILES
    }
    rows = {f"{model}/{own}": values for (model, own), values in pairs.items()}
    record("default_selection", {**figures, "mean_gain": means, "out_of_fold": folds, "pairs": rows})
    report(pairs, chosen, folds)


def measure(smart: SmartModel, folder: Path, cache: EncodingCache) -> dict[str, Any]:
    """Every setting on one collection, from one encoding."""
    sweep = Sweep.encode(smart, load_beir(folder), layers=(-1,), cache=cache)
    documents = sweep.embeddings("document", READOUT)
    measured = {quantile: Calibration.fit(documents, quantile=quantile) for quantile in QUANTILES}
    each = IdfWeights.fit(documents)  # each piece of a word by itself, as in version 0.1
    each = IdfWeights(each.documents, each.frequencies, unseen=0)
    floors = [Scoring(each, floor=None), *(Scoring("idf", floor=one.background) for one in measured.values())]
    # The costly part once: late scores for each floor, of which every weight is a sum.
    plain, *lates = sweep.lates(READOUT, floors)
    paper = get_preset("paper")

    def judged(scores: Array) -> dict[str, float]:
        return {metric: float(sweep.judge(scores, metric).mean()) for metric in METRICS}

    means = {
        "anchor": judged(sweep.anchor),
        "paper": judged(sweep.anchor + sweep.lates(paper.readout, [paper.scoring])[0]),
        "idf": judged(sweep.anchor + np.float32(IDF_WEIGHT) * plain),
    }
    grid = {
        f"{quantile} {factor}": judged(sweep.anchor + np.float32(factor * one.anchor_spread) * late)
        for (quantile, one), late in zip(measured.items(), lates, strict=True)
        for factor in FACTORS
    }
    print(f"{smart.name} {folder.name}: anchor {means['anchor']['ndcg@10']:.4f}", flush=True)
    return {
        "anchor_spread": measured[QUANTILES[0]].anchor_spread,
        "background": {str(quantile): one.background for quantile, one in measured.items()},
        **means,
        "grid": grid,
    }


def gain(values: dict[str, Any], quantile: float, factor: float, reference: str = "anchor") -> float:
    """The relative gain in nDCG@10 over a reference."""
    found: float = values["grid"][f"{quantile} {factor}"]["ndcg@10"]
    return found / float(values[reference]["ndcg@10"]) - 1


def choose(pairs: dict[Pair, dict[str, Any]], seen: Sequence[Pair]) -> float:
    """The smallest weight whose mean nDCG@10 over the pairs seen is within the tolerance of the best."""
    means = [
        np.mean([pairs[pair]["grid"][f"{FLOOR_QUANTILE} {factor}"]["ndcg@10"] for pair in seen]) for factor in FACTORS
    ]
    return next(factor for factor, mean in zip(FACTORS, means, strict=True) if mean >= (1 - TOLERANCE) * max(means))


def out_of_fold(pairs: dict[Pair, dict[str, Any]], own: Pair) -> dict[str, Any]:
    """What is chosen without one's own collection, model, and both; and the gain of that."""
    model, collection = own
    left = {
        "collection": [pair for pair in pairs if pair[1] != collection],
        "model": [pair for pair in pairs if pair[0] != model],
        "both": [pair for pair in pairs if pair[0] != model and pair[1] != collection],
    }
    found = {}
    for name, seen in left.items():
        if seen:
            factor = choose(pairs, seen)
            found[name] = {"factor": factor, "gain": gain(pairs[own], FLOOR_QUANTILE, factor)}
    return found


def report(pairs: dict[Pair, dict[str, Any]], chosen: float, folds: dict[str, Any]) -> None:
    """A Markdown table: gains over the anchor in percent, and Recall@100."""
    print(f"chosen: {chosen} x spread at quantile {FLOOR_QUANTILE}\n")
    left = "left out: collection | model | both"
    print(f"| model | collection | anchor | paper | IDF, weight 2 | default | {left} | Recall@100 |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for (model, collection), values in pairs.items():
        anchor, own = values["anchor"], values["grid"][f"{FLOOR_QUANTILE} {chosen}"]
        relative = [values[name]["ndcg@10"] / anchor["ndcg@10"] - 1 for name in ("paper", "idf")]
        relative.append(gain(values, FLOOR_QUANTILE, chosen))
        fold = folds[f"{model}/{collection}"]
        relative += [fold[name]["gain"] for name in ("collection", "model", "both") if name in fold]
        cells = " | ".join(f"{100 * value:+.1f}" for value in relative)
        recall = f"{anchor['recall@100']:.3f} → {own['recall@100']:.3f}"
        print(f"| {model} | {collection} | {anchor['ndcg@10']:.4f} | {cells} | {recall} |")


if __name__ == "__main__":
    main()
