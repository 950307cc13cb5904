"""What the options of a search gain and lose beside the plain hybrid: feedback, neighbours, both.

    python benchmarks/search_options.py [FOLDER...] [--data DIR] [--no-stdlib] [--model NAME] [--rerank MODEL]

Every document is scored, exactly and uncompressed, as `smart eval beir DIR --feedback .5` does. Writes
results/search_options.json: for each collection and option nDCG@10, Recall@100 and the paired comparison with the
hybrid; and prints the table of docs/guides/search_documents.md. No reranker is part of it unless one is named.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lib.collections import add_collections, named_collections
from lib.record import record

from smart_retrieval.evaluation.cache import EncodingCache
from smart_retrieval.evaluation.evaluate import evaluate_beir
from smart_retrieval.index.search.options import RefinementFields

OPTIONS: list[RefinementFields] = [
    {"feedback": 0.2},
    {"feedback": 0.3},
    {"feedback": 0.5},
    {"neighbours": 0.1},
    {"neighbours": 0.2},
    {"neighbours": 0.3},
    {"feedback": 0.5, "neighbours": 0.2},
]


def measure(folder: Path, model: str, cache: EncodingCache, options: list[RefinementFields]) -> dict[str, Any]:
    """Anchor and hybrid, and each option beside them."""
    rows: dict[str, dict[str, Any]] = {}
    for option in options:
        result = evaluate_beir(folder, model=model, cache=cache, **option)
        for row in result["rows"]:
            if row["name"] != "late":
                rows.setdefault(row["name"], {name: row[name] for name in ("name", "ndcg@10", "recall@100")})
        rows[result["rows"][-1]["name"]]["over_hybrid"] = result["gain"]["refined"]
    return {"dataset": result["dataset"], "preset": result["preset"], "rows": list(rows.values())}


def table(collections: list[dict[str, Any]]) -> list[str]:
    """The changes against the hybrid in points, nDCG@10 / Recall@100, as Markdown; bold where p < .05."""
    names = [str(collection["dataset"]["name"]) for collection in collections]
    lines = [f"| | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for number, row in enumerate(collections[0]["rows"]):
        if "over_hybrid" in row:
            cells = [_cell(collection["rows"], number) for collection in collections]
            lines.append(f"| {row['name'].removeprefix('hybrid, ')} | {' | '.join(cells)} |")
    return lines


def _cell(rows: list[dict[str, Any]], number: int) -> str:
    hybrid, row = next(row for row in rows if row["name"] == "hybrid"), rows[number]
    change, recall = (f"{100 * (row[name] - hybrid[name]):+.1f}" for name in ("ndcg@10", "recall@100"))
    return f"**{change}** / {recall}" if row["over_hybrid"]["p_value"] < 0.05 else f"{change} / {recall}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_collections(parser)
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--rerank", help="a cross-encoder to measure too: a folder or hub name")
    parser.add_argument("--cache", type=Path, help="where encodings are kept")
    arguments = parser.parse_args()
    options = list(OPTIONS)
    if arguments.rerank:
        options.append({"rerank": arguments.rerank})
    collections = []
    with named_collections(arguments) as folders:
        for folder in folders:
            collections.append(measure(folder, arguments.model, EncodingCache(arguments.cache), options))
            print(folder.name, "done", flush=True)
    print("\n".join(table(collections)))
    record("search_options", {"model": arguments.model, "collections": collections})


if __name__ == "__main__":
    main()
