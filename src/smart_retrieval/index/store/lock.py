"""An exclusive lock between processes and threads, held on a file; it ends with its holder, however that dies.

Not ``filelock``: it removes the file on Windows, and where ``flock`` is missing it falls back to a lock that outlives a
killed holder; only its latest releases have options against both.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if sys.platform == "win32":
    import msvcrt

    def _try(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _try(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


# A forked child's copies would hold the parent's locks for as long as the child lives.
_held: set[int] = set()


def _close_inherited() -> None:
    while _held:
        os.close(_held.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_inherited)


@contextmanager
def file_lock(path: Path, timeout: float) -> Iterator[bool]:
    """Hold the lock of a file, waiting up to ``timeout`` seconds for it (0 tries once); yields whether it is held.

    The file is created when missing and never removed: a waiter would hold the removed file, and a newcomer a new one.

    Example:
        >>> import tempfile
        >>> with file_lock(Path(tempfile.mkdtemp()) / "lock", 0) as held:
        ...     held
        True
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
    _held.add(descriptor)
    try:
        yield _wait(descriptor, time.monotonic() + timeout)
    finally:
        if descriptor in _held:  # not in a child that was forked meanwhile
            _held.discard(descriptor)
            os.close(descriptor)  # which releases the lock


def _wait(descriptor: int, deadline: float) -> bool:
    pause = 0.001
    while True:
        try:
            _try(descriptor)
            return True
        except (BlockingIOError, PermissionError):
            if time.monotonic() >= deadline:
                return False
        time.sleep(min(pause, max(0.0, deadline - time.monotonic())))
        pause = min(pause * 1.5, 0.02)
