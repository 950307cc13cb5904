"""Data sets on the Hub: which commit lies in the data root, and which is wanted; annotations fetched on request."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import DatasetError, one_of
from ...extras import require
from ...files import atomic_file
from .annotations import SUFFIXES, annotation_folders, expected_annotations, find_annotations
from .parsers import MVBENCH_CONFIGS, PAGE_FILES
from .task_data import TaskFiles
from .tasks import Task, all_tasks

#: The data set that holds the archives of pictures and frames.
MEDIA = "TIGER-Lab/MMEB-V2"

_COMMIT = re.compile(r"[0-9a-f]{40}")


# -- commits ----------------------------------------------------------------------------------------------------------


def read_pins(values: Sequence[str]) -> dict[str, str]:
    """Commits by data set from ``"DATA_SET=COMMIT"``, or from TOML files with a table ``revisions`` of such lines."""
    pins: dict[str, str] = {}
    known = sorted({MEDIA, *(task.data_set for task in all_tasks())})
    for value in values:
        name, equals, commit = value.partition("=")
        given = {name.strip(): commit.strip()} if equals else _from_file(Path(value))
        for data_set, wanted in given.items():
            if data_set not in known:
                raise DatasetError(f"revision: {one_of(data_set, known)}")
            if not isinstance(wanted, str) or not _COMMIT.fullmatch(wanted):
                raise DatasetError(
                    f"revision of {data_set}: found {wanted!r}, expected a commit of 40 hexadecimal digits; names such "
                    "as main stand for another commit tomorrow"
                )
            pins[data_set] = wanted
    return pins


def _from_file(path: Path) -> dict[str, str]:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))["revisions"]
        return {str(name): value for name, value in table.items()}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError, AttributeError) as error:
        raise DatasetError(
            f"revision: found {str(path)!r}, expected DATA_SET=COMMIT, or a TOML file with a table [revisions] of "
            f'lines such as "VLM2Vec/MSVD" = "…" ({type(error).__name__}: {error})'
        ) from error


def recorded_commit(root: Path, data_set: str) -> str | None:
    """The commit a data set's annotations came from, several joined by ``+``; None where the download recorded none."""
    for folder in annotation_folders(root, data_set):
        try:
            # Written by this package; `hf download --local-dir` instead notes the commit of each file it fetched.
            return str(json.loads((folder / "revision.json").read_text(encoding="utf-8"))["revision"])
        except (OSError, ValueError, KeyError, TypeError):
            pass
        commits = set()
        for suffix in SUFFIXES:
            for file in (folder / ".cache" / "huggingface" / "download").rglob(f"*{suffix}.metadata"):
                lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
                if lines and _COMMIT.fullmatch(lines[0].strip()):
                    commits.add(lines[0].strip())
        if commits:
            return "+".join(sorted(commits))
    return None


def record_commit(root: Path, data_set: str, commit: str) -> None:
    """Record the commit that a data set's annotations come from, beside them."""
    target = root / data_set / "revision.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps({"revision": commit}) + "\n", encoding="utf-8")


def check_revisions(tasks: Iterable[Task], root: Path, pins: Mapping[str, str]) -> None:
    """Refuse annotations in the data root that are of other commits than those pinned, or of unknown ones."""
    for task in tasks:
        wanted = _pinned(task, pins)
        if not wanted or not any(folder.is_dir() for folder in annotation_folders(root, task.data_set)):
            continue
        found = recorded_commit(root, task.data_set)
        if found != wanted:
            raise DatasetError(
                f"{task.data_set}: found annotations of {'commit ' + found if found else 'an unknown commit'} in "
                f"{root}, expected {wanted}: move its folder away and fetch it again with  smart eval mmeb --from-hub, "
                "or name another --revision"
            )


def _pinned(task: Task, pins: Mapping[str, str]) -> str:
    """The commit wanted of a task's data set: the user's, or else the table's; ``""`` where none is."""
    return pins.get(task.data_set) or task.revision


# -- fetching ---------------------------------------------------------------------------------------------------------


def annotation_configs(task: Task) -> tuple[str, ...]:
    """The configurations of its data set that a task reads."""
    if task.parser in PAGE_FILES:
        return ("queries", "corpus", "qrels")
    return MVBENCH_CONFIGS if task.parser == "mvbench" else (task.config,)


