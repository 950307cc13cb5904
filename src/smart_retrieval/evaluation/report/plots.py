"""A report's plots: quality against bytes, quality against time, and gains with their intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import ReportError
from ...extras import require
from ..charts import Style, new_figure, plain_label, save_figure, styles
from .measured import Measured, Named
from .tables import Cell, Table, metric_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .report import Report

#: Panels side by side.
_ACROSS = 3


def draw_plots(report: Report, folder: str | Path) -> list[Path]:
    """Draw what there is to draw, each plot as SVG and as PNG.

    Args:
        report: The report.
        folder: Where to; it is made if need be.

    Returns:
        The files: ``quality_bytes``, ``quality_time``, ``gains`` and, for MMEB-V2, ``mmeb_gains``, as far as the
        results hold what they need.

    Raises:
        MissingExtraError: matplotlib is not installed.
        ReportError: There is nothing to draw, or the folder cannot be written.

    Example:
        >>> draw_plots(build_report(["results/"]), "plots")  # doctest: +SKIP
    """
    require("matplotlib", "plot")
    figures: dict[str, Figure] = {}
    for name, field, title in (
        ("quality_bytes", "bytes_per_document", "bytes a document"),
        ("quality_time", "milliseconds", "ms a query, all documents scored"),
    ):
        figure = _trade(report.retrieval, report.metric, field, title)
        if figure is not None:
            figures[name] = figure
    for table in report.tables:
        if table.name in ("gains", "mmeb gains"):
            name = table.name.replace(" ", "_")
            # A system looks the same in every plot.
            looks = styles(report.retrieval.rows.values()) if table.name == "gains" else None
            figures[name if name not in figures else f"{name}_{len(figures)}"] = _forest(table, looks)
    if not figures:
        raise ReportError("found nothing to draw: no sizes, times or gains in these results")
    return [
        save_figure(figure, Path(folder) / f"{name}.{form}", ReportError)
        for name, figure in figures.items()
        for form in ("svg", "png")
    ]


def _trade(found: Named, metric: str, field: str, title: str) -> Figure | None:
    """Quality over what it costs, a panel for each data set that has two points."""
    points = {
        column: [
            (label, float(getattr(one, field)), one.values[metric])
            for label in found.rows.values()
            if (one := found.cells.get((label, column))) is not None and _drawable(one, field, metric)
        ]
        for column in found.columns.values()
    }
    points = {column: own for column, own in points.items() if len(own) > 1}
    if not points:
        return None
    shown = [label for label in found.rows.values() if any(label == own[0] for all_ in points.values() for own in all_)]
    looks = styles(found.rows.values())
    figure, panels = _panels(len(points), legend=len(shown))
    for axes, (column, own) in zip(panels, points.items(), strict=True):
        for label, x, y in own:
            axes.plot([x], [y], linestyle="none", markersize=8, label=plain_label(label), **looks[label])
        axes.set_title(plain_label(column), fontsize=10)
        axes.set_xscale("log")
        axes.set_xlabel(f"{title} (log scale)", fontsize=9)
        axes.set_ylabel(metric_title(metric), fontsize=9)
        axes.tick_params(labelsize=8)
        axes.margins(0.12)
        axes.grid(alpha=0.3, which="major")
    drawn: dict[str, Any] = {}
    for axes in panels:
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            drawn.setdefault(name, handle)
    figure.legend(handles=list(drawn.values()), loc="outside lower center", ncols=min(3, len(shown)), fontsize=8)
    return figure


def _drawable(one: Measured, field: str, metric: str) -> bool:
    value = getattr(one, field)
    return value is not None and value > 0 and metric in one.values


def _panels(count: int, *, legend: int) -> tuple[Figure, list[Axes]]:
    across = min(_ACROSS, count)
    down = math.ceil(count / across)
    below = 0.22 * math.ceil(legend / 3)
    figure = new_figure(max(6.4, 4.2 * across), 3.6 * down + below + 0.4)
    return figure, [figure.add_subplot(down, across, place) for place in range(1, count + 1)]


def _forest(table: Table, looks: Mapping[str, Style] | None = None) -> Figure:
    """Each gain with its interval, data set by data set."""
    by_task = table.corner == "task"
    tasks = [label for label, _ in table.rows] if by_task else list(table.columns)
    systems = list(table.columns) if by_task else [label for label, _ in table.rows]
    cells = {
        (label, column) if by_task else (column, label): cell
        for label, row in table.rows
        for column, cell in zip(table.columns, row, strict=True)
        if cell.value is not None
    }
    looks = looks or styles(systems)
    lines: list[tuple[str, str, Cell]] = [
        (task, system, cells[task, system]) for task in tasks for system in systems if (task, system) in cells
    ]
    legend = 0.22 * math.ceil(len(systems) / 2) + 0.5
    figure = new_figure(7.5, max(2.4, 0.2 * len(lines) + 0.14 * len(tasks)) + 0.8 + legend)
    axes = figure.add_subplot()
    axes.axvline(0, color="grey", linewidth=0.8)
    place, ticks = 0.0, []
    drawn: dict[str, Any] = {}
    for task in tasks:
        own = [(system, cell) for name, system, cell in lines if name == task]
        ticks.append((place + (len(own) - 1) / 2, task))
        if len(ticks) % 2 == 0:
            axes.axhspan(place - 0.85, place + len(own) - 0.15, color="0.93", zorder=0)
        for system, cell in own:
            drawn.setdefault(system, _interval(axes, cell, place, looks[system], plain_label(system)))
            place += 1
        place += 0.7
    axes.set_yticks([at for at, _ in ticks], [plain_label(task) for _, task in ticks], fontsize=8)
    axes.invert_yaxis()
    axes.margins(y=0.02)
    axes.set_xlabel("difference, 95 % interval; filled: p < 0.05, cross: not tested", fontsize=9)
    axes.set_title(plain_label(table.title), fontsize=10)
    axes.grid(alpha=0.3, axis="x")
    handles = [drawn[system] for system in systems if system in drawn]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=8)
    return figure


def _interval(axes: Axes, cell: Cell, place: float, look: Style, label: str) -> Any:
    from matplotlib.lines import Line2D

    more = cell.more or {}
    low, high, p_value = (more.get(name) for name in ("ci_low", "ci_high", "p_value"))
    colour = look["color"]
    if low is not None and high is not None:
        axes.plot([low, high], [place, place], color=colour, linewidth=1.6, solid_capstyle="butt")
    filled = p_value is not None and p_value < 0.05
    shape = "x" if p_value is None else look["marker"]
    axes.plot([cell.value or 0.0], [place], linestyle="none", marker=shape, color=colour, markersize=6,
              markerfacecolor=colour if filled else "white", markeredgewidth=1.2)  # fmt: skip
    return Line2D([], [], linestyle="-", marker=look["marker"], color=colour, markersize=6, label=label)
