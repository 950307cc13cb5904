"""Is the index as good as exact, uncompressed scoring, and how does SMART compare with BM25 and its fusions?

    python benchmarks/index_quality.py [FOLDER...] [--data DIR] [--model NAME] [--no-stdlib] [--cache DIR]

An actual SmartIndex (default codec, fitted as it always is) is filled from each collection. For each number of
candidates: the share of the exact hybrid's first ten that it finds - of the exact hybrid over its own codes, which is
what two stages lose, and of the uncompressed hybrid, which adds what the codec loses - and nDCG@10 end to end. Writes
results/index_quality.json, which holds the table of `smart eval beir DIR --compare` too.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from lib.collections import add_collections, named_collections
from lib.record import record

from smart_retrieval.core.hybrid import hybrid_scores
from smart_retrieval.evaluation.cache import EncodingCache
from smart_retrieval.evaluation.compare import compare_beir
from smart_retrieval.evaluation.evaluate import Collection, load_collection
from smart_retrieval.evaluation.metrics import per_query_metrics
from smart_retrieval.evaluation.terminal import print_table
from smart_retrieval.index.search import searcher as searching
from smart_retrieval.index.search.searcher import DEFAULT_CANDIDATES
from smart_retrieval.index.smart_index import DEFAULT_CODEC, SmartIndex

CANDIDATES = tuple(sorted({100, 200, 400, 800, DEFAULT_CANDIDATES}))


def exact_first(collection: Collection, depth: int) -> list[list[str]]:
    """The uncompressed hybrid's ranking of each query."""
    scoring, queries = collection.scoring, collection.queries.embeddings
    found: list[list[str]] = []
    for part in collection.query_parts():
        scores = hybrid_scores(
            queries[part],
            collection.documents.embeddings,
            lambda_anchor=scoring.lambda_anchor,
            lambda_late=scoring.late_weight,
            weights=scoring.query_weights,
            floor=scoring.late_floor,
        )
        found += collection.data.rank(scores, depth, part).values()
    return found


def overlap(exact: list[list[str]], found: list[list[str]]) -> float:
    """Mean share of the exact first ten among those found."""
    return float(np.mean([len(set(a[:10]) & set(b[:10])) / len(a[:10]) for a, b in zip(exact, found, strict=True)]))


def ndcg(collection: Collection, found: list[list[str]]) -> float:
    """Mean nDCG@10."""
    data = collection.data
    return float(per_query_metrics(data.qrels, dict(zip(data.query_ids, found, strict=True)))["ndcg@10"].mean())


def measure(collection: Collection, folder: Path) -> dict[str, Any]:
    """Fill an index and search it."""
    data, queries = collection.data, collection.queries.embeddings
    exact = exact_first(collection, 10)
    start = time.perf_counter()
    with SmartIndex.create(folder, collection.smart) as index:
        index.add(data.texts, ids=data.document_ids, embeddings=collection.documents.embeddings)
        if index.info()["codec"] != DEFAULT_CODEC:
            index.optimize()  # fits the codec of a collection that is too small for it to be fitted on the way
        built = time.perf_counter() - start

        def run(**options: Any) -> list[list[str]]:
            # One more than is judged: the query itself may be among them, and is not ranked.
            hits = index.search_many(queries, 11, scoring=collection.chosen.scoring, **options)
            found = zip(data.query_ids, hits, strict=True)
            return [[hit.id for hit in own if hit.id != one or one not in data.identical][:10] for one, own in found]

        whole = run(exact=True)
        rows = []
        # Small collections are scored exhaustively, which would hide what candidates miss.
        usual, searching.EXHAUSTIVE_PRODUCTS = searching.EXHAUSTIVE_PRODUCTS, 0
        try:
            for candidates in CANDIDATES:
                found = run(candidates=candidates)
                rows.append(
                    {
                        "candidates": candidates,
                        "recall_of_exact_top10": overlap(whole, found),
                        "recall_of_uncompressed_top10": overlap(exact, found),
                        "ndcg@10": ndcg(collection, found),
                    }
                )
        finally:
            searching.EXHAUSTIVE_PRODUCTS = usual
        as_shipped = run()
        info = index.info()
    before = ndcg(collection, exact)
    return {
        "dataset": data.name,
        "documents": len(data.texts),
        "codec": info["codec"],
        "build_s": round(built, 1),
        "uncompressed_ndcg@10": before,
        "exact_ndcg@10": ndcg(collection, whole),
        "exact_recall_of_uncompressed_top10": overlap(exact, whole),
        "as_shipped": {
            "candidates": DEFAULT_CANDIDATES,
            "ndcg@10": ndcg(collection, as_shipped),
            "share": ndcg(collection, as_shipped) / before,
            "recall_of_exact_top10": overlap(whole, as_shipped),
        },
        "rows": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_collections(parser)
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--cache", type=Path, help="where encodings are kept")
    parser.add_argument("--name", default="index_quality", help="name of the result file")
    arguments = parser.parse_args()
    cache = EncodingCache(arguments.cache)
    indexes, comparisons = [], []
    with named_collections(arguments) as folders, tempfile.TemporaryDirectory() as temporary:
        for number, folder in enumerate(folders):
            collection = load_collection(folder, model=arguments.model, cache=cache)
            indexes.append(measure(collection, Path(temporary) / f"{number}.smart"))
            print(folder.name, indexes[-1], flush=True)
            comparisons.append(compare_beir(folder, model=collection.smart, cache=cache))
            print_table(comparisons[-1])
    record(arguments.name, {"default_candidates": DEFAULT_CANDIDATES, "indexes": indexes, "comparisons": comparisons})


if __name__ == "__main__":
    main()
