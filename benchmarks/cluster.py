"""Ray: shards served beside one index, a shard killed under load, and kill -9 of ``smart encode --ray``.

    python benchmarks/cluster.py same killed --collection DATA/cranfield
    python benchmarks/cluster.py kills [--seeds 0 1 2 3 4] [--kills 10] [--documents 600]

``same``: a judged collection with minilm in 1, 2, 4 and 8 shards served by Ray Serve: the share of queries whose first
ten are those of the one index, all scored. ``killed``: two shards under the load of four clients, one replica of a
shard killed with kill -9: failed and partial answers, with a second replica and without. ``kills``: ``smart encode
--ray --index`` killed at random moments and run again; afterwards every document must be there once; results do not
depend on how busy the machine is. Needs the extra ``ray``. Each part writes a file of its own:
results/cluster_same.json, cluster_killed.json, cluster_kills.json; in the last, each seed is written as it ends, beside
those of other seeds that are there, so that many kills may be done in several sittings.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
from lib.record import RESULTS, record

from smart_retrieval import ShardedIndex, SmartIndex, merge_indexes, split_index
from smart_retrieval.cluster.encode import encode_dataset
from smart_retrieval.cluster.rows import Columns
from smart_retrieval.cluster.serving.serve import ServedShards
from smart_retrieval.evaluation import load_beir
from smart_retrieval.evaluation.provenance import run_facts

WORDS = "otter river tax moon bread log rotate server night oak pump valve turn clock winter index key ship"
PARTS = ("same", "killed", "kills")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=PARTS)
    parser.add_argument("--collection", type=Path, help="a BEIR folder, of same and killed")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--documents", type=int, default=600)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    given = parser.parse_args()
    if given.collection is None and given.parts != ["kills"]:
        parser.error("expected --collection FOLDER for same and killed")
    with tempfile.TemporaryDirectory(prefix="smart-cluster-") as name:
        folder = Path(name)
        if given.parts != ["kills"]:
            report = encoded(given.collection, folder)
        if "same" in given.parts:
            rows = [same_hits(given.collection, folder, shards) for shards in (1, 2, 4, 8)]
            record("cluster_same", {"collection": given.collection.name, "encoded": report, "same": rows})
        if "killed" in given.parts:
            rows = [killed_under_load(folder, replicas) for replicas in (2, 1)]
            record("cluster_killed", {"collection": given.collection.name, "killed": rows})
        for seed in given.seeds if "kills" in given.parts else ():
            (own := folder / f"seed{seed}").mkdir()
            found = killed_encoding(own, given.kills, given.documents, seed)
            runs = sorted([*other_runs(seed), found], key=lambda run: int(run["seed"]))
            record("cluster_kills", {"kills": sum(run["kills"] for run in runs), "runs": runs})


def other_runs(seed: int) -> list[dict[str, Any]]:
    """The kills recorded with other seeds."""
    path = RESULTS / "cluster_kills.json"
    known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"runs": []}
    return [run for run in known["runs"] if run["seed"] != seed]


def encoded(collection: Path, folder: Path) -> dict[str, Any]:
    """The collection in four shards as ``smart encode --index`` makes them, and merged into one index."""
    columns = Columns("_id", ("title", "text"))
    (folder / "rows").mkdir()
    shutil.copy(collection / "corpus.jsonl", folder / "rows")
    report = encode_dataset(
        folder / "rows", folder / "encoded.shards", "minilm", index=True, shards=4, columns=columns, part_size=200
    )
    with ShardedIndex.open(folder / "encoded.shards") as shards:
        merge_indexes(shards.shards, folder / "whole.smart")
    return report.to_dict() | {"out": ""}


def same_hits(collection: Path, folder: Path, shards: int) -> dict[str, Any]:
    """Hits of all queries from served shards and from the one index."""
    queries = load_beir(collection).queries
    out = folder / f"{shards}.shards"
    with SmartIndex.open(folder / "whole.smart", "minilm") as whole:
        split_index(whole, out, shards)
        expected = whole.search(queries, 10, exact=True)
    with ServedShards(out, port=0) as served:
        wait_for(served)
        found = [ask(served.search_url, query=query, k=10, exact=True, deadline_ms=30_000) for query in queries]
    pairs = list(zip(found, expected, strict=True))
    same = [[hit["id"] for hit in one["hits"]] == [hit.id for hit in hits] for one, hits in pairs]
    gaps = [abs(a["score"] - b.score) for one, hits in pairs for a, b in zip(one["hits"], hits, strict=True)]
    row = {"shards": shards, "queries": len(queries), "same_top10": sum(same) / len(same), "largest_gap": max(gaps)}
    print(row, flush=True)
    return row


def killed_under_load(folder: Path, replicas: int) -> dict[str, Any]:
    """Answers while a replica of a shard is killed."""
    out = folder / f"load{replicas}.shards"
    with SmartIndex.open(folder / "whole.smart", "minilm") as whole:
        split_index(whole, out, 2)
    with ServedShards(out, port=0, replicas=replicas) as served:
        wait_for(served)
        answers: Counter[str] = Counter()
        slowest, stop = [0.0], threading.Event()

        def load() -> None:
            while not stop.is_set():
                started = time.perf_counter()
                found = ask(served.search_url, query="heat transfer in a boundary layer", k=10)
                answers["failed" if "hits" not in found else "partial" if found["partial"] else "whole"] += 1
                slowest[0] = max(slowest[0], time.perf_counter() - started)

        clients = [threading.Thread(target=load) for _ in range(4)]
        for client in clients:
            client.start()
        time.sleep(3)
        replicas_of("shard-00001")[0].kill()
        time.sleep(12)
        stop.set()
        for client in clients:
            client.join()
        after = ask(served.search_url, query="heat transfer", k=10)
    counts = {name: answers[name] for name in ("whole", "partial", "failed")}
    row = {"replicas": replicas, **counts, "slowest_s": round(slowest[0], 2), "partial_afterwards": after["partial"]}
    print(row, flush=True)
    return row


def replicas_of(shard: str) -> list[psutil.Process]:
    """The processes of a shard's replicas."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        title = (process.info["cmdline"] or [""])[0]
        if title.startswith("ray::ServeReplica:") and f":{shard}" in title:
            found.append(process)
    return found


