"""What a run leaves behind: files of each task, the leaderboard's JSON, and a table."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import SmartError
from .published import PUBLISHED
from .summary import TITLES
from .tasks import MODALITIES, all_tasks

#: What a task's score file holds beside metrics and counts.
NOT_METRICS = frozenset({"scoring_config", "provenance"})

if TYPE_CHECKING:
    from rich.console import RenderableType


def write_json(value: Any, path: Path) -> None:
    """Write a JSON file whole or not at all.

    Raises:
        SmartError: It cannot be written.
    """
    _write(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")
        os.replace(partial, path)
    except OSError as error:
        raise SmartError(f"cannot write {path} ({error.strerror or error})") from error


def leaderboard(model: str, scores: Mapping[str, Mapping[str, Any]], about: Mapping[str, Any]) -> dict[str, Any]:
    """The leaderboard's form: metrics by modality and task, the repaired page tasks under their new names.

    Args:
        model: The model's name there.
        scores: Metrics by task, as in ``<task>_score.json``.
        about: What else to say of the run, under ``metadata``.

    Example:
        >>> sorted(leaderboard("mine", {}, {})["metrics"])
        ['image', 'video', 'visdoc']
    """
    metrics: dict[str, dict[str, Any]] = {modality: {} for modality in MODALITIES}
    for task in all_tasks():
        if task.name in scores:
            own = {name: value for name, value in scores[task.name].items() if name not in NOT_METRICS}
            metrics[task.modality][task.reported_as] = own
    return {
        "metadata": {
            "model_name": model,
            "report_generated_date": datetime.now(UTC).isoformat(timespec="seconds"),
            **about,
        },
        "metrics": metrics,
    }


def render_table(result: Mapping[str, Any]) -> RenderableType:
    """Draw a run: a row for each group of tasks, a column for each setting, published rows below.

    A group that lacks tasks shows how many it has in place of a mean, and below the table they are named.

    Args:
        result: What :func:`~smart_retrieval.evaluation.mmeb.runner.evaluate_mmeb` returned, or its JSON read back.
    """
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    settings = list(result["settings"])
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("mean of tasks, %", no_wrap=True)
    table.add_column("tasks", justify="right", no_wrap=True)
    for name in settings:
        table.add_column(name, justify="right", no_wrap=True)
    for number, mean in enumerate(result["settings"][settings[0]]["means"]):
        own = [result["settings"][name]["means"][number] for name in settings]
        if not any(one["done"] for one in own):
            continue
        group = "/" in mean["name"]
        title = mean["name"].partition("/")[2] if group else TITLES.get(mean["name"], "All")
        counted = f"{mean['done']}/{mean['tasks']}" if mean["missing"] else str(mean["tasks"])
        cells = ["incomplete" if one["value"] is None else f"{one['value']:.1f}" for one in own]
        table.add_row(f"  {title}" if group else title, counted, *cells, style="" if group else "bold")
    lines: list[RenderableType] = [Text(f"{result['model']}, prompts {result['prompts']}, {result['preset']}"), table]
    lines += [Text(""), _published(), Text("")]
    lines += [Text(f"note: {note}") for note in notes(result)]
    return Group(*lines)


def _published() -> RenderableType:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("published", no_wrap=True)
    for title in (*TITLES.values(), "All"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in PUBLISHED:
        mark = "*" if "before" in row.source else ""
        values = (row.image, row.video, row.visdoc, row.all)
        table.add_row(row.model + mark, *(f"{value:.1f}" for value in values))
    return table


def notes(result: Mapping[str, Any]) -> list[str]:
    """What a reader of the table must know: missing tasks, what was cut off, what cannot be compared."""
    found = ["published rows marked * were measured before the page tasks were repaired"]
    missing = result["missing"]
    if missing:
        found.append(f"{len(missing)} of 78 tasks not measured; means of their groups are left open")
        found += [f"{reason}: {', '.join(names)}" for reason, names in _by_value(missing.items())]
    said = [(name, note) for name, task in result["tasks"].items() for note in task["notes"]]
    found += [f"{note}: {_few(names)}" for note, names in _by_value(said)]
    other = [
        name
        for name, task in result["tasks"].items()
        if task["published_queries"] and task["queries"] != task["published_queries"]
    ]
    if other:
        found.append(f"another number of queries than published, so not comparable: {_few(other)}")
    if result["mode"] != "correct":
        found.append(f"metrics are {result['mode']}")
    return found


def _by_value(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, list[str]]]:
    """Names by what is said of them."""
    by_value: dict[str, list[str]] = {}
    for name, value in pairs:
        by_value.setdefault(value, []).append(name)
    return list(by_value.items())


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
