"""The files of a run: predictions, scores and the leaderboard's JSON; and its table, beside published results."""

from __future__ import annotations

import json
import math
import re
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from ...errors import SmartError
from ...files import atomic_file
from ..results import MmebResult
from .metrics import NAMES, Ranked, mean_of_columns, score_ranking
from .task_data import Case
from .tasks import GROUPS, MODALITIES, Task, all_tasks, in_paper

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

#: Names of the modalities in the report.
TITLES = {"image": "Image", "video": "Video", "visdoc": "VisDoc"}
#: The mean over the tasks of SMART's own tables.
PAPER_MEAN = "paper"
#: What a task's score file holds beside metrics and counts.
NOT_METRICS = frozenset({"scoring_config", "provenance"})
_PARTIAL = re.compile(r"\.(result|leaderboard|.+_(score|pred))\.jsonl?\.[0-9a-f]+\.part")


class PublishedRow(NamedTuple):
    """Published means in percent, by the names of groups of tasks that :func:`means` gives."""

    model: str
    values: Mapping[str, float]
    source: str


def _whole(model: str, image: float, video: float, visdoc: float, every: float, source: str) -> PublishedRow:
    """Means over the 36 image, 18 video, 24 visual-document and all 78 tasks."""
    return PublishedRow(model, {"image": image, "video": video, "visdoc": visdoc, "all": every}, source)


_REPORT = "Qwen3-VL-Embedding technical report, Table 2"
# Before the page tasks were repaired (2025-11-03): not to be compared in visdoc and all.
_PAPER = "arXiv 2507.04590, page tasks before their repair"

PUBLISHED = (
    _whole("Qwen3-VL-Embedding-2B", 75.0, 61.9, 79.2, 73.2, _REPORT),
    _whole("Qwen3-VL-Embedding-8B", 80.1, 67.1, 82.4, 77.8, _REPORT),
    _whole("GME-2B", 51.9, 33.6, 76.8, 55.3, _REPORT),
    _whole("GME-7B", 56.0, 38.4, 79.3, 59.1, _REPORT),
    _whole("VLM2Vec-V2 2B", 64.9, 34.6, 69.2, 59.2, _REPORT),
    _whole("LamRA Qwen2 7B", 54.1, 35.2, 23.9, 40.4, _PAPER),
    _whole("LamRA Qwen2.5 7B", 52.4, 33.7, 50.2, 47.4, _PAPER),
)

_SMART = "arXiv 2605.24938"
_COLUMNS = (
    "image/RET", "visdoc/ViDoRe-V1", "visdoc/ViDoRe-V2", "visdoc/VisRAG", "visdoc/OOD", "video/RET", "paper", "visdoc",
)  # fmt: skip
#: SMART's own rows: the six groups of its main table, the mean over its 41 tasks, and where it says so all documents.
SMART_ROWS = tuple(
    PublishedRow(model, {name: value for name, value in zip(_COLUMNS, values, strict=False) if value}, _SMART)
    for model, *values in (
        ("VLM2Vec-V2", 69.50, 75.34, 47.28, 79.43, 62.04, 28.66, 64.50),
        ("VLM2Vec-V2 + frozen SMART", 69.95, 80.23, 51.08, 82.76, 64.00, 30.03, 67.04),
        ("GME-2B", 70.13, 87.61, 53.76, 82.49, 66.93, 26.73, 69.00),
        ("GME-2B + frozen SMART", 71.05, 87.97, 57.23, 84.18, 67.82, 26.50, 70.00),
        ("GME-7B", 73.09, 90.01, 60.43, 86.20, 69.22, 29.92, 72.26),
        ("GME-7B + frozen SMART", 73.57, 90.12, 61.04, 87.05, 69.43, 29.38, 72.56),
        ("Qwen3-VL-Embedding-2B", 74.91, 84.46, 65.38, 86.19, 69.37, 54.04, 74.87, 79.27),
        ("Qwen3-VL-Embedding-2B + frozen SMART", 75.33, 85.52, 66.61, 86.87, 69.90, 56.05, 75.77, 80.10),
        ("Qwen3-VL-Embedding-2B + adapter", 0, 0, 0, 0, 0, 0, 0, 81.25),
        ("Qwen3-VL-Embedding-8B", 80.09, 87.29, 69.35, 88.78, 73.27, 59.01, 78.83, 82.33),
        ("Qwen3-VL-Embedding-8B + frozen SMART", 80.15, 87.92, 70.57, 89.12, 73.21, 60.43, 79.34, 82.88),
        ("Qwen3-VL-Embedding-8B + adapter", 0, 0, 0, 0, 0, 0, 0, 83.89),
        ("LamRA Qwen3-VL-2B, single-vector", 0, 0, 0, 0, 0, 0, 0, 72.60),
        ("LamRA Qwen3-VL-2B + frozen SMART", 0, 0, 0, 0, 0, 0, 0, 74.18),
        ("LamRA Qwen3-VL-2B, hybrid from scratch", 0, 0, 0, 0, 0, 0, 0, 79.10),
        ("ColPali 1.3", 0, 0, 0, 0, 0, 0, 0, 71.00),
        ("jina-embeddings-v4, multi-vector", 0, 0, 0, 0, 0, 0, 0, 80.91),
    )
)
#: Rows to hold a report against, by the name that ``--against`` takes.
PUBLISHED_ROWS = {"published": PUBLISHED, "smart-paper": SMART_ROWS}


