"""Tables of MMEB-V2: means of meta-tasks, modalities and everything, beside published ones; every task; the gains."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from ..mmeb.published import PUBLISHED, PublishedRow
from ..mmeb.summary import TITLES, Mean, means
from ..mmeb.tasks import all_tasks
from .gains import Gain, anchor_of, gain_over
from .measured import Measured, Named, named
from .tables import MISSING, Cell, Table, gain_cell, gain_notes, marked_best

#: Sign patterns behind the p-values of tasks, of which there are many.
PERMUTATIONS = 10_000


def mmeb_tables(
    measured: Sequence[Measured],
    *,
    published: bool = False,
    against: Callable[[Measured], Measured | None] | None = None,
) -> tuple[list[Table], list[str]]:
    """Every table of results on MMEB-V2's tasks.

    Metrics of the two modes, and of the two orders of equal candidates, never stand in one table.

    Args:
        measured: Results on its tasks.
        published: Put the published rows below the means.
        against: What else than the anchor a system is to be compared with.

    Returns:
        The tables, and what was kept apart.
    """
    groups: dict[tuple[str, str], list[Measured]] = {}
    for one in measured:
        groups.setdefault((one.settings.get("mode", ""), one.settings.get("ties", "")), []).append(one)
    tables: list[Table] = []
    notes: list[str] = []
    for (mode, ties), own in groups.items():
        which = ", ".join(
            part for part in (f"{mode} metrics" if mode else "", f"ties by {ties}" if ties else "") if part
        )
        title = f"MMEB-V2, {which}" if which else "MMEB-V2"
        found = named(own)
        notes += [f"{title}: {note}" for note in found.notes]
        tables.append(_means_table(found, title, PUBLISHED if published else ()))
        tables.append(_tasks_table(found, title))
        own_anchor = partial(anchor_of, among=list(found.cells.values()))
        ways: list[tuple[str, str, Callable[[Measured], Measured | None]]]
        ways = [("mmeb gains", f"{title}: gain over the anchor", own_anchor)]
        ways += [] if against is None else [("mmeb against", f"{title}: difference from --against", against)]
        tables += [table for way in ways if (table := _gains_table(found, *way)) is not None]
    if len(groups) > 1:
        notes.append("MMEB-V2 was measured with metrics of different modes, which stand in tables of their own")
    return tables, notes


def _means_table(found: Named, title: str, published: Sequence[PublishedRow]) -> Table:
    by_label = {label: means(_scores(found, label)) for label in found.rows.values()}
    every = list(by_label.values())
    shown = [
        place for place, mean in enumerate(every[0]) if any(own[place].done for own in every) or "/" not in mean.name
    ]
    rows = [[_mean_cell(own[place]) for place in shown] for own in by_label.values()]
    names = [every[0][place].name for place in shown]
    notes = ["means over tasks, in percent; a group that lacks tasks has no mean, and says how many it has"]
    notes += _missing_notes(by_label)
    columns = [name.partition("/")[2] or TITLES.get(name, "All") for name in names]
    own_rows = [(label, tuple(cells)) for label, cells in zip(by_label, marked_best(rows), strict=True)]
    if not published:
        return Table("mmeb", title, "system", tuple(columns), tuple(own_rows), 0, tuple(notes))
    elsewhere = []
    for row in published:
        values = {"image": row.image, "video": row.video, "visdoc": row.visdoc, "all": row.all}
        cells = [Cell(f"{values[name]:.1f}", values[name]) if name in values else Cell(MISSING) for name in names]
        elsewhere.append((row.model, (*cells, Cell(row.source))))
    if any("before" in row.source for row in published):
        notes.append("rows from before the page tasks' repair cannot be compared in VisDoc and All")
    sourced = [(label, (*cells, Cell("this report"))) for label, cells in own_rows]
    return Table(
        "mmeb", title, "system", (*columns, "source"), (*sourced, *elsewhere), len(elsewhere), tuple(notes)
    )  # fmt: skip


def _scores(found: Named, label: str) -> dict[str, dict[str, float]]:
    """A system's metrics by task; a task that was measured on two kinds of data belongs to neither mean."""
    kept: dict[str, list[Measured]] = {}
    for (row, _), one in found.cells.items():
        if row == label:
            kept.setdefault(one.data.name, []).append(one)
    return {name: dict(own[0].values) for name, own in kept.items() if len(own) == 1}


