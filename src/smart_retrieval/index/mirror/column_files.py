"""Columns of metadata: how they are made from the documents, and the files they are kept in.

Each file covers a range of positions of the mapped base, whose documents never change, so it stays right as long as the
base of its name does. New ranges get new files, and small neighbours are made one.
"""

from __future__ import annotations

import json
import re
import secrets
import sqlite3
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from ...checksums import file_checksum
from ...files import atomic_file
from ...types import Array
from .columns import FALSE, FIRST, LIST, NULL, OBJECT, TRUE, Column, Part, composed

#: Rows of a base from which on columns are worth their making; below, SQL reads the documents as fast.
COLUMN_ROWS = 20_000
#: Positions of one file at most, which bounds the memory that making it takes.
PART_ROWS = 250_000
SUFFIX = ".columns"
MOST_COLUMNS = 256
#: Of what a file says; 2 since paths go on in the objects of lists. Others are made again.
FORMAT = 2
_REMEMBERED, _AT_ONCE = 1000, 5000
_NO_ITEMS = (list, dict, type(None))
# NUL, a key that is empty, a number that is no float.
_UNUSUAL = re.compile(r'\\u0000|"":|[0-9]{300}')
_BUILT_IN = ("source", "page", "heading")
_ARRAYS = ("numbers", "texts", "changed", "rows", "codes", "item_rows", "item_codes")
#: Arrays and a description.
Made: TypeAlias = tuple[dict[str, Array], dict[str, str]]
_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


@dataclass(frozen=True)
class ColumnsStamp:
    """What is known about one file."""

    file: str  # its name
    start: int  # first position of the base that it covers
    rows: int  # how many
    size: int  # bytes
    checksum: int  # CRC-32 of the file
    format: int = FORMAT


def ranges(covered: list[tuple[int, int]], rows: int) -> tuple[int, list[tuple[int, int]]]:
    """How many of the ranges ``(start, rows)`` stay when the base has so many rows, and the new ones behind them.

    A range is made again with what follows it unless it is three times as large, so that there are few of them and no
    row is read often.

    Example:
        >>> ranges([(0, 250_000), (250_000, 20_000)], 300_000)
        (1, [(250000, 50000)])
    """
    kept = len(covered)
    end = sum(covered[-1]) if covered else 0
    start = end
    while start < rows and kept and covered[kept - 1][1] < min(3 * (rows - start), PART_ROWS):
        kept -= 1
        start = covered[kept][0]
    return kept, [(first, min(PART_ROWS, rows - first)) for first in range(start, rows, PART_ROWS)]


