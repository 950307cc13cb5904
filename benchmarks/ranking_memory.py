"""Peak memory of ranking 10,000 queries x 10,000 candidates of 500 token vectors each, from encodings on disk.

The encodings are random unit vectors in float16, written and read by the store of `smart eval mmeb`; ranking, judging
and the files of predictions are its own code too, with three settings (anchor, late, hybrid). Each size runs in a
process of its own. Its memory is sampled from outside: what it allocated (RssAnon) apart from what it has mapped of the
encodings (RssFile), which the system takes back whenever it wants.

Queries are ranked in blocks of a fixed number of scores, so the peak is reached within the first block against all
candidates; the sizes show that more queries add nothing, and `--full` ranks all 10,000.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from lib.record import record

#: Seconds between two looks at the process.
_SAMPLE = 0.01


@dataclass
class RandomEncoder:
    """Stands in for a model: unit vectors drawn at random, as many of an item as its text says."""

    width: int
    anchor_width: int
    dtype: str = "float16"
    seed: int = 0
    readout: Any = None
    backbone: Any = field(
        default_factory=lambda: SimpleNamespace(
            estimated_tokens=lambda item: int(item.text), drops_visual_of_queries=False
        )
    )

    def __post_init__(self) -> None:
        from smart_retrieval import Readout

        self.readout = self.readout or Readout()
        self.token_dim, self.anchor_dim = self.width, self.anchor_width

    def with_readout(self, readout: Any) -> RandomEncoder:
        return RandomEncoder(self.width, self.anchor_width, self.dtype, self.seed, readout, self.backbone)

    def identity(self) -> dict[str, Any]:
        return {"name": "random", "width": self.width, "seed": self.seed}

    def encode_query(self, items: Sequence[Any], *, out: Path, **_: Any) -> Any:
        return self._encode(items, out)

    def encode_document(self, items: Sequence[Any], *, out: Path, **_: Any) -> Any:
        return self._encode(items, out)

    def _encode(self, items: Sequence[Any], out: Path) -> Any:
        from smart_retrieval import SmartEmbeddings
        from smart_retrieval.embeddings import EmbeddingsWriter

        rng = np.random.default_rng(int.from_bytes(out.name.encode()[:8], "big") + self.seed)
        with EmbeddingsWriter(out) as writer:
            for start in range(0, len(items), 64):
                lengths = [int(item.text) for item in items[start : start + 64]]
                anchors, tokens = _unit(rng, len(lengths), self.anchor_dim), _unit(rng, sum(lengths), self.token_dim)
                offsets = np.concatenate([[0], np.cumsum(lengths)])
                writer.append(SmartEmbeddings(anchors, tokens.astype(self.dtype), offsets))
        return SmartEmbeddings.load(out, mmap=True)


def _unit(rng: np.random.Generator, rows: int, width: int) -> Any:
    vectors = rng.standard_normal((rows, width), np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@dataclass(frozen=True)
class Size:
    """What is ranked: all candidates for each query, or each query's own."""

    queries: int
    candidates: int
    length: int
    query_length: int
    width: int
    own: int = 0

    def store(self, root: Path) -> Any:
        """The encodings, written if they are not there."""
        from smart_retrieval.evaluation.mmeb.store import EncodingStore
        from smart_retrieval.inputs import Item

        encoder: Any = RandomEncoder(self.width, self.width)
        store = EncodingStore(root, encoder)
        for side, keys, length in (("query", self.query_keys, self.query_length), ("document", self.keys, self.length)):
            store.ensure(side, keys, [Item(str(length))] * len(keys))
        return store

    @property
    def query_keys(self) -> list[str]:
        return [f"query {number}" for number in range(self.queries)]

    @property
    def keys(self) -> list[str]:
        return [f"candidate {number}" for number in range(self.candidates)]

    def data(self) -> Any:
        """The task; labels are drawn at random."""
        from smart_retrieval.evaluation.mmeb.task_data import Missing, TaskData
        from smart_retrieval.evaluation.mmeb.tasks import choose
        from smart_retrieval.inputs import Item

        (task,) = choose(["MSCOCO_t2i" if self.own else "MSVD"])
        data = TaskData(task, Missing())
        for key in self.keys:
            data.add_candidate(key, Item(str(self.length)))
        rng = np.random.default_rng(1)
        for _ in range(self.queries):
            own = rng.choice(self.candidates, self.own or 1, replace=False)
            data.add_query(Item(str(self.query_length)), [data.names[own[0]]], candidates=own.tolist())
        return data


