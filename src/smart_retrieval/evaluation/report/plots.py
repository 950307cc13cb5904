"""A report's plots: quality against bytes, quality against time, and gains with their intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import ReportError
from ...extras import require
from ..charts import Style, new_figure, plain_label, save_figure, styles
from ..metrics import metric_title
from .measurements import Grid
from .tables import Cell, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .report import Report

_ACROSS = 3  # panels side by side


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
    grid = report.retrieval
    drawn = {
        "quality_bytes": quality_against(grid, report.metric, "bytes_per_document", "bytes a document"),
        "quality_time": quality_against(grid, report.metric, "milliseconds", "ms a query, all documents scored"),
    }
    figures = {name: figure for name, figure in drawn.items() if figure is not None}
    for table in report.tables:
        if table.name in ("gains", "mmeb gains"):
            name = table.name.replace(" ", "_")
            # A system looks the same in every plot.
            looks = styles(grid.rows) if table.name == "gains" else None
            figures[name if name not in figures else f"{name}_{len(figures)}"] = gains_with_intervals(table, looks)
    if not figures:
        raise ReportError("found nothing to draw: no sizes, times or gains in these results")
    return [
        save_figure(figure, Path(folder) / f"{name}.{form}", ReportError)
        for name, figure in figures.items()
        for form in ("svg", "png")
    ]


def quality_against(grid: Grid, metric: str, field: str, title: str) -> Figure | None:
    """Quality over what it costs, a panel for each data set that has two points."""
    points: dict[str, list[tuple[str, float, float]]] = {}
    for column in grid.columns:
        for label in grid.rows:
            cost, value = getattr(grid.cells.get((label, column)), field, None), grid.value(label, column, metric)
            if value is not None and cost is not None and cost > 0:
                points.setdefault(column, []).append((label, cost, value))
    points = {column: own for column, own in points.items() if len(own) > 1}
    if not points:
        return None
    looks, drawn = styles(grid.rows), {label for own in points.values() for label, _, _ in own}
    across = min(_ACROSS, len(points))
    down = math.ceil(len(points) / across)
    figure = new_figure(max(6.4, 4.2 * across), 3.6 * down + 0.22 * math.ceil(len(drawn) / 3) + 0.4)
    handles: dict[str, Any] = {}
    for place, (column, own) in enumerate(points.items(), start=1):
        axes = figure.add_subplot(down, across, place)
        for label, x, y in own:
            (handle,) = axes.plot([x], [y], linestyle="none", markersize=8, label=plain_label(label), **looks[label])
            handles.setdefault(label, handle)
        axes.set_title(plain_label(column), fontsize=10)
        axes.set_xscale("log")
        axes.set_xlabel(f"{title} (log scale)", fontsize=9)
        axes.set_ylabel(metric_title(metric), fontsize=9)
        axes.tick_params(labelsize=8)
        axes.margins(0.12)
        axes.grid(alpha=0.3, which="major")
    _legend(figure, handles.values(), min(3, len(drawn)))
    return figure


def gains_with_intervals(table: Table, looks: Mapping[str, Style] | None = None) -> Figure:
    """Each gain with its interval, data set by data set."""
    by_task = table.corner == "task"
    labels = [label for label, _ in table.rows]
    tasks, systems = (labels, list(table.columns)) if by_task else (list(table.columns), labels)
    cells = {
        (label, column) if by_task else (column, label): cell
        for label, row in table.rows
        for column, cell in zip(table.columns, row, strict=True)
        if cell.value is not None
    }
    looks = looks or styles(systems)
    legend = 0.22 * math.ceil(len(systems) / 2) + 0.5
    figure = new_figure(7.5, max(2.4, 0.2 * len(cells) + 0.14 * len(tasks)) + 0.8 + legend)
    axes = figure.add_subplot()
    axes.axvline(0, color="grey", linewidth=0.8)
    place, ticks = 0.0, []
    handles: dict[str, Any] = {}
    for number, task in enumerate(tasks, start=1):
        own = [(system, cells[task, system]) for system in systems if (task, system) in cells]
        ticks.append(place + (len(own) - 1) / 2)
        if number % 2 == 0:
            axes.axhspan(place - 0.85, place + len(own) - 0.15, color="0.93", zorder=0)
        for system, cell in own:
            handles.setdefault(system, _interval(axes, cell, place, looks[system], plain_label(system)))
            place += 1
        place += 0.7
    axes.set_yticks(ticks, map(plain_label, tasks), fontsize=8)
    axes.invert_yaxis()
    axes.margins(y=0.02)
    axes.set_xlabel("difference, 95 % interval; filled: p < 0.05, cross: not tested", fontsize=9)
    axes.set_title(plain_label(table.title), fontsize=10)
    axes.grid(alpha=0.3, axis="x")
    _legend(figure, (handles[system] for system in systems if system in handles), 2)
    return figure


def _interval(axes: Axes, cell: Cell, place: float, look: Style, label: str) -> Any:
    from matplotlib.lines import Line2D

    more, colour = cell.more or {}, look["color"]
    low, high, p_value = (more.get(name) for name in ("ci_low", "ci_high", "p_value"))
    if low is not None and high is not None:
        axes.plot([low, high], [place, place], color=colour, linewidth=1.6, solid_capstyle="butt")
    shape = "x" if p_value is None else look["marker"]
    inside = colour if p_value is not None and p_value < 0.05 else "white"
    axes.plot([cell.value or 0.0], [place], linestyle="none", marker=shape, color=colour, markersize=6,
              markerfacecolor=inside, markeredgewidth=1.2)  # fmt: skip
    return Line2D([], [], linestyle="-", marker=look["marker"], color=colour, markersize=6, label=label)


def _legend(figure: Figure, handles: Iterable[Any], columns: int) -> None:
    figure.legend(handles=list(handles), loc="outside lower center", ncols=columns, fontsize=8)
