"""Questions to one of several stores, in threads of its own: one that hangs holds nobody else up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Generic, TypeVar

from ...errors import StoreUnreachableError

Store = TypeVar("Store")
Answer = TypeVar("Answer")

# Questions at once, and connections therefore, of one process to one server.
THREADS = 8
# Seconds that a server which did not answer is left alone.
PAUSE = 1.0


class Lane(Generic[Store]):
    """One store, and the threads that ask it.

    Args:
        store: What the questions are put to.
        name: What messages call it.
    """

    def __init__(self, store: Store, name: str) -> None:
        self.store, self.name = store, name
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="shard")
        self._lock = threading.Lock()
        self._paused_until = 0.0

    def ask(self, question: Callable[[Store], Answer], *, again: bool = True) -> Future[Answer]:
        """Put a question; ``again`` if it may be put twice, since the first connection may have died long ago.

        During a pause the answer is a :class:`StoreUnreachableError` at once; afterwards, one question is a trial, and
        the pause goes on for others until it is answered.
        """
        if self._paused_until:
            with self._lock:
                now = time.monotonic()
                if now < self._paused_until:
                    refused: Future[Answer] = Future()
                    refused.set_exception(StoreUnreachableError(f"index {self.name}: it does not answer"))
                    return refused
                if self._paused_until:
                    self._paused_until = now + PAUSE
        return self._pool.submit(self._answer, question, again)

    def _answer(self, question: Callable[[Store], Answer], again: bool) -> Answer:
        try:
            try:
                found = question(self.store)
            except StoreUnreachableError:
                if not again:
                    raise
                found = question(self.store)  # over a new connection, to another host of its address if there is one
        except StoreUnreachableError:
            self.pause()
            raise
        self._paused_until = 0.0
        return found

    def pause(self) -> None:
        """Ask nothing for a while."""
        with self._lock:
            self._paused_until = time.monotonic() + PAUSE

    def close(self) -> None:
        """Ask nothing any more."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def answers(
    lanes: Sequence[Lane[Store]], tasks: Sequence[Future[Answer] | None], until: float
) -> list[Answer | Exception | None]:
    """What was answered before ``until`` on :func:`time.monotonic`; None for what was not asked.

    Who is late is left alone for a while; errors but for those of the connection are raised.
    """
    wait([task for task in tasks if task is not None], max(0.0, until - time.monotonic()))
    found: list[Answer | Exception | None] = []
    for lane, task in zip(lanes, tasks, strict=True):
        if task is None:
            found.append(None)
        elif not task.done():
            task.cancel()
            lane.pause()
            found.append(TimeoutError(f"index {lane.name}: it has not answered in time"))
        else:
            error = task.exception()
            if error is not None and not isinstance(error, StoreUnreachableError | TimeoutError):
                raise error
            found.append(error if error is not None else task.result())
    return found
