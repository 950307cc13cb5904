"""How commands write: JSON or lines on stdout, colour only on a terminal; and the last line of one that is stopped."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from ..index.explain.score import ShadedWord
    from ..index.shards.sharded_index import ShardedIndex
    from ..index.smart_index import SmartIndex
    from ..inputs import Item
    from ..stores.index import StoreIndex

# What JSON leaves as it is and a terminal does not: control characters, changes of direction, halves of characters.
_STEERING = re.compile("[\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_LEVELS = ("on grey15", "on #4d3300", "on #805500", "bold on #b37700")


def echo_json(value: Any) -> None:
    """One JSON object on stdout."""
    text = json.dumps(value, indent=1, ensure_ascii=False, default=str)
    typer.echo(_STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def deliver(result: Mapping[str, Any], show: Callable[[Any], None], *, as_json: bool, out: Path | None) -> None:
    """Print a measurement as JSON or with `show`, and write its JSON to a file if one is named."""
    from ..evaluation.results import write_json

    if out is not None:
        write_json(result, out)
    if as_json:
        write_json(result)
    else:
        show(result)


def console() -> Console:
    """Stdout; lines are wrapped to the terminal's width, and left whole in a pipe."""
    from rich.console import Console

    # Names and texts are never read as markup.
    piped = not sys.stdout.isatty()
    width = 400 if piped else None
    return Console(file=sys.stdout, highlight=False, markup=False, emoji=False, soft_wrap=piped, width=width)


def export_encoder(index: SmartIndex | ShardedIndex | StoreIndex) -> None:
    """Export the index's model for later searches, once, and say so on stderr; to be called after the output."""
    sys.stdout.flush()

    def note(line: str) -> None:
        print(f"smart: note: {printable(line)}", file=sys.stderr, flush=True)

    done = index.encoder.export(note)
    if done is not None and not done[0]:
        note(done[1])


def on_terminal() -> bool:
    """Whether stdout is one."""
    return sys.stdout.isatty()


def item_of_options(query: str, image: Path | None, audio: Path | None) -> Item:
    """The query, from ``QUERY``, ``--image`` and ``--audio``."""
    if not query and image is None and audio is None:
        raise typer.BadParameter("found no query, expected words, --image, --audio, or several of them")
    from ..inputs import Item

    return Item(text=query, images=() if image is None else (image,), audio=audio)


def location(source: str | None, page: int | None, heading: str | None) -> str:
    """Where a passage is: ``guide.pdf p. 3 › Logs › Rotation``."""
    file = " ".join(part for part in (shown_name(source or ""), f"p. {page}" if page is not None else "") if part)
    return " › ".join(part for part in (file, shown_name(heading or "").replace(" > ", " › ")) if part)


def printable(text: str) -> str:
    """Text that cannot steer a terminal: control characters but line ends become spaces, joiners of letters stay."""
    return "".join(c if c in "\n\t\u200c\u200d" or c.isprintable() else " " for c in text)


def shown_name(name: str) -> str:
    """A name that cannot steer a terminal, nor begin a line that looks like one of ours."""
    return printable(name).translate({ord("\n"): " ", ord("\t"): " "})


def size(number: float) -> str:
    """A number of bytes in readable units: ``2.5 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000 or unit == "GB":
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return ""


def plural(number: int, noun: str) -> str:
    """A count and its noun: ``1 file``, ``1,200 files``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def shaded(text: str, words: Sequence[ShadedWord], start: int = 0, stop: int | None = None) -> Text:
    """Part of a passage, its words shaded by what they contributed; plain where there are no colours."""
    from rich.text import Text

    stop = len(text) if stop is None else stop
    shown = Text(printable(text[start:stop]))
    most = max((word.contribution for word in words), default=1.0)
    for word in words:
        if start <= word.start and word.stop <= stop:
            level = min(len(_LEVELS) - 1, int(len(_LEVELS) * word.contribution / most))
            shown.stylize(_LEVELS[level], word.start - start, word.stop - start)
    return shown


# -- Ctrl-C and SIGTERM ------------------------------------------------------------------------------------------------

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
