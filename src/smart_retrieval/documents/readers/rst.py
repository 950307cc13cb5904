"""reStructuredText: sections by underline, directives and roles reduced to what a reader sees.

A reader of our own rather than docutils: most reST in the wild is Sphinx's, whose roles and directives docutils
reports as errors without Sphinx around it (teaching it them means changing registries shared by the whole process);
this one takes any directive for what its text is, never fails, is many times as fast and needs no dependency. Nothing
is included, executed or loaded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..sections import Document, SectionBuilder
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


def plain_inline(text: str, substitutions: Mapping[str, str] | None = None) -> str:
    """Remove inline marks from text.

    Args:
        text: One paragraph.
        substitutions: What ``|name|`` stands for; unknown names stay.

    Example:
        >>> plain_inline("See :func:`rotate <logs.rotate>` and *docs_* of ``*args`` `here <https://a.org>`_.")
        'See rotate and docs_ of *args here.'
    """

    def replacement(match: re.Match[str]) -> str:
        kind = match.lastgroup
        found = match[kind] if kind else ""
        if match["quoted"] is not None:
            target = _TARGET.match(match["quoted"])
            return target[1] if target else match["quoted"].lstrip("~!")
        if kind == "name":
            return (substitutions or {}).get(found, match[0])
        if kind == "escaped":
            return "" if found.isspace() else found
        return found

    return _MARKS.sub(replacement, text)


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


_ADORNMENT = re.compile(r"([!-/:-@\[-`{-~])\1+\s*$")
_MARKUP = re.compile(r"\.\.(?:\s|$)")
_DIRECTIVE = re.compile(r"\.\.\s+(?:\|[^|\n]+\|\s+)?(?P<name>[A-Za-z][\w:.+-]*?)\s?::(?:\s+(?P<argument>.*))?$")
_FOOTNOTE = re.compile(r"\.\.\s+(\[[^\]\n]{1,60}\])(?:\s+(.*))?$")
_SUBSTITUTION = re.compile(r"^\.\.[ \t]+\|([^|\n]{1,100})\|[ \t]+(?:replace|unicode)::[ \t]+(.*)$", re.MULTILINE)
_OPTION = re.compile(r":([\w-]+):(?:\s+(.*))?$")
_FIELD = re.compile(r":(?![\s:])([^:`\n]{1,100}):(?:\s+(.*))?$")
_ITEM = re.compile(r"(?:[-*+•]|(?:\d{1,9}|#|[A-Za-z])[.)]|\((?:\d{1,9}|#|[A-Za-z])\))(?:\s+|$)")
_COMMAND_OPTION = re.compile(r"(?:--?|/)\w[^\n]{0,100}?(?:\s{2,}|$)")

_UNREAD = """toctree contents index include literalinclude raw highlight highlightlang default-role role currentmodule
    py:currentmodule automodule autoclass autofunction autosummary automethod autodata autoexception tabularcolumns meta
    sectnum section-numbering header footer target-notes testsetup testcleanup plot bibliography"""
_NO_TEXT = frozenset(_UNREAD.split())
_AS_THEY_STAND = """code code-block sourcecode parsed-literal productionlist prompt doctest testcode testoutput math
    csv-table graphviz digraph graph console ipython"""
_VERBATIM = frozenset(_AS_THEY_STAND.split())
_DESCRIBED = """function method class classmethod staticmethod data attribute exception module describe option envvar
    program decorator decoratormethod cmdoption confval setting opcode"""
_OBJECTS = frozenset(_DESCRIBED.split())
_VERSIONS = {
    "versionadded": "Added in version",
    "versionchanged": "Changed in version",
    "deprecated": "Deprecated since version",
    "versionremoved": "Removed in version",
}
_DEEPEST = 40


def read(path: Path, max_bytes: int) -> Document:
    """Read a reStructuredText file; the fields before its first title become metadata.

    Raises:
        UnreadableFileError: The file cannot be read, or is not text.
    """
    text, notes = read_text(path, max_bytes)
    builder = SectionBuilder()
    metadata = add_rst(text, builder)
    return Document(builder.sections(), metadata, notes)


def add_rst(text: str, builder: SectionBuilder) -> dict[str, str]:
    r"""Put reStructuredText into sections.

    Returns:
        The fields (``:author: Ada``) at the beginning of the text.

    Example:
        >>> builder = SectionBuilder()
        >>> add_rst("Logs\n====\n\n.. note:: They *grow*.", builder)
        {}
        >>> builder.sections()[0].text, builder.sections()[0].heading
        ('They grow.', ('Logs',))
    """
    substitutions = {name: plain_inline(value) for name, value in _SUBSTITUTION.findall(text)}
    lines = [line.rstrip() for line in text.expandtabs(8).split("\n")]
    metadata, position = _fields(lines)
    styles: list[str] = []
    pending: list[str] = []

    def flush() -> None:
        for block in _blocks(pending, substitutions, 0):
            builder.paragraph(block)
        pending.clear()

    while position < len(lines):
        style, title, used = _title(lines, position)
        if used:
            flush()
            if style not in styles:
                styles.append(style)
            builder.heading(styles.index(style) + 1, plain_inline(title, substitutions))
            position += used
        else:
            pending.append(lines[position])
            position += 1
    flush()
    return metadata


def _fields(lines: list[str]) -> tuple[dict[str, str], int]:
    """The field list a file may begin with, and the number of lines it takes."""
    metadata: dict[str, str] = {}
    position = 0
    while position < len(lines) and (not lines[position] or _OPTION.match(lines[position])):
        if field := _OPTION.match(lines[position]):
            metadata[field[1]] = field[2] or ""
        position += 1
    return {name: value for name, value in metadata.items() if value}, position


def _title(lines: list[str], position: int) -> tuple[str, str, int]:
    """A title at this line: its style of underlining, its text and the lines it takes (0: there is none)."""
    line = lines[position]
    before = lines[position - 1] if position else ""
    if not line or (before and not _MARKUP.match(before) and not _ADORNMENT.match(before)):
        return "", "", 0
    one = lines[position + 1] if position + 1 < len(lines) else ""
    two = lines[position + 2] if position + 2 < len(lines) else ""
    if _ADORNMENT.match(line):
        # Line, title, the same line again; the title may be indented.
        if one and one.strip() and two == line and not _ADORNMENT.match(one) and len(line) >= min(4, len(one)):
            return line[0] * 2, one, 3
        return "", "", 0
    if line[0] != " " and _ADORNMENT.match(one) and len(one) >= min(4, len(line)) and not is_simple_border(line):
        return one[0], line, 2
    return "", "", 0


def _blocks(lines: list[str], substitutions: Mapping[str, str], depth: int) -> Iterator[str]:
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
        elif is_grid_border(line) or is_simple_border(line):
            read_table = grid_table if is_grid_border(line) else simple_table
            rows, position = read_table(lines, position)
            yield "\n".join(plain_inline(row, substitutions) for row in rows)
        elif _ITEM.match(line) or _FIELD.match(line):
            items, position = _list(lines, position, substitutions, depth)
            yield from items
        else:
            block, position = _paragraph(lines, position)
            yield from _text(block, lines, position, substitutions)
            if position < len(lines) and lines[position - 1] and lines[position].startswith(" "):
                continue  # the definition of a term
            if block[-1].endswith("::"):
                while position < len(lines) and not lines[position]:
                    position += 1
                code, position = _indented(lines, position)
                if any(code):
                    yield "\n".join(code).strip("\n")


def _text(block: list[str], lines: list[str], position: int, substitutions: Mapping[str, str]) -> Iterator[str]:
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


def _list(lines: list[str], position: int, substitutions: Mapping[str, str], depth: int) -> tuple[list[str], int]:
    """A list, or fields: one paragraph if each item is a single line of text, else a paragraph an item."""
    items: list[list[str]] = []
    while position < len(lines):
        line = lines[position]
        mark, field = _ITEM.match(line), _FIELD.match(line)
        if not mark and not field:
            break
        rest, end = _indented(lines, position + 1)
        if not mark and field:
            first, label = field[2] or "", f"{field[1]}: "
        else:
            assert mark
            first, label = line[mark.end() :], line[: mark.end()].strip() + " "
        if (
            not rest
            and end < len(lines)
            and lines[end]
            and not _ITEM.match(lines[end])
            and not _FIELD.match(lines[end])
        ):
            # Text that happens to begin like an item ("A. Lovelace wrote\nthis.") goes on without indentation.
            block, end = _paragraph(lines, end)
            first = " ".join([first, *block])
        blocks = list(_blocks([first, *rest] if first else rest, substitutions, depth + 1))
        items.append([label + (blocks[0] if blocks else ""), *blocks[1:]])
        position = end
        while position < len(lines) and not lines[position]:
            position += 1
    if all(len(item) == 1 for item in items):
        return ["\n".join(item[0].rstrip() for item in items)], position
    return ["\n".join(item) for item in items], position


def _explicit(line: str, block: list[str], substitutions: Mapping[str, str], depth: int) -> Iterator[str]:
    """What a reader sees of a directive or footnote; nothing of comments and link targets."""
    if footnote := _FOOTNOTE.match(line):
        inner = list(_blocks([*([footnote[2]] if footnote[2] else []), *block], substitutions, depth + 1))
        yield "\n".join([f"{footnote[1]} {inner[0] if inner else ''}".rstrip(), *inner[1:]])
        return
    directive = _DIRECTIVE.match(line)
    if not directive:
        return
    name = directive["name"]
    if name in _NO_TEXT or name in {"replace", "unicode"}:
        return
    arguments, options, content = _parts(directive["argument"] or "", block)
    if name in _VERBATIM:
        if name in {"math", "prompt", "csv-table", "productionlist"} and any(arguments):
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
    while position < len(block) and block[position] and not _OPTION.match(block[position]):
        if not first:
            break  # without an argument in the first line, what follows is content
        arguments.append(block[position].strip())
        position += 1
    while position < len(block) and (option := _OPTION.match(block[position])):
        options[option[1]] = option[2] or ""
        position += 1
        while position < len(block) and block[position].startswith(" "):
            position += 1
    return arguments, options, block[position:]
