"""Metadata in columns, so that a filter of a large index reads neither the documents nor their JSON.

A column is a path of keys (or one of a document's own columns). Its distinct values are sorted, and a row is a pair of
a document's position and a value's number; the items of lists are pairs of their own. A condition is decided once a
distinct value, by a binary search where it compares, and carried to the documents by one look-up; ``and``, ``or`` and
``not`` are those of bits. What a filter means is said in :mod:`~smart_retrieval.index.store.where`, by SQL; whatever is
not certain to mean the same here is left to it, a condition or a document at a time.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ...types import Array
from ..store.where import And, Compare, Contains, Exists, Expression, Field, In, Like, Not, Or, Value, nfc, spellings

#: Numbers of the values that are alone of their kind; numbers follow from ``FIRST`` on, then texts.
NULL, FALSE, TRUE, LIST, OBJECT, FIRST = range(6)
#: Texts of a column from which on one search through all of them together is faster than one through each.
SEARCHED_FROM = 1000
#: Rowids that an expression chooses, of those above a rowid and up to another: by SQL.
Select = Callable[[Expression, int, int], Array]


class _NotHereError(Exception):
    """A condition that is left to SQL."""


@dataclass(frozen=True)
class Column:
    """One path's values in some documents."""

    values: tuple[Array, Array]  # JSON as bytes: numbers ascending; texts in NFC, ascending, told apart by ``changed``
    changed: Array  # [n] int32, of the texts, those that NFC is not how they are stored
    rows: Array  # [P] int32 positions, each once unless a list of objects leads to several values
    codes: Array  # [P] int32, numbers of their values
    item_rows: Array  # [I] int32 positions of lists
    item_codes: Array  # [I] int32, of their items

    @cached_property
    def numbers(self) -> list[int | float]:
        """Distinct numbers, ascending."""
        found: list[int | float] = json.loads(self.values[0].tobytes())
        return found

    @cached_property
    def texts(self) -> list[str]:
        """Distinct texts, ascending by code points, as SQLite compares them."""
        found: list[str] = json.loads(self.values[1].tobytes())
        return found

    @property
    def first_text(self) -> int:
        """The number of the first text."""
        return FIRST + len(self.numbers)

    def mask(self, size: int, alone: Array, items: Array | None) -> Array:
        """The documents ``[size]`` bool whose value is among ``alone``, or that have an item among ``items``."""
        found = np.zeros(size, bool)
        found[self.rows[alone[self.codes]]] = True
        if items is not None and len(self.item_codes):
            found[self.item_rows[items[self.item_codes]]] = True
        return found

    def none(self) -> Array:
        """No value, ``[values]`` bool."""
        return np.zeros(self.first_text + len(self.texts), bool)

    def comparing(self, operator: str, value: str | int | float) -> Array:
        """Values of which ``value operator ...`` holds, ``[values]`` bool."""
        found = self.none()
        known: Sequence[Any] = self.texts if isinstance(value, str) else self.numbers
        wanted, start = nfc(value), self.first_text if isinstance(value, str) else FIRST
        left, right = bisect_left(known, wanted), bisect_right(known, wanted)
        ends = {
            "=": (left, right),
            "<": (0, left),
            "<=": (0, right),
            ">": (right, len(known)),
            ">=": (left, len(known)),
        }
        first, last = ends[operator]
        found[start + first : start + last] = True
        if isinstance(value, str) and operator == "=" and value.isascii():
            found[start + self.changed[(self.changed >= first) & (self.changed < last)]] = False
        return found

    def equal(self, value: Value) -> Array:
        """Values that equal one, ``[values]`` bool."""
        if value is None or isinstance(value, bool):
            found = self.none()
            found[NULL if value is None else TRUE if value else FALSE] = True
            return found
        return self.comparing("=", value)

    def testing(self, test: Callable[[str], object], part: str) -> Array:
        """Texts of which a test holds, ``[values]`` bool; all of them hold a part, in capitals or small letters."""
        found, numbers, texts = self.none(), self._holding(part), self.texts
        found[self.first_text + np.array(numbers, np.int64)] = [bool(test(texts[number])) for number in numbers]
        return found

    def _holding(self, part: str) -> Sequence[int]:
        """Numbers of texts, with all among them that hold a part: found in one string, in place of a million."""
        every = range(len(self.texts))
        if not part or len(self.texts) < SEARCHED_FROM:
            return every
        joined, begins = self._joined
        wanted = _small(part)
        places, at = list[int](), joined.find(wanted)
        while at >= 0:
            places.append(at)
            at = joined.find(wanted, at + len(wanted))
            if len(places) > len(every) // 8:  # it tells too little
                return every
        numbers: list[int] = np.unique(np.searchsorted(begins, places, "right") - 1).tolist()
        return numbers if len(begins) == len(every) else every

    @cached_property
    def _joined(self) -> tuple[bytes, Array]:
        """The texts one behind another, with NUL between them, and where each begins."""
        joined = _small("\0".join(self.texts))
        return joined, np.append(0, np.flatnonzero(np.frombuffer(joined, np.uint8) == 0) + 1)


