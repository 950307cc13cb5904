"""Progress on stderr, and only on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def wants_progress(choice: bool | None) -> bool:
    """Whether to draw a bar: as asked, and left to itself only on a terminal."""
    return sys.stderr.isatty() if choice is None else choice


@contextmanager
def progress(description: str, total: int | None, show: bool | None = None) -> Iterator[Callable[[int], None]]:
    """A progress bar that knows the remaining time; yields a function that advances it.

    Args:
        description: What is being done.
        total: Items in all, None when unknown.
        show: True or False to force; None draws it on a terminal only.

    Example:
        >>> with progress("Encoding", 3, show=False) as advance:
        ...     advance(3)
    """
    if not wants_progress(show):
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=False) as bar:
        task = bar.add_task(description, total=total)
        yield lambda count: bar.advance(task, count)
