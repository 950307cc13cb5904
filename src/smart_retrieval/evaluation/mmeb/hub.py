"""Annotations from the Hub into the data root, when asked to; and the commands that fetch the pictures."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ...errors import DatasetError
from ...extras import require
from .annotations import expected_annotations, find_annotations
from .parsers.documents import page_file, short_file
from .parsers.video_questions import MVBENCH_CONFIGS
from .tasks import Task

#: The data set that holds the archives of pictures and frames.
MEDIA = "TIGER-Lab/MMEB-V2"


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


def media_commands(root: Path) -> list[str]:
    """Shell commands that fetch and unpack the pictures and frames of all 78 tasks."""
    videos = root / "video-tasks" / "frames"
    return [
        f"hf download {MEDIA} --repo-type dataset --local-dir {root}",
        f"tar -xzf {root}/image-tasks/mmeb_v1.tar.gz -C {root}/image-tasks",
        f"mkdir -p {videos}/video_cls {videos}/video_ret",
        f"tar -xzf {videos}/video_cls.tar.gz -C {videos}/video_cls",
        f"tar -xzf {videos}/video_ret.tar.gz -C {videos}/video_ret",
        f"tar -xzf {videos}/video_mret.tar.gz -C {videos}",
        f"cat {videos}/video_qa.tar.gz-0[0-4] | tar -xz -C {videos}",
        f"tar -xzf {root}/visdoc-tasks/visdoc-tasks.images.tar.gz -C {root}/visdoc-tasks",
    ]


def fetch(tasks: Iterable[Task], root: Path, *, offline: bool = False) -> Iterator[str]:
    """Fetch the annotations that are not there; pages of documents too where their pictures are missing.

    What is written is a plain Parquet file for each split, and ``revision.json`` with the commit it came from.

    Args:
        tasks: The tasks.
        root: The data root.
        offline: Ask nobody; an error then says what would have been fetched.

    Yields:
        A line for each thing done.

    Raises:
        DatasetError: The Hub does not answer, or there is a file it does not have.
        MissingExtraError: The datasets library is not installed.
    """
    tasks = tuple(tasks)
    wanted = {
        (task.data_set, config, task.split): task
        for task in tasks
        for config in annotation_configs(task)
        if not find_annotations(root, task.data_set, config, task.split)
    }
    if wanted:
        if offline or os.environ.get("HF_HUB_OFFLINE", "").strip().lower() in {"1", "true", "yes", "on"}:
            raise _unreachable(root, [data_set for data_set, _, _ in wanted], "offline, as asked")
        datasets: Any = require("datasets", "eval")
        commits: dict[str, str] = {}
        for (data_set, config, split), task in wanted.items():
            if data_set not in commits:
                commits[data_set] = _commit(root, data_set, task.revision, [one for one, _, _ in wanted])
            yield _fetch_one(datasets, root, task, config, split, commits[data_set])
    if not wanted:
        yield f"the annotations of {len(tasks)} tasks are there"
    yield "pictures and frames come as archives:"
    yield from media_commands(root)


def _commit(root: Path, data_set: str, revision: str, all_sets: Iterable[str]) -> str:
    """The commit to fetch; asked once and shortly, because the loader would retry for a minute without a network."""
    from huggingface_hub import HfApi

    try:
        return str(HfApi().dataset_info(data_set, revision=revision or None, timeout=10).sha)
    except Exception as error:  # whatever the HTTP client beneath raises means that nobody answered
        raise _unreachable(root, all_sets, f"{data_set}: no answer from the Hub ({type(error).__name__})") from error


def _unreachable(root: Path, data_sets: Iterable[str], why: str) -> DatasetError:
    commands = [
        f"hf download {data_set} --repo-type dataset --local-dir {root / data_set}"
        for data_set in dict.fromkeys(data_sets)
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
    (root / task.data_set / "revision.json").write_text(json.dumps({"revision": commit}) + "\n", encoding="utf-8")
    return f"{where}: {len(data):,} rows" + (f", {pages:,} pages" if pages else "")


def _save_pages(datasets: Any, root: Path, task: Task, data: Any) -> int:
    """Write the pages that lie nowhere yet, as the archive has them."""
    from ...media.images import load_image

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
