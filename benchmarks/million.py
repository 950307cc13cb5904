"""A million documents in one SmartIndex: building, opening, searching from query vectors, memory, adding, deleting.

    python benchmarks/million.py [--documents 1000000] [--queries 60]

Synthetic documents clustered by token id, 30 tokens each, 6-byte codes, anchors of 384 dimensions. Building and
searching run in processes of their own, so that the memory of one is not counted for the other. What is measured is
the way a user's search goes; the exact first stage, which reads 1.5 GB of anchors, is timed beside it. Writes
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
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from lib.record import record
from lib.synthetic import ANCHOR_DIM, QUERY_TOKENS, TOKEN_DIM, VOCABULARY, Synthetic, make_index, search

from smart_retrieval.core.vectors import unit_rows
from smart_retrieval.embeddings import SmartEmbeddings
from smart_retrieval.index.ingest.new_documents import NewDocument
from smart_retrieval.index.mirror.mirror import Mirror
from smart_retrieval.index.mirror.snapshot import Snapshot
from smart_retrieval.index.search.first_stage import candidates
from smart_retrieval.index.search.searcher import DEFAULT_CANDIDATES
from smart_retrieval.index.smart_index import DEFAULT_CODEC, SmartIndex

TOKENS, BATCH, CODEC = 30, 5000, DEFAULT_CODEC


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
        anchors = unit_rows(self.topics[topics] + (self.shifts[first] + self.shifts[second]) * np.float32(0.5**0.5))
        ids = self.by_rank[rng.integers(0, 1 << 20, (count, self.tokens))]
        own = self.topic_words[topics[:, None], rng.integers(0, 400, (count, self.tokens))]
        ids = np.where(rng.random(ids.shape) < 0.5, own, ids).ravel()
        vectors = self.words[ids] + self.noise[rng.integers(0, len(self.noise), len(ids))]
        return SmartEmbeddings(anchors, unit_rows(vectors), np.arange(count + 1) * self.tokens, ids)


def memory() -> dict[str, int]:
    """Resident memory of this process, MiB: now, its anonymous part (what is no page of a mapped file), its peak."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {name: int(fields[name].split()[0]) // 1024 for name in ("VmRSS", "RssAnon", "VmHWM")}


def percentiles(values: list[float]) -> dict[str, float]:
    """p50 and p99 of milliseconds."""
    return {f"p{q}_ms": round(float(np.percentile(values, q)), 2) for q in (50, 99)}


def metadata(row: int) -> dict[str, Any]:
    """What filters look at."""
    return {"year": 1990 + row % 35, "lang": "en" if row % 5000 % 3 else "de"}


