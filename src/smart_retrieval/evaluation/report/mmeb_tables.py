"""Tables of MMEB-V2: means of meta-tasks, modalities and everything, beside published ones; every task; the gains."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

from ..mmeb.report import PUBLISHED_ROWS, TITLES, Mean, means, title_of
from ..mmeb.tasks import all_tasks
from .gains import anchor_of
from .measurements import Grid, Measurement, arrange
from .tables import MISSING, Baseline, Cell, Row, Table, gain_cell, gain_notes, gains_in, marked_best

PERMUTATIONS = 10_000  #: sign patterns behind the p-values of tasks, of which there are many


def mmeb_tables(
    measurements: Sequence[Measurement], *, published: str = "", against: Baseline | None = None
) -> tuple[list[Table], list[str]]:
    """Every table of results on MMEB-V2's tasks, and notes on what was kept apart.

    Metrics of the two modes, and of the two orders of equal candidates, never stand in one table.
    """
    groups: dict[tuple[str, str], list[Measurement]] = {}
    for one in measurements:
        groups.setdefault((one.settings.get("mode", ""), one.settings.get("ties", "")), []).append(one)
    tables: list[Table | None] = []
    notes: list[str] = []
    for (mode, ties), own in groups.items():
        title = ", ".join(["MMEB-V2", *([f"{mode} metrics"] if mode else []), *([f"ties by {ties}"] if ties else [])])
        grid = arrange(own)
        notes += [f"{title}: {note}" for note in grid.notes]
        own_anchor = partial(anchor_of, among=list(grid.cells.values()))
        tables += [
            _means_table(grid, title, published),
            _tasks_table(grid, title),
            _gains_table(grid, "mmeb gains", f"{title}: gain over the anchor", own_anchor),
        ]
        if against is not None:
            tables.append(_gains_table(grid, "mmeb against", f"{title}: difference from --against", against))
    if len(groups) > 1:
        notes.append("MMEB-V2 was measured with metrics of different modes, which stand in tables of their own")
    return [table for table in tables if table is not None], notes


def _means_table(grid: Grid, title: str, published: str) -> Table:
    by_label = {label: means(_scores(grid, label)) for label in grid.rows}
    every = list(by_label.values())
    shown = [
        place
        for place, mean in enumerate(every[0])
        if mean.name in (*TITLES, "all") or any(own[place].done for own in every)
    ]
    names = [every[0][place].name for place in shown]
    columns = [title_of(name) for name in names]
    cells = marked_best([[_mean_cell(own[place]) for place in shown] for own in by_label.values()])
    rows: list[Row] = list(zip(by_label, cells, strict=True))
    notes = ["means over tasks, in percent; a group that lacks tasks has no mean, and says how many it has"]
    lacking: dict[tuple[str, ...], list[str]] = {}
    for label, own in by_label.items():
        lacking.setdefault(own[-1].missing, []).append(label)
    for missing, labels in lacking.items():
        if missing:
            notes.append(f"{len(missing)} of 78 tasks not measured with {'; '.join(labels)}: {', '.join(missing)}")
    if not published:
        return Table("mmeb", title, "system", tuple(columns), tuple(rows), 0, tuple(notes))
    rows = [(label, (*own_cells, Cell("this report"))) for label, own_cells in rows]
    more = PUBLISHED_ROWS[published]
    for row in more:
        rows.append((row.model, (*(Cell.number(row.values.get(name), ".1f") for name in names), Cell(row.source))))
    if any("before" in row.source for row in more):
        notes.append("rows from before the page tasks' repair cannot be compared in VisDoc and All")
    return Table("mmeb", title, "system", (*columns, "source"), tuple(rows), len(more), tuple(notes))


def _scores(grid: Grid, label: str) -> dict[str, dict[str, float]]:
    """A system's metrics by task; a task that was measured on two kinds of data belongs to neither mean."""
    kept: dict[str, list[Measurement]] = {}
    for (row, _), one in grid.cells.items():
        if row == label:
            kept.setdefault(one.data.name, []).append(one)
    return {name: dict(own[0].values) for name, own in kept.items() if len(own) == 1}


def _mean_cell(mean: Mean) -> Cell:
    if mean.value is None:
        return Cell(f"{MISSING} ({mean.done}/{mean.tasks})", None, more={"done": mean.done, "tasks": mean.tasks})
    return Cell.number(mean.value, ".1f")


def _tasks_table(grid: Grid, title: str) -> Table:
    rows: list[Row] = []
    common: list[list[float]] = []
    for column, metric in _tasks_in_order(grid).items():
        values = [grid.value(label, column, metric) for label in grid.rows]
        values = [None if value is None else 100 * value for value in values]
        rows.append((column, (Cell(metric), *_best_in_row(values))))
        known = [value for value in values if value is not None]
        common += [known] if len(known) == len(values) else []
    notes = ["in percent, each task in its own metric"]
    if len(common) > 1:
        shared = [math.fsum(own) / len(common) for own in zip(*common, strict=True)]
        rows.append((f"mean of {len(common)} tasks", (Cell(""), *_best_in_row(shared))))
        notes.append(f"the mean is over the {len(common)} tasks that all systems have; it is no mean of the benchmark")
    return Table("mmeb tasks", f"{title}: tasks", "task", ("metric", *grid.rows), tuple(rows), 0, tuple(notes))


def _best_in_row(values: Sequence[float | None]) -> list[Cell]:
    """The best of a task is looked for along its row."""
    return [row[0] for row in marked_best([[Cell.number(value, ".1f")] for value in values])]


def _gains_table(grid: Grid, name: str, title: str, baseline_of: Baseline) -> Table | None:
    gains = gains_in(grid, baseline_of, permutations=PERMUTATIONS)
    labels = [label for label in grid.rows if any(row == label for row, _ in gains)]
    tasks = [task for task in _tasks_in_order(grid) if any(column == task for _, column in gains)]
    rows = tuple((task, tuple(gain_cell(gains.get((label, task)), 100, 1) for label in labels)) for task in tasks)
    notes = ("in points (percent), and relative", *gain_notes(gains.values()))
    return Table(name, title, "task", tuple(labels), rows, 0, notes) if rows else None


def _tasks_in_order(grid: Grid) -> dict[str, str]:
    """Columns in the order of the benchmark's table, each with its metric."""
    tasks = {task.name: (place, task.metric) for place, task in enumerate(all_tasks())}
    ordered = sorted(grid.columns, key=lambda column: tasks[grid.columns[column].name][0])
    return {column: tasks[grid.columns[column].name][1] for column in ordered}