class _Values:
    """One column while it is filled; values are numbered as they come."""

    def __init__(self) -> None:
        self.numbers: dict[int | float, int] = {}
        self.texts: dict[str, int] = {}
        self.rows, self.codes, self.item_rows, self.item_codes = (array("i") for _ in range(4))
        self.waiting_rows: list[int] = []
        self.waiting: list[Any] = []

    def settle(self) -> None:
        """Number the values that are waiting: many at once, as that is several times as fast."""
        rows, values = self.waiting_rows, self.waiting
        self.waiting_rows, self.waiting = [], []
        self.rows.extend(rows)
        self.codes.extend(self._coded(values))
        lists = [(row, value) for row, value in zip(rows, values, strict=True) if type(value) is list]
        pairs = [(row, item) for row, items in lists for item in items if type(item) not in _NO_ITEMS]
        self.item_rows.extend(row for row, _ in pairs)
        self.item_codes.extend(self._coded([item for _, item in pairs]))

    def _coded(self, values: list[Any]) -> Iterable[int]:
        kinds = set(map(type, values))
        if kinds == {str}:
            return self._numbered(self.texts, values)
        if kinds == {float} or (kinds == {int} and min(values) >= -(2**63) and max(values) < 2**63):
            return self._numbered(self.numbers, values)
        return [self._code(value) for value in values]

    def _numbered(self, known: dict[Any, int], values: list[Any]) -> Iterable[int]:
        for value in dict.fromkeys(values):
            known.setdefault(value, FIRST + len(self.texts) + len(self.numbers))
        return map(known.__getitem__, values)

    def _code(self, value: Any) -> int:
        if value is None:
            return NULL
        if value is True or value is False:
            return TRUE if value else FALSE
        if isinstance(value, list | dict):
            return LIST if isinstance(value, list) else OBJECT
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            value = float(value)  # as to SQLite
        known: dict[Any, int] = self.texts if isinstance(value, str) else self.numbers
        return known.setdefault(value, FIRST + len(self.texts) + len(self.numbers))

    def sorted(self) -> dict[str, Array]:
        """The arrays of the column, values sorted."""
        spelt = {text: composed(text) for text in self.texts}
        numbers = sorted(self.numbers)
        # Of several spellings of one text, the composed one and any other are told apart.
        texts = sorted({(whole, whole != text) for text, whole in spelt.items()})
        order = np.arange(FIRST + len(self.numbers) + len(self.texts), dtype=np.int32)
        for place, number in enumerate(numbers):
            order[self.numbers[number]] = FIRST + place
        places = {text: FIRST + len(numbers) + place for place, text in enumerate(texts)}
        for text, code in self.texts.items():
            order[code] = places[spelt[text], spelt[text] != text]
        lists: dict[str, Array] = {
            "numbers": np.frombuffer(_encoder.encode(numbers).encode(), np.uint8),
            "texts": np.frombuffer(_encoder.encode([text for text, _ in texts]).encode(), np.uint8),
            "changed": np.flatnonzero([changed for _, changed in texts]).astype(np.int32),
        }
        pairs: dict[str, Array] = {name: np.array(getattr(self, name), np.int32) for name in _ARRAYS[3:]}
        for name in ("codes", "item_codes"):
            pairs[name] = order[pairs[name]]
        return lists | pairs


class _Builder:
    def __init__(self) -> None:
        self.columns: dict[tuple[str, ...], _Values] = {("", name): _Values() for name in _BUILT_IN}
        self.complete = True
        self._seen: dict[str, dict[str, Any]] = {}  # passages of one file have the same metadata

    def add(self, row: int, own: tuple[Any, ...], metadata: Any) -> bool:
        """Take a document; False if it is one for SQL: not as it was written by an index."""
        if any(isinstance(value, float | bytes) or (isinstance(value, str) and "\0" in value) for value in own):
            return False
        facts = self._seen.get(metadata) if isinstance(metadata, str) else None
        if facts is None:
            facts = _facts(metadata)
            if facts is None:
                return False
            if len(self._seen) == _REMEMBERED:
                self._seen.clear()
            self._seen[metadata] = facts
        for name, value in zip(_BUILT_IN, own, strict=True):
            if value is not None:
                self._put(("", name), row, value)
        self._walk((), row, facts)
        return True

    def _walk(self, path: tuple[str, ...], row: int, facts: dict[str, Any]) -> None:
        for name, value in facts.items():
            self._put((*path, name), row, value)
            for one in value if type(value) is list else (value,):
                if type(one) is dict:
                    self._walk((*path, name), row, one)

    def _put(self, path: tuple[str, ...], row: int, value: Any) -> None:
        column = self.columns.get(path)
        if column is None:
            if len(self.columns) >= MOST_COLUMNS:
                self.complete = False
                return
            column = self.columns[path] = _Values()
        column.waiting_rows.append(row)
        column.waiting.append(value)

    def settle(self) -> None:
        """Number all values that are waiting."""
        for column in self.columns.values():
            column.settle()


def _facts(metadata: Any) -> dict[str, Any] | None:
    """Metadata as it is read, so that no key is there twice and every number is written as it is read; else None."""
    try:
        facts = json.loads(metadata)
        usual = isinstance(facts, dict) and _UNUSUAL.search(metadata) is None and metadata.count("{") < 100
        return facts if usual and _encoder.encode(facts) == metadata else None
    except (ValueError, TypeError, OverflowError, RecursionError):
        return None


