"""Progress on stderr, and only on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def wants_progress(choice: bool | None) -> bool:
    """Whether to draw a bar; None draws it on a terminal only."""
    return sys.stderr.isatty() if choice is None else choice


@contextmanager
def progress(description: str, total: int | None, show: bool | None = None) -> Iterator[Callable[[int], None]]:
    """A progress bar that knows the remaining time; yields a function that advances it. ``total`` may be unknown."""
    if not wants_progress(show):
        yield lambda count: None
        return
    from rich import progress as rich
    from rich.console import Console

    columns = (
        rich.TextColumn("{task.description}"),
        rich.BarColumn(),
        rich.MofNCompleteColumn(),
        rich.TimeElapsedColumn(),
        rich.TextColumn("left"),
        rich.TimeRemainingColumn(),
    )
    with rich.Progress(*columns, console=Console(stderr=True), transient=False) as bar:
        task = bar.add_task(description, total=total)
        yield lambda count: bar.advance(task, count)
