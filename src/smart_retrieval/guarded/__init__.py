"""Functions that parse what nobody has checked, run in a child process with limits of memory and time.

Parsers written in C may be made to crash, to take all memory or never to end by a few bytes. A function marked with
`guarded` runs in one child process that is started when first needed, lives on, and is replaced when it dies or has
grown; functions that keep a model there share another. What kills it becomes an error that names the file; the caller
goes on.

To guard a function, write it at the top of a module that is quick to import, give it the file's path as its first
parameter, and annotate what it returns (a dataclass of plain values, or plain values); the other arguments are plain,
too. It calls `step` after each page, say, so that a long file has the time it needs:

    @guarded(Limits(seconds=30))
    def read(path: Path, max_bytes: int) -> Document:
        ...

Messages are MessagePack and are checked against the annotation, so that a child that a file has taken over can hand
back wrong values but no code.
"""

from __future__ import annotations

from .calls import guarded as guarded
from .calls import step as step
from .calls import stop as stop
from .process import Limits as Limits

__all__ = ["Limits", "guarded", "step", "stop"]