def build(path: Path, total: int) -> dict[str, Any]:
    """Fill an index, batch by batch."""
    data = Streamed()
    start = time.perf_counter()
    index = make_index(path, CODEC, (data.documents(block, BATCH) for block in range(2)))
    fitted = time.perf_counter()
    making = 0.0
    for number in range(-(-total // BATCH)):
        before = time.perf_counter()
        block = data.documents(number, min(BATCH, total - number * BATCH))
        making += time.perf_counter() - before
        rows = range(number * BATCH, number * BATCH + len(block))
        index.add_encoded([NewDocument(f"d{row}", metadata=metadata(row)) for row in rows], block)
        if number % 20 == 19:
            print(f"{rows.stop:,} documents, {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    added = time.perf_counter()
    database = sum(file.stat().st_size for file in path.iterdir() if file.is_file())
    before_files = memory()
    mirror = Mirror(index.store)  # writes the mapped files and the anchor index
    mirrored = time.perf_counter()
    anchor_index = mirror.stamp.ann
    mirror.close()
    index.close()
    return {
        "fit_s": round(fitted - start, 1),
        "add_s": round(added - fitted - making, 1),
        "making_documents_s": round(making, 1),
        "documents_per_s": round(total / (added - fitted - making)),
        "derived_files_s": round(mirrored - added, 1),
        "database_bytes": database,
        "derived_bytes": sum(file.stat().st_size for file in (path / "derived").iterdir()),
        "anchor_index": None if anchor_index is None else {"bytes": anchor_index.size, "probes": anchor_index.probes},
        "memory_adding_mib": before_files,
        "memory_mib": memory(),
    }


def use(path: Path, total: int, queries: int) -> dict[str, Any]:
    """Open it, search it, change it."""
    data = Streamed()
    asked = data.queries(queries, min(BATCH, total))
    found: dict[str, Any] = {"memory_before_mib": memory()}
    start = time.perf_counter()
    index = SmartIndex.open(path)
    opened = time.perf_counter()
    search(index, asked[0], DEFAULT_CANDIDATES)
    found["open_s"] = round(opened - start, 3)
    found["open_and_first_search_s"] = round(time.perf_counter() - start, 3)
    found["memory_open_mib"] = memory()
    search_all(index, asked)  # pages of the files that are read for the first time, or not in the system's cache
    ids, found["search"] = search_all(index, asked)
    found["search"]["asked_for_first"] = float(np.mean([one[0] == f"d{row}" for row, one in enumerate(ids)]))
    found["memory_searched_mib"] = memory()
    found["first_stage"] = first_stage(Mirror(index.store).snapshot(), asked)
    found["filters"] = filters(index, asked)
    found["memory_filtered_mib"] = memory()

    def timed(act: Callable[[], Any]) -> float:
        begin = time.perf_counter()
        act()
        return round(time.perf_counter() - begin, 3)

    def ask() -> list[str]:
        return search(index, asked[0], DEFAULT_CANDIDATES)

    fresh = data.documents(10**6, 1000)
    gone = [f"d{row}" for row in np.random.default_rng(3).permutation(total)[:1000].tolist()]
    found["add_1000_s"] = timed(lambda: index.add_encoded([NewDocument(f"new{row}") for row in range(1000)], fresh))
    found["search_after_add_s"] = timed(ask)
    found["delete_1000_s"] = timed(lambda: index.delete(gone))
    found["search_after_delete_s"] = timed(ask)
    _, found["search_with_changes"] = search_all(index, asked)
    found["memory_end_mib"] = memory()
    index.close()
    start = time.perf_counter()
    with SmartIndex.open(path) as index:
        ask()
        found["open_again_and_search_s"] = round(time.perf_counter() - start, 3)
    return found


def search_all(
    index: SmartIndex, asked: list[SmartEmbeddings], **options: Any
) -> tuple[list[list[str]], dict[str, Any]]:
    """Ids found for each query, and what searching took."""
    ids, times, cpu = [], [], []
    for query in asked:
        begin, busy = time.perf_counter(), time.process_time()
        ids.append(search(index, query, DEFAULT_CANDIDATES, **options))
        times.append(1000 * (time.perf_counter() - begin))
        cpu.append(1000 * (time.process_time() - busy))
    low, median = np.percentile(times, 10), np.median(cpu)
    return ids, {**percentiles(times), "fastest_tenth_ms": round(float(low), 2), "cpu_p50_ms": round(float(median), 2)}


def first_stage(snapshot: Snapshot, asked: list[SmartEmbeddings]) -> list[dict[str, Any]]:
    """Time of the first stage alone, by faiss and by reading every anchor, and the share of the exact candidates."""
    exactly = replace(snapshot, ann=None)
    rows = []
    for wanted in (100, DEFAULT_CANDIDATES, 1000):
        times: dict[bool, list[float]] = {True: [], False: []}
        shares = []
        for query in asked[:30]:
            found = {}
            for exact, one in ((False, snapshot), (True, exactly)):
                begin = time.perf_counter()
                found[exact] = candidates(one, query, one.everything, wanted, np.zeros(0, np.int64))[0]
                times[exact].append(1000 * (time.perf_counter() - begin))
            shares.append(len(np.intersect1d(found[True], found[False])) / wanted)
        row = {"candidates": wanted, "share_of_exact": round(float(np.mean(shares)), 4)}
        rows.append({**row, "anchor_index": percentiles(times[False]), "exact": percentiles(times[True])})
    return rows


def filters(index: SmartIndex, asked: list[SmartEmbeddings]) -> list[dict[str, Any]]:
    """Filters that let a few and many documents through: the first search with each, and those that follow."""
    rows = []
    for where in ("year = 1990 and lang = 'de'", "year = 1990", "year < 2010"):
        begin = time.perf_counter()
        search(index, asked[0], DEFAULT_CANDIDATES, where=where)
        first = time.perf_counter() - begin
        _, times = search_all(index, asked, where=where)
        found = index.store.select(where)
        rows.append({"where": where, "documents": len(found), "first_s": round(first, 3), **times})
    return rows


def stage(name: str, *options: str) -> dict[str, Any]:
    """Run one part in a process of its own."""
    command = [sys.executable, __file__, "--stage", name, *options]
    one_thread = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=one_thread).stdout
    result: dict[str, Any] = json.loads(output.splitlines()[-1])
    print(name, json.dumps(result, indent=1), flush=True)
    return result


def stages(arguments: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """Build, unless an index is kept from an earlier run; then use."""
    folder = arguments.keep or Path(tempfile.mkdtemp(prefix="smart-million-", dir=arguments.folder))
    folder.mkdir(exist_ok=True)
    path, built = folder / "million.smart", folder / "build.json"
    options = ["--documents", str(arguments.documents), "--queries", str(arguments.queries), "--path", str(path)]
    try:
        if not built.exists():
            built.write_text(json.dumps({**stage("build", *options), "load_average": os.getloadavg()}))
        yield "build", json.loads(built.read_text())
        if arguments.keep:
            shutil.copytree(path, folder / "used.smart")  # it is changed by what follows
            options[-1] = str(folder / "used.smart")
        yield "use", stage("use", *options)
    finally:
        shutil.rmtree(folder / "used.smart" if arguments.keep else folder, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=60)
    parser.add_argument("--name", default="million", help="name of the result file")
    parser.add_argument("--folder", type=Path, help="a folder with room; a temporary one when left out")
    parser.add_argument("--keep", type=Path, help="a folder to keep the index in, or one that an earlier run kept")
    parser.add_argument("--stage", choices=("build", "use"), help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stage == "build":
        print(json.dumps(build(arguments.path, arguments.documents)))
    elif arguments.stage == "use":
        print(json.dumps(use(arguments.path, arguments.documents, arguments.queries)))
    else:
        shape = {"documents": arguments.documents, "tokens": TOKENS, "token_dim": TOKEN_DIM, "anchor_dim": ANCHOR_DIM}
        shape |= {"query_tokens": QUERY_TOKENS, "vocabulary": VOCABULARY, "codec": CODEC}
        record(
            arguments.name, {"data": shape, "threads": 1, **dict(stages(arguments)), "load_average": os.getloadavg()}
        )


if __name__ == "__main__":
    main()