def media_commands(root: Path, revision: str = "") -> list[str]:
    """Shell commands that fetch and unpack the pictures and frames of all 78 tasks; ``""`` takes the newest commit."""
    videos = root / "video-tasks" / "frames"
    return [
        _download(MEDIA, revision, root),
        f"tar -xzf {root}/image-tasks/mmeb_v1.tar.gz -C {root}/image-tasks",
        f"mkdir -p {videos}/video_cls {videos}/video_ret",
        f"tar -xzf {videos}/video_cls.tar.gz -C {videos}/video_cls",
        f"tar -xzf {videos}/video_ret.tar.gz -C {videos}/video_ret",
        f"tar -xzf {videos}/video_mret.tar.gz -C {videos}",
        f"cat {videos}/video_qa.tar.gz-0[0-4] | tar -xz -C {videos}",
        f"tar -xzf {root}/visdoc-tasks/visdoc-tasks.images.tar.gz -C {root}/visdoc-tasks",
    ]


def _download(data_set: str, revision: str, folder: Path) -> str:
    at = f" --revision {revision}" if revision else ""
    return f"hf download {data_set} --repo-type dataset{at} --local-dir {folder}"


def fetch(
    tasks: Iterable[Task], root: Path, *, offline: bool = False, pins: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Fetch missing annotations (and pages of documents) as Parquet files, and yield a line for each thing done.

    They are of the commit that is pinned, or else of the one that the first part of the data set came from, or else of
    the newest. ``offline`` asks no hub: the error then says what would have been fetched.
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
                commits[data_set] = _commit_to_fetch(root, task, pins, wanted.values())
            yield _fetch_one(datasets, root, task, config, split, commits[data_set])
    else:
        yield f"the annotations of {len(tasks)} tasks are there"
    yield "pictures and frames come as archives:"
    yield from media_commands(root, pins.get(MEDIA, ""))


def _commit_to_fetch(root: Path, task: Task, pins: Mapping[str, str], wanted: Iterable[Task]) -> str:
    """The commit to fetch, recorded before anything is: what a kill leaves behind says where it came from."""
    data_set = task.data_set
    commit = _pinned(task, pins) or recorded_commit(root, data_set)
    if not commit and any(
        find_annotations(root, data_set, config, other.split)
        for other in all_tasks()
        if other.data_set == data_set
        for config in annotation_configs(other)
    ):
        raise DatasetError(
            f"{data_set}: found some of its annotations in {root}, of an unknown commit, which others may not "
            "fit: move its folder away, and all of it is fetched"
        )
    from huggingface_hub import HfApi

    try:
        # The commit's full name. Asked once, with a short timeout: without a network the loader would retry a minute.
        found = str(HfApi().dataset_info(data_set, revision=commit or None, timeout=10).sha)
    except Exception as error:  # whatever the HTTP client raises means that there is no answer
        at = f" at {commit}" if commit else ""
        why = f"{data_set}{at}: no answer from the Hub ({type(error).__name__})"
        raise _unreachable(root, wanted, pins, why) from error
    if commit and found != commit:
        raise DatasetError(f"{data_set}: found commit {found} on the Hub, expected {commit}, which was asked for")
    record_commit(root, data_set, found)
    return found


def _unreachable(root: Path, tasks: Iterable[Task], pins: Mapping[str, str], why: str) -> DatasetError:
    revisions = {task.data_set: _pinned(task, pins) for task in tasks}
    commands = [_download(data_set, revision, root / data_set) for data_set, revision in revisions.items()]
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
    with atomic_file(expected_annotations(root, task.data_set, config, split)) as partial:
        data.to_parquet(str(partial))
    return f"{where}: {len(data):,} rows" + (f", {pages:,} pages" if pages else "")


def _save_pages(datasets: Any, root: Path, task: Task, data: Any) -> int:
    """Write the pages that are missing, as the archive has them."""
    from ...pictures.images import load_image

    folder, saved = TaskFiles(root, task).folder, 0
    # Undecoded: what a picture is, is decided by this package's own reader.
    for row in data.cast_column("image", datasets.Image(decode=False)):
        path = folder / PAGE_FILES[task.parser](str(row["corpus-id"]))
        content = (row["image"] or {}).get("bytes")
        if path.exists() or content is None or path.parent != folder:
            continue
        with atomic_file(path) as partial:
            if path.suffix == ".png" and not content.startswith(b"\x89PNG"):
                load_image(content).save(partial, format="PNG")
            else:
                partial.write_bytes(content)
        saved += 1
    return saved
