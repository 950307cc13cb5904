"""A server under load: is any answer wrong or lost, how much does it add, and what outlives kill -9?

    python benchmarks/serve_load.py [--documents 2000] [--queries 2000] [--clients 64] [--kills 5] [--model minilm]
    python benchmarks/serve_load.py --quick          # the same with small numbers; nothing is written

The index holds docstrings of the standard library. Clients on the loopback ask for what never changes, with a scoring
that does not depend on the collection, so every answer must be that of the index alone, bit for bit; of ten requests
one adds a document, and half of these are deleted again. Each server encodes with an exported model, as from the second
start on; what it is compared with is a process of its own with as many threads. Then servers are killed once so many
writes were acknowledged, and started again. Writes results/serve_load.json; exits with 1 where an answer is wrong, a
write lost or an index damaged.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from lib.record import record

from smart_retrieval.demo.stdlib_docs import build_stdlib_docs, load_questions
from smart_retrieval.index.smart_index import SmartIndex
from smart_retrieval.server import ServerSettings

OPTIONS: dict[str, Any] = {
    "where": "fixed = true", "weights": "uniform", "lambda_anchor": 1.0, "lambda_late": 1.0, "floor": None,
}  # fmt: skip
K = 10
SECONDS = 120.0  # for anything that is waited for
INDEX = "/v1/indexes/docs"
ALONE = """
import sys, time, json
from smart_retrieval.index.smart_index import SmartIndex
path, file, options, k = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), int(sys.argv[4])
index = SmartIndex.open(path, mode="r")
index.search("warm", 1)
print("loaded", flush=True)
queries = json.load(open(file))
def each(call):
    times = []
    for query in queries:
        begun = time.perf_counter()
        call(query)
        times.append(time.perf_counter() - begun)
    return times
