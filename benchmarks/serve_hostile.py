"""A thousand requests that nobody should send, to a real server: is any a 500, does any see or change another's?

    python benchmarks/serve_hostile.py [--requests 900] [--smuggling 100] [--seed 0] [--model minilm]

A ``smart serve`` with tokens and ``--tenant-field`` holds documents of two tenants, in one index and in shards. The
sender has the token of one: its requests have bad JSON, huge bodies, wrong types, paths, addresses to fetch, odd
headers and the other tenant's ids and filters, over every route, the tools of an agent and the page; and bytes that
could be read as two requests. Looked for in every answer are texts of the other tenant, paths of the machine, files of
the system and traces of Python; afterwards, whether the other's documents are as they were, and whether anything was
fetched or smuggled.
The requests are those of the test suite (tests/fixtures/hostile_requests.py). Writes results/serve_hostile.json; exits
with 1 where anything is amiss.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from typing import Any

from lib.record import record

from smart_retrieval.index.shards.split import split_index
from smart_retrieval.index.smart_index import SmartIndex

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
FIELD, ACME, BETA = "team", "a" * 24, "b" * 24
SECONDS = 120.0
SILENT_S = 2.0  # for what may never be answered


class Canary:
    """A port that nobody has a reason to connect to."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self.visits = 0
        threading.Thread(target=self._count, daemon=True).start()

    def _count(self) -> None:
        while True:
            self._listening.accept()[0].close()
            self.visits += 1


class Sender:
    """Sends bytes as they are, and looks at what comes back."""

    def __init__(self, port: int, leak: re.Pattern[bytes]) -> None:
        self._port, self._leak = port, leak
        self.statuses: Counter[str] = Counter()
        self.slowest = 0.0
        self.failed: list[str] = []
        self.leaked: list[str] = []

    def send(self, data: bytes, method: str = "POST", patience: float = SECONDS) -> None:
        """One connection; what is answered to it until it is closed or silent."""
        began = time.perf_counter()
        status, answer = "no answer", b""
        with socket.create_connection(("127.0.0.1", self._port), SECONDS) as connection:
            with suppress(OSError):  # refused before all of it was read
                connection.sendall(data)
            connection.settimeout(patience)
            with suppress(OSError, HTTPException):
                response = HTTPResponse(connection, method=method)
                response.begin()
                status = str(response.status)
                answer = b"\n".join([str(response.headers).encode(), response.read()])
            connection.settimeout(0.05)
            with suppress(OSError):
                answer += connection.recv(2**20)  # of a second request, if that was one
        if status != "no answer":
            self.slowest = max(self.slowest, time.perf_counter() - began)
        self.statuses[status] += 1
        if status.startswith("5") and status not in ("503", "504"):
            self.failed.append(f"{status}: {data[:300]!r}")
        if found := self._leak.search(answer):
            self.leaked.append(f"{found[0]!r}: {data[:300]!r}")


