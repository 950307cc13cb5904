"""What one thread makes while another works on what it made before."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from contextvars import copy_context
from itertools import islice
from queue import Empty, Queue
from typing import TypeVar

from ...guarded.calls import interrupt
from ...threads import thread_count

T = TypeVar("T")

_PATIENCE = 5.0  # seconds that a thread may take to notice that nobody waits for it any more


def ahead(make: Callable[[threading.Event], Generator[T, None, None]]) -> Generator[T, None, None]:
    """The items of a generator in their order, the next one made in a thread while the last is worked on.

    The first is made in the caller's thread, and so are all of them where there is one processor. An error comes behind
    the items before it. ``make`` is given an event that is set once no more is wanted: the generator is to end soon.
    """
    stop = threading.Event()
    source = make(stop)
    if thread_count() < 2:
        yield from source
        return
    first = list(islice(source, 1))
    if not first:
        return
    made: Queue[tuple[T] | BaseException | None] = Queue(maxsize=1)

    def run() -> None:
        last: BaseException | None = None
        try:
            for item in source:
                made.put((item,))
                if stop.is_set():
                    break
        except BaseException as error:
            last = error
        finally:
            source.close()
        made.put(last)

    thread = threading.Thread(target=copy_context().run, args=(run,), name="smart-ahead", daemon=True)
    thread.start()
    try:
        yield from first
        while isinstance(found := made.get(), tuple):
            yield found[0]
        if found is not None:
            raise found
    finally:
        stop.set()
        deadline = time.monotonic() + _PATIENCE
        while thread.is_alive() and time.monotonic() < deadline:
            interrupt(thread.ident)
            with suppress(Empty):
                made.get(timeout=0.02)  # so that it does not wait for room
