"""Whether bfloat16 costs quality: nDCG@10 of both presets on the development collections beside float32.

    python benchmarks/compute_quality.py [FOLDER...] [--data DIR] [--model NAME]... [--no-stdlib] [--cache DIR]

Three ways to encode: everything in float32, everything in bfloat16, and documents in bfloat16 with queries in float32,
as `smart index` and a search without torch do. What `auto` is judged by are the anchor and both presets' hybrids; the
late score alone is recorded beside them. Errors are those of similarities of every query with every document.
Writes results/compute_quality.json for MiniLM, and results/compute_quality_NAME.json for each other model.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from lib.collections import add_collections, named_collections
from lib.record import record

from smart_retrieval import SmartModel
from smart_retrieval.core.hybrid import anchor_scores
from smart_retrieval.core.late import late_scores
from smart_retrieval.evaluation.cache import EncodingCache
from smart_retrieval.evaluation.evaluate import Collection, load_collection
from smart_retrieval.evaluation.metrics import mean_metrics, per_query_metrics
from smart_retrieval.types import Array

#: Largest loss of nDCG@10 with which `auto` may take bfloat16 (issue 15).
MOST_LOST = 0.002
PRESETS = ("paper", "default")
DEPTH = 1_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_collections(parser)
    parser.add_argument("--model", action="append", help="name or folder (minilm when left out); may be repeated")
    parser.add_argument("--cache", type=Path, help="where encodings are kept")
    arguments = parser.parse_args()
    with named_collections(arguments) as folders:
        for name in arguments.model or ["minilm"]:
            measure(folders, name, EncodingCache(arguments.cache))


def measure(folders: list[Path], name: str, cache: EncodingCache) -> None:
    """Both presets of a model on every collection, printed and recorded."""
    rows = []
    for preset in PRESETS:
        model = SmartModel(name, preset=preset)
        for folder in folders:
            row = {"collection": folder.name, "preset": preset, **compared(folder, model, cache)}
            rows.append(row)
            for way, found in row["ways"].items():
                figures = "  ".join(f"{system} {value:.4f}" for system, value in found["ndcg@10"].items())
                print(f"{Path(name).name:22} {folder.name:10} {preset:8} {way:30} {figures}", flush=True)
    lost: dict[str, dict[str, float]] = {}
    for row in rows:
        exact = row["ways"]["float32"]["ndcg@10"]
        for way in list(row["ways"])[1:]:
            own = lost.setdefault(way, {})
            for system, value in row["ways"][way]["ndcg@10"].items():
                key = f"{system} ({row['preset']})"
                own[key] = max(own.get(key, -1.0), exact[system] - value)
    passed = {}
    for way, own in lost.items():
        most = max(loss for system, loss in own.items() if not system.startswith("late"))
        passed[way] = most <= MOST_LOST
        verdict = "within" if passed[way] else "MORE THAN"
        print(f"{name}, {way}: anchor and hybrids lost {most:.4f} at most, {verdict} {MOST_LOST}")
    result = "compute_quality" if name == "minilm" else f"compute_quality_{Path(name).name}"
    record(result, {"most_lost_allowed": MOST_LOST, "passed": passed, "most_lost": lost, "rows": rows})


def compared(folder: Path, model: SmartModel, cache: EncodingCache) -> dict[str, Any]:
    """One collection under one preset, encoded in each of the ways."""
    full, half = (
        load_collection(folder, model=model.with_compute(compute), cache=cache) for compute in ("float32", "bfloat16")
    )
    ways = {
        "float32": full,
        "bfloat16": half,
        "bfloat16, queries float32": replace(half, queries=full.queries),
    }
    exact = scores(full)
    return {
        "documents": len(full.data.texts),
        "queries": len(full.data.queries),
        "ways": {way: judged(collection, exact) for way, collection in ways.items()},
    }


def scores(collection: Collection) -> dict[str, Array]:
    """Scores of every query with every document: of the anchor, of the tokens and of both."""
    queries, documents, scoring = collection.queries.embeddings, collection.documents.embeddings, collection.scoring
    by_anchor = anchor_scores(queries, documents)
    by_late = late_scores(queries, documents, weights=scoring.query_weights, floor=scoring.late_floor)
    return {"anchor": by_anchor, "late": by_late, "hybrid": scoring.combine(by_anchor, by_late)}


def judged(collection: Collection, exact: dict[str, Array]) -> dict[str, Any]:
    """nDCG@10, and how far the scores are from the exact ones."""
    found, data = scores(collection), collection.data
    ndcg, errors = {}, {}
    for system, values in found.items():
        ranked = data.rank(values, DEPTH, slice(0, len(data.queries)))
        ndcg[system] = mean_metrics(per_query_metrics(data.qrels, ranked))["ndcg@10"]
        difference = np.abs(values - exact[system])
        errors[system] = {"mean": float(difference.mean()), "max": float(difference.max())}
    return {"ndcg@10": ndcg, "errors": errors}


if __name__ == "__main__":
    main()
