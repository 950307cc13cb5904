"""A report's tables: systems by data sets, the best in bold, means over what all have, gains with their tests."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .gains import Gain, anchor_of, gain_over
from .measured import Measured, Named

#: How people write metrics.
TITLES = {"ndcg": "nDCG", "recall": "Recall", "mrr": "MRR", "map": "MAP", "hit": "Hit", "precision": "Precision"}

#: What stands where nothing was measured.
MISSING = "–"


@dataclass(frozen=True)
class Cell:
    """A value as it is shown.

    Args:
        text: What is shown.
        value: What it is; None for words and for what is missing.
        best: Whether it is the best of its column, as it is shown.
        mark: The mark of a test.
        more: Further numbers behind it, for JSON and CSV.
    """

    text: str
    value: float | None = None
    best: bool = False
    mark: str = ""
    more: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Table:
    """One table.

    Args:
        name: What it is, in one word: ``"quality"``, ``"gains"``, ``"cost"``, ``"mmeb"``, ….
        title: Its caption.
        corner: What the rows are.
        columns: Titles of the columns, without that of the labels.
        rows: Label and cells of each row.
        references: So many of the last rows come from elsewhere.
        notes: What a reader must know, one sentence each without a full stop.
    """

    name: str
    title: str
    corner: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]
    references: int = 0
    notes: tuple[str, ...] = ()


def metric_title(metric: str) -> str:
    """How people write a metric.

    Example:
        >>> metric_title("ndcg@10"), metric_title("map"), metric_title("ndcg_linear@5")
        ('nDCG@10', 'MAP', 'nDCG_linear@5')
    """
    stem, at, cut = metric.partition("@")
    first, under, rest = stem.partition("_")
    return f"{TITLES.get(first, first)}{under}{rest}{at}{cut}"


def marked_best(rows: Sequence[Sequence[Cell]]) -> list[list[Cell]]:
    """Mark the highest of each column, and all that look the same as it.

    A column with one value alone has no best: there is nothing it is better than.

    Args:
        rows: Cells; those without a value take no part.

    Example:
        >>> [row[0].best for row in marked_best([[Cell("0.5", 0.5)], [Cell("0.5", 0.4999)], [Cell("0.4", 0.4)]])]
        [True, True, False]
    """
    marked = [list(row) for row in rows]
    for column in range(len(marked[0]) if marked else 0):
        having = [row[column] for row in marked if row[column].value is not None]
        if len(having) < 2:
            continue
        best = max(having, key=lambda cell: cell.value if cell.value is not None else -math.inf).text
        for row in marked:
            cell = row[column]
            if cell.value is not None and cell.text == best:
                row[column] = Cell(cell.text, cell.value, True, cell.mark, cell.more)
    return marked


def quality_table(found: Named, metric: str, references: Named | None = None) -> Table:
    """Systems by data sets in one metric.

    The mean is over the data sets that all systems have, and there must be two; what is missing is named.

    Args:
        found: What was measured.
        metric: The metric.
        references: Figures from elsewhere, on some of the same data sets; the best is sought without them.
    """
    columns = _columns_with(found, metric)
    having = {label for (label, _), one in found.cells.items() if metric in one.values}
    labels = [label for label in found.rows.values() if label in having]
    common = [name for name in columns if all(_value(found, label, name, metric) is not None for label in labels)]
    with_mean = len(common) > 1
    rows = [_row(found, label, columns, common if with_mean else [], metric) for label in labels]
    marked = marked_best(rows)
    notes = _mean_notes(columns, common)
    for column in columns:
        if lacking := [label for label in labels if _value(found, label, column, metric) is None]:
            notes.append(f"not measured on {column}: {', '.join(lacking)}")
    own = list(zip(labels, (tuple(row) for row in marked), strict=True))
    elsewhere = _reference_rows(references, columns, common if with_mean else [], metric)
    if elsewhere and references is not None:
        notes.append("rows with a source are figures from elsewhere; that they are on the same data was not checked")
    sourced = [(label, (*cells, Cell(""))) if elsewhere else (label, cells) for label, cells in own]
    titles = (*columns, *(["mean"] if with_mean else []), *(["source"] if elsewhere else []))
    return Table(
        "quality", metric_title(metric), "system", titles, (*sourced, *elsewhere), len(elsewhere), tuple(notes)
    )  # fmt: skip


def gains_table(found: Named, metric: str, among: Sequence[Measured]) -> Table | None:
    """Gains over the anchor, relative, with marks of the paired test; None where there is no anchor.

    Args:
        found: What was measured.
        metric: The metric.
        among: Where anchors are looked for.
    """
    return differences_table(
        found, metric, lambda one: anchor_of(one, among), "gains", f"Gain in {metric_title(metric)} over the anchor"
    )


def differences_table(
    found: Named, metric: str, baseline_of: Callable[[Measured], Measured | None], name: str, title: str
) -> Table | None:
    """Differences of systems from whatever each is to be compared with.

    Args:
        found: What was measured.
        metric: The metric.
        baseline_of: What a system is compared with; None for nothing.
        name: Of the table.
        title: Of the table.

    Returns:
        None where nothing is to be compared.
    """
    columns = _columns_with(found, metric)
    rows: list[tuple[str, tuple[Cell, ...]]] = []
    gains: list[Gain] = []
    for label in found.rows.values():
        cells = []
        for column in columns:
            one = found.cells.get((label, column))
            baseline = None if one is None else baseline_of(one)
            compared = one is not None and baseline is not None and baseline is not one
            gain = gain_over(one, baseline, metric) if compared and one and baseline else None
            cells.append(Cell(MISSING) if gain is None else gain_cell(gain))
            gains += [] if gain is None else [gain]
        if any(cell.value is not None for cell in cells):
            rows.append((label, tuple(cells)))
    return Table(name, title, "system", tuple(columns), tuple(rows), 0, gain_notes(gains)) if rows else None


def gain_cell(gain: Gain, scale: float = 1.0, digits: int = 4) -> Cell:
    """A difference, its share of the baseline, and its mark.

    Example:
        >>> gain_cell(Gain(0.0338, 0.0791, "stored", p_value=0.0005)).text
        '+0.0338 (+7.9 %)'
    """
    relative = "" if gain.relative is None else f" ({100 * gain.relative:+.1f} %)"
    more = gain.to_dict()
    text = f"{scale * gain.difference:+.{digits}f}{relative}"
    return Cell(text, gain.difference, False, gain.mark, {key: more[key] for key in more if key != "difference"})


def gain_notes(gains: Sequence[Gain]) -> tuple[str, ...]:
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


def cost_table(found: Named) -> Table | None:
    """Bytes a document and milliseconds a query, where they are known."""
    columns: list[str] = []
    readers: list[tuple[str, str]] = []
    for column in found.columns.values():
        for field, unit in (("bytes_per_document", "bytes/document"), ("milliseconds", "ms/query")):
            if any(getattr(one, field) is not None for (_, name), one in found.cells.items() if name == column):
                columns.append(f"{column}, {unit}")
                readers.append((column, field))
    rows = []
    for label in found.rows.values():
        cells = []
        for column, field in readers:
            one = found.cells.get((label, column))
            value = None if one is None else getattr(one, field)
            digits = 0 if field == "bytes_per_document" else 2
            cells.append(Cell(MISSING) if value is None else Cell(f"{value:,.{digits}f}", float(value)))
        if any(cell.value is not None for cell in cells):
            rows.append((label, tuple(cells)))
    notes = (
        "bytes are those of the vectors or codes, without ids and offsets; milliseconds are to score all documents",
    )
    return Table("cost", "Cost", "system", tuple(columns), tuple(rows), 0, notes) if rows else None


# -- within ----------------------------------------------------------------------------------------------------


def _columns_with(found: Named, metric: str) -> list[str]:
    return [
        column
        for column in found.columns.values()
        if any(metric in one.values for (_, name), one in found.cells.items() if name == column)
    ]


def _value(found: Named, label: str, column: str, metric: str) -> float | None:
    one = found.cells.get((label, column))
    return None if one is None else one.values.get(metric)


def _row(found: Named, label: str, columns: Sequence[str], common: Sequence[str], metric: str) -> list[Cell]:
    values = {column: _value(found, label, column, metric) for column in columns}
    cells = [_cell(values[column]) for column in columns]
    shared = [value for column in common if (value := values[column]) is not None]
    if common:
        cells.append(_cell(math.fsum(shared) / len(common) if len(shared) == len(common) else None))
    return cells


def _cell(value: float | None) -> Cell:
    return Cell(MISSING) if value is None else Cell(f"{value:.4f}", value)


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


def _reference_rows(
    references: Named | None, columns: Sequence[str], common: Sequence[str], metric: str
) -> list[tuple[str, tuple[Cell, ...]]]:
    if references is None:
        return []
    rows = []
    for label in references.rows.values():
        cells = _row(references, label, columns, common, metric)
        if any(cell.value is not None for cell in cells):
            sources = {one.reference for (row, _), one in references.cells.items() if row == label and one.reference}
            rows.append((label, (*cells, Cell("; ".join(sorted(sources))))))
    return rows