each(lambda query: index.search(query, k, **options))
encoding, searching = each(index.encoder.encoded), each(lambda query: index.search(query, k, **options))
middle = len(queries) // 2
print(json.dumps({
    "encodings_a_second": len(queries) / sum(encoding), "encode_p50_ms": 1000 * sorted(encoding)[middle],
    "searches_a_second": len(queries) / sum(searching), "search_p50_ms": 1000 * sorted(searching)[middle],
}))
"""


class Server:
    """A running ``smart serve``, and how long it took to be ready."""

    def __init__(self, index: Path, **environment: str) -> None:
        began = time.perf_counter()
        command = [sys.executable, "-m", "smart_retrieval", "serve", str(index), "--port", "0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment})
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline().rpartition(":")[2])
        self.bound = time.perf_counter() - began
        while not self._is_ready():
            if self.process.poll() is not None or time.perf_counter() - began > SECONDS:
                self.process.kill()
                raise SystemExit("a server did not become ready")
            time.sleep(0.02)
        self.ready = time.perf_counter() - began

    def _is_ready(self) -> bool:
        try:
            return Client(self.port).ask("GET", "/readyz")[0] == 200
        except (OSError, HTTPException):
            return False

    def settled(self) -> float:
        """Seconds until the model that documents need is loaded, too, which a server does behind its first answers."""
        began = time.perf_counter()
        while Client(self.port).ask("GET", "/readyz")[1]["writes"] == "loading":
            if time.perf_counter() - began > SECONDS:
                raise SystemExit("a server did not become ready for writes")
            time.sleep(0.1)
        return time.perf_counter() - began

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        status = self.process.wait(SECONDS)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return status


class Client:
    """One connection. Not httpx: its own work would be a good part of what two cores do."""

    def __init__(self, port: int) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=SECONDS)

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body)
        self._connection.request(method, path, data, {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        content = answer.read()
        return answer.status, json.loads(content) if answer.status == 200 else None

    def search(self, query: str) -> tuple[int, Any]:
        return self.ask("POST", f"{INDEX}/search", {"query": query, "k": K, **OPTIONS})


@dataclass
class Load:
    """What clients were answered; writes are noted before they are sent, and once they are acknowledged."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    statuses: Counter[int] = field(default_factory=Counter)
    times: list[float] = field(default_factory=list)
    wrong: int = 0
    cut: int = 0  # clients whose connection ended
    texts: dict[str, str] = field(default_factory=dict)
    added: set[str] = field(default_factory=set)
    deleting: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)
    seconds: float = 0.0

    def run(
        self, port: int, queries: list[str], expected: dict[str, Any], clients: int, every: int = 0, name: str = "mixed"
    ) -> None:
        """Ask all queries; after each ``every``-th, add a document, and delete half of these again."""
        waiting = iter(enumerate(queries))

        def take() -> tuple[int, str] | None:
            with self.lock:
                return next(waiting, None)

        def work() -> None:
            client = Client(port)
            try:
                while (item := take()) is not None:
                    self._one(client, *item, expected, every, name)
            except (OSError, HTTPException):
                with self.lock:
                    self.cut += 1

        threads = [threading.Thread(target=work) for _ in range(clients)]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.seconds = time.perf_counter() - began

    def _one(self, client: Client, number: int, query: str, expected: dict[str, Any], every: int, name: str) -> None:
        sent = time.perf_counter()
        status, answer = client.search(query)
        seconds = time.perf_counter() - sent
        with self.lock:
            self.times.append(seconds)
            self.wrong += status == 200 and flat(answer) != expected[query]
        self._noted(status)
        if not every or number % every:
            return
        id = f"{name}-{number}"
        document = {"id": id, "text": f"note {number}: {query}"}
        self.texts[id] = document["text"]
        if not self._noted(client.ask("POST", f"{INDEX}/documents", {"documents": [document]})[0]):
            return
        self.added.add(id)
        if number % (2 * every) == 0:
            self.deleting.add(id)
            if self._noted(client.ask("DELETE", f"{INDEX}/documents/{id}")[0]):
                self.deleted.add(id)

    def _noted(self, status: int) -> bool:
        with self.lock:
            self.statuses[status] += 1
        return status == 200

    def against(self, there: dict[str, str]) -> dict[str, int]:
        """What is amiss with the documents that are there. Of what was not acknowledged, either is right."""
        kept = self.added - self.deleting
        return {
            "acknowledged": len(self.added) + len(self.deleted),
            "lost": sum(id not in there for id in kept),
            "came_back": sum(id in there for id in self.deleted),
            "changed": sum(there.get(id, text) != text for id, text in self.texts.items()),
        }

    def figures(self) -> dict[str, Any]:
        ordered = sorted(self.times)
        return {
            "answers_a_second": len(ordered) / self.seconds,
            "p50_ms": 1000 * statistics.median(ordered),
            "p99_ms": 1000 * ordered[int(0.99 * (len(ordered) - 1))],
            "statuses": dict(self.statuses),
            "wrong": self.wrong,
            "failed": sum(count for status, count in self.statuses.items() if status >= 500 and status != 503),
            "cut": self.cut,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=2000)
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--quick", action="store_true", help="200 documents and queries, 16 clients, 2 kills")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.documents, arguments.queries, arguments.clients, arguments.kills = 200, 200, 16, 2
    threads = ServerSettings().model_threads
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
        say("the index is made")
        figures: dict[str, Any] = {"load_average_before": os.getloadavg(), "model_threads": threads}
        few = queries[:500]
        figures["alone"] = alone = alone_in_a_process(path, few, threads)
        say(f"alone: {alone['encodings_a_second']:.0f} encodings, {alone['searches_a_second']:.0f} searches a second")
        server = Server(path)
        figures |= {"bound_s": server.bound, "ready_s": server.ready, "ready_by_load": server.ready / alone["loaded_s"]}
        figures["ready_for_writes_s"] = server.ready + server.settled()
        try:
            figures["one_client"] = one = measured(lambda load: load.run(server.port, few, expected, 1))
            one["overhead_ms"] = one["p50_ms"] - alone["search_p50_ms"]
            say(f"one client: {one['overhead_ms']:.1f} ms more than alone")
            for phase, every in (("queries_alone", 0), ("mixed", 10)):
                if every:
                    figures["first_write_s"] = first_write(server.port)
                load = Load()
                load.run(server.port, queries, expected, arguments.clients, every)
                figures[phase] = load.figures() | load.against(texts_of(path))
                say(f"{phase}: {figures[phase]['answers_a_second']:.0f} answers a second, {load.wrong} wrong")
        finally:
            figures["stopped_with"] = server.stop()
        # As before the model was exported: the start that waits for the model.
        whole = Server(path, SMART_LIGHT="off")
        whole.stop()
        loaded = alone_in_a_process(path, few[:1], threads, SMART_LIGHT="off")["loaded_s"]
        figures["whole_model"] = {"loaded_s": loaded, "ready_s": whole.ready, "ready_by_load": whole.ready / loaded}
        for name in ("encodings", "searches"):
            answered = figures["queries_alone"]["answers_a_second"]
            figures[f"share_of_{name}_alone"] = answered / alone[f"{name}_a_second"]
        figures["killed"] = killed(path, queries, expected, arguments.clients, arguments.kills)
    figures["load_average"] = os.getloadavg()
    print(json.dumps(figures, indent=1))
    if not arguments.quick:
        record("serve_load", {**vars(arguments), **figures})
    phases = (figures["one_client"], figures["queries_alone"], figures["mixed"], figures["killed"])
    amiss = ("wrong", "failed", "lost", "came_back", "changed", "damaged", "killed_too_late")
    sys.exit(any(phase.get(name, 0) for phase in phases for name in amiss) or figures["mixed"]["cut"] > 0)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def flat(found: dict[str, Any]) -> list[tuple[str, float]]:
    return [(hit["id"], hit["score"]) for hit in found["hits"]]


