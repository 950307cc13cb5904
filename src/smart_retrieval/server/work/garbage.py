"""When Python looks for garbage in a process that serves and does nothing else."""

from __future__ import annotations

import gc


class Collector:
    """Python's garbage collector, left alone unless the process is the server's own.

    A look at all objects, of which torch and transformers bring half a million, takes a third of a second, in which
    nothing is answered, and under load comes every few seconds. So what is loaded is looked at once, and then left out.
    """

    def __init__(self) -> None:
        self._own = False

    def pause(self) -> None:
        """Take over the process: nothing is looked at while it loads, until :meth:`settle`."""
        self._own = True
        gc.disable()

    def settle(self) -> None:
        """Free what is garbage, and leave all the others out from now on."""
        if self._own:
            gc.unfreeze()
            gc.collect()
            gc.freeze()
            gc.enable()

    def release(self) -> None:
        """Leave nothing out any more: what is never freed, compiled libraries complain about at the end."""
        if self._own:
            gc.unfreeze()
            gc.enable()
