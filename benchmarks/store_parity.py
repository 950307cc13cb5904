"""Indexes in Qdrant and LanceDB beside the SmartIndex they were exported from: are the hits the same, what does a floor
cost where Qdrant computes the scores?

    python benchmarks/store_parity.py DATA/cranfield DATA/cacm [--queries 225]

Of judged collections with minilm, for the engines of `--engines`: the share of equal first tens and the largest
difference of a score, all scored from codes ("codes"), and computed by Qdrant from token vectors in one query with all
documents as candidates ("native"). nDCG@10 of the default preset, of the same without its floor, and of the paper's, by
Qdrant itself. Milliseconds of a query in turn, of Qdrant Edge, whose code the server runs, with 100 candidates. Writes
results/store_parity.json.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from lib.record import ROOT, record

from smart_retrieval import Scoring, SmartEmbeddings, SmartIndex
from smart_retrieval.evaluation import load_beir
from smart_retrieval.evaluation.beir import BeirDataset
from smart_retrieval.evaluation.metrics import per_query_metrics
from smart_retrieval.index.search.hits import Hits
from smart_retrieval.stores import LanceIndex, QdrantIndex, StoreIndex

ENGINES = ("lancedb", "qdrant-client", "qdrant-edge")
#: Scorings that Qdrant computes.
SCORINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "default without its floor": {"floor": None},
    "paper": {"scoring": Scoring("uniform", 1.0, 1.0)},
}


@contextmanager
def exported(engine: str, index: SmartIndex, folder: Path) -> Iterator[StoreIndex]:
    """The index in an engine."""
    if engine == "lancedb":
        with LanceIndex.export(folder / "lance", index) as made:
            yield made
        return
    location: Any = ":memory:"
    if engine == "qdrant-edge":
        sys.path.insert(0, str(ROOT / "tests"))
        (folder / "edge").mkdir()
        location = importlib.import_module("fixtures.edge").EdgeClient(folder / "edge")
    # The client by itself is for trying things out, and slow with token vectors.
    with QdrantIndex.export(location, index, tokens=engine == "qdrant-edge") as qdrant:
        yield qdrant
    if engine == "qdrant-edge":
        location.close()


def agreement(found: Sequence[Hits], expected: Sequence[Hits]) -> dict[str, float]:
    """Share of equal first tens, of their hits, and the largest difference of a hit's scores."""
    ids = [([hit.id for hit in one], [hit.id for hit in other]) for one, other in zip(found, expected, strict=True)]
    known = [{hit.id: hit.score for hit in other} for other in expected]
    pairs = [(hit, scores) for one, scores in zip(found, known, strict=True) for hit in one if hit.id in scores]
    return {
        "same_top10": float(np.mean([one == other for one, other in ids])),
        "overlap": float(np.mean([len({*one} & {*other}) / max(1, len(other)) for one, other in ids])),
        "largest_gap": max((abs(hit.score - scores[hit.id]) for hit, scores in pairs), default=0.0),
    }


def ndcg(dataset: BeirDataset, found: Sequence[Hits]) -> float:
    """Mean nDCG@10 over the queries that were asked."""
    asked = dataset.query_ids[: len(found)]
    ranking = {query: [hit.id for hit in hits] for query, hits in zip(asked, found, strict=True)}
    values = per_query_metrics({query: dataset.qrels[query] for query in asked}, ranking)["ndcg@10"]
    return round(float(values.mean()), 4)


def native(qdrant: StoreIndex, queries: SmartEmbeddings, **options: Any) -> list[Hits]:
    assert isinstance(qdrant, QdrantIndex)
    found = qdrant.search_native(queries, 10, **options)
    assert isinstance(found, list)
    return found


def times(qdrant: StoreIndex, queries: SmartEmbeddings, rounds: int) -> dict[str, Any]:
    """Milliseconds of a query by Qdrant's own segments, in turn: scores from codes here, or by Qdrant."""
    taken: dict[str, list[float]] = {}
    for number in range(-2, rounds):  # the first two warm up
        query = queries[number % len(queries)]
        for name, options in {"codes": None, **SCORINGS}.items():
            started = time.perf_counter()
            if options is None:
                # What is small is scored whole otherwise.
                qdrant.search(query, 10, candidates=100)
            else:
                native(qdrant, query, candidates=100, **options)
            if number >= 0:
                taken.setdefault(name, []).append(1000 * (time.perf_counter() - started))
    base = np.array(taken["default without its floor"])
    return {
        name: {
            "p50_ms": round(float(np.median(values)), 2),
            "times_without_floor": round(float(np.median(np.array(values) / base)), 2),
        }
        for name, values in taken.items()
    }


def measure(collection: Path, engines: Sequence[str], most: int, rounds: int, codec: str) -> dict[str, Any]:
    """All figures of one collection."""
    dataset = load_beir(collection)
    result: dict[str, Any] = {"collection": collection.name, "documents": len(dataset.texts), "engines": {}}
    with tempfile.TemporaryDirectory(prefix="smart-stores-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with SmartIndex.create(folder / "index.smart", "minilm", codec=codec) as index:
            index.add(dataset.texts, ids=dataset.document_ids)
            index.optimize()
            queries = index.model.encode_query(dataset.queries[:most], show_progress=False)
            expected = index.search(queries, 10, exact=True)
            result |= {"queries": len(queries), "codec": index.codec().name}
            result["ndcg@10"] = {"SmartIndex, default": ndcg(dataset, expected)}
            for engine in engines:
                with exported(engine, index, folder) as made:
                    row: dict[str, Any] = {"codes": agreement(made.search(queries, 10, exact=True), expected)}
                    if engine == "qdrant-edge":
                        for title, options in SCORINGS.items():
                            hits = native(made, queries, candidates=len(dataset.texts), exact=True, **options)
                            if not options:
                                row["native"] = agreement(hits, expected)
                            result["ndcg@10"][f"Qdrant, {title}"] = ndcg(dataset, hits)
                        row["times"] = times(made, queries, rounds)
                    result["engines"][engine] = row
                    print(collection.name, engine, row, flush=True)
    print(result["ndcg@10"], flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collections", type=Path, nargs="+", help="BEIR folders")
    parser.add_argument("--queries", type=int, default=1000, help="so many of each at most")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--codec", default="anchored+3vq+norm")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES)
    given = parser.parse_args()
    rows = [measure(one, given.engines, given.queries, given.rounds, given.codec) for one in given.collections]
    record("store_parity", {"rounds": given.rounds, "collections": rows})


if __name__ == "__main__":
    main()
