"""Connections that say little, late or twice: they block nobody, and their bytes are never a second request."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from contextlib import suppress

import httpx
import pytest
from fixtures.tiny_models import TEXTS

from smart_retrieval.index.smart_index import SmartIndex
from smart_retrieval.server import ServerSettings, create_app
from smart_retrieval.server.http import connections
from smart_retrieval.server.http.connections import Connection

SEARCH = "/v1/indexes/sea/search"
BODY = b'{"query": "the otter swims", "k": 3}'


@pytest.fixture(scope="module")
def port(tmp_path_factory, smart):
    """A server in a thread, behind a real socket."""
    import uvicorn

    path = tmp_path_factory.mktemp("slow") / "sea.smart"
    with SmartIndex.create(path, smart("mean"), codec="float32") as index:
        index.add(TEXTS)
    app = create_app([path], ServerSettings(max_body=100_000, read_only=True))
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_config=None, http=Connection, ws="none", server_header=False, proxy_headers=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listening])))
    thread.start()
    port = listening.getsockname()[1]
    for _ in range(600):
        if server.started and httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200:
            break
        time.sleep(0.05)
    yield port
    server.should_exit = True
    thread.join(60)


def head(*lines, path=SEARCH, host="127.0.0.1"):
    return "\r\n".join(
        [f"POST {path} HTTP/1.1", f"Host: {host}", "Content-Type: application/json", *lines, "", ""]
    ).encode()


def answered(port, data, wait=10.0):
    """All that a server says until it closes the connection, or is silent."""
    with socket.create_connection(("127.0.0.1", port), wait) as connection:
        connection.sendall(data)
        connection.settimeout(0.7)
        found = b""
        try:
            while part := connection.recv(65536):
                found += part
        except (TimeoutError, ConnectionError):
            pass
        return found


def statuses(answer):
    return [int(part.split(b" ", 1)[0]) for part in answer.split(b"HTTP/1.1 ")[1:]]


def test_many_connections_that_stall_do_not_keep_others_waiting(port):
    stalled = []
    try:
        for number in range(120):
            connection = socket.create_connection(("127.0.0.1", port), 10)
            connection.sendall(
                (b"", b"POST /v1", head("Content-Length: 90000"), head("Transfer-Encoding: chunked") + b"5\r\nab")[
                    number % 4
                ]
            )
            stalled.append(connection)
        for number in range(40):  # closed for writing, or gone, in the middle
            connection = socket.create_connection(("127.0.0.1", port), 10)
            connection.sendall(head("Content-Length: 500") + BODY)
            connection.shutdown(socket.SHUT_WR) if number % 2 else connection.close()
            stalled.append(connection)
        began = time.perf_counter()
        for _ in range(5):
            answer = httpx.post(
                f"http://127.0.0.1:{port}{SEARCH}", content=BODY, headers={"Content-Type": "application/json"}
            )
            assert answer.status_code == 200
        assert time.perf_counter() - began < 10
    finally:
        for connection in stalled:
            connection.close()
    assert httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200


SMUGGLED = b"GET /v1/indexes HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@pytest.mark.parametrize(
    "raw",
    [
        head("Content-Length: 5", f"Content-Length: {len(SMUGGLED)}") + SMUGGLED,
        head("Content-Length: 0, 5") + SMUGGLED,
        head("Content-Length: +5") + SMUGGLED,
        head("Content-Length: 0x10") + SMUGGLED,
        head("Content-Length: -1") + SMUGGLED,
        head("Content-Length: 99999999999999999999999") + SMUGGLED,
        head("Content-Length: 4", "Transfer-Encoding: chunked") + b"0\r\n\r\n" + SMUGGLED,
        head("Transfer-Encoding: chunked", "Transfer-Encoding: identity") + b"0\r\n\r\n" + SMUGGLED,
        head("Transfer-Encoding: xchunked") + b"0\r\n\r\n" + SMUGGLED,
        head("Transfer-Encoding : chunked") + b"0\r\n\r\n" + SMUGGLED,
        head("Transfer-Encoding: chunked") + b"zz\r\n" + SMUGGLED,
        head("Transfer-Encoding: chunked") + b"ffffffffffffffff1\r\n" + SMUGGLED,
        head("Host: evil.example", "Content-Length: 40") + SMUGGLED,
        head("Content-Length: 40", host="evil.example") + SMUGGLED,
        head("X: a\rContent-Length: 40") + SMUGGLED,
        head("X: " + "a" * 200_000) + SMUGGLED,
        head(*(f"X-{number}: a" for number in range(20_000))) + SMUGGLED,
        head("Content-Length: 36", path="http://evil.example/v1/indexes") + BODY,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET " + b"/" * 300_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    ],
)  # fmt: skip
def test_what_can_be_read_in_two_ways_is_refused(port, raw):
    answer = answered(port, raw)
    assert b"Traceback" not in answer
    assert b'"indexes":' not in answer
    assert all(400 <= status < 500 for status in statuses(answer)), answer[:500]


def test_connections_that_ask_nothing_are_closed(port, monkeypatch):
    monkeypatch.setattr(connections, "HEAD_S", 0.3)
    for begun in (b"", b"POST /v1/ind", head("X: a")[:-2]):
        with socket.create_connection(("127.0.0.1", port), 10) as connection:
            connection.sendall(begun)
            connection.settimeout(10)
            with suppress(ConnectionResetError):
                assert connection.recv(100) == b""
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:  # one that asks now and then stays
        for _ in range(4):
            time.sleep(0.2)
            assert client.get("/healthz").status_code == 200


def test_a_body_without_an_end_is_cut(port):
    sent = 0
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(head("Transfer-Encoding: chunked"))
        try:
            for _ in range(2000):  # 20 MB, of which 100 kB are allowed
                connection.sendall(b"2710\r\n" + b"[" * 10_000 + b"\r\n")
                sent += 10_000
            connection.settimeout(10)
            answer = connection.recv(65536)
        except OSError:
            answer = b""  # closed in the middle
    assert not answer or statuses(answer)[0] == 413
    assert httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
