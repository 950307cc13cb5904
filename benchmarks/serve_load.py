"""A server under load: is any answer wrong or lost, how much does it add, and what outlives kill -9?

    python benchmarks/serve_load.py [--documents 2000] [--queries 2000] [--clients 64] [--model minilm]

The index holds docstrings of the standard library. Clients on the loopback ask for what never changes, with a scoring
that does not depend on the collection, so every answer must be that of the index alone, bit for bit; of ten requests
one adds a document and half of these are deleted again. Each server encodes with an exported model, as from the second
start on. Writes results/serve_load.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
from lib.record import record

from smart_retrieval.demo.stdlib_docs import build_stdlib_docs, load_questions
from smart_retrieval.index.smart_index import SmartIndex

OPTIONS: dict[str, Any] = {
    "where": "fixed = true", "weights": "uniform", "lambda_anchor": 1.0, "lambda_late": 1.0, "floor": None,
}  # fmt: skip
K = 10
ALONE = """
import sys, time, json
from smart_retrieval.index.smart_index import SmartIndex
started = time.perf_counter()
path, file, options, k = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), int(sys.argv[4])
index = SmartIndex.open(path, mode="r")
index.encoder.encoded("warm")
loaded = time.perf_counter() - started
queries = json.load(open(file))
for query in queries[:20]:
    index.search(query, k, **options)
begun, times = time.perf_counter(), []
for query in queries:
    index.encoder.encoded(query)
encoding = time.perf_counter() - begun
for query in queries:
    begun = time.perf_counter()
    index.search(query, k, **options)
    times.append(time.perf_counter() - begun)
