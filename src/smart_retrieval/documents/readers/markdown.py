"""Markdown (CommonMark and tables): headings, text without its marks, code as it stands.

Read with markdown-it-py, which is complete, maintained, pure Python and already here through rich. Links keep their
text, images their description; nothing is loaded.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..sections import Document, SectionBuilder
from .html import html_blocks
from .text import read_text

if TYPE_CHECKING:
    from markdown_it.tree import SyntaxTreeNode

_FENCED = re.compile(r"---[ \t]*\n(.*?\n)??(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_FARTHEST = 65_536  # a block that does not end within so many characters is not front matter
_ENTRY = re.compile(
    r"(?P<key>[^\s:#\-\[{'\"][^:\n]{0,99}?|'[^'\n]{1,99}'|\"[^\"\n]{1,99}\")[ \t]*:(?:[ \t]+(?P<value>.*))?$"
)
_ITEM = re.compile(r"[ \t]*-[ \t]+(.*)$")
_COMMENT = re.compile(r"(?:^|[ \t])#.*$")
_NUMBER = re.compile(r"[-+]?(?:0|[1-9]\d{0,17})(?P<fraction>\.\d{1,30})?(?P<exponent>[eE][-+]?\d{1,3})?$")
_WORDS: dict[str, Any] = {"true": True, "false": False, "null": None, "~": None, "": None}


def split_front_matter(text: str) -> tuple[dict[str, Any], str]:
    r"""Take the front matter off a text.

    Args:
        text: A text with ``\n`` as its line end.

    Returns:
        Its entries (strings, numbers, booleans, flat lists of those; empty and nested values left out), and the rest
        of the text. A block that holds anything but front matter stays in the text.

    Example:
        >>> split_front_matter("---\ntitle: Logs\nyear: 2024\ntags: [a, b]\n---\nText.")
        ({'title': 'Logs', 'year': 2024, 'tags': ['a', 'b']}, 'Text.')
    """
    fenced = _FENCED.match(text, 0, _FARTHEST)
    if not fenced:
        return {}, text
    entries = _entries((fenced[1] or "").split("\n"))
    return ({}, text) if entries is None else (entries, text[fenced.end() :])


def _entries(lines: list[str]) -> dict[str, Any] | None:
    """The entries of a block, or None if some unindented line is not an entry: then it is text between two rules."""
    entries: dict[str, Any] = {}
    key, seen = "", False
    for line in lines:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        item = _ITEM.match(line)
        entry = None if item else _ENTRY.match(line)
        if entry:
            seen = True
            key = entry["key"].strip().strip("'\"")
            value = _value(entry["value"] or "")
            # Indented lines after "key:" or "key: >" are its value; only a list among them is understood.
            entries[key] = None if isinstance(value, str) and value[:1] in {"|", ">", "&", "*", "{"} else value
        elif item and key:
            kept = entries.get(key)
            element = _value(item[1])
            if (kept is None or isinstance(kept, list)) and element is not None and not _looks_nested(item[1]):
                entries[key] = [*(kept or []), element]
        elif not (key and line[0] in " \t"):
            return None
    if not seen and any(line.strip() for line in lines):
        return None
    return {key: value for key, value in entries.items() if value is not None}


def _looks_nested(item: str) -> bool:
    """Whether a list's element is itself a mapping (``- name: x``)."""
    return item[:1] not in {"'", '"'} and bool(re.search(r":(?:\s|$)", item))


def _value(raw: str) -> Any:
    """A scalar or a flat ``[list]``; dates stay strings, which sort as dates do."""
    raw = raw.strip()
    if raw[:1] in {"'", '"'}:
        return _quoted(raw)
    raw = _COMMENT.sub("", raw).strip()
    if raw.startswith("[") and raw.endswith("]"):
        return [value for part in _list_parts(raw[1:-1]) if (value := _value(part)) is not None]
    if raw.lower() in _WORDS:
        return _WORDS[raw.lower()]
    number = _NUMBER.match(raw)
    if number and (number["fraction"] or number["exponent"]):
        return float(raw) if math.isfinite(float(raw)) else raw
    return int(raw) if number else raw


def _quoted(raw: str) -> str:
    """A string in quotes; a comment may follow it."""
    quote = raw[0]
    if quote == "'":
        closed = re.match(r"'((?:[^']|'')*)'", raw)
        return closed[1].replace("''", "'") if closed else raw
    closed = re.match(r'"(?:[^"\\]|\\.)*"', raw)
    if not closed:
        return raw
    try:
        return str(json.loads(closed[0]))
    except ValueError:
        return closed[0][1:-1]