# -- files ------------------------------------------------------------------------------------------------------------


@contextmanager
def written_whole(path: Path) -> Iterator[IO[str]]:
    """A text file that appears under its name when it is complete."""
    try:
        with atomic_file(path) as partial, partial.open("w", encoding="utf-8", errors="backslashreplace") as file:
            yield file
    except OSError as error:
        raise SmartError(f"cannot write {path} ({error.strerror or error})") from error


def write_json(value: Any, path: Path) -> None:
    """Write a JSON file whole or not at all."""
    with written_whole(path) as file:
        file.write(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def remove_partial_files(folder: Path) -> None:
    """Remove what a run that was killed left half written in its folder of results."""
    for path in (*folder.glob(".*.part"), *folder.glob("*/.*.part")):
        if _PARTIAL.fullmatch(path.name):
            path.unlink(missing_ok=True)


def judge(
    cases: Sequence[Case], ranked: Iterable[Mapping[str, Ranked]], targets: Mapping[str, Path], *, mode: str = "correct"
) -> dict[str, dict[str, float]]:
    """The mean of each metric by setting; rankings are judged and written to ``targets`` as they come, one a query."""
    values: dict[str, dict[str, array[float]]] = {name: {key: array("d") for key in NAMES} for name in targets}
    with ExitStack() as stack:
        files = {name: stack.enter_context(written_whole(path)) for name, path in targets.items()}
        for case, by_setting in zip(cases, ranked, strict=True):
            for name, best in by_setting.items():
                judged = score_ranking(best.names, case.labels, case.grades, mode=mode)
                for key, column in values[name].items():
                    column.append(judged[key])
                row = {
                    "prediction": best.names, "label": case.labels, "rel_scores": case.grades, "scores": best.scores,
                }  # fmt: skip
                files[name].write(json.dumps(row, ensure_ascii=False) + "\n")
        return {name: mean_of_columns(own) for name, own in values.items()}


def leaderboard(model: str, scores: Mapping[str, Mapping[str, Any]], about: Mapping[str, Any]) -> dict[str, Any]:
    """The leaderboard's form: metrics by modality and task, the repaired page tasks under their new names."""
    metrics: dict[str, dict[str, Any]] = {modality: {} for modality in MODALITIES}
    for task in all_tasks():
        if task.name in scores:
            metrics[task.modality][task.reported_as] = metrics_of(scores[task.name])
    date = datetime.now(UTC).isoformat(timespec="seconds")
    return {"metadata": {"model_name": model, "report_generated_date": date, **about}, "metrics": metrics}


def metrics_of(scores: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics and counts of a task's score file."""
    return {name: value for name, value in scores.items() if name not in NOT_METRICS}


# -- means ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mean:
    """The mean of a group of tasks (``"image/CLS"``, ``"image"``, ``"all"``), in percent; None where one is missing."""

    name: str
    value: float | None
    done: int
    tasks: int
    missing: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {**vars(self), "missing": list(self.missing)}


def means(scores: Mapping[str, Mapping[str, Any]]) -> list[Mean]:
    """The means of meta-tasks, modalities, the paper's 41 tasks and everything: of the tasks' metrics, times 100."""
    tasks = all_tasks()
    found = []
    for modality in MODALITIES:
        own = [task for task in tasks if task.modality == modality]
        for group in GROUPS[modality]:
            found.append(_mean(f"{modality}/{group}", [task for task in own if task.meta_task == group], scores))
        found.append(_mean(modality, own, scores))
    paper = _mean(PAPER_MEAN, [task for task in tasks if in_paper(task)], scores)
    return [*found, paper, _mean("all", tasks, scores)]


def title_of(group: str) -> str:
    """How a group of tasks is called in tables."""
    return group.partition("/")[2] or TITLES.get(group) or {PAPER_MEAN: "Paper's 41"}.get(group, "All")


def _mean(name: str, tasks: Sequence[Task], scores: Mapping[str, Mapping[str, Any]]) -> Mean:
    values = [100 * float(scores[task.name][task.metric]) for task in tasks if task.name in scores]
    missing = tuple(task.name for task in tasks if task.name not in scores)
    value = None if missing else math.fsum(values) / len(values)
    return Mean(name, value, len(values), len(tasks), missing)


# -- the table --------------------------------------------------------------------------------------------------------


def render_table(result: MmebResult) -> RenderableType:
    """Draw a run (what ``evaluate_mmeb`` returned): a row for each group of tasks, a column for each setting."""
    from rich.console import Group
    from rich.text import Text

    settings = list(result["settings"])
    table = _table("mean of tasks, %", "tasks", *settings)
    for number, mean in enumerate(result["settings"][settings[0]]["means"]):
        own = [result["settings"][name]["means"][number] for name in settings]
        if not any(one["done"] for one in own):
            continue
        group = "/" in mean["name"]
        title = title_of(mean["name"])
        counted = f"{mean['done']}/{mean['tasks']}" if mean["missing"] else str(mean["tasks"])
        cells = ["incomplete" if one["value"] is None else f"{one['value']:.1f}" for one in own]
        table.add_row(f"  {title}" if group else title, counted, *cells, style="" if group else "bold")
    published = _table("published", *TITLES.values(), "All")
    for row in PUBLISHED:
        mark = "*" if "before" in row.source else ""
        published.add_row(row.model + mark, *(f"{value:.1f}" for value in row.values.values()))
    head = Text(f"{result['model']}, prompts {result['prompts']}, {result['preset']}")
    return Group(head, table, Text(""), published, Text(""), *(Text(f"note: {note}") for note in notes(result)))


def _table(*titles: str) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for number, title in enumerate(titles):
        table.add_column(title, justify="right" if number else "left", no_wrap=True)
    return table


def notes(result: MmebResult) -> list[str]:
    """What a reader of the table must know: missing tasks, what was cut off, what cannot be compared."""
    found = ["published rows marked * were measured before the page tasks were repaired"]
    missing = result["missing"]
    if missing:
        found.append(f"{len(missing)} of 78 tasks not measured; means of their groups are left open")
        found += [f"{reason}: {', '.join(names)}" for reason, names in _by_value(missing.items())]
    own = [(name, note) for name, task in result["tasks"].items() for note in task["notes"]]
    found += [f"{note}: {_few(names)}" for note, names in _by_value(own)]
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
    by_value: dict[str, list[str]] = {}
    for name, value in pairs:
        by_value.setdefault(value, []).append(name)
    return list(by_value.items())


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
