"""Means over tasks: a group that lacks a task has no mean, and says which task it lacks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .tasks import GROUPS, MODALITIES, Task, all_tasks

#: How modalities are called in the report.
TITLES = {"image": "Image", "video": "Video", "visdoc": "VisDoc"}


@dataclass(frozen=True)
class Mean:
    """The mean of a group of tasks.

    Args:
        name: Of the group: ``"image/CLS"``, ``"image"``, ``"all"``.
        value: In percent; None where a task is missing.
        done: Tasks measured.
        tasks: Tasks in the group.
        missing: Names of the tasks that are not there.
    """

    name: str
    value: float | None
    done: int
    tasks: int
    missing: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "name": self.name,
            "value": self.value,
            "done": self.done,
            "tasks": self.tasks,
            "missing": list(self.missing),
        }


def means(scores: Mapping[str, Mapping[str, Any]]) -> list[Mean]:
    """The means of meta-tasks, modalities and everything: plain means over tasks, times 100.

    Args:
        scores: Metrics of the tasks measured, by task name.

    Example:
        >>> [mean.name for mean in means({})][:6]
        ['image/CLS', 'image/QA', 'image/RET', 'image/GD', 'image', 'video/CLS']
    """
    tasks = all_tasks()
    found = []
    for modality in MODALITIES:
        own = [task for task in tasks if task.modality == modality]
        for group in GROUPS[modality]:
            found.append(_mean(f"{modality}/{group}", [task for task in own if task.meta_task == group], scores))
        found.append(_mean(modality, own, scores))
    return [*found, _mean("all", tasks, scores)]


def _mean(name: str, tasks: Sequence[Task], scores: Mapping[str, Mapping[str, Any]]) -> Mean:
    values = [100 * float(scores[task.name][task.metric]) for task in tasks if task.name in scores]
    missing = tuple(task.name for task in tasks if task.name not in scores)
    value = None if missing else math.fsum(values) / len(values)
    return Mean(name, value, len(values), len(tasks), missing)