def measured(run: Callable[[Load], None]) -> dict[str, Any]:
    load = Load()
    run(load)
    return load.figures()


def first_write(port: int) -> float:
    """Seconds that a server's first write takes, once the whole model is loaded, which encodes documents."""
    began, client = time.perf_counter(), Client(port)
    client.ask("POST", f"{INDEX}/documents", {"documents": [{"id": "first", "text": "a first note"}]})
    return time.perf_counter() - began


def alone_in_a_process(path: Path, queries: list[str], threads: int, **environment: str) -> dict[str, float]:
    """Seconds until a process without a server has answered its first query, and what it does from then on."""
    file = path.with_name("queries.json")
    file.write_text(json.dumps(queries), encoding="utf-8")
    began = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", ALONE, str(path), str(file), json.dumps(OPTIONS), str(K)],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": str(threads), **environment},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        loaded = time.perf_counter() - began
        return {"loaded_s": loaded, **json.loads(process.stdout.readline())}


def texts_of(path: Path) -> dict[str, str]:
    """The documents that clients added, and their texts."""
    with SmartIndex.open(path, mode="r") as index:
        return {document.id: document.text for document in index.get(index.store.ids("fixed not exists"))}


def killed(path: Path, queries: list[str], expected: dict[str, Any], clients: int, kills: int) -> dict[str, Any]:
    """Kill servers in the middle of writes, and look for everything that any of them acknowledged."""
    sums: Counter[str] = Counter(kills=kills)
    loads, ready = list[Load](), list[float]()
    for number in range(kills):
        server, load = Server(path), Load()
        ready.append(server.ready)
        loads.append(load)

        def kill(server: Server = server, load: Load = load, enough: int = 10 + 7 * number) -> None:
            until = time.perf_counter() + SECONDS  # at another moment each time, with all clients at work
            while len(load.added) + len(load.deleted) < enough and time.perf_counter() < until:
                time.sleep(0.001)
            server.stop(signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        load.run(server.port, queries * 100, expected, clients, 2, f"kill{number}")
        killer.join()
        with SmartIndex.open(path) as index:
            sums["damaged"] += not index.verify().ok
    there = texts_of(path)
    for load in loads:
        sums.update(load.against(there) | {"wrong": load.wrong, "clients_cut": load.cut})
    sums["killed_too_late"] = sum(load.cut < clients for load in loads)
    again = Server(path)
    after = measured(lambda load: load.run(again.port, queries[:200], expected, clients))
    again.stop()
    sums.update({"wrong": after["wrong"], "failed": after["failed"]})
    say(f"killed {kills} times: {sums['lost']} of {sums['acknowledged']} acknowledged writes lost")
    return {**sums, "ready_again_s": statistics.median([*ready[1:], again.ready])}


if __name__ == "__main__":
    main()
