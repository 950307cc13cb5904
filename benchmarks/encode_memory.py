"""Peak memory of encoding a stream of short texts to disk, at 10,000 and at 100,000 texts; or of `smart index`.

    python benchmarks/encode_memory.py
    python benchmarks/encode_memory.py --folder FOLDER      `smart index` of the folder's files (on Linux)

Each size runs in a process of its own, which reports its peak resident memory; the texts come from a generator. That of
`smart index` is sampled 20 times a second, by what is its own (anonymous) and what is mapped from files.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lib.record import record


def short_texts(count: int) -> Iterator[str]:
    """Titles of the standard library's documentation, each made different by a number."""
    from smart_retrieval.demo.stdlib_docs import build_stdlib_docs

    titles = [document.title[:60] for document in build_stdlib_docs()]
    return (f"{titles[number % len(titles)]} {number}" for number in range(count))


def measure(count: int, folder: Path) -> dict[str, Any]:
    """Encode ``count`` texts into ``folder``; memory before, and at its peak, in MiB."""
    from smart_retrieval import SmartModel

    model = SmartModel("minilm")
    texts = short_texts(count)
    model.encode_document([text for text, _ in zip(texts, range(256), strict=False)])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start = time.perf_counter()
    embeddings = model.encode_document(short_texts(count), out=folder / "embeddings")
    return {
        "texts": count,
        "tokens": len(embeddings.token_vectors),
        "bytes_on_disk": sum(file.stat().st_size for file in (folder / "embeddings").iterdir()),
        "warm_peak_mib": round(before),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "seconds": round(time.perf_counter() - start, 1),
    }


def indexing(folder: Path) -> dict[str, Any]:
    """Index a folder with the command line, watched from outside; memory in MiB."""
    with tempfile.TemporaryDirectory() as temporary, (Path(temporary) / "report.json").open("w+") as report:
        index = ["index", str(folder), "--index", f"{temporary}/i.smart", "--json"]
        process = subprocess.Popen([sys.executable, "-m", "smart_retrieval", *index], stdout=report)
        samples = []
        while process.poll() is None:
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            status = dict(line.split(":", 1) for line in lines if ":" in line)
            if "RssAnon" in status:  # it has not ended since
                samples.append([int(status[name].split()[0]) / 1024 for name in ("RssAnon", "RssFile")])
            time.sleep(0.05)
        if process.returncode:
            raise SystemExit(process.returncode)
        report.seek(0)
        found = json.load(report)
    return {
        "passages": found["passages"],
        "tokens": found["tokens"],
        "seconds": found["seconds"],
        "compute": found["compute"],
        "peak_anonymous_mib": round(max(own for own, _ in samples)),
        "peak_resident_mib": round(max(map(sum, samples))),
        "anonymous_mib": [round(own) for own, _ in samples[:: max(1, len(samples) // 100)]],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="a folder of files, for the memory of smart index")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(measure(arguments.one, Path(folder))))
        return
    if arguments.folder:
        figures = indexing(arguments.folder)
        own, resident = figures["peak_anonymous_mib"], figures["peak_resident_mib"]
        print(f"{figures['passages']:,} passages: peak {own} MiB of its own, {resident} MiB with mapped files")
        record("index_memory", figures)
        return
    rows = []
    for size in arguments.sizes:
        command = [sys.executable, __file__, "--one", str(size)]
        rows.append(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))
        print(f"{size:>8} texts: peak {rows[-1]['peak_mib']} MiB, {rows[-1]['bytes_on_disk'] / 2**20:.0f} MiB on disk")
    growth = rows[-1]["peak_mib"] / rows[0]["peak_mib"]
    print(f"peak memory grows {growth:.2f} x while the texts grow {arguments.sizes[-1] / arguments.sizes[0]:.0f} x")
    record("encode_memory", {"rows": rows, "peak_growth": growth})


if __name__ == "__main__":
    main()
