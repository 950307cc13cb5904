"""The two kinds of drawn tables in reStructuredText, read as one line of text a row."""

from __future__ import annotations

import re

_GRID = re.compile(r"\+(?:[-=]+\+)+$")
_SIMPLE = re.compile(r"=+(?: +=+)+$")
_SPAN = re.compile(r"-+(?: +-+)*$")


def is_grid_border(line: str) -> bool:
    """Whether a line is a border such as ``+---+---+``."""
    return bool(_GRID.match(line))


def is_simple_border(line: str) -> bool:
    """Whether a line is a border such as ``===  ===``."""
    return bool(_SIMPLE.match(line))


def _row(cells: list[list[str]]) -> str:
    """One row; the lines of a cell are joined by a space."""
    return " | ".join(" ".join(part for part in cell if part) for cell in cells).strip()


def grid_table(lines: list[str], position: int) -> tuple[list[str], int]:
    """Read a table drawn with ``+--+`` and ``|``.

    Args:
        lines: The lines around it.
        position: Its first border.

    Returns:
        Its rows, cells separated by ``" | "``, and the position after it.

    Example:
        >>> grid_table(["+---+---+", "| a | b |", "|   | c |", "+---+---+"], 0)
        (['a | b c'], 4)
    """
    rows: list[str] = []
    cells: list[list[str]] = []
    while position < len(lines) and lines[position][:1] in {"+", "|"}:
        line = lines[position]
        position += 1
        if _GRID.match(line):
            rows += [_row(cells)] if cells else []
            cells = []
            continue
        parts = [part.strip() for part in line.strip("|+").split("|")]
        if len(parts) != len(cells):  # the first line of a row, or one crossed by a border of a cell
            rows += [_row(cells)] if cells else []
            cells = [[] for _ in parts]
        for cell, part in zip(cells, parts, strict=True):
            cell.append("" if set(part) <= set("-=+") else part)
    rows += [_row(cells)] if cells else []
    return [row for row in rows if row.strip(" |")], position


def simple_table(lines: list[str], position: int) -> tuple[list[str], int]:
    """Read a table whose columns lie under ``===  ===``.

    Args:
        lines: The lines around it.
        position: Its first border.

    Returns:
        Its rows, cells separated by ``" | "``, and the position after it. A line without a first cell continues the
        row above.

    Example:
        >>> simple_table(["=== ===", "a   b", "=== ===", "c   d", "    e", "=== ==="], 0)
        (['a | b', 'c | d e'], 6)
    """
    starts = [match.start() for match in re.finditer(r"=+", lines[position])]
    rows: list[list[list[str]]] = []
    borders = 1
    position += 1
    while position < len(lines):
        line = lines[position]
        if is_simple_border(line):
            borders += 1
            ends = position + 1 >= len(lines) or not lines[position + 1]
            position += 1
            if ends or borders == 3:
                break
            continue
        position += 1
        if not line or _SPAN.match(line):
            continue
        crossed = any(0 < start <= len(line) and line[start - 1] != " " for start in starts[1:])
        cuts = [0] if crossed else starts
        parts = [line[start:end].strip() for start, end in zip(cuts, [*cuts[1:], None], strict=True)]
        if not parts[0] and rows and len(rows[-1]) == len(parts):
            for cell, part in zip(rows[-1], parts, strict=True):
                cell.append(part)
        else:
            rows.append([[part] for part in parts])
    return [_row(row) for row in rows], position
