"""How BM25 is brought to the scale of SMART's score, and its default weight, chosen out of fold.

    python benchmarks/lexical_weight.py [FOLDER...] [--data DIR] --model NAME... [--no-stdlib] [--cache DIR]

SMART's score is that of the default preset; the lexical part is w x anchor spread x rule(BM25).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from lib.collections import add_collections, named_collections
from lib.record import record

from smart_retrieval.core.hybrid import anchor_scores
from smart_retrieval.core.late import late_scores
from smart_retrieval.evaluation.beir import BeirDataset, load_beir
from smart_retrieval.evaluation.cache import EncodingCache
from smart_retrieval.evaluation.compare import fused
from smart_retrieval.evaluation.evaluate import Collection, load_collection
from smart_retrieval.evaluation.metrics import mean_metrics, per_query_metrics
from smart_retrieval.index.search.searcher import LEXICAL_WEIGHT, lexical_scores
from smart_retrieval.index.store.lexical import Bm25
from smart_retrieval.types import Array

WEIGHTS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)
RULES: dict[str, Callable[[Array], Array]] = {
    "s / max(best s, 30)": lambda s: lexical_scores(s, 1.0),
    "s / max(best s, 20)": lambda s: s / np.maximum(s.max(axis=1, keepdims=True), 20),
    "s / max(best s, 40)": lambda s: s / np.maximum(s.max(axis=1, keepdims=True), 40),
    "s / best s": lambda s: to_best(s),
    "s / (s + 10)": lambda s: s / (s + 10),
    "s / (s + 20)": lambda s: s / (s + 20),
    "(s / best s) ** 2": lambda s: to_best(s) ** 2,
    "(s / best s) ** 0.5": lambda s: to_best(s) ** 0.5,
    "s / mean of the ten best s": lambda s: s / np.maximum(np.sort(s, axis=1)[:, -10:].mean(axis=1, keepdims=True), 1),
}
CHOSEN = "s / max(best s, 30)"


def to_best(scores: Array) -> Array:
    found: Array = scores / np.maximum(scores.max(axis=1, keepdims=True), 1e-9)
    return found


def ndcg(data: BeirDataset, scores: Array) -> float:
    return mean_metrics(per_query_metrics(data.qrels, data.rank(scores, 10)))["ndcg@10"]


def recall(data: BeirDataset, scores: Array) -> float:
    return mean_metrics(per_query_metrics(data.qrels, data.rank(scores, 100)))["recall@100"]


def measure(collection: Collection, words: Array) -> dict[str, Any]:
    """nDCG@10 of the baselines and of every rule and weight, for one model on one collection."""
    data, documents, queries = collection.data, collection.documents.embeddings, collection.queries.embeddings
    scoring, spread = collection.scoring, collection.statistics.calibration.anchor_spread
    anchor = anchor_scores(queries, documents)
    late = late_scores(queries, documents, weights=scoring.query_weights, floor=scoring.late_floor)
    smart = scoring.combine(anchor, late)
    systems = fused(anchor, words, smart, smart + lexical_scores(words, LEXICAL_WEIGHT * spread), data.document_ids)
    return {
        "spread": round(spread, 4),
        "systems": {name: round(ndcg(data, scores), 4) for name, scores in systems.items()},
        "recall@100": {name: round(recall(data, systems[name]), 4) for name in ("anchor", "SMART", "SMART + BM25")},
        "rules": {
            name: [round(ndcg(data, smart + np.float32(weight * spread) * rule(words)), 4) for weight in WEIGHTS]
            for name, rule in RULES.items()
        },
    }


def out_of_fold(
    found: dict[tuple[str, str], dict[str, Any]], rule: str, *, models: bool
) -> Iterator[tuple[str, float, float]]:
    """For each cell its model, the weight with the best mean gain over the other collections (and models), its nDCG."""
    gains = {cell: np.array(one["rules"][rule]) / one["systems"]["anchor"] for cell, one in found.items()}
    for model, collection in found:
        others = [gain for (m, c), gain in gains.items() if c != collection and (m != model or not models)]
        best = int(np.mean(others, axis=0).argmax())
        yield model, WEIGHTS[best], found[model, collection]["rules"][rule][best]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_collections(parser)
    parser.add_argument("--model", action="append", required=True, help="name or folder; may be repeated")
    parser.add_argument("--cache", type=Path, help="where encodings are kept")
    arguments = parser.parse_args()
    models = [Path(name).name for name in arguments.model]
    found: dict[tuple[str, str], dict[str, Any]] = {}
    bm25: dict[str, dict[str, float]] = {}
    with named_collections(arguments) as folders:
        for folder in folders:
            data = load_beir(folder)
            words = Bm25(data.texts).scores(data.queries)
            bm25[data.name] = {
                "english": ndcg(data, words),
                "other": ndcg(data, Bm25(data.texts, "other").scores(data.queries)),
            }
            for name, model in zip(models, arguments.model, strict=True):
                collection = load_collection(folder, model=model, cache=EncodingCache(arguments.cache))
                one = found[name, data.name] = measure(collection, words)
                shown = "  ".join(f"{system} {value:.4f}" for system, value in one["systems"].items())
                print(f"{name:22} {data.name:10} {shown}", flush=True)
    means: dict[str, Any] = {}
    for model in models:
        own = [one["systems"] for (name, _), one in found.items() if name == model]
        mean = {system: float(np.mean([one[system] for one in own])) for system in own[0]}
        over = mean["SMART + BM25"] / mean["anchor + BM25 (min-max)"] - 1
        means[model] = {**{name: round(value, 4) for name, value in mean.items()}, "over_min_max": round(over, 4)}
        print(f"{model}: SMART + BM25 {over:+.1%} over anchor + BM25 (min-max)")
    folds = {}
    for rule in RULES:
        # With one model there is none to choose on but itself.
        kept = list(out_of_fold(found, rule, models=len(models) > 1))
        folds[rule] = {
            "weights": [weight for _, weight, _ in kept],
            "ndcg@10": {m: round(float(np.mean([n for name, _, n in kept if name == m])), 4) for m in models},
            "mean_by_weight": np.mean([one["rules"][rule] for one in found.values()], axis=0).round(4).tolist(),
        }
        print(f"{rule:28} out of fold {np.mean([n for _, _, n in kept]):.4f}", folds[rule]["mean_by_weight"])
    record(
        "lexical_weight",
        {
            "chosen": {"rule": CHOSEN, "weight": LEXICAL_WEIGHT},
            "bm25": {name: {key: round(value, 4) for key, value in one.items()} for name, one in bm25.items()},
            "means": means,
            "weights": WEIGHTS,
            "out_of_fold": folds,
            "cells": {f"{model}, {collection}": one for (model, collection), one in found.items()},
        },
    )


if __name__ == "__main__":
    main()
