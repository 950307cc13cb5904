"""Annotations from the Hub into the data root, when asked to; and the commands that fetch the pictures."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ...errors import DatasetError
from ...extras import require
from .annotations import expected_annotations, find_annotations
from .parsers.documents import page_file, short_file
from .parsers.video_questions import MVBENCH_CONFIGS
from .revisions import MEDIA, check_revisions, pinned, record, recorded
from .tasks import Task, all_tasks


def annotation_configs(task: Task) -> tuple[str, ...]:
    """The configurations of its data set that a task reads.

    Example:
        >>> from smart_retrieval.evaluation.mmeb.tasks import choose
        >>> [annotation_configs(task) for task in choose(["MSR-VTT", "ViDoSeek-doc"])]
        [('test_1k',), ('queries', 'corpus', 'qrels')]
    """
    if task.parser in ("vidore", "visrag"):
        return ("queries", "corpus", "qrels")
    return MVBENCH_CONFIGS if task.parser == "mvbench" else (task.config,)


def media_commands(root: Path, revision: str = "") -> list[str]:
    """Shell commands that fetch and unpack the pictures and frames of all 78 tasks.

    Args:
        root: The data root.
        revision: The commit wanted; ``""`` for the newest.
    """
    videos = root / "video-tasks" / "frames"
    return [
        f"hf download {MEDIA} --repo-type dataset{_at(revision)} --local-dir {root}",
        f"tar -xzf {root}/image-tasks/mmeb_v1.tar.gz -C {root}/image-tasks",
        f"mkdir -p {videos}/video_cls {videos}/video_ret",
        f"tar -xzf {videos}/video_cls.tar.gz -C {videos}/video_cls",
        f"tar -xzf {videos}/video_ret.tar.gz -C {videos}/video_ret",
        f"tar -xzf {videos}/video_mret.tar.gz -C {videos}",
        f"cat {videos}/video_qa.tar.gz-0[0-4] | tar -xz -C {videos}",
        f"tar -xzf {root}/visdoc-tasks/visdoc-tasks.images.tar.gz -C {root}/visdoc-tasks",
    ]


def _at(revision: str) -> str:
    return f" --revision {revision}" if revision else ""


def fetch(
    tasks: Iterable[Task], root: Path, *, offline: bool = False, pins: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Fetch the annotations that are not there; pages of documents too where their pictures are missing.

    What is written is a plain Parquet file for each split, and ``revision.json`` with the commit it came from. That is
    the commit that is pinned, or else the one that the first part of the data set came from, or else the newest.

    Args:
        tasks: The tasks.
        root: The data root.
        offline: Ask nobody; an error then says what would have been fetched.
        pins: Commits by data set, over those of the table of tasks.

    Yields:
        A line for each thing done.

    Raises:
        DatasetError: The Hub does not answer, there is a file it does not have, or what is there already is of
            another commit than what would be fetched.
        MissingExtraError: The datasets library is not installed.
    """
    tasks, pins = tuple(tasks), pins or {}
    check_revisions(tasks, root, pins)
    wanted = {
        (task.data_set, config, task.split): task
        for task in tasks
        for config in annotation_configs(task)
        if not find_annotations(root, task.data_set, config, task.split)
    }
    if wanted:
        if offline or os.environ.get("HF_HUB_OFFLINE", "").strip().lower() in {"1", "true", "yes", "on"}:
            raise _unreachable(root, wanted.values(), pins, "offline, as asked")
        datasets: Any = require("datasets", "mmeb")
        commits: dict[str, str] = {}
        for (data_set, config, split), task in wanted.items():
            if data_set not in commits:
                commits[data_set] = _settled(root, task, pins, wanted.values())
            yield _fetch_one(datasets, root, task, config, split, commits[data_set])
    if not wanted:
        yield f"the annotations of {len(tasks)} tasks are there"
    yield "pictures and frames come as archives:"
    yield from media_commands(root, pins.get(MEDIA, ""))


