"""Anchor, late and hybrid of both presets on BEIR-layout folders, and the mean relative gain over the anchor."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from lib.record import record

from smart_retrieval.demo.stdlib_docs import stdlib_collection, write_beir
from smart_retrieval.evaluation.cache import EncodingCache
from smart_retrieval.evaluation.evaluate import evaluate_beir
from smart_retrieval.evaluation.results import BeirResult


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", type=Path, nargs="*", help="BEIR-layout folders")
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--no-stdlib", action="store_true", help="leave the project's own collection out")
    parser.add_argument("--cache", type=Path, help="where encodings are kept")
    parser.add_argument("--name", default="quality", help="name of the result file")
    arguments = parser.parse_args()
    cache = EncodingCache(arguments.cache)
    results: list[BeirResult] = []
    with tempfile.TemporaryDirectory() as temporary:
        folders = list(arguments.folders)
        if not arguments.no_stdlib:
            own = stdlib_collection()
            write_beir(Path(temporary) / "stdlib", own.docs, own.questions)
            folders.append(Path(temporary) / "stdlib")
        for folder in folders:
            for preset in ("paper", "default"):
                result = evaluate_beir(folder, model=arguments.model, preset=preset, cache=cache)
                results.append(result)
                rows = {row["name"]: row["ndcg@10"] for row in result["rows"]}
                gain, p = result["gain"]["relative"], result["gain"]["p_value"]
                print(f"{folder.name:12} {preset:8} " + "  ".join(f"{n} {v:.4f}" for n, v in rows.items()), end="")
                print(f"  hybrid over anchor {gain:+.1%} (p = {p:.4f})")
    gains = {
        preset: {r["dataset"]["name"]: r["gain"]["relative"] for r in results if r["preset"].startswith(preset)}
        for preset in ("paper", "default")
    }
    record(arguments.name, {"relative_gain": gains, "results": results})


if __name__ == "__main__":
    main()