def _mean_cell(mean: Mean) -> Cell:
    if mean.value is None:
        return Cell(f"{MISSING} ({mean.done}/{mean.tasks})", None, more={"done": mean.done, "tasks": mean.tasks})
    return Cell(f"{mean.value:.1f}", mean.value)


def _missing_notes(by_label: dict[str, list[Mean]]) -> list[str]:
    notes: dict[tuple[str, ...], list[str]] = {}
    for label, own in by_label.items():
        if own[-1].missing:
            notes.setdefault(own[-1].missing, []).append(label)
    return [
        f"{len(missing)} of 78 tasks not measured with {'; '.join(labels)}: {', '.join(missing)}"
        for missing, labels in notes.items()
    ]


def _tasks_table(found: Named, title: str) -> Table:
    labels, rows, common = list(found.rows.values()), [], []
    for column, one in _in_order(found):
        values = [_percent(found, label, column, one) for label in labels]
        # The best of a task is looked for along its row.
        best = [row[0] for row in marked_best([[_percent_cell(value)] for value in values])]
        rows.append((column, (Cell(str(one.main)), *best)))
        if all(value is not None for value in values):
            common.append([value for value in values if value is not None])
    notes = ["in percent, each task in its own metric"]
    if len(common) > 1:
        shared = [math.fsum(own) / len(common) for own in zip(*common, strict=True)]
        best = [row[0] for row in marked_best([[_percent_cell(value)] for value in shared])]
        rows.append((f"mean of {len(common)} tasks", (Cell(""), *best)))
        notes.append(f"the mean is over the {len(common)} tasks that all systems have; it is no mean of the benchmark")
    return Table("mmeb tasks", f"{title}: tasks", "task", ("metric", *labels), tuple(rows), 0, tuple(notes))


def _gains_table(
    found: Named, name: str, title: str, baseline_of: Callable[[Measured], Measured | None]
) -> Table | None:
    gains: list[Gain] = []
    cells: dict[tuple[str, str], Cell] = {}
    for (label, column), one in found.cells.items():
        baseline = baseline_of(one)
        if baseline is None or baseline is one or one.main is None:
            continue
        gain = gain_over(one, baseline, one.main, permutations=PERMUTATIONS)
        if gain is not None:
            gains.append(gain)
            cells[label, column] = gain_cell(gain, 100, 1)
    labels = [label for label in found.rows.values() if any(row == label for row, _ in cells)]
    rows = [
        (column, tuple(cells.get((label, column), Cell(MISSING)) for label in labels))
        for column, _ in _in_order(found)
        if any((label, column) in cells for label in labels)
    ]
    if not rows:
        return None
    notes = ("in points (percent), and relative", *gain_notes(gains))
    return Table(name, title, "task", tuple(labels), tuple(rows), 0, notes)


def _in_order(found: Named) -> list[tuple[str, Measured]]:
    """Columns in the order of the benchmark's table, each with one of its measurements."""
    places = {task.name: place for place, task in enumerate(all_tasks())}
    first: dict[str, Measured] = {}
    for (_, column), one in found.cells.items():
        first.setdefault(column, one)
    return sorted(first.items(), key=lambda pair: places[pair[1].data.name])


def _percent(found: Named, label: str, column: str, like: Measured) -> float | None:
    one: Any = found.cells.get((label, column))
    return None if one is None or like.main is None else 100 * float(one.values[like.main])


def _percent_cell(value: float | None) -> Cell:
    return Cell(MISSING) if value is None else Cell(f"{value:.1f}", value)
