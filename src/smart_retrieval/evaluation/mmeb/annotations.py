"""Annotation files as they are downloaded: found by data set, configuration and split, and read row by row."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import DatasetError, MediaError
from ...extras import require
from ...files import read_bytes

SUFFIXES = (".parquet", ".jsonl", ".json")
_LONGEST_README = 16 * 2**20
_LARGEST_JSON = 2 * 2**30


@dataclass(frozen=True)
class Row:
    """One annotation, and the file and row it comes from, for messages."""

    values: Mapping[str, Any]
    where: str

    def text(self, column: str) -> str:
        """A text; numbers are taken as their digits, None as ``""``."""
        value = self._get(column)
        if value is None:
            return ""
        if isinstance(value, str):
            return value
        if isinstance(value, int | float) and not isinstance(value, bool):
            return str(int(value)) if float(value).is_integer() else str(value)
        raise self._wrong(column, value, "a text")

    def texts(self, column: str) -> list[str]:
        """A list of texts; one text is a list of one."""
        value = self._get(column)
        if isinstance(value, str):
            return [value]
        if isinstance(value, Sequence) and all(isinstance(one, str | None) for one in value):
            return ["" if one is None else one for one in value]
        raise self._wrong(column, value, "a list of texts")

    def number(self, column: str) -> float:
        """A number, or a text that spells one."""
        value = self._get(column)
        try:
            return float(value)
        except (TypeError, ValueError):
            raise self._wrong(column, value, "a number") from None

    def rows(self, column: str) -> list[Row]:
        """A list of objects."""
        value = self._get(column)
        if isinstance(value, Sequence) and all(isinstance(one, Mapping) for one in value):
            return [Row(one, f"{self.where}, {column}") for one in value]
        raise self._wrong(column, value, "a list of objects")

    def error(self, problem: str) -> DatasetError:
        """An error that names this row."""
        return DatasetError(f"{self.where}: {problem}")

    def _get(self, column: str) -> Any:
        if column not in self.values:
            raise self.error(f"found no column {column!r} among {sorted(self.values)}")
        return self.values[column]

    def _wrong(self, column: str, value: Any, expected: str) -> DatasetError:
        return self.error(f"found {type(value).__name__} ({str(value)[:40]!r}) as {column}, expected {expected}")


def annotation_folders(root: Path, data_set: str) -> tuple[Path, Path]:
    """Where a data set may lie below the data root; the first is where this package writes."""
    return root / data_set, root / "annotations" / data_set


def expected_annotations(root: Path, data_set: str, config: str, split: str) -> Path:
    """The file of a split when this package writes it."""
    return root / data_set / (config or ".") / f"{split}.parquet"


def find_annotations(root: Path, data_set: str, config: str, split: str) -> list[Path]:
    """The files of one split, in order: those that the data set's own README names, else the Hub's usual names."""
    for folder in annotation_folders(root, data_set):
        if folder.is_dir():
            for pattern in (*_declared(folder, config, split), *_usual(config, split)):
                found = sorted(path for path in folder.glob(pattern) if path.suffix in SUFFIXES and path.is_file())
                if found:
                    return found
    return []


def _declared(folder: Path, config: str, split: str) -> list[str]:
    """Patterns from the front matter of the data set's README."""
    try:
        text = read_bytes(folder / "README.md", _LONGEST_README).decode()
    except (MediaError, UnicodeDecodeError):
        return []
    parts = text.split("---", 2)
    if len(parts) < 3 or parts[0].strip():
        return []
    import yaml

    try:
        matter = yaml.safe_load(parts[1])
        entries = matter.get("configs") or []
        chosen = [one for one in entries if one.get("config_name") == config or (not config and len(entries) == 1)]
        chosen = chosen or [one for one in entries if not config and one.get("config_name") in (None, "default")]
        files = [file for one in chosen for file in _as_list(one.get("data_files"))]
        paths = [
            str(path)
            for file in files
            if not isinstance(file, Mapping) or file.get("split") == split
            for path in _as_list(file.get("path") if isinstance(file, Mapping) else file)
        ]
    except (yaml.YAMLError, AttributeError, TypeError):
        return []
    # A pattern from a file must not lead out of its folder.
    return [path for path in paths if not path.startswith("/") and ".." not in Path(path).parts]


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _usual(config: str, split: str) -> list[str]:
    names = [f"{split}{middle}{suffix}" for suffix in SUFFIXES for middle in ("", "-[0-9]*")]
    if not config:
        starts = ["", "data/", "default/", f"{split}/", f"data/{split}/"]
        return [start + name for start in starts for name in names]
    starts = [f"{config}/", f"data/{config}/", f"{config}/data/", f"{config}-", f"data/{config}-", f"{config}/{split}/"]
    single = [f"{start}{config}{suffix}" for start in ("", "data/") for suffix in SUFFIXES]
    return [*(start + name for start in starts for name in names), *single]


def read_rows(files: Iterable[Path], columns: Sequence[str], optional: Sequence[str] = ()) -> Iterator[Row]:
    """Read Parquet, JSON Lines or JSON one row at a time; other columns (pictures among them) are not touched."""
    for file in files:
        reader = _parquet(file, columns, optional) if file.suffix == ".parquet" else _json(file)
        for number, values in enumerate(reader, start=1):
            _check_columns(f"{file}, row {number}", values, columns)
            yield Row(values, f"{file}, row {number}")


def _check_columns(where: str, found: Collection[str], columns: Sequence[str]) -> None:
    if missing := [column for column in columns if column not in found]:
        raise DatasetError(
            f"{where}: found columns {sorted(found)}, expected {', '.join(columns)} ({', '.join(missing)} missing): "
            "another data set, or another version of it"
        )


def _parquet(file: Path, columns: Sequence[str], optional: Sequence[str]) -> Iterator[dict[str, Any]]:
    pyarrow: Any = require("pyarrow", "mmeb")
    parquet: Any = require("pyarrow.parquet", "mmeb")
    try:
        with parquet.ParquetFile(file) as opened:
            names = set(opened.schema_arrow.names)
            _check_columns(str(file), names, columns)
            wanted = [*columns, *(column for column in optional if column in names)]
            for batch in opened.iter_batches(batch_size=512, columns=wanted):
                yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise DatasetError(f"{file}: cannot be read as Parquet ({' '.join(str(error).split())[:200]})") from error


def _json(file: Path) -> Iterator[dict[str, Any]]:
    try:
        text = read_bytes(file, _LARGEST_JSON).decode()
        rows = json.loads(text) if file.suffix == ".json" else [json.loads(line) for line in text.splitlines() if line]
    except (MediaError, ValueError, RecursionError) as error:
        raise DatasetError(f"{file}: cannot be read as {file.suffix[1:]} ({str(error)[:200]})") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DatasetError(f"{file}: found {type(rows).__name__}, expected a list of objects")
    yield from rows