def _list_parts(inner: str) -> list[str]:
    """The elements of a flow list, commas within quotes left alone."""
    return [
        part for part in re.findall(r"""\s*("(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^,]+)\s*(?:,|$)""", inner) if part.strip()
    ]


_ATTRIBUTES = re.compile(r"\s{0,9}\{[#.:][^{}]{0,200}\}$")  # "Title {#anchor}", as Pandoc, Hugo and others write it
_DEEPEST = 60  # lists in lists, two levels each
_BREAK = re.compile(r"<br\s*/?>$", re.IGNORECASE)


def read(path: Path, max_bytes: int) -> Document:
    """Read a Markdown file; front matter becomes its metadata.

    Raises:
        UnreadableFileError: The file cannot be read, or is not text.
    """
    text, notes = read_text(path, max_bytes)
    metadata, body = split_front_matter(text)
    builder = SectionBuilder()
    add_markdown(body, builder)
    title = metadata.get("title")
    return Document(builder.sections(title if isinstance(title, str) else ""), metadata, notes)


def add_markdown(text: str, builder: SectionBuilder) -> None:
    r"""Put Markdown text into sections.

    Example:
        >>> builder = SectionBuilder()
        >>> add_markdown("# Logs\n\nUse [logrotate](https://example.org).", builder)
        >>> builder.sections()[0].text, builder.sections()[0].heading
        ('Use logrotate.', ('Logs',))
    """
    from markdown_it import MarkdownIt
    from markdown_it.tree import SyntaxTreeNode

    parser = MarkdownIt("commonmark", {"maxNesting": _DEEPEST}).enable(["table", "strikethrough"])
    tokens = parser.parse(text)
    if any(token.level >= _DEEPEST - 1 for token in tokens):
        builder.paragraph(text)  # the parser drops what is nested deeper; so take the text as it stands
        return
    for node in SyntaxTreeNode(tokens).children:
        if node.type == "heading":
            builder.heading(int(node.tag[1:]), _ATTRIBUTES.sub("", _inline(node)))
        elif node.type == "html_block":
            for block in html_blocks(node.content):
                if block.level:
                    builder.heading(block.level, block.text)
                else:
                    builder.paragraph(block.text)
        elif node.type == "blockquote":
            for child in node.children:  # a paragraph each, so that long quotations can be cut between them
                builder.paragraph("\n".join(_lines(child)))
        else:
            builder.paragraph("\n".join(_lines(node)))


def _lines(node: SyntaxTreeNode, number: int = 0) -> Iterator[str]:
    """The lines of a block within a section; blank lines only where code has them."""
    if node.type in {"fence", "code_block"}:
        yield from node.content.rstrip("\n").split("\n")
    elif node.type == "html_block":
        for block in html_blocks(node.content):
            yield from block.text.split("\n")
    elif node.type in {"bullet_list", "ordered_list"}:
        start = int(node.attrs.get("start", 1)) if node.type == "ordered_list" else 0
        for offset, item in enumerate(node.children):
            mark = f"{start + offset}. " if node.type == "ordered_list" else "- "
            lines = [line for child in item.children for line in _lines(child)] or [""]
            yield (mark + lines[0]).rstrip()
            yield from (" " * len(mark) + line if line else line for line in lines[1:])
    elif node.type == "table":
        for part in node.children:
            for row in part.children:
                yield " | ".join(_inline(cell).replace("\n", " ") for cell in row.children)
    elif node.type in {"paragraph", "heading"}:
        yield from _inline(node).split("\n")
    else:
        for child in node.children:
            yield from _lines(child)


def _inline(node: SyntaxTreeNode) -> str:
    """The text of a block's inline content."""
    return "".join(part for child in node.children for part in _inline_parts(child)).strip()


def _inline_parts(node: SyntaxTreeNode) -> Iterator[str]:
    if node.type in {"text", "code_inline", "text_special"}:
        yield node.content
    elif node.type == "softbreak":
        yield " "
    elif node.type == "hardbreak" or (node.type == "html_inline" and _BREAK.match(node.content)):
        yield "\n"
    elif node.type != "html_inline":  # tags and comments within a line
        for child in node.children:
            yield from _inline_parts(child)
