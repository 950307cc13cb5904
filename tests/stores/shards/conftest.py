"""A line to a server that can be cut or held."""

import socket
import threading
from contextlib import suppress

import pytest


class Line:
    """Passes on what comes to a port of this machine; ``cut()`` ends it, ``held`` keeps what is said."""

    def __init__(self, target):
        self.target, self.held, self._open = target, threading.Event(), []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread("accept", self._accept)

    @staticmethod
    def _thread(name, work, *arguments):
        threading.Thread(target=work, args=arguments, name=name, daemon=True).start()

    def _accept(self):
        with suppress(OSError):
            while True:
                here, _ = self._listener.accept()
                there = socket.socket(socket.AF_UNIX)
                there.connect(self.target)
                self._open += [here, there]
                self._thread("up", self._pass, here, there)
                self._thread("down", self._pass, there, here)

    def _pass(self, source, sink):
        with suppress(OSError):
            while data := source.recv(65536):
                while self.held.is_set():
                    threading.Event().wait(0.01)
                sink.sendall(data)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def cut(self):
        self.held.clear()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._open.clear()


@pytest.fixture
def line():
    """``line(dsn)``: the address of a line to a server, and the line."""
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    made = []

    def make(dsn):
        parts = conninfo_to_dict(dsn)
        made.append(Line(f"{parts['host']}/.s.PGSQL.{parts.get('port') or 5432}"))
        return make_conninfo(dsn, host="127.0.0.1", port=made[-1].port), made[-1]

    yield make
    for one in made:
        one.cut()