def _settled(root: Path, task: Task, pins: Mapping[str, str], all_of: Iterable[Task]) -> str:
    """The commit to fetch, written down before anything is: what a kill leaves behind says where it came from."""
    commit = pinned(task, pins) or recorded(root, task.data_set)
    if not commit and _annotated(root, task.data_set):
        raise DatasetError(
            f"{task.data_set}: found some of its annotations in {root}, of an unknown commit, which others may not "
            "fit: move its folder away, and all of it is fetched"
        )
    found = _commit(root, task.data_set, commit, pins, all_of)
    if commit and found != commit:
        raise DatasetError(f"{task.data_set}: found commit {found} on the Hub, expected {commit}, which was asked for")
    record(root, task.data_set, found)
    return found


def _annotated(root: Path, data_set: str) -> bool:
    return any(
        find_annotations(root, data_set, config, task.split)
        for task in all_tasks()
        if task.data_set == data_set
        for config in annotation_configs(task)
    )


def _commit(root: Path, data_set: str, revision: str | None, pins: Mapping[str, str], all_of: Iterable[Task]) -> str:
    """A commit's full name; asked once and shortly, because the loader would retry for a minute without a network."""
    from huggingface_hub import HfApi

    try:
        return str(HfApi().dataset_info(data_set, revision=revision or None, timeout=10).sha)
    except Exception as error:  # whatever the HTTP client beneath raises means that nobody answered
        at = f" at {revision}" if revision else ""
        why = f"{data_set}{at}: no answer from the Hub ({type(error).__name__})"
        raise _unreachable(root, all_of, pins, why) from error


def _unreachable(root: Path, tasks: Iterable[Task], pins: Mapping[str, str], why: str) -> DatasetError:
    revisions = {task.data_set: pinned(task, pins) for task in tasks}
    commands = [
        f"hf download {data_set} --repo-type dataset{_at(revision)} --local-dir {root / data_set}"
        for data_set, revision in revisions.items()
    ]
    shown = "; ".join(commands[:3]) + (f"; and {len(commands) - 3} more like these" if len(commands) > 3 else "")
    return DatasetError(f"{why}; run on a machine with a network, and copy the folder: {shown}")


def _fetch_one(datasets: Any, root: Path, task: Task, config: str, split: str, commit: str) -> str:
    where = f"{task.data_set} {config} {split}".replace("  ", " ")
    try:
        data = datasets.load_dataset(task.data_set, config or None, split=split, revision=commit)
    except Exception as error:  # the library raises what each of its readers raises
        reason = " ".join(str(error).split())[:200]
        raise DatasetError(f"{where}: cannot be loaded ({type(error).__name__}: {reason})") from error
    pages = 0
    if config == "corpus" and "image" in data.column_names:
        pages = _save_pages(datasets, root, task, data)
        data = data.remove_columns("image")
    target = expected_annotations(root, task.data_set, config, split)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.part")
    data.to_parquet(str(partial))
    os.replace(partial, target)
    return f"{where}: {len(data):,} rows" + (f", {pages:,} pages" if pages else "")


def _save_pages(datasets: Any, root: Path, task: Task, data: Any) -> int:
    """Write the pages that lie nowhere yet, as the archive has them."""
    from ...pictures.images import load_image

    there = [root / folder for folder in task.folders if (root / folder).is_dir()]
    folder = there[0] if there else root / task.folders[0]
    folder.mkdir(parents=True, exist_ok=True)
    file_of = short_file if task.parser == "visrag" else page_file
    saved = 0
    # Undecoded: what a picture is, is decided by this package's own reader.
    for row in data.cast_column("image", datasets.Image(decode=False)):
        path = folder / file_of(str(row["corpus-id"]))
        content = (row["image"] or {}).get("bytes")
        if path.exists() or content is None or path.parent != folder:
            continue
        partial = path.with_name(f".{path.name}.part")
        if path.suffix == ".png" and not content.startswith(b"\x89PNG"):
            load_image(content).save(partial, format="PNG")
        else:
            partial.write_bytes(content)
        os.replace(partial, path)
        saved += 1
    return saved
