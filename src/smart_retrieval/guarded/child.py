"""The child process itself: runs one call after another, and ends when its input does."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import suppress
from importlib import import_module
from io import FileIO
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import msgspec

from ..errors import MissingExtraError
from ..files import UnreadableFileError
from .calls import limits_of, run_here
from .frames import FrameError, Kind, read_frame, write_frame
from .process import OUT_OF_MEMORY, Limits

_LARGEST_CALL = 2**31
_STEP_SECONDS = 0.1


def main() -> None:
    """Serve calls from standard input until it ends."""
    calls, answers = _private(0, os.O_RDONLY, "rb"), _private(1, os.O_WRONLY, "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    with suppress(ValueError):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the parent, which decides
    run_here(_Steps(answers))
    waiting: SimpleQueue[bytearray] = SimpleQueue()
    threading.Thread(target=_receive, args=(calls, waiting), daemon=True).start()
    write_frame(answers, Kind.READY)
    while True:
        write_frame(answers, *_answer(waiting.get()))


def _private(descriptor: int, flags: int, mode: str) -> FileIO:
    """A standard stream under a number that no library prints to or reads from."""
    file = FileIO(os.dup(descriptor), mode)
    os.dup2(os.open(os.devnull, flags), descriptor)
    return file


def _receive(calls: FileIO, waiting: SimpleQueue[bytearray]) -> None:
    """Read calls, also during one, so that a child whose parent is gone ends whatever it is at."""
    try:
        while True:
            waiting.put(read_frame(calls, _LARGEST_CALL)[1])
    except (FrameError, OSError):
        os._exit(0)


class _Steps:
    """Tells the parent how much is done, but not of each page of a file that is read in no time."""

    def __init__(self, answers: FileIO) -> None:
        self._answers, self._count, self._told = answers, 0, time.monotonic()

    def __call__(self) -> None:
        self._count += 1
        if time.monotonic() > self._told + _STEP_SECONDS:
            write_frame(self._answers, Kind.STEP, self._count.to_bytes(8, "little"))
            self._count, self._told = 0, time.monotonic()


def _answer(data: bytearray) -> tuple[Kind, bytes]:
    try:
        module, name, path, args, kwargs = msgspec.msgpack.decode(data)
        function = getattr(import_module(module), name)
        limits = limits_of(function)
        _limit_memory(limits)
        result = msgspec.msgpack.encode(function(Path(os.fsdecode(path)), *args, **kwargs))
        if len(result) > limits.result:
            return _unreadable("gives more than can be taken", f"{len(result):,} bytes")
        return Kind.RESULT, result
    except UnreadableFileError as error:
        return _unreadable(error.reason, error.detail)
    except MissingExtraError as error:
        return Kind.MISSING_EXTRA, msgspec.msgpack.encode(str(error))
    except MemoryError:
        return _unreadable(OUT_OF_MEMORY, "")
    except Exception as error:  # a bug in a parser must not stop a run over a million files
        return _unreadable("its reader failed", f"{type(error).__name__}: {error}")


def _unreadable(reason: str, detail: str) -> tuple[Kind, bytes]:
    texts = [text.encode("utf-8", "replace").decode()[:1000] for text in (reason, detail)]
    return Kind.UNREADABLE, msgspec.msgpack.encode(texts)


def _limit_memory(limits: Limits) -> None:
    """Twice what the parent allows: for what is taken faster than the parent looks."""
    if sys.platform != "win32":
        import resource

        _lower(resource.RLIMIT_CORE, 0)
        _lower(resource.RLIMIT_DATA, 2 * limits.memory)


def _lower(what: int, value: int) -> None:
    import resource

    hard: Any = resource.getrlimit(what)[1]
    with suppress(ValueError, OSError):
        resource.setrlimit(what, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))
