"""Filters and BM25 over a million documents: first and later queries beside SQL and FTS5 alone, in turn.

    python benchmarks/million_filters.py [--documents 1000000] [--rounds 5] [--keep FOLDER]

Synthetic passages of 20 to 40 words by Zipf's law, with six metadata keys: few values and many, a list, a nested one.
"Cold" is the first query of a process that has opened the index, "warm" the same query after others; files are in the
system's cache. Answers are compared before anything is timed. Writes results/million_filters.json.
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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from lib.record import record

from smart_retrieval.core.vectors import unit_rows
from smart_retrieval.index.mirror.mirror import Mirror
from smart_retrieval.index.store.lexical import FullText
from smart_retrieval.index.store.manifest import Manifest
from smart_retrieval.index.store.records import Record
from smart_retrieval.index.store.store import Store

ANCHOR_DIM, CODE_WIDTH, BATCH, VOCABULARY = 32, 8, 5000, 20_000
WHERES = (
    "year = 1990",
    "year > 2010 and lang = 'de'",
    "tags = 't7'",
    "price < 100",
    "author.name in ('a7', 'a8')",
    "source = 'folder/file7.pdf'",
    "heading = 'Part 3' and not page in (1, 2)",
    "title like 'Title 77%'",
    "title contains 'Title 77'",
    "nokey = 1",
)
_LETTERS, _VOWELS = "bcdfghklmnprstvz", "aeiou"


def word(rank: int) -> str:
    """A made-up word of one term, shorter where it is more frequent."""
    rank, found = rank + 50, ""
    while rank:
        found += _LETTERS[rank % 16] + _VOWELS[rank // 16 % 5]
        rank //= 80
    return found + "k"


#: Words that 45 %, 14 % and 5 % of the passages hold, and several together.
QUERIES = (word(4), word(20), word(50), " ".join(map(word, (4, 6, 9, 20, 50))))


def build(path: Path, total: int) -> dict[str, Any]:
    """Fill an index without a model, and map it."""
    manifest = Manifest(
        model={"name": "synthetic"},
        codec="test",
        anchor_dim=ANCHOR_DIM,
        code_width=CODE_WIDTH,
        lexical=True,
        language="english",
    )
    words = np.array([word(rank) for rank in range(VOCABULARY)])
    frequency = np.cumsum(1 / np.arange(1, VOCABULARY + 1))
    frequency /= frequency[-1]
    begin = time.perf_counter()
    with Store.create(path, manifest) as store:
        for start in range(0, total, BATCH):
            rng = np.random.default_rng([7, start])
            size = min(BATCH, total - start)
            ids = np.searchsorted(frequency, rng.random((size, 40)))
            lengths, tags, prices = (
                rng.integers(20, 41, size),
                rng.integers(0, 500, (size, 3)),
                rng.integers(0, 10**6, size),
            )
            anchors = unit_rows(rng.standard_normal((size, ANCHOR_DIM), np.float32))
            codes = rng.integers(0, 256, (size, 4, CODE_WIDTH), np.uint8)
            rows = range(start, start + size)
            store.add(
                Record(
                    f"d{row}",
                    anchors[i],
                    codes[i],
                    ids[i, :4],
                    " ".join(words[ids[i, : lengths[i]]].tolist()),
                    f"folder/file{row // 50}.pdf",
                    row % 50 + 1,
                    f"Part {row % 7}",
                    {
                        "year": 1990 + row % 35,
                        "lang": "en" if row % 5000 % 3 else "de",
                        "tags": [f"t{tag}" for tag in tags[i]],
                        "price": int(prices[i]) / 100,
                        "title": f"Title {row} {words[ids[i, 0]]}",
                        "author": {"name": f"a{row % 1000}"},
                    },
                )
                for i, row in enumerate(rows)
            )
        added = time.perf_counter()
        mirror = Mirror(store)
        mapped = time.perf_counter()
        with store.reading():
            mirror.select(mirror.snapshot(), WHERES[0])
        done = time.perf_counter()
    columns = sum(file.stat().st_size for file in (path / "derived").glob("*.columns"))
    return {
        "add_s": round(added - begin, 1),
        "derived_files_s": round(mapped - added, 1),
        "columns_s": round(done - mapped, 1),
        "columns_bytes": columns,
        "database_bytes": (path / "index.sqlite").stat().st_size,
    }


def timed(act: Callable[[], Any]) -> tuple[float, float, Any]:
    """Milliseconds on the clock and on the processor, and what came of it."""
    begin, busy = time.perf_counter(), time.process_time()
    found = act()
    return 1000 * (time.perf_counter() - begin), 1000 * (time.process_time() - busy), found


def ask(path: Path, kind: str, query: str, rounds: int) -> dict[str, Any]:
    """One query in this process, and as SQL or FTS5 alone does it, in turn."""
    with Store.open(path) as store, store.reading() as connection:
        full_text = FullText.of(store.manifest)
        assert full_text is not None
        if kind == "where":
            snapshot = (mirror := Mirror(store)).snapshot()
            new: Callable[[], Any] = lambda: mirror.select(snapshot, query).rowids  # noqa: E731
            old: Callable[[], Any] = lambda: store.select(query)  # noqa: E731
        else:
            new = lambda: store.bm25_scores(query)  # noqa: E731
            old = lambda: full_text.bm25_scores(connection, query)  # noqa: E731
        cold, cold_cpu, found = timed(new)
        _, _, expected = timed(old)
        same = all(np.array_equal(a, b) for a, b in zip(np.atleast_2d(found), np.atleast_2d(expected), strict=True))
        if not same:
            raise SystemExit(f"{kind} {query!r}: found other documents or scores than the reference")
        for _ in range(2 if kind == "bm25" else 0):
            store.bm25_scores(QUERIES[-1])
        times = np.array([[*timed(new)[:2], *timed(old)[:2]] for _ in range(rounds)])
    warm, warm_cpu, before, before_cpu = np.median(times, axis=0).round(2).tolist()
    return {
        kind: query,
        "documents": int(np.shape(found)[-1]),
        "cold_ms": round(cold, 1),
        "cold_cpu_ms": round(cold_cpu, 1),
        "warm_ms": warm,
        "warm_cpu_ms": warm_cpu,
        "sqlite_ms": before,
        "sqlite_cpu_ms": before_cpu,
    }


def stage(*options: str) -> dict[str, Any]:
    """One part in a process of its own."""
    output = subprocess.run([sys.executable, __file__, *options], check=True, stdout=subprocess.PIPE, text=True).stdout
    result: dict[str, Any] = json.loads(output.splitlines()[-1])
    print(result, flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--name", default="million_filters", help="name of the result file")
    parser.add_argument("--keep", type=Path, help="a folder to keep the index in, or one that an earlier run kept")
    parser.add_argument("--stage", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stage:
        path, kind, query = arguments.stage
        made = build(Path(path), int(query)) if kind == "build" else ask(Path(path), kind, query, arguments.rounds)
        print(json.dumps(made))
        return
    folder = arguments.keep or Path(tempfile.mkdtemp(prefix="smart-filters-"))
    folder.mkdir(exist_ok=True)
    path, built = str(folder / "filters.smart"), folder / "build.json"
    try:
        if not built.exists():
            built.write_text(json.dumps(stage("--stage", path, "build", str(arguments.documents))))
        rounds = ["--rounds", str(arguments.rounds)]
        asked = [("where", one) for one in WHERES] + [("bm25", one) for one in QUERIES]
        rows = [stage("--stage", path, kind, one, *rounds) for kind, one in asked]
        shape = {"documents": arguments.documents, "vocabulary": VOCABULARY, "load_average": os.getloadavg()}
        record(arguments.name, {"data": shape, "build": json.loads(built.read_text()), "rows": rows})
    finally:
        if not arguments.keep:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
