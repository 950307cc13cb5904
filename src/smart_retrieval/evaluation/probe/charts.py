"""The charts of a probe, as inline SVG in the colours of its page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ..charts import new_figure, plain_label, svg_element
from .statistics import Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# In points, which are the SVG's units: small, so that the text can be read on a phone.
_WIDTH, _HEIGHT, _FONT = 400, 250, 12

_LONGEST = 28  # most characters of a name beside a chart

_SOFT, _LINE = "#62656e", "#e2e4e9"
_SERIES = ("#2f6fde", "#c9650a", "#2e8b57", "#8a5cd6")
_PAGE_COLOURS = {_SOFT: "var(--soft)", _LINE: "var(--line)"} | {
    colour: f"var(--{name})" for colour, name in zip(_SERIES, "abcd", strict=True)
}


class Series(NamedTuple):
    """Points that belong together, by x; the one at ``marked`` is drawn large."""

    name: str
    points: Sequence[tuple[float, Point]]
    marked: float | None = None


class Chart(NamedTuple):
    """An ``<svg>`` element, and name and CSS colour of each series in it."""

    svg: str
    legend: Sequence[tuple[str, str]] = ()


def curves(
    title: str, series: Sequence[Series], *, x_label: str, ticks: Sequence[tuple[float, str]], anchor: float
) -> Chart:
    """Up to four curves with an interval at each point, and a dashed line at the anchor's value."""
    from matplotlib.transforms import ScaledTranslation

    figure, axes = _axes(_HEIGHT, x_label, "nDCG@10", grid="y")
    axes.axhline(anchor, color=_SOFT, linewidth=1, linestyle=(0, (4, 3)))
    axes.annotate(
        "anchor", (1, anchor), (3, 0), ("axes fraction", "data"), "offset points",
        color=_SOFT, fontsize=_FONT, va="center",
    )  # fmt: skip
    for number, (one, colour) in enumerate(zip(series, _SERIES, strict=False)):
        xs, values = [x for x, _ in one.points], [point["value"] for _, point in one.points]
        drawn = axes.plot(xs, values, "o-", color=colour, markersize=4, linewidth=1.5)
        if one.marked in xs:
            drawn += axes.plot([one.marked], [values[xs.index(one.marked)]], "o", color=colour, markersize=10)
        drawn += _intervals(axes.vlines, xs, (point for _, point in one.points), colour)
        # Beside each other, so that no interval hides another.
        shift = 4 * (number - (len(series) - 1) / 2)
        for artist in drawn:
            artist.set_transform(axes.transData + ScaledTranslation(shift / 72, 0, figure.dpi_scale_trans))
    axes.set_xticks([x for x, _ in ticks], [plain_label(label) for _, label in ticks])
    legend = [(one.name, _PAGE_COLOURS[colour]) for one, colour in zip(series, _SERIES, strict=False)]
    return Chart(svg_element(figure, title, _PAGE_COLOURS), legend)


def columns(title: str, rows: Sequence[tuple[str, Point]], *, x_label: str, y_label: str) -> Chart:
    """A column for each difference, with its interval."""
    figure, axes = _axes(_HEIGHT, x_label, y_label, grid="y")
    axes.bar(range(len(rows)), [point["value"] for _, point in rows], 0.6, color=_SERIES[0], alpha=0.55)
    axes.axhline(0, color=_SOFT, linewidth=1)
    _intervals(axes.vlines, range(len(rows)), (point for _, point in rows), _SOFT)
    axes.set_xticks(range(len(rows)), ["\n".join(map(plain_label, label.split("\n"))) for label, _ in rows])
    return Chart(svg_element(figure, title, _PAGE_COLOURS))


def dots(title: str, rows: Sequence[tuple[str, Point]], *, x_label: str, baseline: float) -> Chart:
    """A row for each value: its name, a dot and its interval, and a line at what they are compared with."""
    figure, axes = _axes(60 + 24 * len(rows), x_label, "", grid="x")
    axes.axvline(baseline, color=_SOFT, linewidth=1)
    axes.plot([point["value"] for _, point in rows], range(len(rows)), "o", color=_SERIES[0], markersize=8)
    _intervals(axes.hlines, range(len(rows)), (point for _, point in rows), _SERIES[0])
    # A longer name would leave no room for the dots.
    names = [name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…" for name, _ in rows]
    axes.set_yticks(range(len(rows)), [plain_label(name) for name in names])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    return Chart(svg_element(figure, title, _PAGE_COLOURS))


def _axes(height: float, x_label: str, y_label: str, *, grid: Literal["x", "y"]) -> tuple[Figure, Axes]:
    figure = new_figure(_WIDTH / 72, height / 72)
    axes = figure.add_subplot()
    axes.set_xlabel(x_label, color=_SOFT, fontsize=_FONT)
    axes.set_ylabel(y_label, color=_SOFT, fontsize=_FONT)
    axes.tick_params(length=0, colors=_SOFT, labelsize=_FONT)
    axes.locator_params(axis=grid, nbins=5)
    axes.grid(axis=grid, color=_LINE)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    return figure, axes


def _intervals(lines: Any, places: Iterable[float], points: Iterable[Point], colour: str) -> list[Any]:
    """Draw the intervals that there are, with ``Axes.vlines`` or ``Axes.hlines``."""
    ends = [(at, p["ci_low"], p["ci_high"]) for at, p in zip(places, points, strict=True) if p["ci_low"] is not None]
    return [lines(*zip(*ends, strict=True), color=colour, alpha=0.55, linewidth=1.5)] if ends else []
