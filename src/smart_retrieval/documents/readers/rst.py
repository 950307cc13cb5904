"""reStructuredText: sections by underline, directives and roles reduced to the text a reader of the page sees.

A reader of our own rather than docutils: most reST in the wild is Sphinx's, whose roles and directives docutils
reports as errors without Sphinx around it (teaching it them means changing registries shared by the whole process);
this one reads any directive as its text, never fails, is many times as fast and needs no dependency. Nothing
is included, executed or loaded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..sections import Document, SectionBuilder
from .front_matter import plain_value
from .text import read_text

# Bounded repeats: an opening mark without its closing one must not make a long line quadratic.
_MARKS = re.compile(
    r"""
    ``(?P<literal>[^\n].{0,999}?)``(?!`)
  | (?P<role>:[A-Za-z][\w:.+-]{0,60}:)?`(?P<quoted>[^`]{1,1000})`(?::[A-Za-z][\w:.+-]{0,60}:|__?)?
  | (?<![\w*])\*\*(?=\S)(?P<strong>[^*]{1,1000}?)(?<=\S)\*\*(?!\w)
  | (?<![\w*\\])\*(?=\S)(?P<emphasis>[^*]{1,1000}?)(?<=\S)\*(?![\w*])
  | (?<![\w|])\|(?P<name>[^\s|](?:[^|\n]{0,98}[^\s|])?)\|_{0,2}
  | (?P<note>\[(?:\#?[\w.-]{0,60}|\*)\])_(?!\w)
  | (?<![\w:.`])(?P<reference>[^\W_](?:[\w.-]{0,98}[^\W_])?)__?(?![\w`])
  | \\(?P<escaped>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_TARGET = re.compile(r"^(.*\S)\s*<[^<>]+>$", re.DOTALL)

_GRID_BORDER = re.compile(r"\+(?:[-=]+\+)+$")
_SIMPLE_BORDER = re.compile(r"=+(?: +=+)+$")
_SPAN = re.compile(r"-+(?: +-+)*$")

_ADORNMENT = re.compile(r"([!-/:-@\[-`{-~])\1+\s*$")
_MARKUP = re.compile(r"\.\.(?:\s|$)")
_DIRECTIVE = re.compile(r"\.\.\s+(?:\|[^|\n]+\|\s+)?(?P<name>[A-Za-z][\w:.+-]*?)\s?::(?:\s+(?P<argument>.*))?$")
_FOOTNOTE = re.compile(r"\.\.\s+(\[[^\]\n]{1,60}\])(?:\s+(.*))?$")
_SUBSTITUTION = re.compile(r"^\.\.[ \t]+\|([^|\n]{1,100})\|[ \t]+(?:replace|unicode)::[ \t]+(.*)$", re.MULTILINE)
_OPTION = re.compile(r":([\w-]+):(?:\s+(.*))?$")
_FIELD = re.compile(r":(?![\s:])([^:`\n]{1,100}):(?:\s+(.*))?$")
_ITEM = re.compile(r"(?:[-*+•]|(?:\d{1,9}|#|[A-Za-z])[.)]|\((?:\d{1,9}|#|[A-Za-z])\))(?:\s+|$)")
_COMMAND_OPTION = re.compile(r"(?:--?|/)\w[^\n]{0,100}?(?:\s{2,}|$)")

_NO_TEXT = frozenset(
    """toctree contents index include literalinclude raw highlight highlightlang default-role role currentmodule
    py:currentmodule automodule autoclass autofunction autosummary automethod autodata autoexception
    tabularcolumns meta sectnum section-numbering header footer target-notes testsetup testcleanup plot
    bibliography replace unicode""".split()  # noqa: SIM905
)
_VERBATIM = frozenset(
    """code code-block sourcecode parsed-literal productionlist prompt doctest testcode testoutput math csv-table
    graphviz digraph graph console ipython""".split()  # noqa: SIM905
)
_VERBATIM_ARGUMENTS = frozenset({"math", "prompt", "csv-table", "productionlist"})
_OBJECTS = frozenset(
    """function method class classmethod staticmethod data attribute exception module describe option envvar
    program decorator decoratormethod cmdoption confval setting opcode""".split()  # noqa: SIM905
)
_VERSIONS = {
    "versionadded": "Added in version",
    "versionchanged": "Changed in version",
    "deprecated": "Deprecated since version",
    "versionremoved": "Removed in version",
}
_DEEPEST = 40
_LEAST_EXPANSION = 65_536  # characters that substitutions may add to any file


def read(path: Path, max_bytes: int, encoding: str = "") -> Document:
    """Read a reStructuredText file; the fields before its first title become metadata."""
    text, notes = read_text(path, max_bytes, encoding)
    substitutions = _Substitutions(text)
    lines = [line.rstrip() for line in text.expandtabs(8).split("\n")]
    metadata, position = _leading_fields(lines)
    builder = SectionBuilder()
    styles: list[str] = []
    start = position

    def flush() -> None:
        for block in _blocks(lines[start:position], substitutions, 0):
            builder.paragraph(block)

    while position < len(lines):
        style, title, used = _title(lines, position)
        if used:
            flush()
            if style not in styles:
                styles.append(style)
            builder.heading(styles.index(style) + 1, plain_inline(title, substitutions))
            start = position + used
        position += used or 1
    flush()
    if substitutions.refused:
        notes.append(f"substitutions not expanded: {substitutions.refused:,}, their text would be too long")
    return Document(builder.sections(), metadata, notes)


class _Substitutions(dict[str, str]):
    """What ``|name|`` stands for, as long as all of it together is not far longer than the file."""

    def __init__(self, text: str) -> None:
        super().__init__({name: plain_inline(value) for name, value in _SUBSTITUTION.findall(text)})
        self._left = _LEAST_EXPANSION + len(text)
        self.refused = 0

    def expanded(self, name: str, marked: str) -> str:
        """What stands for a name; the name with its marks if there is nothing, or no more room."""
        found = self.get(name, marked)
        if found != marked and len(found) > self._left:
            self.refused += 1
            return marked
        self._left -= len(found)
        return found


def plain_inline(text: str, substitutions: _Substitutions | None = None) -> str:
    """Remove inline marks from a paragraph; `substitutions` say what ``|name|`` stands for, unknown names stay."""

    def replacement(match: re.Match[str]) -> str:
        kind = match.lastgroup
        found = match[kind] if kind else ""
        if match["quoted"] is not None:
            target = _TARGET.match(match["quoted"])
            return target[1] if target else match["quoted"].lstrip("~!")
        if kind == "name":
            return substitutions.expanded(found, match[0]) if substitutions else match[0]
        if kind == "escaped":
            return "" if found.isspace() else found
        return found

    return _MARKS.sub(replacement, text)


def _leading_fields(lines: list[str]) -> tuple[dict[str, Any], int]:
    """The field list a file may begin with, and the number of lines it takes."""
    metadata: dict[str, Any] = {}
    position = 0
    while position < len(lines) and (not lines[position] or _OPTION.match(lines[position])):
        if field := _OPTION.match(lines[position]):
            metadata[field[1]] = plain_value(field[2] or "")
        position += 1
    return {name: value for name, value in metadata.items() if value is not None}, position


def _title(lines: list[str], position: int) -> tuple[str, str, int]:
    """A title at this line: its style of underlining, its text and the lines it takes (0: there is none)."""
    line = lines[position]
    before = lines[position - 1] if position else ""
    if not line or (before and not _MARKUP.match(before) and not _ADORNMENT.match(before)):
        return "", "", 0
    one, two = (*lines[position + 1 : position + 3], "", "")[:2]
    if _ADORNMENT.match(line):
        # Line, title, the same line again; the title may be indented.
        if one and two == line and not _ADORNMENT.match(one) and len(line) >= min(4, len(one)):
            return line[0] * 2, one, 3
    elif line[0] != " " and _ADORNMENT.match(one) and len(one) >= min(4, len(line)) and not _SIMPLE_BORDER.match(line):
        return one[0], line, 2
    return "", "", 0


def _blocks(lines: list[str], substitutions: _Substitutions, depth: int) -> Iterator[str]:
    """The paragraphs, lists, tables and code among these lines, in order."""
    if depth > _DEEPEST:
        yield "\n".join(lines)
        return
    position = 0
    while position < len(lines):
        line = lines[position]
        if not line or (len(line) >= 4 and _ADORNMENT.match(line)):
            position += 1  # nothing, or a transition
        elif line[0] == " ":
            block, position = _indented(lines, position)
            yield from _blocks(block, substitutions, depth + 1)
        elif _MARKUP.match(line) or line.startswith("__ "):
            block, position = _indented(lines, position + 1)
            if line.startswith(".."):
                yield from _explicit(line, block, substitutions, depth)
        elif _GRID_BORDER.match(line) or _SIMPLE_BORDER.match(line):
            rows, position = (_grid_table if line[0] == "+" else _simple_table)(lines, position)
            yield "\n".join(plain_inline(row, substitutions) for row in rows)
        elif _ITEM.match(line) or _FIELD.match(line):
            items, position = _list(lines, position, substitutions, depth)
            yield from items
        else:
            block, position = _paragraph(lines, position)
            yield from _text(block, substitutions)
            if position < len(lines) and lines[position].startswith(" "):
                continue  # the definition of a term
            if block[-1].endswith("::"):
                while position < len(lines) and not lines[position]:
                    position += 1
                code, position = _indented(lines, position)
                if any(code):
                    yield "\n".join(code).strip("\n")


def _text(block: list[str], substitutions: _Substitutions) -> Iterator[str]:
    """A paragraph's text: one line, unless its lines are examples, verse or a list of command options."""
    if block[0].startswith(">>>"):
        yield "\n".join(block)
        return
    joined = block[0]
    for line in block[1:]:
        joined += ("\n" if line.startswith(("| ", ">>>")) or _COMMAND_OPTION.match(line) else " ") + line
    if joined.startswith("| "):
        joined = re.sub(r"(^|\n)\| ?", r"\1", joined)
    if joined.endswith("::"):
        joined = joined[:-2].rstrip() if joined == "::" or joined[-3:-2] == " " else joined[:-1]
    if text := plain_inline(joined, substitutions).strip():
        yield text


def _paragraph(lines: list[str], position: int) -> tuple[list[str], int]:
    """The lines from here to the next blank or indented one."""
    start = position
    while position < len(lines) and lines[position] and (position == start or lines[position][0] != " "):
        position += 1
    return lines[start:position], position


def _indented(lines: list[str], position: int) -> tuple[list[str], int]:
    """The indented lines from here on, blank ones between them included, with their common indentation removed."""
    start = end = position
    while position < len(lines) and (not lines[position] or lines[position][0] == " "):
        position += 1
        if lines[position - 1]:
            end = position
    margin = min((len(line) - len(line.lstrip()) for line in lines[start:end] if line), default=0)
    return [line[margin:] for line in lines[start:end]], end


def _list(lines: list[str], position: int, substitutions: _Substitutions, depth: int) -> tuple[list[str], int]:
    """A list, or fields: one paragraph if each item is a single line of text, else a paragraph an item."""
    items: list[list[str]] = []
    while position < len(lines):
        line = lines[position]
        if mark := _ITEM.match(line):
            first, label = line[mark.end() :], mark[0].strip() + " "
        elif field := _FIELD.match(line):
            first, label = field[2] or "", f"{field[1]}: "
        else:
            break
        rest, position = _indented(lines, position + 1)
        following = lines[position] if position < len(lines) else ""
        if not rest and following and not _ITEM.match(following) and not _FIELD.match(following):
            # Text that happens to begin like an item ("A. Lovelace wrote\nthis.") goes on without indentation.
            block, position = _paragraph(lines, position)
            first = " ".join([first, *block])
        blocks = list(_blocks([first, *rest] if first else rest, substitutions, depth + 1))
        items.append([label + (blocks[0] if blocks else ""), *blocks[1:]])
        while position < len(lines) and not lines[position]:
            position += 1
    if all(len(item) == 1 for item in items):
        return ["\n".join(item[0].rstrip() for item in items)], position
    return ["\n".join(item) for item in items], position


def _explicit(line: str, block: list[str], substitutions: _Substitutions, depth: int) -> Iterator[str]:
    """The text of a directive or footnote; nothing of comments and link targets."""
    if footnote := _FOOTNOTE.match(line):
        inner = list(_blocks([*([footnote[2]] if footnote[2] else []), *block], substitutions, depth + 1))
        yield "\n".join([f"{footnote[1]} {inner[0] if inner else ''}".rstrip(), *inner[1:]])
        return
    directive = _DIRECTIVE.match(line)
    if not directive or directive["name"] in _NO_TEXT:
        return
    name = directive["name"]
    arguments, options, content = _parts(directive["argument"] or "", block)
    if name in _VERBATIM:
        if name in _VERBATIM_ARGUMENTS and any(arguments):
            content = [*arguments, *content]
        yield from [options["caption"]] if options.get("caption") else []
        yield from ["\n".join(content).strip("\n")] if any(content) else []
        return
    if name in {"image", "figure"}:
        arguments = [options.get("alt", "")]
    elif name in _VERSIONS:
        version, _, rest = " ".join(arguments).partition(" ")
        arguments = [f"{_VERSIONS[name]} {version}{':' if rest else ''} {rest}".rstrip()]
    separator = "\n" if ":" in name or name in _OBJECTS else " "
    if argument := plain_inline(separator.join(arguments), substitutions).strip():
        yield argument
    yield from _blocks(content, substitutions, depth + 1)


def _parts(first: str, block: list[str]) -> tuple[list[str], dict[str, str], list[str]]:
    """A directive's argument lines, its options, and its content."""
    arguments, options = [first] if first else [], {}
    position = 0
    # Without an argument in the first line, what follows is content.
    while first and position < len(block) and block[position] and not _OPTION.match(block[position]):
        arguments.append(block[position].strip())
        position += 1
    while position < len(block) and (option := _OPTION.match(block[position])):
        options[option[1]] = option[2] or ""
        position += 1
        while position < len(block) and block[position].startswith(" "):
            position += 1
    return arguments, options, block[position:]


def _grid_table(lines: list[str], position: int) -> tuple[list[str], int]:
    """The rows of a table drawn with ``+--+`` and ``|`` from its first border on, and the position after it."""
    rows: list[list[list[str]]] = []
    cells: list[list[str]] = []
    while position < len(lines) and lines[position][:1] in {"+", "|"}:
        line = lines[position]
        position += 1
        if _GRID_BORDER.match(line):
            cells = []
            continue
        parts = [part.strip() for part in line.strip("|+").split("|")]
        if len(parts) != len(cells):  # the first line of a row, or one crossed by a border of a cell
            cells = [[] for _ in parts]
            rows.append(cells)
        for cell, part in zip(cells, parts, strict=True):
            cell.append("" if set(part) <= set("-=+") else part)
    return [row for row in map(_row, rows) if row.strip(" |")], position


def _simple_table(lines: list[str], position: int) -> tuple[list[str], int]:
    """The rows of a table whose columns lie under ``===  ===``; a line without a first cell continues the row above."""
    starts = [match.start() for match in re.finditer(r"=+", lines[position])]
    rows: list[list[list[str]]] = []
    borders = 1
    position += 1
    while position < len(lines):
        line = lines[position]
        position += 1
        if _SIMPLE_BORDER.match(line):
            borders += 1
            if borders == 3 or position >= len(lines) or not lines[position]:
                break
        elif line and not _SPAN.match(line):
            crossed = any(0 < start <= len(line) and line[start - 1] != " " for start in starts[1:])
            cuts = [0] if crossed else starts
            parts = [line[start:end].strip() for start, end in zip(cuts, [*cuts[1:], None], strict=True)]
            if not parts[0] and rows and len(rows[-1]) == len(parts):
                for cell, part in zip(rows[-1], parts, strict=True):
                    cell.append(part)
            else:
                rows.append([[part] for part in parts])
    return [_row(row) for row in rows], position


def _row(cells: list[list[str]]) -> str:
    """One row, cells separated by ``" | "``; the lines of a cell are joined by a space."""
    return " | ".join(" ".join(part for part in cell if part) for cell in cells).strip()
