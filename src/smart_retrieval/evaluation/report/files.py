"""Find result files; what is no result, or there twice, is passed over."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import ReportError, SmartWarning
from .measurements import Measurement
from .readers import kind_of, read_result

LARGEST = 1 << 28  #: larger files are no results: a result of all 78 tasks with every query's metrics takes a few MB
_BESIDE = ("model_meta.json", "revision.json")  # files that mteb writes beside results


@dataclass(frozen=True)
class FoundFile:
    """A file that was read, its kind, and what it says of ``model``, ``preset``, ``versions`` and ``run``."""

    path: Path
    kind: str
    about: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {"path": str(self.path), "kind": self.kind, **self.about}


@dataclass(frozen=True)
class Found:
    """All that was read, and notes on what was left out."""

    measurements: tuple[Measurement, ...] = ()
    files: tuple[FoundFile, ...] = ()
    notes: tuple[str, ...] = ()


def read_files(paths: Iterable[str | Path]) -> Found:
    """Read result files, and all of them in folders.

    A file that is no result is refused where it is named, and counted where it lies in a folder. What a folder holds
    twice is read once: beside a ``result.json`` of MMEB-V2 its score files and leaderboards, beside a leaderboard its
    score files, beside a result of ``smart eval mteb`` mteb's own files.
    """
    named = [Path(path).expanduser() for path in paths]
    if not named:
        raise ReportError("found no result files, expected some, or folders of them")
    files: list[FoundFile] = []
    measurements: list[Measurement] = []
    unknown: list[Path] = []
    seen: set[Path] = set()
    for path, in_folder in _listed(named):
        if path.resolve() in seen:
            continue
        seen.add(path.resolve())
        results = _results(path, in_folder)
        if not results and path.name not in _BESIDE:
            unknown.append(path)
        for result in results:
            measurements += read_result(result, path)
            files.append(FoundFile(path, str(kind_of(result)), _about(result)))
    notes = []
    if unknown:
        first = ", ".join(str(path) for path in unknown[:3])
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        count = "1 JSON file is no result" if len(unknown) == 1 else f"{len(unknown)} JSON files are no results"
        notes.append(f"{count} and left out: {first}{more}")
        warnings.warn(notes[-1], SmartWarning, stacklevel=2)
    if not measurements:
        raise ReportError(
            f"found no results in {', '.join(map(str, named))}, expected what smart eval wrote with --out"
        )
    repeated = _repeated(files, measurements)
    return Found(
        tuple(one for one in measurements if one.file not in repeated),
        tuple(file for file in files if file.path not in repeated),
        tuple(notes),
    )


def _listed(paths: Sequence[Path]) -> Iterator[tuple[Path, bool]]:
    """Each file, and whether it was found in a folder."""
    for path in paths:
        if path.is_dir():
            # Hidden folders hold caches, and links may lead anywhere.
            for file in sorted(path.rglob("*.json")):
                hidden = any(part.startswith(".") for part in file.relative_to(path).parts)
                if file.is_file() and not file.is_symlink() and not hidden:
                    yield file, True
        elif path.exists():
            yield path, False
        else:
            raise ReportError(f"found no file or folder {path}, expected results of smart eval")


def _results(path: Path, in_folder: bool) -> list[Mapping[str, Any]]:
    """The result objects in a file: itself, or those in its list ``results``, as the benchmarks write them."""
    try:
        if path.stat().st_size > LARGEST:
            raise ReportError(f"{path}: found more than {LARGEST >> 20} MiB, expected a result file")
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        if in_folder:
            return []
        raise ReportError(f"{path}: cannot be read as JSON ({error}); expected what smart eval wrote") from error
    if kind_of(value):
        return [value]
    listed = value.get("results") if isinstance(value, dict) else value
    shared = (
        {name: value[name] for name in ("date", "commit", "machine", "command") if name in value}
        if isinstance(value, dict)
        else {}
    )
    run = {"run": shared} if shared else {}
    results: list[Mapping[str, Any]]
    results = [{**run, **one} for one in listed if kind_of(one)] if isinstance(listed, list) else []
    if not results and not in_folder:
        raise ReportError(f"{path}: found no result, expected what smart eval, smart probe or smart tune wrote")
    return results


def _repeated(files: Sequence[FoundFile], measurements: Sequence[Measurement]) -> set[Path]:
    """Files that repeat what others say more of."""
    kinds = {file.path: file.kind for file in files}
    whole = {path.parent for path, kind in kinds.items() if kind == "mmeb"}
    boards = {path.parent for path, kind in kinds.items() if kind == "leaderboard"}

    def main_score(one: Measurement) -> tuple[Any, ...]:
        return one.data.name, one.data.fingerprint, round(one.values.get("main_score", -1.0), 5)

    ours = {main_score(one) for one in measurements if kinds[one.file] == "mteb"}
    of_mteb = {one.file for one in measurements if kinds[one.file] == "mteb task" and main_score(one) in ours}
    return of_mteb | {
        path
        for path, kind in kinds.items()
        if (kind in ("leaderboard", "score") and path.parent.parent in whole)
        or (kind == "score" and path.parent in boards)
    }


def _about(result: Mapping[str, Any]) -> dict[str, Any]:
    """Where a result comes from; files of MMEB-V2's tasks say it under ``provenance``, leaderboards in ``metadata``."""
    metadata = result.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    provenance = (metadata or result).get("provenance")
    source = {**result, **metadata, **(provenance if isinstance(provenance, dict) else {})}
    names = ("model", "preset", "prompts", "limits", "versions", "run")
    return {name: source[name] for name in names if source.get(name) is not None}