def wait_for(served: ServedShards) -> None:
    with urllib.request.urlopen(f"{served.url}/readyz", timeout=120) as answer:
        answer.read()


def ask(url: str, **body: Any) -> Any:
    """A search's answer, or that of a refused one."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        return json.load(error)


def killed_encoding(folder: Path, kills: int, documents: int, seed: int) -> dict[str, Any]:
    """Kill -9 of the command at random moments, until it was killed so often; then run it to its end."""
    chance = random.Random(seed)
    data, out = folder / "kills.jsonl", folder / "killed.shards"
    rows = [{"id": f"d{number}", "text": " ".join(chance.choices(WORDS.split(), k=8))} for number in range(documents)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    whole = run(data, folder / "unkilled.shards")
    counts = Counter[str]()
    before: set[str] = set()
    while counts["kills"] < kills:
        seconds = run(data, out, chance.uniform(0.2, 1.0) * whole)
        if seconds < math.inf:
            counts["ended_before_the_kill"] += 1
            counts["wrong"] += wrong(out, rows)
            shutil.rmtree(out)
            before = set()
            continue
        counts["kills"] += 1
        after = {path.name for path in out.glob(".parts/part-*")} if out.exists() else set()
        shards = any(out.glob("shard-*")) if out.exists() else False
        counts["parts_lost"] += 0 if shards else len(before - after)
        counts["kills_with_parts_written"] += bool(after)
        before = after
        print(dict(counts), f"{len(after)} parts", flush=True)
    run(data, out)
    wrong_in_the_end, facts = wrong(out, rows), run_facts()
    return {
        "date": facts["date"],
        "commit": facts["commit"],
        "documents": documents,
        "seed": seed,
        "seconds_of_a_run": whole,
        **counts,
        "wrong_in_the_end": wrong_in_the_end,
    }


def wrong(out: Path, rows: list[dict[str, str]]) -> int:
    """How many documents are missing, there twice, or of another text."""
    with ShardedIndex.open(out, "minilm", mode="r") as shards:
        found = [(one.id, one.text) for shard in shards.shards for one in shard.store.get(shard.store.ids())]
    expected = Counter((row["id"], row["text"]) for row in rows)
    difference = Counter(found)
    difference.subtract(expected)
    return sum(map(abs, difference.values()))


def run(data: Path, out: Path, kill_after: float = math.inf) -> float:
    """Seconds that a run took; infinite if it was killed."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "smart_retrieval", "encode", data, "--out", out, "--index", "--shards", "2",
               "--codec", "float16", "--part-size", "20", "--ray", "--stall", "120"]  # fmt: skip
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        _, errors = process.communicate(timeout=None if kill_after == math.inf else kill_after)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return math.inf
    if process.returncode:
        raise SystemExit(f"a run failed: {errors.decode()}")
    return round(time.perf_counter() - started, 1)


if __name__ == "__main__":
    main()
