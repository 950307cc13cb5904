"""Search from query vectors: SmartIndex beside Qdrant Edge and beside SQLite + NumPy, in turn, on the same data.

    python benchmarks/search_latency.py [--documents 20000] [--rounds 60] [--threads 1]

All three find candidates by exact cosine of the anchors and score them by anchor + mean MaxSim. Qdrant Edge
(qdrant-edge-py, float32 in RAM, no HNSW graph on the tokens) does so as one query of nested prefetches and a formula.
Every system may use ``--threads`` threads: BLAS for SmartIndex and NumPy (Numba's kernel has one), the search pool for
Qdrant. Writes results/search_latency.json.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

_PARSER = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
_PARSER.add_argument("--documents", type=int, default=20_000)
_PARSER.add_argument("--rounds", type=int, default=60)
_PARSER.add_argument("--threads", type=int, default=1)
_PARSER.add_argument("--no-qdrant", action="store_true")
_PARSER.add_argument("--name", default="search_latency", help="name of the result file")
_PARSER.add_argument("--folder", type=Path, help="where the stores are built; a temporary folder when left out")
if __name__ == "__main__":
    # Before NumPy is imported: its linear algebra reads this once.
    _threads = str(_PARSER.parse_args().threads)
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), _threads)

import numpy as np  # noqa: E402
from lib.record import record  # noqa: E402
from lib.synthetic import ANCHOR_DIM, QUERY_TOKENS, TOKEN_DIM, TOKENS, Synthetic, make_index, search  # noqa: E402

from smart_retrieval.embeddings import SmartEmbeddings  # noqa: E402
from smart_retrieval.index.codec.kernels import load_kernels  # noqa: E402
from smart_retrieval.index.ingest.new_documents import NewDocument  # noqa: E402
from smart_retrieval.index.smart_index import SmartIndex  # noqa: E402

CANDIDATES = (200, 1000)
CODECS = ("codebook+32x1", "anchored+3vq+norm", "int8")


class SqliteNumpy:
    """Anchors in memory, float32 token blobs in SQLite: what one would write in an afternoon."""

    def __init__(self, file: Path, data: Synthetic, total: int) -> None:
        self.connection = sqlite3.connect(file)
        self.connection.execute("CREATE TABLE tokens (id INTEGER PRIMARY KEY, vectors BLOB)")
        anchors = []
        for number, block in enumerate(data.blocks(total, 1000)):
            rows = np.asarray(block.token_vectors, np.float32).reshape(len(block), -1)
            pairs = ((number * 1000 + i, row.tobytes()) for i, row in enumerate(rows))
            self.connection.executemany("INSERT INTO tokens VALUES (?, ?)", pairs)
            anchors.append(block.anchors)
        self.connection.commit()
        self.anchors = np.concatenate(anchors)
        self.tokens = data.tokens

    def search(self, query: SmartEmbeddings, candidates: int) -> list[str]:
        anchor = self.anchors @ query.anchors[0]
        chosen = np.sort(np.argpartition(-anchor, candidates - 1)[:candidates])
        found = self.connection.execute(
            "SELECT t.vectors FROM json_each(?) AS j CROSS JOIN tokens AS t ON t.id = j.value", (str(chosen.tolist()),)
        )
        vectors = np.frombuffer(b"".join(row[0] for row in found), np.float32).reshape(-1, TOKEN_DIM)
        similarities = (vectors @ query.token_vectors.T).reshape(candidates, self.tokens, -1)
        scores = anchor[chosen] + similarities.max(axis=1).mean(axis=1)
        return [f"d{chosen[i]}" for i in np.argsort(-scores)[:10]]


class QdrantEdge:
    """An embedded Qdrant shard with two vectors a point."""

    def __init__(self, folder: Path, data: Synthetic, total: int, threads: int) -> None:
        import qdrant_edge as qe

        self.qe = qe
        plain = qe.HnswIndexConfig(m=0, ef_construct=4, full_scan_threshold=10_000)
        maxsim = qe.MultiVectorConfig(qe.MultiVectorComparator.MaxSim)
        config = qe.EdgeConfig(
            vectors={
                "anchor": qe.EdgeVectorParams(ANCHOR_DIM, qe.Distance.Dot, hnsw_config=plain),
                "tokens": qe.EdgeVectorParams(TOKEN_DIM, qe.Distance.Dot, multivector_config=maxsim, hnsw_config=plain),
            },
            max_search_threads=threads,
        )
        folder.mkdir()
        self.shard = qe.EdgeShard.create(str(folder), config)
        for number, block in enumerate(data.blocks(total, 1000)):
            tokens = np.asarray(block.token_vectors, np.float32).reshape(len(block), data.tokens, TOKEN_DIM)
            for start in range(0, len(block), 250):
                points = [
                    qe.Point(number * 1000 + i, {"anchor": block.anchors[i].tolist(), "tokens": tokens[i].tolist()}, {})
                    for i in range(start, min(start + 250, len(block)))
                ]
                self.shard.update(qe.UpdateOperation.upsert_points(points))
        self.shard.flush()
        self.optimized = self.shard.optimize()

    def search(self, query: SmartEmbeddings, candidates: int) -> list[str]:
        # Lists are made outside the clock by `prepare`: their making is Python's cost, not Qdrant's.
        return self.run(self.prepare(query, candidates))

    def prepare(self, query: SmartEmbeddings, candidates: int) -> Any:
        """The query as one request."""
        qe = self.qe
        exact = qe.SearchParams(exact=True)
        nearest = qe.Query.Nearest
        by_anchor = qe.Prefetch(candidates, nearest(query.anchors[0].tolist(), "anchor"), params=exact)
        by_tokens = qe.Prefetch(
            candidates, nearest(query.token_vectors.tolist(), "tokens"), prefetches=[by_anchor], params=exact
        )
        expression = qe.Expression
        share = expression.Constant(1 / len(query.token_vectors))
        formula = expression.Sum(
            [expression.Variable("$score[0]"), expression.Mult([share, expression.Variable("$score[1]")])]
        )
        return qe.QueryRequest(10, query=qe.Formula(formula), prefetches=[by_anchor, by_tokens])

    def run(self, request: Any) -> list[str]:
        """Send it."""
        return [f"d{point.id}" for point in self.shard.query(request)]


def measure(systems: dict[str, Callable[[int, int], Callable[[], list[str]]]], rounds: int) -> list[dict[str, Any]]:
    """Run all systems in turn, in an order that rotates; milliseconds, and the share of the exact first ten."""
    names = list(systems)
    times: dict[tuple[str, int], list[float]] = {(name, k): [] for name in names for k in CANDIDATES}
    # What other processes on the machine do moves the wall clock, and hardly the time on the processor.
    cpu: dict[tuple[str, int], list[float]] = {key: [] for key in times}
    found: dict[tuple[str, int], list[list[str]]] = {key: [] for key in times}
    for number in range(-5, rounds):  # the first five warm up
        for k in CANDIDATES:
            for name in names[number % len(names) :] + names[: number % len(names)]:
                call = systems[name](number % rounds, k)
                start, busy = time.perf_counter(), time.process_time()
                ids = call()
                elapsed, worked = time.perf_counter() - start, time.process_time() - busy
                if number >= 0:
                    times[name, k].append(1000 * elapsed)
                    cpu[name, k].append(1000 * worked)
                    found[name, k].append(ids)
    rows = []
    for (name, k), values in times.items():
        pairs = list(zip(found[name, k], found["sqlite + numpy float32", k], strict=True))
        row = {
            "system": name,
            "candidates": k,
            "p50_ms": round(float(np.percentile(values, 50)), 2),
            "p99_ms": round(float(np.percentile(values, 99)), 2),
            "fastest_tenth_ms": round(float(np.percentile(values, 10)), 2),
            "cpu_p50_ms": round(float(np.percentile(cpu[name, k], 50)), 2),
            "cpu_fastest_tenth_ms": round(float(np.percentile(cpu[name, k], 10)), 2),
            "same_top10_as_float32": round(float(np.mean([len(set(a) & set(b)) / 10 for a, b in pairs])), 4),
        }
        if "Qdrant Edge float32" in systems:  # pairs of neighbours in time: what others do on the machine slows both
            row |= {
                f"{clock}_of_qdrant": round(float(np.median(np.divide(own[name, k], own["Qdrant Edge float32", k]))), 3)
                for clock, own in (("time", times), ("cpu", cpu))
            }
        rows.append(row)
        print(row, flush=True)
    return rows


def latencies(
    documents: int, rounds: int, threads: int, codecs: Sequence[str] = CODECS, *, qdrant: bool = True, at: Path | None
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Build all systems in a temporary folder in ``at`` and measure them: rows, and seconds of building."""
    data = Synthetic()
    queries = data.queries(rounds, min(1000, documents))
    systems: dict[str, Callable[[int, int], Callable[[], list[str]]]] = {}
    built: dict[str, float] = {}
    folder = Path(tempfile.mkdtemp(prefix="smart-latency-", dir=at))
    try:

        def timed(name: str, make: Callable[[], Any]) -> Any:
            start = time.perf_counter()
            made = make()
            built[name] = round(time.perf_counter() - start, 1)
            print(f"built {name} in {built[name]} s", flush=True)
            return made

        def smart(codec: str) -> SmartIndex:
            index = make_index(folder / codec, codec, (data.documents(block, 1000) for block in range(3)))
            for number, block in enumerate(data.blocks(documents, 1000)):
                index.add_encoded([NewDocument(f"d{number * 1000 + i}") for i in range(len(block))], block)
            return index

        def searcher(index: SmartIndex) -> Callable[[int, int], Callable[[], list[str]]]:
            return lambda q, k: lambda: search(index, queries[q], k)

        for codec in codecs:
            name = f"SmartIndex {codec}"
            systems[name] = searcher(timed(name, partial(smart, codec)))
        reference = timed("sqlite + numpy float32", lambda: SqliteNumpy(folder / "ref", data, documents))
        systems["sqlite + numpy float32"] = lambda q, k: lambda: reference.search(queries[q], k)
        if qdrant:
            edge = timed(
                "Qdrant Edge float32",
                lambda: QdrantEdge(folder / "qdrant", data, documents, threads),
            )

            def ask(q: int, k: int) -> Callable[[], list[str]]:
                request = edge.prepare(queries[q], k)
                return lambda: edge.run(request)

            systems["Qdrant Edge float32"] = ask
        load_kernels()
        return measure(systems, rounds), built
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    arguments = _PARSER.parse_args()
    rows, built = latencies(
        arguments.documents, arguments.rounds, arguments.threads, qdrant=not arguments.no_qdrant, at=arguments.folder
    )
    shape = {"documents": arguments.documents, "tokens": TOKENS, "token_dim": TOKEN_DIM, "anchor_dim": ANCHOR_DIM}
    shape |= {"query_tokens": QUERY_TOKENS, "queries": arguments.rounds}
    figures = {"data": shape, "threads": arguments.threads, "build_s": built, "rows": rows}
    record(arguments.name, {**figures, "numba": "numba" in sys.modules, "load_average": os.getloadavg()})


if __name__ == "__main__":
    main()
