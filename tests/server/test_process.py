"""The real command in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import pytest
from fixtures.forked_commands import ForkedCommands
from typer.testing import CliRunner

from smart_retrieval.index.smart_index import SmartIndex

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "SMART_LIGHT": "off"}


class Served:
    """A running ``smart serve``: forked, or a process of its own as a user's is."""

    def __init__(self, forked: ForkedCommands | None, *arguments: str, **environment: str) -> None:
        command = ["serve", *arguments, "--port", "0"]
        self.command = self.process = None
        if forked is not None:
            self.command = forked.start(*command, **environment)
            deadline = time.monotonic() + 60
            while not (line := self.command.out.read_text()).endswith("\n") and time.monotonic() < deadline:
                time.sleep(0.01)
            self.line = line
        else:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "smart_retrieval", *command],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
            )  # fmt: skip
            self.line = self.process.stdout.readline()
        self.address = self.line.rpartition(" ")[2].strip()

    def ask(self, path: str, body: object = None) -> dict:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def wait(self) -> None:
        for _ in range(600):
            try:
                self.ask("/readyz")
                return
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.1)
        raise AssertionError(self.stop(signal.SIGKILL))

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        if self.command is not None:
            status, _, errors = self.command.kill(number)
            return status, errors
        self.process.send_signal(number)
        return self.process.wait(60), self.process.stderr.read()


@pytest.fixture
def serve(forked):
    """``serve(*arguments, **environment)``; what still runs is ended with the other commands."""
    return lambda *arguments, **environment: Served(forked, *map(str, arguments), **environment)


@pytest.fixture
def process(folder):
    """A process that serves ``folder``."""
    served = Served(None, str(folder))
    yield served
    if served.process.poll() is None:
        served.process.kill()
        served.process.wait(60)
    served.process.stdout.close()
    served.process.stderr.close()


def test_the_command_serves_and_ends_what_is_under_way(process, folder):
    served = process
    assert served.line.startswith("serving sea on http://127.0.0.1:")
    served.wait()
    found = served.ask("/v1/indexes/sea/search", {"query": "the otter swims", "k": 3})
    with SmartIndex.open(folder) as index:
        assert [hit["id"] for hit in found["hits"]] == [hit.id for hit in index.search("the otter swims", 3)]
    answers: list[object] = []

    def add():
        documents = [{"text": f"otter number {number} swims", "id": f"n{number}"} for number in range(200)]
        answers.append(served.ask("/v1/indexes/sea/documents", {"documents": documents}))

    thread = threading.Thread(target=add)
    thread.start()
    time.sleep(0.3)
    status, errors = served.stop()
    thread.join()
    assert status == 0, errors
    assert "stopped" in errors
    assert "Traceback" not in errors
    if answers:  # else it came after the door was closed
        with SmartIndex.open(folder) as index:
            assert len(index) == 217


def test_options_come_from_the_environment_and_requests_are_logged_without_what_they_say(serve, folder):
    told = {"INDEXES": f"lake={folder}", "READ_ONLY": "1", "ACCESS_LOG": "true", "WAITING": "7"}
    served = serve(**{f"SMART_SERVE_{name}": value for name, value in told.items()})
    assert served.line.startswith("serving lake on http://127.0.0.1:")
    served.wait()
    assert not served.ask("/v1/indexes/lake")["writable"]
    served.ask("/v1/indexes/lake/search", {"query": "secretquery", "where": "id = 'secretfilter'"})
    served.ask("/v1/indexes/lake/documents?where=id%20%3D%20'secretfilter'")
    refused = urllib.request.Request(f"{served.address}/secretpath", headers={"Host": "evil.example"})
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(refused, timeout=60)
    status, errors = served.stop()
    assert status == 0
    assert "secret" not in errors
    lines = [json.loads(line) for line in errors.splitlines() if line.startswith("{")]
    asked = [(line["route"], line["index"], line["status"]) for line in lines if line["route"] != "/readyz"]
    assert asked[1:3] == [
        ("/v1/indexes/{index}/search", "lake", 200), ("/v1/indexes/{index}/documents", "lake", 200),
    ]  # fmt: skip
    assert asked[3] == (None, None, 421)
    assert all(line["ms"] >= 0 and line["client"] == "127.0.0.1" for line in lines)


def test_what_was_acknowledged_outlives_a_kill(serve, folder):
    served = serve(folder)
    served.wait()
    acknowledged = []
    for number in range(5):
        acknowledged += served.ask("/v1/indexes/sea/documents", {"documents": [{"text": f"otter {number}"}]})["ids"]
    served.stop(signal.SIGKILL)
    with SmartIndex.open(folder) as index:
        assert len(index.get(acknowledged)) == 5
        assert index.verify().ok


def counted(served, expected):
    """Requests counted by all workers together; one is counted once its answer is sent, maybe after it has arrived."""
    for _ in range(50):
        with urllib.request.urlopen(f"{served.address}/metrics", timeout=60) as answer:
            lines = [line for line in answer.read().decode().splitlines() if 'route="/v1/indexes/{index}",' in line]
        found = [float(line.rpartition(" ")[2]) for line in lines if line.startswith("smart_requests_total")]
        if sum(found) >= expected:
            break
        time.sleep(0.1)
    return found


@pytest.mark.skipif(sys.platform == "win32", reason="workers are POSIX's here")
def test_workers_share_jobs_and_metrics(serve, folder):
    served = serve(folder, "--workers", "2")
    served.wait()
    for _ in range(20):
        served.ask("/v1/indexes/sea")
    assert counted(served, 20) == [20.0]
    documents = [{"text": f"otter number {number} swims"} for number in range(300)]
    job = served.ask("/v1/indexes/sea/documents", {"documents": documents})["job"]
    states = []
    while not states or states[-1]["state"] in ("queued", "running"):
        states += [served.ask(f"/v1/jobs/{job['id']}") for _ in range(4)]
        time.sleep(0.1)
    assert states[-1]["state"] == "done"
    assert served.stop()[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.smart"], "nothing.smart"),
        (["SEA", "--host", "0.0.0.0"], "without --token-file"),
        (["SEA", "--tenant-field", "team"], "without --token-file"),
        (["SEA", "SEA"], "two of this name"),
        (["SEA", "--token-file", "nothing"], "cannot be read"),
        (["a b=SEA"], "expected a name"),
    ],
)
def test_what_cannot_be_served_is_named_at_once(folder, arguments, message, monkeypatch):
    from smart_retrieval.cli.main import app
    from smart_retrieval.errors import SmartError

    monkeypatch.chdir(folder.parent)
    outcome = CliRunner().invoke(app, ["serve", *(one.replace("SEA", str(folder)) for one in arguments)])
    assert isinstance(outcome.exception, SmartError)
    assert message in str(outcome.exception)


def test_a_port_that_is_taken_is_named(forked, folder):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        status, stdout, stderr = forked.start("serve", folder, "--port", taken.getsockname()[1]).wait()
    assert status == 1
    assert stderr.startswith("smart: error: found port")
    assert stdout == ""
