"""Ctrl-C and SIGTERM: one line that says what is stored and how to go on, and the exit status that shells expect."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_AGAIN = "run the same command again to go on"


class Stopped(BaseException):
    """The user or the system asked the command to stop. Not a KeyboardInterrupt, of which Click makes an error."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number
        self.note = f"what was stored stays; {_AGAIN}"


def stop_on_signals() -> None:
    """Turn the first SIGINT or SIGTERM into :class:`Stopped`; a second one ends the process at once."""
    process = os.getpid()

    def stop(number: int, _: FrameType | None) -> None:
        for known in (signal.SIGINT, signal.SIGTERM):
            signal.signal(known, signal.SIG_DFL)
        if os.getpid() != process:  # a forked child has nothing to say
            os.kill(os.getpid(), number)
        raise Stopped(number)

    for known in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(known) is not signal.SIG_IGN:  # as under nohup
            signal.signal(known, stop)


@contextmanager
def if_stopped(stays: Callable[[], str] | str) -> Iterator[None]:
    """What stays of the work inside, for the line that is printed if it is stopped."""
    try:
        yield
    except Stopped as stopped:
        stopped.note = f"{stays if isinstance(stays, str) else stays()}; {_AGAIN}"
        raise