def main() -> None:
    from fixtures.hostile_requests import (  # type: ignore[import-not-found]
        CANARY,
        SECRET,
        SMUGGLED,
        hostile_requests,
        smuggling_requests,
    )  # fmt: skip

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=900)
    parser.add_argument("--smuggling", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="minilm")
    arguments = parser.parse_args()
    figures: dict[str, Any] = {}
    for kind in ("one index", "three shards"):
        with tempfile.TemporaryDirectory(prefix="smart-hostile-") as name:
            folder, others = made(Path(name), arguments.model, SECRET, shards=3 if kind == "three shards" else 0)
            server, port = started(folder, Path(name))
            canary = Canary()
            leak = re.compile(
                "|".join(map(re.escape, (SECRET, name, "root:x:", "Traceback", "site-packages"))).encode()
            )
            sender = Sender(port, leak)
            try:
                job = ask(port, "POST", "/documents", {"documents": [{"text": f"{SECRET} {n}"} for n in range(300)]})[1]
                for asked in hostile_requests(arguments.requests, arguments.seed):
                    head = {
                        "Authorization": f"Bearer {ACME}",
                        "Host": "127.0.0.1",
                        "Connection": "close",
                    } | asked.headers
                    body = (asked.body or b"").replace(CANARY.encode(), canary.address.encode())
                    if "Transfer-Encoding" not in head:
                        head = {"Content-Length": str(len(body))} | head
                    lines = [f"{asked.method} {asked.path} HTTP/1.1", *(f"{name}: {head[name]}" for name in head)]
                    # A server waits two minutes for a body that does not come.
                    odd = "Transfer-Encoding" in head or head["Content-Length"] != str(len(body))
                    data = "\r\n".join([*lines, "", ""]).encode() + body
                    sender.send(data, asked.method, SILENT_S if odd else SECONDS)
                for data in smuggling_requests(arguments.smuggling, ACME, arguments.seed):
                    sender.send(data, patience=SILENT_S)
                figures[kind] = {
                    "requests": sum(sender.statuses.values()),
                    "statuses": dict(sorted(sender.statuses.items())),
                    "server_errors": len(sender.failed),
                    "leaks": len(sender.leaked),
                    "fetched": canary.visits,
                    "job_of_another_seen": int(ask(port, "GET", f"/v1/jobs/{job['job']['id']}", token=ACME)[0] != 404),
                    "smuggled": sum(SMUGGLED in one["id"] for one in listed(port, ACME)),
                    "changed_of_another": sum(
                        ask(port, "GET", f"/documents/{id}")[1].get("text") != text for id, text in others.items()
                    ),
                    "ready_afterwards": ask(port, "GET", "/readyz")[0] == 200,
                    "slowest_s": sender.slowest,
                }
            finally:
                server.send_signal(signal.SIGTERM)
                figures.setdefault(kind, {})["stopped_with"] = server.wait(SECONDS)
            for line in (*sender.failed, *sender.leaked):
                print(line, file=sys.stderr)
    print(json.dumps(figures, indent=1))
    record("serve_hostile", {**vars(arguments), **figures})
    amiss = (
        "server_errors",
        "leaks",
        "fetched",
        "job_of_another_seen",
        "smuggled",
        "changed_of_another",
        "stopped_with",
    )
    sys.exit(any(one[name] for one in figures.values() for name in amiss))


def made(folder: Path, model: str, secret: str, *, shards: int) -> tuple[Path, dict[str, str]]:
    """An index of two tenants' documents, and those that the sender is not to see."""
    path = folder / "whole" / "sea.smart"
    ids = [f"d{number}" for number in range(17)]
    texts = [f"The otter swims in the cold river, {'note' if n % 2 == 0 else secret} {n}." for n in range(17)]
    tenants = [("acme", "beta")[number % 2] for number in range(17)]
    with SmartIndex.create(path, model) as index:
        index.add(texts, ids=ids, metadata=[{FIELD: one, "number": n} for n, one in enumerate(tenants)])
        if shards:
            path = folder / "parts" / "sea"
            split_index(index, path, shards)
    return path, {id: text for id, text, tenant in zip(ids, texts, tenants, strict=True) if tenant == "beta"}


def started(index: Path, folder: Path) -> tuple[subprocess.Popen[str], int]:
    """A server that is ready, and its port."""
    tokens = folder / "tokens"
    tokens.write_text(f"{ACME} write acme\n{BETA} write beta\n", encoding="utf-8")
    tokens.chmod(0o600)
    command = [sys.executable, "-m", "smart_retrieval", "serve", str(index), "--port", "0", "--token-file", str(tokens)]
    command += ["--tenant-field", FIELD, "--max-body", "1", "--deadline-ms", "20000"]
    environment = {**os.environ, "SMART_CACHE": f"{folder}/cache"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    port, until = int(process.stdout.readline().rpartition(":")[2]), time.monotonic() + SECONDS
    while ask(port, "GET", "/readyz")[0] != 200:
        if time.monotonic() > until:
            raise SystemExit("the server did not become ready")
        time.sleep(0.1)
    return process, port


def ask(port: int, method: str, path: str, body: Any = None, token: str = BETA) -> tuple[int, Any]:
    """A proper request, by default of the other tenant; paths that begin with neither are those of the index."""
    connection = HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    if not path.startswith(("/v1", "/readyz")):
        path = f"/v1/indexes/sea{path}"
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    with suppress(OSError):
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or b"null")
    return 0, None


def listed(port: int, token: str) -> list[dict[str, Any]]:
    documents: list[dict[str, Any]] = ask(port, "GET", "/documents?limit=1000", token=token)[1]["documents"]
    return documents


if __name__ == "__main__":
    main()
