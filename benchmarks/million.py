"""A million documents in one SmartIndex: building, opening, searching from query vectors, memory, adding, deleting.

    python benchmarks/million.py [--documents 1000000] [--queries 60] [--no-faiss]

Synthetic documents clustered by token id, 30 tokens each, 6-byte codes, anchors of 384 dimensions. Building and
searching run in processes of their own, so that the memory of one is not counted for the other. The candidates come
from exact cosines over 1.5 GB of anchors; what faiss IVF512,SQ8 would take instead is a row of its own. Writes
results/million.json.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from record import record
from search_latency import ANCHOR_DIM, QUERY_TOKENS, TOKEN_DIM, VOCABULARY, Synthetic, _unit, make_index, search

from smart_retrieval.embeddings import SmartEmbeddings
from smart_retrieval.index.search import DEFAULT_CANDIDATES, anchor_stage
from smart_retrieval.index.smart_index import SmartIndex

TOKENS, BATCH = 30, 5000


class Streamed(Synthetic):
    """The same documents made faster: noise is drawn from a pool instead of afresh."""

    def __init__(self) -> None:
        super().__init__(tokens=TOKENS)
        rng = np.random.default_rng(5)
        self.noise = rng.standard_normal((1 << 16, TOKEN_DIM), np.float32) * np.float32(0.82 / TOKEN_DIM**0.5)
        self.shifts = rng.standard_normal((1 << 14, ANCHOR_DIM), np.float32) * np.float32(0.9 / ANCHOR_DIM**0.5)
        self.by_rank = np.searchsorted(self.frequency, (np.arange(1 << 20) + 0.5) / (1 << 20))

    def documents(self, block: int, count: int) -> SmartEmbeddings:
        """Block number ``block`` of ``count`` documents."""
        rng = np.random.default_rng([self.seed, 1, block])
        topics = rng.integers(0, len(self.topics), count)
        # Two shifts an anchor: 2^28 combinations, so that no two documents of a topic are the same.
        first, second = rng.integers(0, len(self.shifts), (2, count))
        anchors = _unit(self.topics[topics] + (self.shifts[first] + self.shifts[second]) * np.float32(0.5**0.5))
        ids = self.by_rank[rng.integers(0, 1 << 20, (count, self.tokens))]
        own = self.topic_words[topics[:, None], rng.integers(0, 400, (count, self.tokens))]
        ids = np.where(rng.random(ids.shape) < 0.5, own, ids).ravel()
        vectors = self.words[ids] + self.noise[rng.integers(0, len(self.noise), len(ids))]
        return SmartEmbeddings(anchors, _unit(vectors), np.arange(count + 1) * self.tokens, ids)


def memory() -> dict[str, int]:
    """Resident memory of this process, MiB: now, its anonymous part (what is no page of a mapped file), its peak."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {name: int(fields[name].split()[0]) // 1024 for name in ("VmRSS", "RssAnon", "VmHWM")}


def percentiles(values: list[float]) -> dict[str, float]:
    """p50 and p99 of milliseconds."""
    return {f"p{q}_ms": round(float(np.percentile(values, q)), 2) for q in (50, 99)}


