"""The 78 tasks of MMEB-V2, read from ``tasks.toml`` and checked."""

from __future__ import annotations

import difflib
import tomllib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from typing import Any

from ...errors import DatasetError, one_of

FORMAT = "smart-mmeb-tasks/1"
MODALITIES = ("image", "video", "visdoc")
#: Tasks of each meta-task, by modality, in the order of the report.
GROUPS = {
    "image": {"CLS": 10, "QA": 10, "RET": 12, "GD": 4},
    "video": {"CLS": 5, "QA": 5, "RET": 5, "MRET": 3},
    "visdoc": {"ViDoRe-V1": 10, "ViDoRe-V2": 4, "VisRAG": 6, "OOD": 4},
}
#: The meta-tasks of SMART's own tables (arXiv 2605.24938): 41 tasks, those of retrieval.
PAPER = {"image": ("RET",), "video": ("RET",), "visdoc": tuple(GROUPS["visdoc"])}
SCOPES = ("global", "local")
#: Formats of annotations; :mod:`~smart_retrieval.evaluation.mmeb.parsers` has a parser for each.
PARSER_NAMES = (
    "image_cls", "image_qa", "image_i2t", "image_t2i", "image_i2i_vg", "video_classification", "ssv2", "mvbench",
    "videomme", "nextqa", "egoschema", "activitynetqa", "msrvtt", "msvd", "didemo", "youcook2", "vatex",
    "moment_retrieval", "momentseeker", "vidore", "visrag",
)  # fmt: skip


@dataclass(frozen=True)
class Task:
    """One task, as the benchmark's own configuration describes it."""

    name: str
    modality: str
    meta_task: str
    parser: str
    data_set: str  # on the Hub: holds the annotations
    config: str  # of that data set, "" for its only one
    split: str
    folders: tuple[str, ...]  # where pictures or frames may lie below the data root; the first that exists is taken
    scope: str  # "global" ranks all candidates for each query, "local" only the query's own
    metric: str
    revision: str = ""  # commit of the data set, "" where none is pinned
    instruction: str = ""  # of queries; "" where the annotations bring their own
    instruction_v2v: str = ""  # in the convention v2v, where it differs by more than its last character
    instruction_image: str = ""  # of queries with a picture beside the text, where that differs
    instruction_video: str = ""  # of queries with a video beside the text, where that differs
    target_v2v: str = ""  # of candidates in the convention v2v
    reported_as: str = ""  # its name in leaderboard files
    queries: int = 0  # published number, 0 where unknown
    candidates: int = 0  # published number (of each query where the scope is local), 0 where unknown
    limit: int = 0  # only so many of the first queries, 0 for all

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, defaults left out."""
        shown = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: list(value) if name == "folders" else value for name, value in shown.items() if value}


@cache
def all_tasks() -> tuple[Task, ...]:
    """The 78 tasks, image, video and visual documents in this order."""
    return read_tasks(files(__package__).joinpath("tasks.toml").read_text(encoding="utf-8"))


def read_tasks(text: str) -> tuple[Task, ...]:
    """Read a table of tasks, and refuse unknown or missing keys, names given twice, and groups of another size."""
    table = tomllib.loads(text)
    if table.get("format") != FORMAT:
        raise DatasetError(f"table of tasks: found format {table.get('format')!r}, expected {FORMAT!r}")
    tasks = tuple(_task(group, own) for group in table["groups"] for own in group["tasks"])
    _check(tasks)
    return tasks


def _task(group: dict[str, Any], own: dict[str, Any]) -> Task:
    merged = {key: value for key, value in group.items() if key != "tasks"} | own
    name = merged.get("name", "?")
    known = {field.name for field in fields(Task)}
    if unknown := sorted(set(merged) - known):
        raise DatasetError(f"table of tasks, {name}: found unknown keys {unknown}, expected some of {sorted(known)}")
    for key, value in merged.items():
        if isinstance(value, str):
            merged[key] = value.replace("{name}", name)
    try:
        folders = tuple(folder.replace("{name}", name) for folder in merged.pop("folders"))
        merged.setdefault("reported_as", name)
        return Task(**merged, folders=folders)
    except (KeyError, TypeError) as error:
        raise DatasetError(f"table of tasks, {name}: a key is missing ({error})") from error


def _check(tasks: Sequence[Task]) -> None:
    names = Counter(task.name for task in tasks)
    if twice := sorted(name for name, count in names.items() if count > 1):
        raise DatasetError(f"table of tasks: found {twice} more than once, expected each name once")
    for task in tasks:
        for field, allowed in (("parser", PARSER_NAMES), ("scope", SCOPES), ("modality", MODALITIES)):
            if getattr(task, field) not in allowed:
                raise DatasetError(f"table of tasks, {task.name}, {field}: {one_of(getattr(task, field), allowed)}")
    found = Counter((task.modality, task.meta_task) for task in tasks)
    expected = {(modality, name): size for modality, groups in GROUPS.items() for name, size in groups.items()}
    if found != expected:
        raise DatasetError(f"table of tasks: found groups {dict(found)}, expected {expected}")


def in_paper(task: Task) -> bool:
    """Whether SMART's own tables have it."""
    return task.meta_task in PAPER[task.modality]


def choose(names: Iterable[str] = (), modalities: Iterable[str] = ()) -> tuple[Task, ...]:
    """Tasks by name (their leaderboard names too) and by modality.

    ``"paper"`` stands for the 41 tasks of SMART's own tables, ``"all"`` (or naming none) for all of them.
    """
    names, modalities = list(names), list(modalities)
    for modality in modalities:
        if modality not in MODALITIES:
            raise DatasetError(f"modality: {one_of(modality, MODALITIES)}")
    tasks = all_tasks()
    if "all" in names or not (names or modalities):
        return tasks
    by_name = {name.lower(): task.name for task in tasks for name in (task.name, task.reported_as)}
    wanted = set()
    for name in names:
        if name.lower() == "paper":
            wanted |= {task.name for task in tasks if in_paper(task)}
            continue
        if name.lower() not in by_name:
            near = [by_name[match] for match in difflib.get_close_matches(name.lower(), by_name, n=3, cutoff=0.5)]
            hint = f", did you mean {' or '.join(repr(match) for match in near)}" if near else ""
            raise DatasetError(f"task: found no {name!r}{hint}; smart eval mmeb --list names all, paper stands for 41")
        wanted.add(by_name[name.lower()])
    return tuple(task for task in tasks if task.name in wanted or task.modality in modalities)
