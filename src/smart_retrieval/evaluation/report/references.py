"""What a report is held against: published rows, a table of figures from elsewhere, or other results."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import ReportError
from ..mmeb.report import PUBLISHED_ROWS
from .files import Found, read_files
from .measurements import Data, Grid, Measurement, arrange

FORMAT = "smart-reference/1"  #: names the form of a table of reference figures


class Against(NamedTuple):
    """What to hold results against: the published rows of benchmarks, figures from elsewhere, other results."""

    published: str = ""  # one of PUBLISHED_ROWS
    rows: tuple[Measurement, ...] = ()
    results: Found = Found()


def read_against(against: str | Path | None) -> Against:
    """Read ``"published"``, ``"smart-paper"``, a file or folder of results, or a JSON file of figures from elsewhere.

    The last is ``{"format": "smart-reference/1", "rows": [{"system": "BM25", "source": "Table 2 of …", "dataset":
    "scifact", "metric": "ndcg@10", "value": 0.665}, …]}``, values between 0 and 1, each with where it was published.
    """
    if against is None:
        return Against()
    if str(against) in PUBLISHED_ROWS:
        return Against(published=str(against))
    path = Path(against).expanduser()
    if path.is_file():
        try:
            value = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise ReportError(f"{path}: cannot be read as JSON ({error}); expected results or {FORMAT}") from error
        if isinstance(value, dict) and value.get("format") == FORMAT:
            return Against(rows=_rows(value.get("rows"), path))
    return Against(results=read_files([path]))


def _rows(rows: Any, path: Path) -> tuple[Measurement, ...]:
    found: dict[tuple[str, str, str], dict[str, float]] = {}
    for number, row in enumerate(rows if isinstance(rows, list) else [], start=1):
        words = ("system", "source", "dataset", "metric")
        if not isinstance(row, dict) or not all(isinstance(row.get(word), str) and row[word].strip() for word in words):
            raise ReportError(f"{path}: row {number}: expected {', '.join(words)} as text, and value")
        figure = row.get("value")
        if isinstance(figure, bool) or not isinstance(figure, int | float) or not 0 <= figure <= 1:
            raise ReportError(f"{path}: row {number}: found value {figure!r}, expected a number between 0 and 1")
        values = found.setdefault((row["system"], row["source"], row["dataset"]), {})
        if values.setdefault(row["metric"], float(figure)) != figure:
            raise ReportError(f"{path}: row {number}: found a second value for {row['system']} on {row['dataset']}")
    if not found:
        raise ReportError(f"{path}: found no rows, expected some of system, source, dataset, metric and value")
    return tuple(
        Measurement(system, Data(dataset), values, {"preset": source}, path, reference=source)
        for (system, source, dataset), values in found.items()
    )


def as_columns_of(rows: Sequence[Measurement], grid: Grid) -> tuple[Grid | None, list[str]]:
    """Reference rows under the columns of a report, and notes on those without a column (or with several) of theirs."""
    if not rows:
        return None, []
    columns: dict[str, list[str]] = {}
    for label, data in grid.columns.items():
        columns.setdefault(data.name, []).append(label)
    fitting = [row for row in rows if len(columns.get(row.data.name, ())) == 1]
    others = sorted({row.data.name for row in rows} - {row.data.name for row in fitting})
    notes = [f"reference figures without a column of their data set: {', '.join(others)}"] if others else []
    # One system from two sources has a row for each.
    twice = len({(row.system, row.data.name) for row in fitting}) < len(fitting)
    cells = {
        (f"{row.system} ({row.reference})" if twice else row.system, columns[row.data.name][0]): row for row in fitting
    }
    return Grid(tuple(dict.fromkeys(label for label, _ in cells)), grid.columns, cells), notes


def counterpart_among(results: Sequence[Measurement]) -> Callable[[Measurement], Measurement | None]:
    """Find what a system was in other results: the same system and codec on the same data, and preset if need be."""
    others = list(arrange(results).cells.values())

    def measured(one: Measurement) -> tuple[Any, ...]:
        return one.data, one.system, one.settings.get("codec"), one.settings.get("candidates")

    def counterpart(one: Measurement) -> Measurement | None:
        same = [other for other in others if measured(other) == measured(one)]
        for name in ("preset", "model", "file"):
            if len(same) > 1:
                same = [other for other in same if other.settings.get(name) == one.settings.get(name)]
        return same[0] if len(same) == 1 else None

    return counterpart