def build(path: Path, total: int) -> dict[str, Any]:
    """Fill an index, batch by batch."""
    data = Streamed()
    start = time.perf_counter()
    index = make_index(path, "codebook+32x1", (data.documents(block, BATCH) for block in range(2)))
    fitted = time.perf_counter()
    making = 0.0
    for number in range(-(-total // BATCH)):
        before = time.perf_counter()
        block = data.documents(number, min(BATCH, total - number * BATCH))
        making += time.perf_counter() - before
        index.add_encoded([{"id": f"d{number * BATCH + i}"} for i in range(len(block))], block)
        if number % 20 == 19:
            print(
                f"{(number + 1) * BATCH:,} documents, {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True
            )
    added = time.perf_counter()
    database = sum(file.stat().st_size for file in path.iterdir() if file.is_file())
    before_files = memory()
    search(index, data.queries(1, BATCH)[0], DEFAULT_CANDIDATES)  # writes the mapped files
    mirrored = time.perf_counter()
    index.close()
    return {
        "fit_s": round(fitted - start, 1),
        "add_s": round(added - fitted - making, 1),
        "making_documents_s": round(making, 1),
        "documents_per_s": round(total / (added - fitted - making)),
        "derived_files_s": round(mirrored - added, 1),
        "database_bytes": database,
        "derived_bytes": sum(file.stat().st_size for file in (path / "derived").iterdir()),
        "memory_adding_mib": before_files,
        "memory_mib": memory(),
    }


def use(path: Path, total: int, queries: int, faiss: bool) -> dict[str, Any]:
    """Open it, search it, change it."""
    data = Streamed()
    asked = data.queries(queries, min(BATCH, total))
    found: dict[str, Any] = {"memory_before_mib": memory()}
    start = time.perf_counter()
    index = SmartIndex.open(path)
    found["open_s"] = round(time.perf_counter() - start, 3)
    search(index, asked[0], DEFAULT_CANDIDATES)
    found["open_and_first_search_s"] = round(time.perf_counter() - start, 3)
    found["memory_open_mib"] = memory()
    times: list[float] = []
    cpu: list[float] = []
    hits = 0
    for number, query in enumerate(asked):
        begin, busy = time.perf_counter(), time.process_time()
        ids = search(index, query, DEFAULT_CANDIDATES)
        times.append(1000 * (time.perf_counter() - begin))
        cpu.append(1000 * (time.process_time() - busy))
        hits += ids[0] == f"d{number}"
    found["search"] = {
        **percentiles(times),
        "fastest_tenth_ms": round(float(np.percentile(times, 10)), 2),
        "cpu_p50_ms": round(float(np.median(cpu)), 2),
        "candidates": DEFAULT_CANDIDATES,
        "asked_for_first": hits / queries,
    }
    found["memory_searched_mib"] = memory()
    snapshot = index._searcher.mirror().snapshot()
    stage: list[float] = []
    for query in asked[:20]:
        begin = time.perf_counter()
        anchor_stage(snapshot, query)
        stage.append(1000 * (time.perf_counter() - begin))
    found["exact_anchor_stage"] = percentiles(stage)
    if faiss:
        found["faiss"] = with_faiss(snapshot.segments[0].anchors, asked, DEFAULT_CANDIDATES)
    fresh = data.documents(10**6, 1000)
    begin = time.perf_counter()
    index.add_encoded([{"id": f"new{i}"} for i in range(1000)], fresh)
    found["add_1000_s"] = round(time.perf_counter() - begin, 3)
    begin = time.perf_counter()
    search(index, asked[0], DEFAULT_CANDIDATES)
    found["search_after_add_ms"] = round(1000 * (time.perf_counter() - begin), 1)
    begin = time.perf_counter()
    index.delete([f"d{number}" for number in np.random.default_rng(3).permutation(total)[:1000].tolist()])
    found["delete_1000_s"] = round(time.perf_counter() - begin, 3)
    begin = time.perf_counter()
    search(index, asked[0], DEFAULT_CANDIDATES)
    found["search_after_delete_ms"] = round(1000 * (time.perf_counter() - begin), 1)
    found["memory_end_mib"] = memory()
    index.close()
    begin = time.perf_counter()
    with SmartIndex.open(path) as again:
        search(again, asked[0], DEFAULT_CANDIDATES)
    found["open_again_and_search_s"] = round(time.perf_counter() - begin, 3)
    return found


def with_faiss(anchors: Any, queries: list[SmartEmbeddings], candidates: int) -> dict[str, Any]:
    """What an IVF512,SQ8 index of the anchors would take as the first stage; recall of the exact candidates."""
    import faiss

    start = time.perf_counter()
    ann: Any = faiss.index_factory(ANCHOR_DIM, "IVF512,SQ8", faiss.METRIC_INNER_PRODUCT)
    chosen = np.sort(np.random.default_rng(1).permutation(len(anchors))[:50_000])
    ann.train(anchors[chosen])
    for first in range(0, len(anchors), 100_000):
        ann.add(anchors[first : first + 100_000])
    built = time.perf_counter() - start
    asked = queries[:20]
    exact = [np.argpartition(-(anchors @ query.anchors[0]), candidates)[:candidates] for query in asked]
    rows = []
    for probes in (1, 4, 16, 64):
        ann.nprobe = probes
        times, recalls = [], []
        for query, true in zip(asked, exact, strict=True):
            begin = time.perf_counter()
            _, got = ann.search(query.anchors, candidates)
            times.append(1000 * (time.perf_counter() - begin))
            recalls.append(len(np.intersect1d(got[0], true)) / candidates)
        rows.append({"nprobe": probes, **percentiles(times), "recall": round(float(np.mean(recalls)), 4)})
    size = len(faiss.serialize_index(ann))
    return {"factory": "IVF512,SQ8", "build_s": round(built, 1), "bytes": size, "rows": rows}


def stage(name: str, *options: str) -> dict[str, Any]:
    """Run one part in a process of its own."""
    command = [sys.executable, __file__, "--stage", name, *options]
    one_thread = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=one_thread).stdout
    result: dict[str, Any] = json.loads(output.splitlines()[-1])
    print(name, json.dumps(result, indent=1), flush=True)
    return result


def stages(arguments: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """Build, then use."""
    folder = Path(tempfile.mkdtemp(prefix="smart-million-", dir=arguments.folder))
    options = ["--documents", str(arguments.documents), "--queries", str(arguments.queries)]
    options += ["--path", str(folder / "million.smart"), *(["--no-faiss"] if arguments.no_faiss else [])]
    try:
        yield "build", stage("build", *options)
        yield "use", stage("use", *options)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=60)
    parser.add_argument("--no-faiss", action="store_true")
    parser.add_argument("--name", default="million", help="name of the result file")
    parser.add_argument("--folder", type=Path, help="a folder with room; a temporary one when left out")
    parser.add_argument("--stage", choices=("build", "use"), help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stage == "build":
        print(json.dumps(build(arguments.path, arguments.documents)))
    elif arguments.stage == "use":
        print(json.dumps(use(arguments.path, arguments.documents, arguments.queries, not arguments.no_faiss)))
    else:
        shape = {"documents": arguments.documents, "tokens": TOKENS, "token_dim": TOKEN_DIM, "anchor_dim": ANCHOR_DIM}
        shape |= {"query_tokens": QUERY_TOKENS, "vocabulary": VOCABULARY, "codec": "codebook+32x1"}
        record(
            arguments.name, {"data": shape, "threads": 1, **dict(stages(arguments)), "load_average": os.getloadavg()}
        )


if __name__ == "__main__":
    main()