median = sorted(times)[len(times) // 2]
print(json.dumps({"load_s": loaded, "encodings_a_second": len(queries) / encoding, "search_s": median}))
"""


class Server:
    """A running ``smart serve``, and how long it took to be ready."""

    def __init__(self, index: Path) -> None:
        began = time.perf_counter()
        command = [sys.executable, "-m", "smart_retrieval", "serve", str(index), "--port", "0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().rpartition(" ")[2].strip()
        self.bound = time.perf_counter() - began
        while True:
            try:
                if httpx.get(f"{self.address}/readyz").status_code == 200:
                    break
            except httpx.TransportError:
                pass
            time.sleep(0.02)
        self.ready = time.perf_counter() - began

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=2000)
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--model", default="minilm")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="smart-serve-load-") as name:
        os.environ["SMART_CACHE"] = f"{name}/cache"
        path = Path(name) / "docs.smart"
        documents = build_stdlib_docs()[: arguments.documents]
        texts = [f"{document.title}\n{document.text}" for document in documents]
        asked = [question.text for question in load_questions()] + [document.title for document in documents]
        queries = [asked[number % len(asked)] for number in range(arguments.queries)]
        with SmartIndex.create(path, arguments.model) as index:
            index.add(texts, ids=[document.id for document in documents], metadata=[{"fixed": True}] * len(texts))
            index.encoder.export()
        with SmartIndex.open(path, mode="r") as index:
            expected = {query: flat(index.search(query, K, **OPTIONS).to_dict()) for query in dict.fromkeys(queries)}
        file = Path(name) / "queries.json"
        file.write_text(json.dumps(queries[:500]), encoding="utf-8")
        alone = json.loads(
            subprocess.run(
                [sys.executable, "-c", ALONE, str(path), str(file), json.dumps(OPTIONS), str(K)],
                check=True, capture_output=True, text=True,
            ).stdout
        )  # fmt: skip
        server = Server(path)
        figures: dict[str, Any] = {"alone": alone, "bound_s": server.bound, "ready_s": server.ready}
        figures["one_client"] = asyncio.run(one_client(server.address, queries[:500], alone["search_s"]))
        figures["queries_alone"] = asyncio.run(load(server.address, queries, expected, arguments.clients, writes=False))
        figures["mixed"] = asyncio.run(load(server.address, queries, expected, arguments.clients, writes=True))
        figures["stopped_with"] = server.stop()
        figures["killed"] = killed(path, queries, expected, arguments.clients)
        rate = figures["queries_alone"]["answers_a_second"] / alone["encodings_a_second"]
        print(f"{rate:.2f} of the encoder's own throughput; overhead {figures['one_client']['overhead_ms']:.2f} ms")
        record("serve_load", {"load_average": os.getloadavg(), "share_of_encoder": rate, **vars(arguments), **figures})


def flat(found: dict[str, Any]) -> list[tuple[str, float]]:
    return [(hit["id"], hit["score"]) for hit in found["hits"]]


async def one_client(address: str, queries: list[str], alone: float) -> dict[str, float]:
    """Median seconds of searches one after another, and what the server adds to encoding and searching."""
    times = []
    async with httpx.AsyncClient(base_url=address, timeout=60) as client:
        for query in queries:
            began = time.perf_counter()
            (await client.post("/v1/indexes/docs/search", json={"query": query, "k": K, **OPTIONS})).raise_for_status()
            times.append(time.perf_counter() - began)
    median = statistics.median(times)
    return {"p50_ms": 1000 * median, "overhead_ms": 1000 * (median - alone)}


async def load(
    address: str, queries: list[str], expected: dict[str, Any], clients: int, *, writes: bool, stop: Any = None
) -> dict[str, Any]:
    """Searches of so many clients at once, and writes between them; what they were answered."""
    waiting = iter(enumerate(queries))
    statuses: Counter[int] = Counter()
    wrong, times, added, deleted = 0, list[float](), set[str](), set[str]()
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    began = time.perf_counter()

    async def work(client: httpx.AsyncClient) -> None:
        nonlocal wrong
        for number, query in waiting:
            sent = time.perf_counter()
            answer = await client.post("/v1/indexes/docs/search", json={"query": query, "k": K, **OPTIONS})
            times.append(time.perf_counter() - sent)
            statuses[answer.status_code] += 1
            wrong += answer.status_code == 200 and flat(answer.json()) != expected[query]
            if writes and number % 10 == 0:
                id = f"added-{number}"
                document = {"id": id, "text": f"note {number}: {query}"}
                answer = await client.post("/v1/indexes/docs/documents", json={"documents": [document]})
                statuses[answer.status_code] += 1
                if answer.status_code == 200:
                    added.add(id)
                    if number % 20 == 0:
                        answer = await client.delete(f"/v1/indexes/docs/documents/{id}")
                        statuses[answer.status_code] += 1
                        if answer.status_code == 200:
                            deleted.add(id)

    async with httpx.AsyncClient(base_url=address, timeout=120, limits=limits) as client:
        tasks = [asyncio.ensure_future(work(client)) for _ in range(clients)]
        if stop is not None:
            await asyncio.sleep(3)
            stop()
        await asyncio.gather(*tasks, return_exceptions=stop is not None)
        seconds = time.perf_counter() - began
        lost = 0
        for id in added if stop is None else ():
            status = (await client.get(f"/v1/indexes/docs/documents/{id}")).status_code
            lost += status != (404 if id in deleted else 200)
    ordered = sorted(times)
    return {
        "answers_a_second": len(times) / seconds,
        "p50_ms": 1000 * statistics.median(times),
        "p99_ms": 1000 * ordered[int(0.99 * (len(ordered) - 1))],
        "statuses": dict(statuses),
        "wrong": wrong,
        "lost": lost,
        "added": sorted(added) if stop is not None else len(added),
        "deleted": sorted(deleted) if stop is not None else len(deleted),
    }


def killed(path: Path, queries: list[str], expected: dict[str, Any], clients: int) -> dict[str, Any]:
    """Kill the server under load, start it again, and look for every write that it acknowledged."""
    with SmartIndex.open(path) as index:
        index.delete(where="fixed not exists")
    server = Server(path)
    found = asyncio.run(
        load(server.address, queries, expected, clients, writes=True, stop=lambda: server.stop(signal.SIGKILL))
    )
    again = Server(path)
    again.stop()
    with SmartIndex.open(path) as index:
        there = set(index.store.ids("fixed not exists"))
        verified = index.verify().ok
    lost = set(found["added"]) - set(found["deleted"]) - there
    # A deletion may have been under way that nobody heard of any more.
    unheard = {id for id in lost if int(id.partition("-")[2]) % 20 == 0}
    return {
        "acknowledged": len(found["added"]), "deleted": len(found["deleted"]), "lost": len(lost - unheard),
        "came_back": len(set(found["deleted"]) & there), "verified": verified, "ready_again_s": again.ready,
    }  # fmt: skip


if __name__ == "__main__":
    main()
