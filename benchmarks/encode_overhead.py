"""What keeping token vectors costs: SmartModel against plain SentenceTransformer, in turn, in one process.

The same texts go through both in alternating order; quoted is the median over the pairs of (ours / plain).
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from record import record
from sentence_transformers import SentenceTransformer

from smart_retrieval import Readout, SmartModel
from smart_retrieval.backbones.naming import resolve_model
from smart_retrieval.evaluation.beir import load_beir


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a BEIR-layout folder")
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--texts", type=int, default=320)
    parser.add_argument("--pairs", type=int, default=7)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")

    texts = load_beir(arguments.data).texts[: arguments.texts]
    plain = SentenceTransformer(resolve_model(arguments.model))
    ours = {
        "paper": SmartModel(arguments.model, preset="paper"),
        "default": SmartModel(arguments.model, preset="default"),
        "concatenation of two layers": SmartModel(arguments.model, readout=Readout((-1, -2), "concat")),
    }
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in ours}
    plain.encode(texts[:64])
    for model in ours.values():
        model.encode_document(texts[:64])
    for pair in range(arguments.pairs):
        for name, model in ours.items():
            first: dict[str, float] = {}
            order = ["ours", "plain"] if pair % 2 else ["plain", "ours"]
            for side in order:
                work = (lambda: plain.encode(texts)) if side == "plain" else (lambda m=model: m.encode_document(texts))
                first[side] = seconds(work)
            runs[name].append(first)
    ratios = {name: statistics.median(run["ours"] / run["plain"] for run in pairs) for name, pairs in runs.items()}
    for name, ratio in ratios.items():
        print(f"{name:30} {ratio:.3f} x plain encode (median of {arguments.pairs} pairs)")
    figures = {"texts": len(texts), "data": arguments.data.name, "ratios": ratios, "runs_seconds": runs}
    record("encode_overhead", figures)


if __name__ == "__main__":
    main()
