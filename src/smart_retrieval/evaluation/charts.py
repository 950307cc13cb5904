"""What all charts share (matplotlib): colours and markers, labels without markup, files that do not vary."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Mapping
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


def svg_element(figure: Figure, title: str, colours: Mapping[str, str]) -> str:
    """The figure, which is changed, as one ``<svg>`` element of paths and texts alone, which refer to nothing.

    ``colours`` maps colours of the figure (``"#2f6fde"``) to those of the page (``"var(--accent)"``).
    """
    from matplotlib.patheffects import Normal
    from matplotlib.text import Text

    for artist in figure.findobj():
        artist.set_clip_on(False)
        if not isinstance(artist, Text):
            # With a path effect a marker is a path of its own, not a reference to a shared definition.
            artist.set_path_effects([Normal()])
    figure.patch.set_visible(False)
    for axes in figure.axes:
        axes.patch.set_visible(False)
    out = io.StringIO()
    # Text stays text, in the page's font.
    _save(figure, out, "svg", fonttype="none")
    drawn, title = ElementTree.fromstring(out.getvalue().encode()), one_line(title)
    svg = ElementTree.Element("svg", {"viewBox": drawn.get("viewBox", ""), "role": "img", "aria-label": title})
    ElementTree.SubElement(svg, "title").text = title
    for element in drawn.iter():
        name = element.tag.rpartition("}")[2]
        if name in ("path", "text"):
            style = re.sub(r"font: (\S+) [^;]*", r"font-size: \1", element.get("style", ""))
            style = re.sub(r"#[0-9a-f]{6}", lambda match: colours.get(match[0], match[0]), style)
            places = {key: _short(value) for key, value in element.items() if key in ("d", "x", "y", "transform")}
            ElementTree.SubElement(svg, name, {**places, "style": style}).text = element.text
    return ElementTree.tostring(svg, encoding="unicode")


def _short(numbers: str) -> str:
    """Numbers with two decimals, which are enough for pixels, on one line."""
    return re.sub(r"\d+\.\d+", lambda match: f"{float(match[0]):.2f}", " ".join(numbers.split()))


def save_figure(figure: Figure, file: Path, error: type[SmartError] = SmartError) -> Path:
    """Write a figure in the format that the file's name ends in; its folder is made if missing."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        _save(figure, file, file.suffix[1:].lower() or None)
    except (OSError, ValueError) as reason:
        raise error(f"cannot write {file} ({reason}): name another file, such as {file.stem}.png") from reason
    return file


def _save(figure: Figure, target: Path | io.StringIO, form: str | None, *, fonttype: str = "path") -> None:
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "smart", "svg.fonttype": fonttype}):
        figure.savefig(target, format=form, dpi=150, metadata=_NO_METADATA if form == "svg" else None)
