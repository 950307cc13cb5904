"""Threads that take requests in turn, and refuse what would wait too long."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, TypeVar

from ...errors import DeadlineError, OverloadedError

T = TypeVar("T")


@dataclass(frozen=True)
class _Job:
    call: Callable[[], Any]
    future: Future[Any]
    until: float | None


class Lane:
    """Some threads and the calls that wait for them, in the order in which they came.

    Threads of its own, not an executor's: each keeps its connection to every index. A lane of one thread is what makes
    an encoder safe. Queries that wait are encoded one after another and not padded into one batch, which would change
    the last bits of their vectors; so nothing is gained by waiting for more of them.

    Args:
        name: Of its threads.
        threads: How many.
        waiting: Calls that may wait.
    """

    def __init__(self, name: str, threads: int, waiting: int) -> None:
        self.name, self.most = name, waiting + threads
        #: Calls that wait or run.
        self.pending = 0
        self._lock = threading.Lock()
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"smart-{name}-{number}", daemon=True) for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    async def run(self, call: Callable[[], T], until: float | None = None) -> T:
        """The result of a call in one of the threads; see :meth:`submit`."""
        return await asyncio.wrap_future(self.submit(call, until))

    def submit(self, call: Callable[[], T], until: float | None = None) -> Future[T]:
        """Let one of the threads make a call.

        Args:
            call: Takes nothing.
            until: ``time.perf_counter()`` after which it is not begun.

        Raises:
            OverloadedError: Too many calls wait.
            DeadlineError: The time was over before it was its turn.
        """
        with self._lock:
            if self.pending >= self.most:
                raise OverloadedError(f"found {self.pending} requests waiting, expected fewer; try again in a second")
            self.pending += 1
        future: Future[T] = Future()
        self._jobs.put(_Job(call, future, until))
        return future

    def close(self) -> None:
        """Finish what waits, and end the threads."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            result, error = None, None
            wanted = job.future.set_running_or_notify_cancel()  # else whoever asked is gone
            try:
                if wanted:
                    if job.until is not None and time.perf_counter() > job.until:
                        raise DeadlineError("the deadline passed while the request waited; allow more, or try again")
                    result = job.call()
            except BaseException as raised:
                error = raised
            with self._lock:
                self.pending -= 1
            if error is not None:
                job.future.set_exception(error)
            elif wanted:
                job.future.set_result(result)
            job = result = error = None  # nothing is kept while it waits for the next
