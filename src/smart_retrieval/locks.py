"""Locks between threads that a forked child finds free, whichever thread of its parent held them."""

from __future__ import annotations

import os
import threading
import weakref


class ForkLock:
    """A reentrant lock; ``with lock.held:`` holds it.

    Example:
        >>> lock = ForkLock()
        >>> with lock.held, lock.held:
        ...     "twice by one thread"
        'twice by one thread'
    """

    def __init__(self) -> None:
        self.held = threading.RLock()
        _ALL.add(self)

    def renew(self) -> None:
        """Take a new lock in the old one's place, which a thread that is not there any more may hold."""
        self.held = threading.RLock()


_ALL: weakref.WeakSet[ForkLock] = weakref.WeakSet()


def _renew_all() -> None:
    for lock in list(_ALL):
        lock.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
