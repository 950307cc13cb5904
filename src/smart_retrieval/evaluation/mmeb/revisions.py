"""Which commit of a data set lies in the data root, and which one is wanted."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ...errors import DatasetError, one_of
from .annotations import SUFFIXES
from .tasks import Task, all_tasks

#: The data set that holds the archives of pictures and frames.
MEDIA = "TIGER-Lab/MMEB-V2"

_COMMIT = re.compile(r"[0-9a-f]{40}")


def read_pins(values: Sequence[str]) -> dict[str, str]:
    """Commits by data set, as a user names them.

    Args:
        values: ``"DATA_SET=COMMIT"``, or the name of a TOML file that holds a table ``revisions`` of such lines.

    Raises:
        DatasetError: A file cannot be read, a data set is none of MMEB-V2's, or a commit is no full one.

    Example:
        >>> read_pins(["VLM2Vec/MSVD=" + "0123456789" * 4])
        {'VLM2Vec/MSVD': '0123456789012345678901234567890123456789'}
    """
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


def recorded(root: Path, data_set: str) -> str | None:
    """The commit a data set's annotations came from, where the download wrote it down; None where nothing says.

    That is ``revision.json``, which this package writes, or else what ``hf download`` notes of each file; several
    commits are joined by ``+``.

    Args:
        root: The data root.
        data_set: The data set.
    """
    for folder in (root / data_set, root / "annotations" / data_set):
        try:
            return str(json.loads((folder / "revision.json").read_text(encoding="utf-8"))["revision"])
        except (OSError, ValueError, KeyError, TypeError):
            pass
        if commits := _noted(folder / ".cache" / "huggingface" / "download"):
            return "+".join(sorted(commits))
    return None


def record(root: Path, data_set: str, commit: str) -> None:
    """Write down the commit that a data set's annotations come from, beside them."""
    target = root / data_set / "revision.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps({"revision": commit}) + "\n", encoding="utf-8")


def _noted(folder: Path) -> set[str]:
    """Commits that ``hf download --local-dir`` notes, one file for each it fetched, the commit in its first line."""
    commits = set()
    for suffix in SUFFIXES:
        for file in folder.rglob(f"*{suffix}.metadata"):
            lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
            if lines and _COMMIT.fullmatch(lines[0].strip()):
                commits.add(lines[0].strip())
    return commits


def pinned(task: Task, pins: Mapping[str, str]) -> str:
    """The commit wanted of a task's data set: the user's, or else the table's; ``""`` where none is."""
    return pins.get(task.data_set) or task.revision


def check_revisions(tasks: Iterable[Task], root: Path, pins: Mapping[str, str]) -> None:
    """See that the annotations in the data root are those of the commits wanted.

    Args:
        tasks: The tasks.
        root: The data root.
        pins: Commits by data set.

    Raises:
        DatasetError: They are others, or nothing says which they are.
    """
    for task in tasks:
        wanted = pinned(task, pins)
        if not wanted or not any((root / part / task.data_set).is_dir() for part in (".", "annotations")):
            continue
        found = recorded(root, task.data_set)
        if found != wanted:
            raise DatasetError(
                f"{task.data_set}: found annotations of {'commit ' + found if found else 'an unknown commit'} in "
                f"{root}, expected {wanted}: move its folder away and fetch it again with  smart eval mmeb --from-hub, "
                "or name another --revision"
            )
