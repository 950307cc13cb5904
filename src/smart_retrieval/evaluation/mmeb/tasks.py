"""The 78 tasks of MMEB-V2, read from ``tasks.toml`` and checked."""

from __future__ import annotations

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
SCOPES = ("global", "local")


@dataclass(frozen=True)
class Task:
    """One task.

    Args:
        name: As the benchmark's own configuration calls it.
        modality: ``"image"``, ``"video"`` or ``"visdoc"``.
        meta_task: Its group within the modality.
        parser: Which of :data:`~smart_retrieval.evaluation.mmeb.parsers.PARSERS` reads it.
        data_set: The Hub data set that holds its annotations.
        config: The configuration of that data set, ``""`` for its only one.
        split: The split.
        folders: Where its pictures or frames may lie below the data root; the first that exists is taken.
        scope: ``"global"`` ranks all candidates for each query, ``"local"`` only the query's own.
        metric: The metric it is reported in.
        revision: Commit of the data set on the Hub, ``""`` where none is pinned.
        instruction: Of queries; ``""`` where the annotations bring their own.
        instruction_v2v: The same in the convention ``v2v``, where it differs by more than its last character.
        instruction_image: Of queries with a picture beside the text, where that differs.
        instruction_video: Of queries with a video beside the text, where that differs.
        target_v2v: Instruction of candidates in the convention ``v2v``.
        reported_as: Its name in leaderboard files.
        queries: Published number of queries, 0 where unknown.
        candidates: Published number of candidates (of each query where the scope is local), 0 where unknown.
        limit: Only so many of the first queries, 0 for all.
    """

    name: str
    modality: str
    meta_task: str
    parser: str
    data_set: str
    config: str
    split: str
    folders: tuple[str, ...]
    scope: str
    metric: str
    revision: str = ""
    instruction: str = ""
    instruction_v2v: str = ""
    instruction_image: str = ""
    instruction_video: str = ""
    target_v2v: str = ""
    reported_as: str = ""
    queries: int = 0
    candidates: int = 0
    limit: int = 0

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, defaults left out."""
        shown = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: list(value) if name == "folders" else value for name, value in shown.items() if value}


@cache
def all_tasks() -> tuple[Task, ...]:
    """The 78 tasks, image, video and visual documents in this order.

    Raises:
        DatasetError: The table is not what it should be.

    Example:
        >>> len(all_tasks()), all_tasks()[0].name
        (78, 'ImageNet-1K')
    """
    return read_tasks(files(__package__).joinpath("tasks.toml").read_text(encoding="utf-8"))


def read_tasks(text: str) -> tuple[Task, ...]:
    """Read a table of tasks.

    Args:
        text: TOML, as in ``tasks.toml``.

    Raises:
        DatasetError: A key is unknown or missing, a name is there twice, or the groups have other sizes than published.
    """
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
    from .parsers import PARSERS

    names = Counter(task.name for task in tasks)
    if twice := sorted(name for name, count in names.items() if count > 1):
        raise DatasetError(f"table of tasks: found {twice} more than once, expected each name once")
    for task in tasks:
        for field, allowed in (("parser", PARSERS), ("scope", SCOPES), ("modality", MODALITIES)):
            if getattr(task, field) not in allowed:
                raise DatasetError(f"table of tasks, {task.name}, {field}: {one_of(getattr(task, field), allowed)}")
    found = Counter((task.modality, task.meta_task) for task in tasks)
    expected = {(modality, name): size for modality, groups in GROUPS.items() for name, size in groups.items()}
    if found != expected:
        raise DatasetError(f"table of tasks: found groups {dict(found)}, expected {expected}")


def choose(names: Iterable[str] = (), modalities: Iterable[str] = ()) -> tuple[Task, ...]:
    """Tasks by name and by modality; all of them when nothing is named. In the table's order, each once.

    Args:
        names: Names of tasks (their leaderboard names too), or ``"all"``.
        modalities: ``"image"``, ``"video"``, ``"visdoc"``.

    Raises:
        DatasetError: A name is unknown; the message suggests near ones.

    Example:
        >>> [task.name for task in choose(["MSVD", "WebQA"])], len(choose(modalities=["visdoc"]))
        (['WebQA', 'MSVD'], 24)
    """
    names, modalities = list(names), list(modalities)
    for modality in modalities:
        if modality not in MODALITIES:
            raise DatasetError(f"modality: {one_of(modality, MODALITIES)}")
    tasks = all_tasks()
    if "all" in names or not (names or modalities):
        return tasks
    by_name = {name.lower(): task.name for task in tasks for name in (task.name, task.reported_as)}
    wanted = {_known(name, by_name) for name in names}
    return tuple(task for task in tasks if task.name in wanted or task.modality in modalities)


def _known(name: str, by_name: dict[str, str]) -> str:
    import difflib

    if name.lower() in by_name:
        return by_name[name.lower()]
    near = [by_name[match] for match in difflib.get_close_matches(name.lower(), by_name, n=3, cutoff=0.5)]
    hint = f", did you mean {' or '.join(repr(match) for match in near)}" if near else ""
    raise DatasetError(f"task: found no {name!r}{hint}; smart eval mmeb --list names all of them")