@dataclass(frozen=True)
class Part:
    """The columns of consecutive positions of the mapped base, deleted rows included."""

    start: int  # first position
    rowids: Array  # [n] int64 of its positions
    columns: Mapping[tuple[str, ...], Column]  # by path; a document's own column is ("", name)
    complete: bool  # whether there are no other paths
    odd: Array  # [n] int64 rowids of documents that are left to SQL

    def mask(self, node: Expression, select: Select) -> Array:
        """The documents that an expression chooses, ``[n]`` bool; says nothing about deleted ones."""
        found = self._mask(node, select)
        if len(self.odd):
            found[np.searchsorted(self.rowids, self.odd)] = False
            chosen = np.intersect1d(select(node, int(self.odd[0]) - 1, int(self.odd[-1])), self.odd)
            found[np.searchsorted(self.rowids, chosen)] = True
        return found

    def _mask(self, node: Expression, select: Select) -> Array:
        match node:
            case And(parts) | Or(parts):
                both = isinstance(node, And)
                found = np.full(len(self.rowids), both)
                for part in parts:
                    (np.logical_and if both else np.logical_or)(found, self._mask(part, select), out=found)
                return found
            case Not(part):
                return ~self._mask(part, select)
        try:
            return self._condition(node)
        except _NotHereError:
            chosen = np.zeros(len(self.rowids), bool)
            if len(self.rowids):
                rowids = select(node, int(self.rowids[0]) - 1, int(self.rowids[-1]))
                places = np.minimum(np.searchsorted(self.rowids, rowids), len(self.rowids) - 1)
                chosen[places[self.rowids[places] == rowids]] = True
            return chosen

    def _condition(self, node: Compare | In | Like | Contains | Exists) -> Array:
        column, size = self._column(node.field), len(self.rowids)
        match node:
            case Exists():
                values, items = ~column.none(), None
            case Compare(_, operator, value):
                _check(value)
                if value is None:
                    return self._null(column)
                values = items = column.equal(value) if operator == "=" else column.comparing(operator, _ordered(value))
            case In(_, chosen):
                values = items = column.none()
                for value in chosen:
                    _check(value)
                    values |= column.equal(value)
                if any(value is None for value in chosen):
                    values[NULL] = False  # of the field as a whole: a list with null in it is there
                    return self._null(column) | column.mask(size, values, items)
            case Like(_, pattern):
                _check(pattern)
                wanted = nfc(pattern)
                values = items = column.testing(like(wanted), literal(wanted))
            case Contains(_, value):
                _check(value)
                if value is None:
                    raise _NotHereError
                values = items = column.equal(value)
                if isinstance(value, str):
                    part = str(nfc(value))
                    values = items | column.testing(lambda text: part in text, part)
        return column.mask(size, values, items)

    def _null(self, column: Column) -> Array:
        there = ~column.none()
        there[NULL] = False
        return ~column.mask(len(self.rowids), there, None)

    def _column(self, field: Field) -> Column:
        if field.built_in:
            path = ("", *field.path)
            if path == ("", "id"):
                raise _NotHereError  # it has an index of its own
            return self.columns.get(path, EMPTY)
        if any(not name or re.search(r'["\\\x00-\x1f]', name) for name in field.path):
            raise _NotHereError
        if field.path in self.columns and all(map(str.isascii, field.path)):
            return self.columns[field.path]
        known: list[tuple[str, ...]] = [()]
        spelt = [spellings(name) for name in field.path]
        for end in range(1, len(spelt) + 1):
            known = [
                path for path in self.columns if len(path) == end and path[:-1] in known and path[-1] in spelt[end - 1]
            ]
            if len(known) > 1:
                raise _NotHereError  # each object may have another of them
        if not (known or self.complete):
            raise _NotHereError
        return self.columns[known[0]] if known else EMPTY


def _check(value: object) -> None:
    """Leave what is no usual value to SQL, which refuses it or not."""
    if isinstance(value, str):
        if "\0" in value or re.search("[\ud800-\udfff]", value):
            raise _NotHereError
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise _NotHereError
    elif value is not None and not (isinstance(value, int) and -(2**63) <= value < 2**63):
        raise _NotHereError


def _ordered(value: Value) -> str | int | float:
    if value is None or isinstance(value, bool):
        raise _NotHereError
    return value


def like(pattern: str) -> Callable[[str], object]:
    """SQLite's LIKE with a backslash as escape: letters of ASCII match in either case."""
    pieces = re.findall(r"\\.|[^\\]", pattern, re.DOTALL)
    if sum(map(len, pieces)) != len(pattern):
        raise _NotHereError  # a lone backslash
    parts, text = [], ""
    for piece in pieces:
        if piece == "%":
            parts.append(text)
            text = ""
        else:
            text += "." if piece == "_" else re.escape(piece[-1])
    # The first place of each part between two % is as good as any other, so nothing is tried twice.
    inner = "".join(f"(?>.*?{part})" for part in parts[1:] if part)
    whole = f"{parts[0]}{inner}.*{text}" if parts else text
    return re.compile(whole, re.DOTALL | re.IGNORECASE | re.ASCII).fullmatch


def literal(pattern: str) -> str:
    """The longest part that every text has which a pattern of :func:`like` matches, but for capitals."""
    pieces = re.findall(r"\\.|[^\\]", pattern, re.DOTALL)
    marked = "".join("\0" if piece in ("%", "_") else piece[-1] for piece in pieces)
    return max(marked.split("\0"), key=len)


def _small(text: str) -> bytes:
    """In UTF-8, with small letters of ASCII."""
    return text.encode(errors="surrogatepass").lower()


def composed(text: str) -> str:
    """A text as it is compared."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


_NO_VALUES, _NO_ROWS = np.frombuffer(b"[]", np.uint8), np.zeros(0, np.int32)
#: Of a path that no document has.
EMPTY = Column((_NO_VALUES, _NO_VALUES), *[_NO_ROWS] * 5)
