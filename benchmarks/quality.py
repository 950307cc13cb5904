"""Anchor, late and hybrid of both presets on the development collections, and the relative gain over the anchor.

    python benchmarks/quality.py [FOLDER...] [--data DIR] [--model NAME]... [--no-stdlib] [--cache DIR] [--compute NAME]

Writes results/quality.json for MiniLM, and results/quality_NAME.json for each other model.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lib.collections import add_collections, named_collections
from lib.record import record

from smart_retrieval import SmartModel
from smart_retrieval.evaluation.cache import EncodingCache
from smart_retrieval.evaluation.evaluate import evaluate_beir
from smart_retrieval.evaluation.results import BeirResult

PRESETS = ("paper", "default")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_collections(parser)
    parser.add_argument("--model", action="append", help="name or folder (minilm when left out); may be repeated")
    parser.add_argument("--cache", type=Path, help="where encodings are kept")
    parser.add_argument("--compute", default="float32", help="float32, bfloat16 or auto")
    parser.add_argument("--name", default="quality", help="name of the result file")
    arguments = parser.parse_args()
    with named_collections(arguments) as folders:
        for model in arguments.model or ["minilm"]:
            name = arguments.name if model == "minilm" else f"{arguments.name}_{Path(model).name}"
            measure(folders, model, EncodingCache(arguments.cache), name, arguments.compute)


def measure(folders: list[Path], model: str, cache: EncodingCache, name: str, compute: str) -> None:
    """Both presets of a model on every collection, printed and recorded."""
    results: list[BeirResult] = []
    gains: dict[str, dict[str, float | None]] = {preset: {} for preset in PRESETS}
    models = {preset: SmartModel(model, preset=preset, compute=compute) for preset in PRESETS}
    for folder in folders:
        for preset in PRESETS:
            result = evaluate_beir(folder, model=models[preset], cache=cache)
            results.append(result)
            rows = {row["name"]: row["ndcg@10"] for row in result["rows"]}
            gain = gains[preset][folder.name] = result["gain"]["relative"]
            figures = "  ".join(f"{system} {value:.4f}" for system, value in rows.items())
            shown = "" if gain is None else f"{gain:+.1%} "
            print(f"{Path(model).name:22} {folder.name:10} {preset:8} {figures}  hybrid over anchor {shown}", end="")
            print(f"(p = {result['gain']['p_value']:.4f})", flush=True)
    record(name, {"relative_gain": gains, "results": results})


if __name__ == "__main__":
    main()
