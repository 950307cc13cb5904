"""What all charts share (matplotlib): colours and markers, labels without markup, files that do not vary."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from ..errors import SmartError
from ..extras import require

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Distinguishable with any kind of colour vision (Okabe and Ito, 2008), without the yellow that is lost in print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")

# The same figures give the same bytes: no date, no random ids.
_NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))


class Style(TypedDict):
    """How a series is drawn: keyword arguments of ``Axes.plot``."""

    color: str
    marker: str


def styles(labels: Iterable[str]) -> dict[str, Style]:
    """A colour and a marker for each label; the counts of both have no common divisor, so that pairs repeat late."""
    return {
        label: {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)]}
        for place, label in enumerate(labels)
    }


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches, with room made for labels and legends."""
    require("matplotlib", "plot")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    figure.set_layout_engine("constrained", w_pad=0.08, h_pad=0.08)
    return figure


def one_line(text: str) -> str:
    """Text without line ends and control characters."""
    return "".join(character if character.isprintable() else " " for character in text)


def plain_label(text: str) -> str:
    """Text that matplotlib neither reads as a formula nor, for a leading underscore, leaves out of the legend."""
    shown = one_line(text).replace("$", r"\$")
    return re.sub(r"^_+", "", shown) or shown


def svg_element(figure: Figure) -> str:
    """The figure as one ``<svg>`` element to put into an HTML page."""
    out = io.StringIO()
    _save(figure, out, "svg")
    text = out.getvalue()
    return text[text.index("<svg") :]


def save_figure(figure: Figure, file: Path, error: type[SmartError] = SmartError) -> Path:
    """Write a figure in the format that the file's name ends in; its folder is made if missing.

    Raises:
        SmartError: The file cannot be written, or the format is unknown; as the given class.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        _save(figure, file, file.suffix[1:].lower() or None)
    except (OSError, ValueError) as reason:
        raise error(f"cannot write {file} ({reason}): name another file, such as {file.stem}.png") from reason
    return file


def _save(figure: Figure, target: Path | io.StringIO, form: str | None) -> None:
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "smart"}):
        figure.savefig(target, format=form, dpi=150, metadata=_NO_METADATA if form == "svg" else None)
