"""What a report is held against: published rows, a table of one's own, or other results."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import ReportError
from .files import FoundFile, read_files
from .measured import Data, Measured, Named, named

#: Names the form of a table of reference figures.
FORMAT = "smart-reference/1"

#: The reference that needs no file.
PUBLISHED = "published"


@dataclass(frozen=True)
class Against:
    """What to hold results against; all is empty for nothing.

    Args:
        published: The published rows of the benchmarks that have some.
        rows: Figures from elsewhere.
        results: Results of this package.
        files: Their files.
    """

    published: bool = False
    rows: tuple[Measured, ...] = ()
    results: tuple[Measured, ...] = ()
    files: tuple[FoundFile, ...] = ()


def read_against(against: str | Path | None) -> Against:
    """Read what to hold results against.

    Args:
        against: ``"published"``, a file or folder of results, or a JSON file of figures from elsewhere: ``{"format":
            "smart-reference/1", "rows": [{"system": "BM25", "source": "Table 2 of …", "dataset": "scifact", "metric":
            "ndcg@10", "value": 0.665}, …]}``, values between 0 and 1, each with where it was published.

    Raises:
        ReportError: The file is neither.

    Example:
        >>> read_against("published").published
        True
    """
    if against is None:
        return Against()
    if str(against) == PUBLISHED:
        return Against(published=True)
    path = Path(against).expanduser()
    if path.is_file():
        try:
            value = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise ReportError(f"{path}: cannot be read as JSON ({error}); expected results or {FORMAT}") from error
        if isinstance(value, dict) and value.get("format") == FORMAT:
            return Against(rows=_rows(value, path))
    found = read_files([path])
    return Against(results=found.measured, files=found.files)


def _rows(value: dict[str, Any], path: Path) -> tuple[Measured, ...]:
    found: dict[tuple[str, str, str], dict[str, float]] = {}
    rows = value.get("rows")
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
        Measured(system, Data(dataset), values, {"preset": source}, path, reference=source)
        for (system, source, dataset), values in found.items()
    )


def as_columns_of(rows: Sequence[Measured], found: Named) -> tuple[Named | None, list[str]]:
    """Reference rows under the columns of a report; those of other data sets are left out, and said.

    A name that has several columns, since it was measured on data that differ, gets none of them.

    Args:
        rows: Figures from elsewhere.
        found: What was measured.
    """
    if not rows:
        return None, []
    own: dict[str, list[Data]] = {}
    for data in found.columns:
        own.setdefault(data.name, []).append(data)
    fitting = [row for row in rows if len(own.get(row.data.name, ())) == 1]
    others = sorted({row.data.name for row in rows} - {row.data.name for row in fitting})
    notes = [f"reference figures without a column of their data set: {', '.join(others)}"] if others else []
    labels = {(row.system, row.reference): row.system for row in fitting}
    cells = {(row.system, found.columns[own[row.data.name][0]]): row for row in fitting}
    twice = len({(row.system, row.data.name) for row in fitting}) < len(fitting)
    if twice:
        labels = {(row.system, row.reference): f"{row.system} ({row.reference})" for row in fitting}
        cells = {(labels[row.system, row.reference], found.columns[own[row.data.name][0]]): row for row in fitting}
    return Named(labels, found.columns, cells), notes


def counterpart_among(results: Sequence[Measured]) -> Callable[[Measured], Measured | None]:
    """Find what a system was in other results: the same system and codec on the same data, and preset if need be.

    Args:
        results: The other results.
    """
    others = list(named(results).cells.values())

    def counterpart(one: Measured) -> Measured | None:
        names = ("codec", "candidates")
        same = [
            other
            for other in others
            if other.data == one.data
            and other.system == one.system
            and all(other.settings.get(name) == one.settings.get(name) for name in names)
        ]
        for name in ("preset", "model", "file"):
            if len(same) > 1:
                same = [other for other in same if other.settings.get(name) == one.settings.get(name)]
        return same[0] if len(same) == 1 else None

    return counterpart
