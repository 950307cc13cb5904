"""A report's tables: systems by data sets, the best in bold, means over what all have, gains with their tests."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..metrics import metric_title
from .gains import PERMUTATIONS, Gain, anchor_of, gain_over
from .measurements import Grid, Measurement

MISSING = "–"  #: what stands where nothing was measured

#: Finds what a measurement is to be compared with.
Baseline = Callable[[Measurement], Measurement | None]


@dataclass(frozen=True)
class Cell:
    """A value as it is shown, with the mark of a test; `more` are further numbers for JSON and CSV."""

    text: str
    value: float | None = None
    best: bool = False
    mark: str = ""
    more: Mapping[str, Any] | None = None

    @classmethod
    def number(cls, value: float | None, form: str = ".4f") -> Cell:
        """A number in a format, or the sign for what is missing."""
        return cls(MISSING) if value is None else cls(f"{value:{form}}", value)


Row = tuple[str, tuple[Cell, ...]]


@dataclass(frozen=True)
class Table:
    """One table; `corner` says what the rows are, and the last `references` of them come from elsewhere."""

    name: str
    title: str
    corner: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    references: int = 0
    notes: tuple[str, ...] = ()

    def marked_rows(self) -> list[tuple[str, tuple[Cell, ...], bool]]:
        """The rows, and whether each comes from elsewhere."""
        own = len(self.rows) - self.references
        return [(label, cells, place >= own) for place, (label, cells) in enumerate(self.rows)]


def marked_best(rows: Sequence[Sequence[Cell]]) -> list[tuple[Cell, ...]]:
    """Mark the highest of each column, and all that look the same as it; a value alone in its column is not marked."""

    def marked(column: tuple[Cell, ...]) -> list[Cell]:
        valued = [(cell.value, cell.text) for cell in column if cell.value is not None]
        best = max(valued, key=lambda pair: pair[0])[1] if len(valued) > 1 else None
        return [replace(cell, best=True) if cell.value is not None and cell.text == best else cell for cell in column]

    columns = [marked(column) for column in zip(*rows, strict=True)]
    return list(zip(*columns, strict=True))


def quality_table(grid: Grid, metric: str, references: Grid | None = None) -> Table:
    """Systems by data sets in one metric, with the mean over the data sets that all have, if there are two.

    References are figures from elsewhere, on some of the same data sets; the best is sought without them.
    """
    columns = _columns_with(grid, metric)
    labels = [row for row in grid.rows if any(grid.value(row, column, metric) is not None for column in columns)]
    common = [name for name in columns if all(grid.value(label, name, metric) is not None for label in labels)]
    averaged = common if len(common) > 1 else []
    own = marked_best([_quality_row(grid, label, columns, averaged, metric) for label in labels])
    notes = _mean_notes(columns, common)
    for column in columns:
        if lacking := [label for label in labels if grid.value(label, column, metric) is None]:
            notes.append(f"not measured on {column}: {', '.join(lacking)}")
    elsewhere = [] if references is None else _reference_rows(references, columns, averaged, metric)
    titles = (*columns, *(["mean"] if averaged else []))
    rows: list[Row] = list(zip(labels, own, strict=True))
    if elsewhere:
        notes.append("rows with a source are figures from elsewhere; that they are on the same data was not checked")
        titles = (*titles, "source")
        rows = [(label, (*cells, Cell(""))) for label, cells in rows] + elsewhere
    return Table("quality", metric_title(metric), "system", titles, tuple(rows), len(elsewhere), tuple(notes))


def gains_table(grid: Grid, metric: str) -> Table | None:
    """Gains over the anchor, relative, with marks of the paired test; None where there is no anchor."""
    among = list(grid.cells.values())
    title = f"Gain in {metric_title(metric)} over the anchor"
    return differences_table(grid, metric, lambda one: anchor_of(one, among), "gains", title)


def differences_table(grid: Grid, metric: str, baseline_of: Baseline, name: str, title: str) -> Table | None:
    """Differences of systems from whatever each is to be compared with; None where nothing is."""
    gains = gains_in(grid, baseline_of, metric)
    columns = _columns_with(grid, metric)
    labels = [label for label in grid.rows if any(row == label for row, _ in gains)]
    rows = tuple((label, tuple(gain_cell(gains.get((label, column))) for column in columns)) for label in labels)
    return Table(name, title, "system", tuple(columns), rows, 0, gain_notes(gains.values())) if rows else None


def gains_in(
    grid: Grid, baseline_of: Baseline, metric: str | None = None, *, permutations: int = PERMUTATIONS
) -> dict[tuple[str, str], Gain]:
    """The gain of each cell that has a baseline, in a metric or each in its own."""
    gains = {}
    for place, one in grid.cells.items():
        baseline, own = baseline_of(one), metric or one.main
        if baseline is None or baseline is one or own is None:
            continue
        if gain := gain_over(one, baseline, own, permutations=permutations):
            gains[place] = gain
    return gains


def gain_cell(gain: Gain | None, scale: float = 1.0, digits: int = 4) -> Cell:
    """A difference and its share of the baseline, ``+0.0338 (+7.9 %)``, and its mark."""
    if gain is None:
        return Cell(MISSING)
    relative = "" if gain.relative is None else f" ({100 * gain.relative:+.1f} %)"
    more = {name: value for name, value in asdict(gain).items() if name != "difference"}
    return Cell(f"{scale * gain.difference:+.{digits}f}{relative}", gain.difference, False, gain.mark, more)


def gain_notes(gains: Iterable[Gain]) -> tuple[str, ...]:
    """What must be said of how gains were tested."""
    notes = []
    bases = {gain.basis for gain in gains}
    if bases - {"means"}:
        notes.append(
            "* p < 0.05, ** p < 0.01, *** p < 0.001: paired randomisation test over queries, two-sided, not corrected "
            "for the number of comparisons"
        )
    if "stored" in bases and "per query" in bases:
        notes.append("tested here where both files hold per-query values, otherwise as tested when it was measured")
    if "means" in bases:
        notes.append("? not tested: no per-query values of both (measure with --per-query)")
    return tuple(notes)


def cost_table(grid: Grid) -> Table | None:
    """Bytes a document and milliseconds a query, where they are known."""
    costs = (("bytes_per_document", "bytes/document", ",.0f"), ("milliseconds", "ms/query", ",.2f"))
    shown = [
        (column, field, unit, form)
        for column in grid.columns
        for field, unit, form in costs
        if any(getattr(one, field) is not None for one in grid.in_column(column))
    ]
    rows = []
    for label in grid.rows:
        own = [(getattr(grid.cells.get((label, column)), field, None), form) for column, field, _, form in shown]
        if any(value is not None for value, _ in own):
            rows.append((label, tuple(Cell.number(value, form) for value, form in own)))
    note = "bytes are those of the vectors or codes, without ids and offsets; milliseconds are to score all documents"
    titles = tuple(f"{column}, {unit}" for column, _, unit, _ in shown)
    return Table("cost", "Cost", "system", titles, tuple(rows), 0, (note,)) if rows else None


def _columns_with(grid: Grid, metric: str) -> list[str]:
    return [column for column in grid.columns if any(metric in one.values for one in grid.in_column(column))]


def _quality_row(
    grid: Grid, label: str, columns: Sequence[str], averaged: Sequence[str], metric: str
) -> tuple[Cell, ...]:
    """A value for each column, and the mean over some of them if there are any."""
    cells = [Cell.number(grid.value(label, column, metric)) for column in columns]
    if averaged:
        values = [value for column in averaged if (value := grid.value(label, column, metric)) is not None]
        cells.append(Cell.number(math.fsum(values) / len(averaged) if len(values) == len(averaged) else None))
    return tuple(cells)


def _reference_rows(grid: Grid, columns: Sequence[str], averaged: Sequence[str], metric: str) -> list[Row]:
    rows: list[Row] = []
    for label in grid.rows:
        cells = _quality_row(grid, label, columns, averaged, metric)
        if any(cell.value is not None for cell in cells):
            sources = {one.reference for (row, _), one in grid.cells.items() if row == label and one.reference}
            rows.append((label, (*cells, Cell("; ".join(sorted(sources))))))
    return rows


def _mean_notes(columns: Sequence[str], common: Sequence[str]) -> list[str]:
    if len(columns) < 2:
        return []
    if len(common) < 2:
        return [f"no mean: {len(common) or 'no'} of the {len(columns)} data sets has results of all systems"]
    if len(common) == len(columns):
        return [f"mean over all {len(columns)} data sets"]
    left = [name for name in columns if name not in common]
    return [
        f"mean over the {len(common)} data sets that all systems have ({', '.join(common)}), without {', '.join(left)}"
    ]
