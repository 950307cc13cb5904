"""Video classification: a video, and the name of what happens in it."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files

from ..cases import TaskData
from ..layout import Source
from ..prompts import Prompts


@cache
def class_names(task: str) -> tuple[str, ...]:
    """All classes of a task.

    Example:
        >>> len(class_names("K700")), class_names("Breakfast")[:2]
        (700, ('pancake', 'cereal'))
    """
    text = files(__package__.rpartition(".")[0]).joinpath("video_labels.toml").read_text(encoding="utf-8")
    return tuple(tomllib.loads(text)[task].split())


def video_classification(source: Source, prompts: Prompts, data: TaskData) -> None:
    """All classes are candidates, whether a query has them or not."""
    unknown: dict[str, None] = {}
    known = frozenset(class_names(source.task.name))
    for row in source.rows(("video_id", "pos_text")):
        label = row.text("pos_text")
        if label not in known:
            unknown[label] = None
        data.add_candidate(label, prompts.candidate(source.task, label))
        video = source.video(row.text("video_id"), prompts.frames, row)
        data.add_query(prompts.query(source.task, video=video), [label])
    for label in class_names(source.task.name):
        data.add_candidate(label, prompts.candidate(source.task, label))
    if unknown:
        shown = ", ".join(map(repr, list(unknown)[:3]))
        data.notes.append(f"{len(unknown)} labels are none of the task's {len(known)} classes: {shown}")


def ssv2(source: Source, prompts: Prompts, data: TaskData) -> None:
    """The candidates of each query are its ``neg_text``, in which the right one stands too."""
    for number, row in enumerate(source.rows(("video_id", "pos_text", "neg_text"))):
        if source.task.limit and number >= source.task.limit:
            break
        own = [data.add_candidate(text, prompts.candidate(source.task, text)) for text in row.texts("neg_text")]
        video = source.video(row.text("video_id"), prompts.frames, row)
        data.add_query(prompts.query(source.task, video=video), [row.text("pos_text")], candidates=own)
