"""Datasets in parts that are the same in every run: rows of Parquet, lines of JSON, files of a folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..documents.walk import scan
from ..errors import DatasetError
from ..extras import require
from ..files import FoundFile, open_local, settled

Kind = Literal["parquet", "jsonl", "files"]

_SUFFIXES: dict[str, Kind] = {".parquet": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl"}
_LONGEST_LINE = 64 * 2**20
_CHUNK = 2**20


@dataclass(frozen=True)
class Part:
    """What one worker encodes at a time.

    Args:
        number: Its number in the dataset, from 0.
        file: The file of its rows, relative to the dataset; empty for files.
        start: Its first row, from 0.
        count: Rows, lines or files.
        offset: Of JSON Lines, where the first line begins, in bytes.
        files: The files themselves, of a folder.
    """

    number: int
    file: str
    start: int
    count: int
    offset: int = 0
    files: tuple[FoundFile, ...] = ()

    @property
    def name(self) -> str:
        """Name of what is written of it."""
        return f"part-{self.number:07d}"


@dataclass(frozen=True)
class Dataset:
    """A dataset and its parts.

    Args:
        root: A file or a folder.
        kind: What its documents are: rows, lines, or the passages and pages of files.
        parts: Its parts, in order.
        fingerprint: Changes with the names, sizes and times of its files, and with the parts.
    """

    root: Path
    kind: Kind
    parts: tuple[Part, ...]
    fingerprint: str

    @property
    def folder(self) -> Path:
        """What names in it are relative to."""
        return self.root if self.root.is_dir() else self.root.parent


@dataclass(frozen=True)
class Row:
    """A row as it was read; without values and with a reason where that failed."""

    name: str
    values: dict[str, Any]
    reason: str = ""
    detail: str = ""


def open_dataset(path: str | Path, part_size: int = 1000) -> Dataset:
    """Find the parts of a dataset.

    Args:
        path: A Parquet file, or a folder that holds some; JSON Lines, or a folder with nothing else; or a folder of
            files to read.
        part_size: Rows or lines of a part; of files a tenth as many.

    Raises:
        DatasetError: There is nothing to encode, or a Parquet file cannot be read.
        MediaError: There is no such folder.
        MissingExtraError: pyarrow is not installed.

    Example:
        >>> open_dataset("corpus.parquet").parts[0]  # doctest: +SKIP
        Part(number=0, file='corpus.parquet', start=0, count=1000, offset=0, files=())
    """
    if part_size < 1:
        raise DatasetError(f"part size: found {part_size}, expected 1 or more")
    root = settled(path)
    if not root.exists():
        raise DatasetError(f"dataset {str(root)!r}: found no such file or folder")
    found = list(scan(root))
    kinds = {_SUFFIXES.get(file.path.suffix.lower(), "files") for file in found}
    kind: Kind = "parquet" if "parquet" in kinds else "jsonl" if kinds == {"jsonl"} else "files"
    if kind == "parquet":
        found = [file for file in found if file.path.suffix.lower() == ".parquet"]
    slices = _SLICERS[kind](found, part_size)
    parts = tuple(Part(number, *one) for number, one in enumerate(slices))
    if not parts:
        raise DatasetError(f"dataset {str(root)!r}: found no rows, lines or files in it, expected some")
    facts = [kind, part_size, [(file.relative, file.size, file.mtime_ns) for file in found]]
    return Dataset(root, kind, parts, hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32])


def read_rows(dataset: Dataset, part: Part) -> Iterator[Row]:
    """The rows of a part, in order; what cannot be read is a row with a reason."""
    reader = _parquet_rows if dataset.kind == "parquet" else _json_rows
    yield from reader(dataset.folder / part.file, part)


# -- Parquet ---------------------------------------------------------------------------------------------------


def _parquet_slices(files: list[FoundFile], size: int) -> Iterator[tuple[str, int, int]]:
    parquet = require("pyarrow.parquet", "ray")
    for file in files:
        try:
            rows = parquet.read_metadata(file.path).num_rows
        except Exception as error:  # pyarrow's own kinds
            raise DatasetError(f"dataset: cannot read {file.relative} as Parquet ({error}); leave it out") from error
        for start in range(0, rows, size):
            yield file.relative, start, min(size, rows - start)


def _parquet_rows(path: Path, part: Part) -> Iterator[Row]:
    parquet = require("pyarrow.parquet", "ray")
    row, end = part.start, part.start + part.count
    try:
        with parquet.ParquetFile(path) as file:
            groups, first, begins = list[int](), 0, 0
            for group in range(file.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                if first < end and first + rows > part.start:
                    begins = begins if groups else first
                    groups.append(group)
                first += rows
            for batch in file.iter_batches(min(part.count, 1024), row_groups=groups):
                wanted = batch.slice(min(len(batch), max(0, row - begins)), end - row)
                begins += len(batch)
                for values in wanted.to_pylist():
                    yield Row(f"{part.file}#{row}", values)
                    row += 1
    except Exception as error:  # a damaged file raises many kinds; its other parts may be whole
        yield Row(f"{part.file}#{row}-{end - 1}", {}, "rows that cannot be read", f"{type(error).__name__}: {error}")


# -- JSON Lines ------------------------------------------------------------------------------------------------


def _json_slices(files: list[FoundFile], size: int) -> Iterator[tuple[str, int, int, int]]:
    for file in files:
        line = start = offset = position = 0
        ended = True
        with open_local(file.path) as opened:
            while chunk := opened.read(_CHUNK):
                at = -1
                while (at := chunk.find(b"\n", at + 1)) >= 0:
                    line += 1
                    if line - start == size:
                        yield file.relative, start, size, offset
                        start, offset = line, position + at + 1
                position += len(chunk)
                ended = chunk.endswith(b"\n")
        line += not ended
        if line > start:
            yield file.relative, start, line - start, offset


def _json_rows(path: Path, part: Part) -> Iterator[Row]:
    with open_local(path) as file:
        file.seek(part.offset)
        for number in range(part.start, part.start + part.count):
            name, line = f"{part.file}#{number + 1}", file.readline(_LONGEST_LINE)
            whole = line.endswith(b"\n") or len(line) < _LONGEST_LINE
            while line and not whole:
                line = file.readline(_LONGEST_LINE)
                if line.endswith(b"\n") or len(line) < _LONGEST_LINE:
                    break
            if not whole:
                yield Row(name, {}, "a line that is too long", f"more than {_LONGEST_LINE:,} bytes")
            elif line.strip():
                yield _json_row(name, line)


def _json_row(name: str, line: bytes) -> Row:
    try:
        values = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        return Row(name, {}, "not JSON", str(error)[:200])
    if not isinstance(values, dict):
        return Row(name, {}, "not JSON", f"expected an object {{...}}, found {type(values).__name__}")
    return Row(name, values)


# -- files -----------------------------------------------------------------------------------------------------


def _file_slices(files: list[FoundFile], size: int) -> Iterator[tuple[str, int, int, int, tuple[FoundFile, ...]]]:
    size = max(1, size // 10)
    for start in range(0, len(files), size):
        own = tuple(files[start : start + size])
        yield "", start, len(own), 0, own


_SLICERS: dict[Kind, Any] = {"parquet": _parquet_slices, "jsonl": _json_slices, "files": _file_slices}
