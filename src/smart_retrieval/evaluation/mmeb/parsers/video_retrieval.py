"""Text to video: a caption, and the video it was written for, among all videos of the task."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePosixPath

from ..annotations import Row
from ..cases import TaskData
from ..layout import Source
from ..prompts import Prompts


def _retrieval(
    source: Source,
    prompts: Prompts,
    data: TaskData,
    columns: tuple[str, str],
    name_of: Callable[[Row], str],
    caption_of: Callable[[Row], str],
) -> None:
    for row in source.rows(columns):
        name = name_of(row)
        video = source.video(name, prompts.frames, row)
        data.add_candidate(name, prompts.candidate(source.task, video=video))
        data.add_query(prompts.query(source.task, caption_of(row)), [name])


def _first(row: Row, column: str) -> str:
    captions = row.texts(column)
    if not captions:
        raise row.error(f"found no {column}, expected at least one caption")
    return captions[0]


def msrvtt(source: Source, prompts: Prompts, data: TaskData) -> None:
    """One caption a video."""
    _retrieval(
        source,
        prompts,
        data,
        ("video_id", "caption"),
        lambda row: row.text("video_id"),
        lambda row: row.text("caption"),
    )


def msvd(source: Source, prompts: Prompts, data: TaskData) -> None:
    """Several captions a video, of which the first is asked."""
    _retrieval(
        source,
        prompts,
        data,
        ("video_id", "caption"),
        lambda row: row.text("video_id"),
        lambda row: _first(row, "caption"),
    )


def didemo(source: Source, prompts: Prompts, data: TaskData) -> None:
    """Videos are known by their files' names without what stands before and behind."""
    _retrieval(
        source,
        prompts,
        data,
        ("video", "caption"),
        lambda row: PurePosixPath(row.text("video")).stem,
        lambda row: row.text("caption"),
    )


def youcook2(source: Source, prompts: Prompts, data: TaskData) -> None:
    """Clips of recipes, each with a sentence."""
    _retrieval(source, prompts, data, ("id", "sentence"), lambda row: row.text("id"), lambda row: row.text("sentence"))


def vatex(source: Source, prompts: Prompts, data: TaskData) -> None:
    """Several English captions a video, of which the first is asked."""
    _retrieval(
        source, prompts, data, ("videoID", "enCap"), lambda row: row.text("videoID"), lambda row: _first(row, "enCap")
    )