def make(connection: sqlite3.Connection, rowids: Array) -> Made:
    """Arrays and a description of the columns of some consecutive rows, from the documents."""
    builder = _Builder()
    query = "SELECT rowid, source, page, heading, metadata FROM documents WHERE rowid BETWEEN ? AND ? ORDER BY rowid"
    found = connection.execute(query, (int(rowids[0]), int(rowids[-1])))
    odd: list[int] = []
    while rows := found.fetchmany(_AT_ONCE):
        places = np.minimum(np.searchsorted(rowids, [row[0] for row in rows]), len(rowids) - 1)
        for place, known, (rowid, *own, metadata) in zip(places.tolist(), rowids[places].tolist(), rows, strict=True):
            if known == rowid and not builder.add(place, tuple(own), metadata):
                odd.append(rowid)
        builder.settle()
    arrays = {"odd": np.array(odd, np.int64)}
    for number, column in enumerate(builder.columns.values()):
        arrays |= {f"{number}.{name}": part for name, part in column.sorted().items()}
    about = {"paths": list(builder.columns), "complete": builder.complete}
    return arrays, {"columns": json.dumps(about)}


class _Columns(Mapping[tuple[str, ...], Column]):
    """Columns by path, each read when it is first asked for; a :class:`ValueError` if a file holds something else."""

    def __init__(self, paths: list[list[str]], read: Callable[[str], Array], rows: int) -> None:
        self._numbers = {tuple(path): number for number, path in enumerate(paths)}
        self._read, self._rows = read, rows
        self._kept: dict[tuple[str, ...], Column] = {}

    def __getitem__(self, path: tuple[str, ...]) -> Column:
        found = self._kept.get(path)
        if found is None:
            number = self._numbers[path]
            numbers, texts, *others = (self._read(f"{number}.{name}") for name in _ARRAYS)
            found = Column((numbers, texts), *others)
            values = found.first_text + len(found.texts)
            for places, most in (
                *((places, self._rows) for places in (found.rows, found.item_rows)),
                *((codes, values) for codes in (found.codes, found.item_codes)),
                (found.changed, len(found.texts)),
            ):
                # Whoever made it: a wrong number would read beyond an array.
                if len(places) and not 0 <= int(places.min()) <= int(places.max()) < most:
                    raise ValueError("derived files: found columns of other rows")
            self._kept[path] = found
        return found

    def __iter__(self) -> Iterator[tuple[str, ...]]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)

    def __contains__(self, path: object) -> bool:
        return path in self._numbers


def part_of(start: int, rowids: Array, read: Callable[[str], Array], about: dict[str, str]) -> Part:
    """The columns of some positions, whose arrays ``read`` gives by name."""
    found = json.loads(about["columns"])
    odd = read("odd")
    if len(odd) and not np.isin(odd, rowids).all():
        raise ValueError("derived files: found columns of other rows")
    return Part(start, rowids, _Columns(found["paths"], read, len(rowids)), bool(found["complete"]), odd)


def write(
    folder: Path, name: str, start: int, rows: int, made: tuple[dict[str, Array], dict[str, str]]
) -> ColumnsStamp:
    """Write the file of a range of the base of a name."""
    from safetensors.numpy import save

    path = folder / f"{name}.columns-{secrets.token_hex(4)}{SUFFIX}"
    with atomic_file(path, durable=True) as partial:
        partial.write_bytes(save(*made))
    return ColumnsStamp(path.name, start, rows, path.stat().st_size, file_checksum(path))


def load(path: Path, stamp: ColumnsStamp, rowids: Array) -> Part:
    """The columns of a file, whose checksum was compared; a :class:`ValueError` if it holds something else."""
    from safetensors import SafetensorError, safe_open

    def read(name: str) -> Array:
        try:
            return np.asarray(file.get_tensor(name))
        except SafetensorError as error:
            raise ValueError(f"derived file {path.name} is damaged ({error})") from error

    try:
        file: Any = safe_open(path, "numpy")  # mapped as long as the columns are used
        return part_of(stamp.start, rowids, read, file.metadata() or {})
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(f"derived file {path.name} is damaged ({error})") from error
