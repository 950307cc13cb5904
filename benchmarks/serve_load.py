"""A server under load: is any answer wrong or lost, how much does it add, and what outlives kill -9?

    python benchmarks/serve_load.py [--documents 2000] [--queries 2000] [--clients 64] [--kills 5] [--model minilm]
    python benchmarks/serve_load.py --quick          # the same with small numbers; nothing is written

The index holds docstrings of the standard library. Clients on the loopback ask for what never changes, with a scoring
that does not depend on the collection, so every answer must be that of the index alone, bit for bit; of ten requests
one adds a document, and half of these are deleted again. Clients share one thread, and look at answers afterwards, so
that they take little of the processors; how much is written down. Each server encodes with an exported model, as from
the second start on, and so does the encoder alone that it is compared with: one by one and by 16, in a process of its
own with as many threads, the same queries. The two are measured in turn, and shares are medians of five. Then servers
are killed once so many writes were acknowledged, and started again. Writes results/serve_load.json; exits with 1 where
an answer is wrong, a write lost or an index damaged.
"""

from __future__ import annotations

import argparse
import json
import os
import selectors
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, TypeAlias

import psutil
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
few = queries[:500]
def each(name, verb, call, queries=few):
    times, spent = [], time.process_time()
    for query in queries:
        begun = time.perf_counter()
        call(query)
        times.append(time.perf_counter() - begun)
    return {
        f"{name}_a_second": len(queries) / sum(times), f"{verb}_p50_ms": 1000 * sorted(times)[len(times) // 2],
        f"{verb}_processor_ms": 1000 * (time.process_time() - spent) / len(queries),
    }
def together(size):
    begun, spent = time.perf_counter(), time.process_time()
    for start in range(0, len(queries), size):
        index.encoder.encode_queries(queries[start : start + size])
    took, spent = time.perf_counter() - begun, time.process_time() - spent
    return {
        f"encodings_by_{size}_a_second": len(queries) / took,
        f"encode_by_{size}_processor_ms": 1000 * spent / len(queries),
    }
search = lambda query: index.search(query, k, **options)
each("searches", "search", search)
alone = each("encodings", "encode", index.encoder.encoded, queries) | together(16)
print(json.dumps(alone | each("searches", "search", search)))
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

    def spent(self) -> float:
        """Seconds of processor time so far; 0 once it was killed."""
        try:
            times = psutil.Process(self.process.pid).cpu_times()
        except psutil.Error:
            return 0.0
        return float(times.user + times.system)

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        status = self.process.wait(SECONDS)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return status


class Client:
    """One connection, for what is not measured."""

    def __init__(self, port: int) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=SECONDS)

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body)
        self._connection.request(method, path, data, {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        content = answer.read()
        return answer.status, json.loads(content) if answer.status == 200 else None


#: What a client sends, one request after the other's answer, which it is given: its status and content.
Requests: TypeAlias = Generator[bytes, tuple[int, bytes], None]


def request(port: int, method: str, path: str, body: Any = None) -> bytes:
    content = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


class Conversation:
    """A client's requests over a connection of its own."""

    def __init__(self, port: int, requests: Requests) -> None:
        self.requests, self.got = requests, bytearray()
        self.connection = socket.create_connection(("127.0.0.1", port), SECONDS)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def begin(self) -> None:
        self.connection.sendall(next(self.requests))

    def go_on(self) -> None:
        """Read what has come, and send the next request once the answer is whole; StopIteration once there is none."""
        part = self.connection.recv(2**18)
        if not part:
            raise ConnectionError("the server closed the connection")
        self.got += part
        end = self.got.find(b"\r\n\r\n") + 4
        if end >= 4:
            head = bytes(self.got[:end]).lower()
            length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
            if len(self.got) == end + int(length):
                answer = int(head[9:12]), bytes(self.got[end:])
                self.got.clear()
                self.connection.sendall(self.requests.send(answer))


def converse(port: int, clients: Iterable[Requests]) -> int:
    """Let all clients talk to a server, side by side in this thread; how many were cut off."""
    cut = 0
    with selectors.DefaultSelector() as waiting:

        def step(one: Conversation, go: Callable[[], None]) -> bool | None:
            """True once a client has all its answers, False where it was cut off."""
            try:
                go()
            except (StopIteration, OSError) as ended:
                if one.connection in waiting.get_map():
                    waiting.unregister(one.connection)
                one.connection.close()
                return isinstance(ended, StopIteration)
            return None

        for one in [Conversation(port, requests) for requests in clients]:
            waiting.register(one.connection, selectors.EVENT_READ, one)
            cut += step(one, one.begin) is False
        while waiting.get_map():
            ready = waiting.select(SECONDS)
            if not ready:
                return cut + len(waiting.get_map())
            cut += sum(step(key.data, key.data.go_on) is False for key, _ in ready)
    return cut


@dataclass
class Load:
    """What clients were answered; writes are noted before they are sent, and once they are acknowledged."""

    statuses: Counter[int] = field(default_factory=Counter)
    times: list[float] = field(default_factory=list)
    wrong: int = 0
    cut: int = 0  # clients whose connection ended
    texts: dict[str, str] = field(default_factory=dict)
    added: set[str] = field(default_factory=set)
    deleting: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)
    seconds: float = 0.0
    spent: dict[str, float] = field(default_factory=dict)  # seconds of processor time

    def run(
        self, server: Server, queries: list[str], expected: dict[str, Any], clients: int, every: int = 0,
        name: str = "mixed",
    ) -> None:  # fmt: skip
        """Ask all queries; after each ``every``-th, add a document, and delete half of these again."""
        answers: list[tuple[str, bytes]] = []
        bodies = {query: {"query": query, "k": K, **OPTIONS} for query in dict.fromkeys(queries)}
        asked = {query: request(server.port, "POST", f"{INDEX}/search", body) for query, body in bodies.items()}
        waiting = iter(enumerate(queries))
        steps = [self._client(server.port, waiting, asked, answers, every, name) for _ in range(clients)]
        began, own, others = time.perf_counter(), time.thread_time(), server.spent()
        self.cut += converse(server.port, steps)
        self.seconds = time.perf_counter() - began
        self.spent = {"clients": time.thread_time() - own, "server": server.spent() - others}
        self.wrong += sum(flat(json.loads(content)) != expected[query] for query, content in answers)

    def _client(
        self, port: int, waiting: Iterator[tuple[int, str]], asked: dict[str, bytes],
        answers: list[tuple[str, bytes]], every: int, name: str,
    ) -> Requests:  # fmt: skip
        for number, query in waiting:
            sent = time.perf_counter()
            status, content = yield asked[query]
            self.times.append(time.perf_counter() - sent)
            if self._noted(status):
                answers.append((query, content))
            if every and not number % every:
                yield from self._write(port, f"{name}-{number}", f"note {number}: {query}", number % (2 * every) == 0)

    def _write(self, port: int, id: str, text: str, delete: bool) -> Requests:
        """Add a document, and delete it again."""
        self.texts[id] = text
        document = {"documents": [{"id": id, "text": text}]}
        status, _ = yield request(port, "POST", f"{INDEX}/documents", document)
        if not self._noted(status):
            return
        self.added.add(id)
        if delete:
            self.deleting.add(id)
            status, _ = yield request(port, "DELETE", f"{INDEX}/documents/{id}")
            if self._noted(status):
                self.deleted.add(id)

    def _noted(self, status: int) -> bool:
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
            "processor_ms": {name: 1000 * spent / len(ordered) for name, spent in self.spent.items()},
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
        figures["alone"] = alone = alone_in_a_process(path, queries, threads)
        say(f"alone: {alone['encodings_a_second']:.0f} encodings, {alone['searches_a_second']:.0f} searches a second")
        figures["started"] = started(path, few[:1], threads)
        server = Server(path)
        figures["ready_for_writes_s"] = server.ready + server.settled()
        try:
            figures["one_client"] = one = measured(lambda load: load.run(server, few, expected, 1))
            one["overhead_ms"] = one["p50_ms"] - alone["search_p50_ms"]
            say(f"one client: {one['overhead_ms']:.1f} ms more than alone")
            figures["in_turn"] = turns = [in_turn(path, server, queries, expected, arguments.clients) for _ in range(5)]
            for name in ("encodings", "encodings_by_16", "searches"):
                figures[f"share_of_{name}_alone"] = statistics.median(
                    one["answers_a_second"] / one[f"{name}_a_second"] for one in turns
                )
            for phase, every in (("queries_alone", 0), ("mixed", 10)):
                if every:
                    figures["first_write_s"] = first_write(server.port)
                load = Load()
                load.run(server, queries, expected, arguments.clients, every)
                figures[phase] = load.figures() | load.against(texts_of(path))
                say(f"{phase}: {figures[phase]['answers_a_second']:.0f} answers a second, {load.wrong} wrong")
        finally:
            figures["stopped_with"] = server.stop()
        # As before the model was exported: the start that waits for the model.
        figures["whole_model"] = started(path, few[:1], threads, SMART_LIGHT="off")
        figures["killed"] = killed(path, queries, expected, arguments.clients, arguments.kills)
    figures["load_average"] = os.getloadavg()
    print(json.dumps(figures, indent=1))
    if not arguments.quick:
        record("serve_load", {**vars(arguments), **figures})
    phases = (figures["one_client"], *figures["in_turn"], figures["queries_alone"], figures["mixed"], figures["killed"])
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


def in_turn(path: Path, server: Server, queries: list[str], expected: dict[str, Any], clients: int) -> dict[str, Any]:
    """What the encoder does alone, and then the server: how fast the machine is changes from minute to minute."""
    alone = alone_in_a_process(path, queries, ServerSettings().model_threads)
    answered = measured(lambda load: load.run(server, queries, expected, clients))
    return {**answered, **{name: value for name, value in alone.items() if name.endswith("_a_second")}}


def first_write(port: int) -> float:
    """Seconds that a server's first write takes, once the whole model is loaded, which encodes documents."""
    began, client = time.perf_counter(), Client(port)
    client.ask("POST", f"{INDEX}/documents", {"documents": [{"id": "first", "text": "a first note"}]})
    return time.perf_counter() - began


def started(path: Path, queries: list[str], threads: int, **environment: str) -> dict[str, float]:
    """How long loading takes alone, and until a server is ready: medians of five turns."""
    loads, bound, ready = list[float](), list[float](), list[float]()
    for _ in range(5):
        loads.append(alone_in_a_process(path, queries, threads, **environment)["loaded_s"])
        server = Server(path, **environment)
        server.stop()
        bound.append(server.bound)
        ready.append(server.ready)
    loaded_s, ready_s = statistics.median(loads), statistics.median(ready)
    found = {"loaded_s": loaded_s, "bound_s": statistics.median(bound), "ready_s": ready_s}
    return {**found, "ready_by_load": ready_s / loaded_s}


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
        load.run(server, queries * 100, expected, clients, 2, f"kill{number}")
        killer.join()
        with SmartIndex.open(path) as index:
            sums["damaged"] += not index.verify().ok
    there = texts_of(path)
    for load in loads:
        sums.update(load.against(there) | {"wrong": load.wrong, "clients_cut": load.cut})
    sums["killed_too_late"] = sum(load.cut < clients for load in loads)
    again = Server(path)
    after = measured(lambda load: load.run(again, queries[:200], expected, clients))
    again.stop()
    sums.update({"wrong": after["wrong"], "failed": after["failed"]})
    say(f"killed {kills} times: {sums['lost']} of {sums['acknowledged']} acknowledged writes lost")
    return {**sums, "ready_again_s": statistics.median([*ready[1:], again.ready])}


if __name__ == "__main__":
    main()
