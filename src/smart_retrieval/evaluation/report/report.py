"""From result files to a report: read, compared, laid out, and written in the form that is asked for."""

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
from .measured import Measured, Named, named, with_judgments
from .mmeb import mmeb_tables
from .references import Against, as_columns_of, counterpart_among, read_against
from .tables import Table, cost_table, differences_table, gains_table, quality_table

#: The forms a report can be written in.
FORMATS = ("md", "latex", "csv", "json")

#: Names the form of a report's JSON.
FORMAT = "smart-report/1"


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
    retrieval: Named

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
        if form == "latex":
            head = ["% needs \\usepackage{booktabs}", *(f"% {line}" for line in (*self.notes, *self._sources()))]
            return "\n\n".join(["\n".join(map(one_line, head)), *map(to_latex, self.tables)]) + "\n"
        if form == "md":
            parts = [to_markdown(table) for table in self.tables]
            parts.append(to_markdown(self._files_table()))
            return "\n\n".join(parts) + "\n"
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

    def _files_table(self) -> Table:
        from .tables import Cell

        rows = tuple(
            (str(file.path), (Cell(file.kind), *(Cell(word) for word in _origin(file.about)))) for file in self.files
        )
        titles = ("kind", "model", "preset", "date", "commit", "versions", "machine")
        return Table("files", "Where the figures come from", "file", titles, rows, 0, self.notes)

    def _sources(self) -> list[str]:
        return [f"{file.path}: {file.kind}; {'; '.join(_origin(file.about))}" for file in self.files]


def build_report(
    paths: Iterable[str | Path], *, against: str | Path | None = None, metric: str = GAIN_METRIC
) -> Report:
    """Lay results side by side.

    What cannot be compared is kept apart, and said: data sets of one name that differ, systems of one name that were
    measured with other prompts, limits or weights, metrics of different modes. Nothing missing is averaged away.

    Args:
        paths: Result files, and folders of them: of ``smart eval beir`` (plain, ``--compare``, ``--codec``), ``mteb``
            and ``mmeb``, and of ``smart probe``.
        against: What else to hold them against, see `references.read_against`.
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
    together = with_judgments([*found.measured, *held.results])
    measured, others = together[: len(found.measured)], together[len(found.measured) :]
    retrieval = [one for one in measured if not one.group]
    benchmark = [one for one in measured if one.group]
    by_name = named(retrieval)
    tables, notes = _retrieval_tables(by_name, metric, held, [one for one in others if not one.group])
    if retrieval and not tables:
        known = sorted({name for one in retrieval for name in one.values if name != "main_score"})
        raise ReportError(f"metric: {one_of(metric, known)}")
    if benchmark:
        tasks = [one for one in others if one.group]
        more, kept_apart = mmeb_tables(
            benchmark, published=held.published, against=counterpart_among(tasks) if tasks else None
        )
        tables, notes = [*tables, *more], [*notes, *kept_apart]
    files = (*found.files, *(file for file in held.files if file not in found.files))
    notes = [*found.notes, *by_name.notes, *notes, *_version_notes(files)]
    return Report(metric, tuple(tables), tuple(dict.fromkeys(notes)), files, by_name)


def _retrieval_tables(
    found: Named, metric: str, held: Against, others: Sequence[Measured]
) -> tuple[list[Table], list[str]]:
    if not any(metric in one.values for one in found.cells.values()):
        return [], []
    references, notes = as_columns_of(held.rows, found)
    tables = [quality_table(found, metric, references)]
    among = list(found.cells.values())
    more: list[Table | None] = [gains_table(found, metric, among)]
    if others:
        counterpart = counterpart_among(others)
        title = "Difference from the results of --against"
        more.append(differences_table(found, metric, counterpart, "against", title))
        if more[-1] is None:
            notes.append("the results of --against have no system in common with these on the same data")
    if held.published:
        notes.append(f"no published figures are known here for {', '.join(found.columns.values())}")
    more.append(cost_table(found))
    return [*tables, *(table for table in more if table is not None)], notes


def _origin(about: Mapping[str, Any]) -> list[str]:
    """Words for where a file comes from, for a table."""
    run, versions = (about.get(name) or {} for name in ("run", "versions"))
    machine = run.get("machine") or {}
    told = ", ".join(f"{name} {versions[name]}" for name in ("smart_retrieval", "torch") if name in versions)
    hardware = [str(machine.get("cpu") or ""), *(str(one) for one in machine.get("gpu") or [])]
    words = [about.get("model"), about.get("preset"), run.get("date"), run.get("commit"), told]
    return [str(word) if word else "–" for word in (*words, ", ".join(part for part in hardware if part))]


def _version_notes(files: Sequence[FoundFile]) -> list[str]:
    """Versions that differ between files: figures may differ by them alone."""
    seen: dict[str, set[str]] = {}
    for file in files:
        for name, version in (file.about.get("versions") or {}).items():
            seen.setdefault(str(name).replace("-", "_"), set()).add(str(version))
    differing = {name: own for name, own in seen.items() if len(own) > 1}
    told = ", ".join(f"{name} {' and '.join(sorted(own))}" for name, own in sorted(differing.items()))
    return [f"measured with different versions: {told}"] if differing else []
