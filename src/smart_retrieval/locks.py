"""What threads and forks need of each other: a fork waits for threads to leave what a child could not use half done."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Seconds that a fork waits for other threads; what they are still at then, a child had better not touch.
_PATIENCE = 5.0


class ForkLock:
    """A reentrant lock that nobody holds while the process forks, and that is free in the child; ``with lock.held:``.

    Example:
        >>> lock = ForkLock()
        >>> with lock.held, lock.held:
        ...     "twice by one thread"
        'twice by one thread'
    """

    def __init__(self) -> None:
        self.held = threading.RLock()
        _locks.add(self)


class ForkGate:
    """Work of any number of threads that a fork waits for, and that begins only once it is over.

    Args:
        before_fork: Called when no other thread is inside.
    """

    def __init__(self, before_fork: Callable[[], None]) -> None:
        self.before_fork = before_fork
        self.renew()
        _gates.add(self)

    def renew(self) -> None:
        """Open, with nobody inside but those inside in this thread."""
        self._changed, self._local = threading.Condition(), threading.local()
        self._inside, self._closed = 0, False

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Be inside; a thread that is already is not kept waiting."""
        local, changed = self._local, self._changed
        depth = getattr(local, "depth", 0)
        if not depth:
            with changed:
                changed.wait_for(lambda: not self._closed)
                self._inside += 1
        local.depth = depth + 1
        try:
            yield
        finally:
            local.depth = depth
            if not depth and changed is self._changed:  # else this is a child, forked by the thread inside
                with changed:
                    self._inside -= 1
                    changed.notify_all()

    def close(self, deadline: float) -> None:
        """Let nobody in, and wait for the others inside to leave."""
        own = bool(getattr(self._local, "depth", 0))
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: self._inside <= own, max(0.0, deadline - time.monotonic()))
        self.before_fork()

    def open(self) -> None:
        """Let everybody in again."""
        with self._changed:
            self._closed = False
            self._changed.notify_all()


_locks: weakref.WeakSet[ForkLock] = weakref.WeakSet()
_gates: weakref.WeakSet[ForkGate] = weakref.WeakSet()
_taken: list[threading.RLock] = []  # while the process forks


def _before() -> None:
    deadline = time.monotonic() + _PATIENCE
    for gate in list(_gates):
        gate.close(deadline)
    # Some may be held by a thread that waits at a gate, which is at no harm.
    deadline = time.monotonic() + _PATIENCE / 5
    for lock in list(_locks):
        held = lock.held
        if held.acquire(timeout=max(0.0, deadline - time.monotonic())):
            _taken.append(held)


def _in_parent() -> None:
    for gate in list(_gates):
        gate.open()
    while _taken:
        _taken.pop().release()


def _in_child() -> None:
    _taken.clear()
    for gate in list(_gates):
        gate.renew()
    for lock in list(_locks):
        lock.held = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
