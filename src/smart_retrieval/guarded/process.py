"""The child process, seen by its parent: started, watched while it works, killed where it goes too far."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

from .frames import FrameError, Kind, read_frame, widen, write_frame

# Imports nothing that lies in the working directory by chance, and never the parent's main module.
_BOOT = "import sys; sys.path[:] = sys.argv[1:]; from smart_retrieval.guarded.child import main; main()"
# glibc would give memory back after each file and ask for it again: a quarter of the time of a short PDF.
_KEEP_MEMORY = {
    "MALLOC_TRIM_THRESHOLD_": "67108864",
    "MALLOC_MMAP_THRESHOLD_": "16777216",
    "MALLOC_TOP_PAD_": "4194304",
}
_START_SECONDS = 120.0
_POLL_SECONDS = 0.02
_LARGEST_NOTE = 2**16

OUT_OF_MEMORY = "its reader ran out of memory (possibly hostile)"
OUT_OF_TIME = "its reader ran out of time (possibly hostile)"
CRASHED = "its reader crashed (possibly hostile)"


@dataclass(frozen=True)
class Limits:
    """What one call may take.

    Attributes:
        memory: Bytes of memory, on top of what the child holds before the call.
        seconds: Time by the clock until the result.
        seconds_a_step: What each `step` adds to it.
        result: Most bytes of the result.
        idle: Most bytes that the child may hold after the call; else it is replaced.
    """

    memory: int = 2**30
    seconds: float = 60.0
    seconds_a_step: float = 1.0
    result: int = 2**29
    idle: int = 384 * 2**20


class ChildDiedError(Exception):
    """The child is gone in the middle of a call: a reason shared by all files with this fault, and what is known."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


class ChildProcess:
    """A running child; one thread at a time calls it.

    Raises:
        ChildDiedError: It cannot be started.
    """

    def __init__(self) -> None:
        from multiprocessing.spawn import get_executable  # which says what runs Python where a program embeds it

        import psutil

        self._lock = threading.Lock()  # guards what the watching thread reads
        self._busy = threading.Event()
        self._deadline: float | None = None
        self._most_memory = self._peak = 0
        self._killed: tuple[str, str] | None = None
        home = str(Path(__file__).resolve().parents[2])
        command = [os.fsdecode(get_executable()), "-P", "-c", _BOOT, *filter(None, sys.path), home]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                env={**os.environ, **_KEEP_MEMORY},
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        except OSError as error:
            raise ChildDiedError("the process that reads it cannot be started", str(error)) from error
        assert isinstance(self._process.stdin, FileIO)
        assert isinstance(self._process.stdout, FileIO)
        self._to, self._from = self._process.stdin, self._process.stdout
        widen(self._from)
        try:
            self._usage: Any = psutil.Process(self._process.pid)
            threading.Thread(target=self._watch, name="guarded", daemon=True).start()
            self._begin(Limits(seconds=_START_SECONDS))
            if read_frame(self._from, _LARGEST_NOTE)[0] != Kind.READY:
                raise FrameError("it does not answer")
        except (FrameError, OSError, psutil.Error) as error:
            self.kill()
            detail = f"{command[0]} ended with {self._process.returncode}"
            raise ChildDiedError("the process that reads it cannot be started", detail) from error
        except BaseException:
            self.kill()
            raise
        self._end()

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    @property
    def memory(self) -> int:
        """Resident bytes; 0 if it is gone."""
        try:
            return int(self._usage.memory_info().rss)
        except Exception:  # psutil's errors, and those of the system, differ by platform
            return 0

    def call(self, data: bytes, limits: Limits) -> tuple[Kind, bytearray]:
        """Send a call and wait for what it gives; the child is dead after an error."""
        try:
            self._begin(limits)
            write_frame(self._to, Kind.CALL, data)
            while True:
                kind, answer = read_frame(self._from, limits.result)
                if kind != Kind.STEP:
                    return kind, answer
                with self._lock:
                    if self._deadline is not None:
                        self._deadline += limits.seconds_a_step * int.from_bytes(answer, "little")
        except (FrameError, OSError) as error:
            self.kill()
            raise ChildDiedError(*self._cause(error)) from error
        except BaseException:  # Ctrl-C: what the child says next would be taken for the answer to the next call
            self.kill()
            raise
        finally:
            self._end()

    def close(self) -> None:
        """Let it end by itself, as it does when its input ends."""
        self._hang_up()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        self.kill()

    def kill(self) -> None:
        """End it now."""
        self.end()
        self._process.wait()
        self._hang_up()
        self._busy.set()  # so that the watching thread ends

    def end(self) -> None:
        """End it from another thread; the call that is running raises."""
        with suppress(OSError):
            self._process.kill()

    def abandon(self) -> None:
        """Let go of it in a process just forked: it is the parent's."""
        self._hang_up()
        self._process.returncode = 0  # else Popen would wait for it

    def _hang_up(self) -> None:
        self._to.close()
        self._from.close()

    def _begin(self, limits: Limits) -> None:
        with self._lock:
            self._deadline = time.monotonic() + limits.seconds
            self._peak = self.memory
            self._most_memory = self._peak + limits.memory
        self._busy.set()

    def _end(self) -> None:
        with self._lock:
            self._deadline = None
        if self._process.returncode is None:
            self._busy.clear()

    def _watch(self) -> None:
        """Kill it once a call exceeds a limit."""
        while self._process.returncode is None:
            self._busy.wait()
            time.sleep(_POLL_SECONDS)
            with self._lock:
                if self._deadline is None:
                    continue
                self._peak = max(self._peak, self.memory)
                if self._peak > self._most_memory:
                    self._killed = (OUT_OF_MEMORY, f"more than {self._most_memory // 2**20:,} MiB")
                elif time.monotonic() > self._deadline:
                    self._killed = (OUT_OF_TIME, "")
                else:
                    continue
                self._process.kill()
                return

    def _cause(self, error: Exception) -> tuple[str, str]:
        if self._killed is not None:
            return self._killed
        status = self._process.returncode
        if self._peak > self._most_memory // 2:  # the system's own limit was met first
            return OUT_OF_MEMORY, f"{self._peak // 2**20:,} MiB"
        return CRASHED, f"signal {-status}" if status < 0 else f"status {status}"
