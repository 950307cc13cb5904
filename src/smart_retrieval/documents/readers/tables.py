"""Tables as text: every row says its columns' names, so that a passage of rows can be understood by itself."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

from ...files import UnreadableFileError
from ..sections import Document, SectionBuilder, one_line
from .text import read_text

_LONGEST_NAME = 80
_SAMPLE_ROWS = 20
_NUMBER = re.compile(r"[-+]?[\d.,:/ %€$£-]*\d[\d.,:/ %€$£-]*$")
_DELIMITERS = ",;\t|"


class TableText:
    """Turns the rows of one file into texts, whose length is bounded: names are repeated in every row."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path = path
        self._limit = self._left = 2 * max_bytes

    def rows(self, rows: Iterable[Sequence[str]]) -> Iterator[str]:
        """The columns' names, if it has any, and one text a row that is not empty: ``Name: Ada | Born: 1815``."""
        filled = (row for row in rows if any(cell.strip() for cell in row))
        sample = list(islice(filled, _SAMPLE_ROWS))
        names: list[str] = []
        if _has_names(sample):
            names = [one_line(cell) for cell in sample.pop(0)]
            yield " | ".join(filter(None, names))  # a column may have a name and nothing else
        for row in chain(sample, filled):
            named = [*names, *([""] * (len(row) - len(names)))]
            cells = [
                f"{name}: {cell.strip()}" if name else cell.strip()
                for name, cell in zip(named, row, strict=False)
                if cell.strip()
            ]
            text = " | ".join(cells)
            self._left -= len(text)
            if self._left < 0:
                raise UnreadableFileError(self._path, f"a table of more than {self._limit:,} characters as text")
            yield text


def _has_names(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row names the columns: short texts, no numbers, none twice."""
    if not rows:
        return False
    names = [cell.strip() for cell in rows[0] if cell.strip()]
    usual = max(sum(bool(cell.strip()) for cell in row) for row in rows)
    return (
        len(names) > usual / 2
        and len(set(names)) == len(names)
        and all(len(name) <= _LONGEST_NAME and not _NUMBER.match(name) for name in names)
    )


def read(path: Path, max_bytes: int, encoding: str = "") -> Document:
    """Read a file of comma- or tab-separated values, whatever separates them."""
    text, notes = read_text(path, max_bytes, encoding)
    # The module's limit is for the whole process: raised for long texts in cells, never lowered.
    csv.field_size_limit(max(csv.field_size_limit(), max_bytes))
    builder = SectionBuilder()
    lines = csv.reader(io.StringIO(text), delimiter=_delimiter(text))
    for row in TableText(path, max_bytes).rows(lines):
        builder.paragraph(row)
    return Document(builder.sections(), {}, notes)


def _delimiter(text: str) -> str:
    """The separator that splits the first lines into most and equally many cells."""
    head = "\n".join(text[:65_536].split("\n")[:_SAMPLE_ROWS])

    def worth(delimiter: str) -> tuple[bool, int]:
        counts = [len(row) for row in csv.reader(io.StringIO(head), delimiter=delimiter) if row]
        return len(set(counts[:-1])) <= 1, max(counts, default=0)

    return max(_DELIMITERS, key=worth)
