"""Encoding and search of this working tree beside an earlier commit: the two in turn, in one run.

    python benchmarks/compare_versions.py --base 618c10a --data DATA/cranfield [--pairs 9]

The earlier commit is checked out into a temporary worktree. Two processes, one for each version, answer in turn; an
index built by the earlier version is searched by both, so that its format is checked as well. Quoted is the median over
the pairs of (this tree / earlier). Writes results/compare_versions.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TASKS = ("encode_documents", "encode_queries", "search_many", "search_exact", "similarity")


def work(arguments: argparse.Namespace) -> None:
    """One version: read a task from stdin, do it, print the seconds it took."""
    warnings.simplefilter("ignore")
    from smart_retrieval import SmartIndex, SmartModel

    rows = [json.loads(line) for line in (arguments.data / "corpus.jsonl").read_text(encoding="utf-8").splitlines()]
    texts = [f"{row.get('title', '')} {row['text']}".strip() or "empty" for row in rows]
    lines = (arguments.data / "queries.jsonl").read_text(encoding="utf-8").splitlines()
    questions = [json.loads(line)["text"] for line in lines][:100]
    model = SmartModel("minilm", device="cpu")
    if not arguments.index.exists():
        with SmartIndex.create(arguments.index, model) as index:
            index.add(texts, ids=[f"{number:05}" for number in range(len(texts))])
            index.optimize()
    queries, documents = model.encode_query(questions), model.encode_document(texts[:200])
    index = SmartIndex.open(arguments.index, model, mode="r")
    tasks: dict[str, Any] = {
        "encode_documents": lambda: model.encode_document(texts[:200], show_progress=False),
        "encode_queries": lambda: [model.encode_query(one, show_progress=False) for one in questions[:50]],
        "search_many": lambda: [index.search(queries[n], candidates=200) for n in range(len(queries))],
        "search_exact": lambda: [index.search(queries[n], exact=True) for n in range(len(queries))],
        "similarity": lambda: model.similarity(queries, documents, weights=None),
        "hits": lambda: [[[hit.id, hit.score] for hit in index.search(queries[n])[0]] for n in range(len(queries))],
    }
    print("ready", flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        found = tasks[line.strip()]()
        answer = found if line.strip() == "hits" else time.perf_counter() - start
        print(json.dumps(answer), flush=True)


class Version:
    """A process that runs one version's code."""

    def __init__(self, tree: Path, arguments: argparse.Namespace, index: Path) -> None:
        command = [sys.executable, str(Path(__file__).resolve()), "--worker", "--data", str(arguments.data)]
        env = {**os.environ, "PYTHONPATH": str(tree / "src")}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            [*command, "--index", str(index)], env=env, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
        )
        while self._line() != "ready":
            pass

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("a version's process ended early; run it by hand with --worker to see why")
        return line.strip()

    def do(self, task: str) -> Any:
        """Seconds of a task, or the hits."""
        assert self.process.stdin is not None
        self.process.stdin.write(task + "\n")
        self.process.stdin.flush()
        return json.loads(self._line())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a BEIR-layout folder")
    parser.add_argument("--base", default="618c10a", help="the earlier commit")
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--index", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments)
        return
    from lib.record import record

    with tempfile.TemporaryDirectory() as folder:
        tree, index = Path(folder) / "tree", Path(folder) / "index"
        subprocess.run(["git", "-C", ROOT, "worktree", "add", "-q", "--detach", tree, arguments.base], check=True)
        try:
            versions = {"earlier": Version(tree, arguments, index)}
            versions["this"] = Version(ROOT, arguments, index)
            hits = {name: version.do("hits") for name, version in versions.items()}
            ours, theirs = ([hit for one in hits[name] for hit in one] for name in ("this", "earlier"))
            same = [id for id, _ in ours] == [id for id, _ in theirs]
            apart = max(abs(one[1] - other[1]) for one, other in zip(ours, theirs, strict=True))
            runs: dict[str, list[dict[str, float]]] = {task: [] for task in TASKS}
            for pair in range(arguments.pairs):
                for task in TASKS:
                    order = list(versions)[:: 1 if pair % 2 else -1]
                    runs[task].append({name: versions[name].do(task) for name in order})
            for version in versions.values():
                version.process.terminate()
        finally:
            subprocess.run(["git", "-C", ROOT, "worktree", "remove", "--force", tree], check=True)
    ratios = {task: statistics.median(run["this"] / run["earlier"] for run in own) for task, own in runs.items()}
    for task, ratio in ratios.items():
        print(f"{task:20} {ratio:.3f} x {arguments.base} (median of {arguments.pairs} pairs)")
    print(f"hits: {'the same' if same else 'DIFFERENT'} documents, scores at most {apart:.1e} apart")
    figures = {"ratios": ratios, "same_hits": same, "largest_score_difference": apart, "runs_seconds": runs}
    record("compare_versions", {"base": arguments.base, "data": arguments.data.name, **figures})


if __name__ == "__main__":
    main()