def measure(size: Size, root: Path, out: Path) -> dict[str, Any]:
    """Rank, judge and write; says "ready" on stderr when everything is there but the ranking."""
    from smart_retrieval import Scoring
    from smart_retrieval.evaluation.mmeb.ranking import rank_task, settings_for
    from smart_retrieval.evaluation.mmeb.report import judge

    store, data, settings = size.store(root), size.data(), settings_for(1.0, [1.0])
    print("ready", file=sys.stderr, flush=True)
    start = time.perf_counter()
    ranked = rank_task(data, store, size.query_keys, size.keys, settings, Scoring())
    means = judge(data.cases, ranked, {name: out / f"{name}.jsonl" for name in settings})
    seconds = time.perf_counter() - start
    lines = sum(1 for _ in (out / "late.jsonl").open())
    return {"seconds": round(seconds, 1), "ranked": lines, "hit@10": means["late"]["hit@10"]}


def watch(command: Sequence[str]) -> tuple[dict[str, Any], dict[str, float]]:
    """Run a child to its end; its figures, and the peaks of its memory in MiB."""
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stderr is not None
    ready = threading.Event()
    errors: list[str] = []

    def listen(stream: Any) -> None:
        for line in stream:
            errors.append(line)
            if line.strip() == "ready":
                ready.set()

    listener = threading.Thread(target=listen, args=(child.stderr,))
    listener.start()
    peaks: dict[str, float] = {}
    while child.poll() is None:
        try:
            status = Path(f"/proc/{child.pid}/status").read_text()
        except OSError:
            break
        found = {
            name: int(line.split()[1]) / 1024
            for line in status.splitlines()
            if (name := line.partition(":")[0]) in ("RssAnon", "RssFile", "VmHWM")
        }
        if not ready.is_set():
            peaks["before_anonymous_mib"] = found.get("RssAnon", 0.0)
        else:
            for name, key in (("RssAnon", "anonymous_mib"), ("RssFile", "mapped_mib"), ("VmHWM", "resident_mib")):
                peaks[key] = max(peaks.get(key, 0.0), found.get(name, 0.0))
        time.sleep(_SAMPLE)
    output = child.stdout.read()
    listener.join()
    if child.wait():
        raise SystemExit("".join(errors))
    return json.loads(output), {name: round(value, 1) for name, value in peaks.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, nargs="+", default=[1_000, 2_000, 4_000])
    parser.add_argument("--candidates", type=int, default=10_000)
    parser.add_argument("--length", type=int, default=500, help="token vectors of a candidate")
    parser.add_argument("--query-length", type=int, default=20)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--own", type=int, default=0, help="candidates of each query, in place of all of them")
    parser.add_argument("--full", action="store_true", help="10,000 queries behind the sizes (half an hour)")
    parser.add_argument("--budget", type=int, default=256, help="MiB that ranking may allocate; more fails")
    parser.add_argument("--folder", type=Path, help="where encodings are kept, for another run")
    parser.add_argument("--record", default="ranking_memory", help="name of the result")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    common = {name: getattr(arguments, name) for name in ("candidates", "length", "query_length", "width", "own")}
    if arguments.one:
        with tempfile.TemporaryDirectory() as out:
            print(json.dumps(measure(Size(arguments.one, **common), arguments.folder, Path(out))))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        sizes = [*arguments.queries, *([10_000] if arguments.full else [])]
        Size(max(sizes), **common).store(folder)
        options = [f"--{name.replace('_', '-')}={value}" for name, value in common.items()]
        rows = []
        for queries in sizes:
            command = [sys.executable, __file__, f"--one={queries}", f"--folder={folder}", *options]
            figures, peaks = watch(command)
            rows.append({"queries": queries, **figures, **peaks})
            print(
                f"{queries:>6} queries: {peaks['anonymous_mib']:.0f} MiB allocated, "
                f"{peaks['mapped_mib']:.0f} MiB mapped, {figures['seconds']:.0f} s",
                flush=True,
            )
        on_disk = sum(file.stat().st_size for file in folder.rglob("*.npy"))
    allocated = [row["anonymous_mib"] for row in rows]
    result = {
        **common,
        "dtype": "float16",
        "settings": ["anchor", "late", "hybrid-1"],
        "bytes_on_disk": on_disk,
        "rows": rows,
        "budget_mib": arguments.budget,
        "peak_mib": max(allocated),
        "within_budget": max(allocated) <= arguments.budget,
        "growth_mib_per_1000_queries": round(
            (allocated[-1] - allocated[0]) / max(1, rows[-1]["queries"] - rows[0]["queries"]) * 1000, 2
        ),
    }
    record(arguments.record, result)
    if not result["within_budget"]:
        raise SystemExit(f"allocated {max(allocated):.0f} MiB, expected at most {arguments.budget}")


if __name__ == "__main__":
    main()
