"""Work shared among threads for as long as it takes: none is left behind, so a fork finds none."""

from __future__ import annotations

import importlib
import importlib.util
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any, TypeVar

from .locks import ForkLock

Item = TypeVar("Item")
Result = TypeVar("Result")


_local = threading.local()


def thread_count() -> int:
    """Threads that may work at once: ``OMP_NUM_THREADS`` as for linear algebra, else the processors there are.

    Inside of :func:`one_thread`, and of work that is shared among threads already, it is 1.
    """
    if getattr(_local, "inside", False):
        return 1
    wanted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if wanted.isdigit() and int(wanted):
        return int(wanted)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_threads(work: Callable[[Item], Result], items: Sequence[Item], threads: int | None = None) -> list[Result]:
    """What ``work`` returns for each item, in order; of several errors the one of the earliest item is raised.

    ``work`` must let go of Python's lock, as NumPy and Numba do, for threads to be worth it. Work within work stays in
    its thread.

    Example:
        >>> in_threads(abs, [-1, 2, -3], threads=2)
        [1, 2, 3]
    """
    if threads is None:
        threads = thread_count() if len(items) > 1 else 1
    threads = min(threads, len(items))
    if threads <= 1 or getattr(_local, "inside", False):
        return [work(item) for item in items]
    found: dict[int, Result] = {}
    errors: dict[int, BaseException] = {}
    waiting, lock = iter(range(len(items))), threading.Lock()

    def run() -> None:
        with one_thread():
            take()

    def take() -> None:
        while not errors:
            with lock:
                number = next(waiting, None)
            if number is None:
                return
            try:
                found[number] = work(items[number])
            except BaseException as error:
                errors[number] = error

    others = [threading.Thread(target=run, name="smart-search") for _ in range(threads - 1)]
    for other in others:
        other.start()
    run()
    for other in others:
        other.join()
    if errors:
        raise errors[min(errors)]
    return [found[number] for number in range(len(items))]


@contextmanager
def one_thread() -> Iterator[None]:
    """Work in this thread is not shared with others: as where there are enough calls to keep all processors busy."""
    before = getattr(_local, "inside", False)
    _local.inside = True
    try:
        yield
    finally:
        _local.inside = before


_blas_lock, _blas_users, _blas_limit = ForkLock(), 0, ExitStack()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """NumPy's matrix products in one thread each, while anybody is inside.

    Those of a search are small: their threads would wait for each other longer than they work, and much longer where
    the processors are busy, as with threads of :func:`in_threads`.
    """
    global _blas_users
    controller = _blas()
    if controller is None:
        yield
        return
    with _blas_lock.held:
        if not _blas_users:
            _blas_limit.enter_context(controller.limit(limits=1))
        _blas_users += 1
    try:
        yield
    finally:
        with _blas_lock.held:
            _blas_users -= 1
            if not _blas_users:
                _blas_limit.close()


@cache
def _blas() -> Any | None:
    """What sets the threads of NumPy's BLAS; None where there is no need, or no way (it comes with scikit-learn)."""
    if importlib.util.find_spec("threadpoolctl") is None:
        return None
    controller = importlib.import_module("threadpoolctl").ThreadpoolController()
    # Of NumPy's own, not of torch's; what it was loaded with counts, not what the environment says by now.
    several = [one["filepath"] for one in controller.info() if "numpy" in one["filepath"] and one["num_threads"] > 1]
    return controller.select(filepath=several) if several else None
