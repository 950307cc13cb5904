"""Quality kept by compression: every suggested codec and token pooling, fitted on half of the documents.

    python benchmarks/codec_quality.py [FOLDER...] [--data DIR] [--no-stdlib] [--cache DIR] [--plots DIR]

Writes results/codec_quality.json; the measurement is `smart eval beir DIR --codec all`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lib.collections import add_collections, named_collections
from lib.record import record

from smart_retrieval.evaluation.cache import EncodingCache
from smart_retrieval.evaluation.codecs import evaluate_codecs, plot_codecs
from smart_retrieval.evaluation.results import CodecsResult
from smart_retrieval.evaluation.terminal import print_table

#: Least share of the uncompressed hybrid's nDCG@10 that so many bytes a token must keep (issue 3).
TARGETS = {10: 0.99, 6: 0.985, 2: 0.96}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_collections(parser)
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--preset", default="default")
    parser.add_argument("--codec", default="all")
    parser.add_argument("--seeds", type=int, default=1, help="draw the half so many times")
    parser.add_argument("--cache", type=Path, help="where encodings are kept")
    parser.add_argument("--plots", type=Path, help="folder for one plot a collection")
    parser.add_argument("--name", default="codec_quality", help="name of the result file")
    arguments = parser.parse_args()
    cache = EncodingCache(arguments.cache)
    results: list[CodecsResult] = []
    with named_collections(arguments) as folders:
        for folder in folders:
            for seed in range(arguments.seeds):
                result = evaluate_codecs(
                    folder,
                    codecs=arguments.codec,
                    seed=seed,
                    model=arguments.model,
                    preset=arguments.preset,
                    cache=cache,
                )
                results.append(result)
                print_table(result)
                if arguments.plots is not None and not seed:
                    plot_codecs(result, arguments.plots / f"codecs_{folder.name}.png")
    kept: dict[str, dict[str, list[float | None]]] = {}
    for result in results:
        for row in result["codecs"]:
            kept.setdefault(row["name"], {}).setdefault(result["dataset"]["name"], []).append(row["share"])
    record(
        arguments.name,
        {"targets": {str(size): share for size, share in TARGETS.items()}, "kept": kept, "results": results},
    )


if __name__ == "__main__":
    main()
