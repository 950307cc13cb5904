"""Threads that take requests in turn, and refuse what would wait too long."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeAlias, TypeVar

from ...errors import DeadlineError, OverloadedError

T = TypeVar("T")

#: Queries that are encoded together, or searched for.
TOGETHER = 16

#: A call for several arguments: each one's place, and its result or exception.
Each: TypeAlias = Callable[[list[Any]], Iterable[tuple[int, Any]]]


@dataclass(frozen=True, eq=False)
class _Job:
    each: Each
    argument: Any
    until: float | None
    future: Future[Any]


class Lane:
    """Some threads and the calls that wait for them, in the order in which they came.

    Threads of its own, not an executor's: each keeps its connection to every index. A lane of one thread is what makes
    an encoder safe. A thread takes the calls together that gathered and share their work, and gives all results at
    once: what comes out together goes through the next lane together, too, and costs less on each.

    Args:
        name: Of its threads.
        threads: How many.
        waiting: Calls that may wait.
    """

    def __init__(self, name: str, threads: int, waiting: int) -> None:
        self.name, self.most = name, waiting + threads
        #: Calls that wait or run.
        self.pending = 0
        self._changed = threading.Condition()
        self._jobs: deque[_Job | None] = deque()
        self._threads = [
            threading.Thread(target=self._work, name=f"smart-{name}-{number}", daemon=True) for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    async def run(self, call: Callable[[], T], until: float | None = None) -> T:
        """The result of a call in one of the threads; see :meth:`submit`."""
        return await asyncio.wrap_future(self.submit(call, until))

    async def run_each(self, each: Each, argument: Any, until: float | None = None) -> Any:
        """The result for one argument of a call that may be made for it and others that wait, 16 at most."""
        return await asyncio.wrap_future(self._queued(_Job(each, argument, until, Future())))

    async def run_through(
        self, each: Each, argument: Any, following: Lane, then: Each, prepared: Callable[[Any], Any], until: float
    ) -> Any:
        """:meth:`run_each` here, and then with what ``prepared`` makes of the result in another lane.

        Results go there from this lane's thread: those that come together are taken together, too, and the event loop
        is not kept busy by them.
        """
        found: Future[Any] = Future()

        def go_on(first: Future[Any]) -> None:
            try:
                following._queued(_Job(then, prepared(first.result()), until, found))
            except BaseException as error:
                if found.set_running_or_notify_cancel():
                    found.set_exception(error)

        first = self._queued(_Job(each, argument, until, Future()))
        first.add_done_callback(go_on)
        found.add_done_callback(lambda _: first.cancel())  # nobody waits for it any more
        return await asyncio.wrap_future(found)

    def submit(self, call: Callable[[], T], until: float | None = None) -> Future[T]:
        """Let one of the threads make a call.

        Args:
            call: Takes nothing.
            until: ``time.perf_counter()`` after which it is not begun.

        Raises:
            OverloadedError: Too many calls wait.
            DeadlineError: The time was over before it was its turn.
        """
        return self._queued(_Job(lambda _: [(0, call())], None, until, Future()))

    def _queued(self, job: _Job) -> Future[Any]:
        with self._changed:
            if self.pending >= self.most:
                raise OverloadedError(f"found {self.pending} requests waiting, expected fewer; try again in a second")
            self.pending += 1
            self._jobs.append(job)
            self._changed.notify()
        return job.future

    def close(self) -> None:
        """Finish what waits, and end the threads."""
        with self._changed:
            self._jobs.extend([None] * len(self._threads))
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while jobs := self._next():
            self._make(jobs)
            jobs.clear()  # nothing is kept while it waits for the next

    def _next(self) -> list[_Job]:
        """The call that waits the longest, and those behind it that can be made with it; none at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs)
            first = self._jobs.popleft()
            if first is None:
                return []
            same = (job for job in self._jobs if job is not None and job.each == first.each)
            jobs = [first, *islice(same, TOGETHER - 1)]
            for job in jobs[1:]:
                self._jobs.remove(job)
            return jobs

    def _make(self, jobs: list[_Job]) -> None:
        wanted, found = dict(enumerate(job for job in jobs if self._begins(job))), list[tuple[int, Any]]()
        ended: BaseException | None = None
        try:
            if wanted:
                found.extend(wanted[0].each([job.argument for job in wanted.values()]))
        except BaseException as error:
            ended = error
        for place, result in found:
            self._settle(wanted.pop(place), result)
        for job in wanted.values():
            self._settle(job, ended or RuntimeError("a call gave no result"))

    def _begins(self, job: _Job) -> bool:
        """Whether somebody still waits for it, and has the time."""
        if not job.future.set_running_or_notify_cancel():
            self._count_down()
            return False
        if job.until is not None and time.perf_counter() > job.until:
            passed = DeadlineError("the deadline passed while the request waited; allow more, or try again")
            self._settle(job, passed)
            return False
        return True

    def _settle(self, job: _Job, result: Any) -> None:
        self._count_down()
        if isinstance(result, BaseException):
            job.future.set_exception(result)
        else:
            job.future.set_result(result)

    def _count_down(self) -> None:
        with self._changed:
            self.pending -= 1
