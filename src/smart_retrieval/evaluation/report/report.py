"""From result files to a report: read, compared, laid out, and written in one of several forms."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import ReportError, one_of
from ..charts import one_line
from ..evaluate import GAIN_METRIC
from .files import FoundFile, read_files
from .formats import to_csv, to_dict, to_latex, to_markdown
from .measurements import Grid, Measurement, arrange, with_judgments
from .mmeb_tables import mmeb_tables
from .references import Against, as_columns_of, counterpart_among, read_against
from .tables import Cell, Table, cost_table, differences_table, gains_table, quality_table

FORMATS = ("md", "latex", "csv", "json")  #: the forms a report can be written in
FORMAT = "smart-report/1"  #: names the form of a report's JSON


@dataclass(frozen=True)
class Report:
    """What a report says, in whatever form.

    Args:
        metric: What retrieval is reported in.
        tables: The tables.
        notes: What concerns all of them.
        files: What was read.
        retrieval: Results of retrieval, with their names in the tables.
    """

    metric: str
    tables: tuple[Table, ...]
    notes: tuple[str, ...]
    files: tuple[FoundFile, ...]
    retrieval: Grid

    def render(self, form: str = "md") -> str:
        """Write it down.

        Args:
            form: One of `FORMATS`.

        Raises:
            ReportError: The form is unknown.

        Example:
            >>> print(build_report(["results/"]).render("latex"))  # doctest: +SKIP
        """
        if form == "csv":
            return to_csv(self.tables)
        if form == "json":
            return json.dumps(self.to_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        origins = [(str(file.path), (file.kind, *_origin(file.about))) for file in self.files]
        if form == "latex":
            sources = (f"{path}: {kind}; {'; '.join(words)}" for path, (kind, *words) in origins)
            head = ["% needs \\usepackage{booktabs}", *(f"% {line}" for line in (*self.notes, *sources))]
            return "\n\n".join(["\n".join(map(one_line, head)), *map(to_latex, self.tables)]) + "\n"
        if form == "md":
            titles = ("kind", "model", "preset", "date", "commit", "versions", "machine")
            rows = tuple((path, tuple(map(Cell, words))) for path, words in origins)
            files = Table("files", "Where the figures come from", "file", titles, rows, 0, self.notes)
            return "\n\n".join(map(to_markdown, (*self.tables, files))) + "\n"
        raise ReportError(f"format: {one_of(form, FORMATS)}")

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: ``tables``, ``notes`` and ``files``, with all that these say of where they come from."""
        return {
            "format": FORMAT,
            "metric": self.metric,
            "tables": [to_dict(table) for table in self.tables],
            "notes": list(self.notes),
            "files": [file.to_dict() for file in self.files],
        }


def build_report(
    paths: Iterable[str | Path], *, against: str | Path | None = None, metric: str = GAIN_METRIC
) -> Report:
    """Lay results side by side.

    What cannot be compared is kept apart, and noted: data sets of one name that differ, systems of one name that were
    measured with other prompts, limits or weights, metrics of different modes. Nothing missing is averaged away.

    Args:
        paths: Result files, and folders of them: of ``smart eval beir`` (plain, ``--compare``, ``--codec``), ``mteb``
            and ``mmeb``, and of ``smart probe``.
        against: What else to hold them against: ``"published"``, ``"smart-paper"``, results, or a JSON file of figures
            from elsewhere.
        metric: What retrieval is reported in; MMEB-V2's tasks have their own.

    Raises:
        ReportError: A file is no result or lacks what it must have, or no result has the metric.

    Example:
        >>> report = build_report(["cranfield.json", "cacm.json"])  # doctest: +SKIP
        >>> [table.name for table in report.tables]  # doctest: +SKIP
        ['quality', 'gains', 'cost']
    """
    found, held = read_files(paths), read_against(against)
    # Together, so that what one of them does not say of the judgments is settled alike.
    together = with_judgments([*found.measurements, *held.results.measurements])
    own, others = together[: len(found.measurements)], together[len(found.measurements) :]
    # Only benchmarks of many tasks have groups.
    retrieval, benchmark = [one for one in own if not one.group], [one for one in own if one.group]
    grid = arrange(retrieval)
    tables, notes = _retrieval_tables(grid, metric, held, [one for one in others if not one.group])
    if retrieval and not tables:
        known = sorted({name for one in retrieval for name in one.values if name != "main_score"})
        raise ReportError(f"metric: {one_of(metric, known)}")
    if benchmark:
        tasks = [one for one in others if one.group]
        counterpart = counterpart_among(tasks) if tasks else None
        more, kept_apart = mmeb_tables(benchmark, published=held.published, against=counterpart)
        tables, notes = [*tables, *more], [*notes, *kept_apart]
    files = (*found.files, *(file for file in held.results.files if file not in found.files))
    notes = [*found.notes, *grid.notes, *notes, *_version_notes(files)]
    return Report(metric, tuple(tables), tuple(dict.fromkeys(notes)), files, grid)


def _retrieval_tables(
    grid: Grid, metric: str, held: Against, others: Sequence[Measurement]
) -> tuple[list[Table], list[str]]:
    if not any(metric in one.values for one in grid.cells.values()):
        return [], []
    references, notes = as_columns_of(held.rows, grid)
    tables = [quality_table(grid, metric, references), gains_table(grid, metric)]
    if others:
        title = "Difference from the results of --against"
        tables.append(differences_table(grid, metric, counterpart_among(others), "against", title))
        if tables[-1] is None:
            notes.append("the results of --against have no system in common with these on the same data")
    if held.published:
        notes.append(f"no published figures are known here for {', '.join(grid.columns)}")
    tables.append(cost_table(grid))
    return [table for table in tables if table is not None], notes


def _origin(about: Mapping[str, Any]) -> list[str]:
    """Words for where a file comes from, for a table."""
    run, versions = (about.get(name) or {} for name in ("run", "versions"))
    machine = run.get("machine") or {}
    packages = ", ".join(f"{name} {versions[name]}" for name in ("smart_retrieval", "torch") if name in versions)
    hardware = ", ".join(str(part) for part in (machine.get("cpu"), *(machine.get("gpu") or ())) if part)
    words = (about.get("model"), about.get("preset"), run.get("date"), run.get("commit"), packages, hardware)
    return [str(word) if word else "–" for word in words]


def _version_notes(files: Sequence[FoundFile]) -> list[str]:
    """Versions that differ between files: figures may differ by them alone."""
    seen: dict[str, set[str]] = {}
    for file in files:
        for name, version in (file.about.get("versions") or {}).items():
            seen.setdefault(str(name).replace("-", "_"), set()).add(str(version))
    differing = [f"{name} {' and '.join(sorted(own))}" for name, own in sorted(seen.items()) if len(own) > 1]
    return [f"measured with different versions: {', '.join(differing)}"] if differing else []
