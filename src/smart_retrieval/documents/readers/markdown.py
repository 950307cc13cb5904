"""Markdown (CommonMark and tables): headings, text without its marks, code as it stands.

Read with markdown-it-py, which is complete, maintained, pure Python and already here through rich. Links keep their
text, images their description; nothing is loaded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..sections import Document, SectionBuilder, clean_text
from .html import html_blocks
from .text import read_text

if TYPE_CHECKING:
    from markdown_it.tree import SyntaxTreeNode

_FENCED = re.compile(r"---[ \t]*\n(.*?\n)??(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_FARTHEST = 65_536  # a block that does not end within so many characters is not front matter
_LONGEST_KEY = 100  # a sentence with a colon in it is no entry
_KEY = r"[^\s:#\-\[{'\"][^:\n]{0,99}?|'[^'\n]{1,99}'|\"[^\"\n]{1,99}\""
_ENTRY = re.compile(rf"(?P<key>{_KEY})[ \t]*:(?:[ \t]+(?P<value>.*))?$", re.MULTILINE)
_NEXT_ENTRY = re.compile(r"^(?=[^\s#-]|-[^ \t\n])", re.MULTILINE)  # unindented, no comment and no item of a list
_FLOW_LIST = re.compile(r"\[([^\[\]]*)\]$")
_COMMENT = re.compile(r"(?:^|[ \t])#.*$")
_NUMBER = re.compile(r"[-+]?(?:0|[1-9]\d{0,17})(?P<fraction>\.\d{1,30})?(?P<exponent>[eE][-+]?\d{1,3})?$")
_WORDS: dict[str, Any] = {"true": True, "false": False, "null": None, "~": None, "": None}

_ATTRIBUTES = re.compile(r"\s{0,9}\{[#.:][^{}]{0,200}\}$")  # "Title {#anchor}", as Pandoc, Hugo and others write it
_DEEPEST = 60  # lists in lists, two levels each
_BREAK = re.compile(r"<br\s*/?>$", re.IGNORECASE)


def read(path: Path, max_bytes: int, encoding: str = "") -> Document:
    """Read a Markdown file; front matter becomes its metadata."""
    text, notes = read_text(path, max_bytes, encoding)
    metadata, body = split_front_matter(text)
    builder = SectionBuilder()
    add_markdown(body, builder)
    title = metadata.get("title")
    return Document(builder.sections(title if isinstance(title, str) else ""), metadata, notes)


def split_front_matter(text: str) -> tuple[dict[str, Any], str]:
    r"""Take the front matter off a text with ``\n`` as its line end: its entries, and the rest of the text.

    Entries are strings, numbers, booleans and flat lists of those; empty and nested values are left out, dates stay
    strings, which sort as dates do. A block that holds anything but front matter stays in the text.
    """
    fenced = _FENCED.match(text, 0, _FARTHEST)
    entries = _entries(fenced[1] or "") if fenced else None
    if not fenced or entries is None:
        return {}, text
    return {key: value for key, value in entries.items() if value is not None}, text[fenced.end() :]


def _entries(block: str) -> dict[str, Any] | None:
    """The entries of a block, or None if it is not front matter: then it is text between two rules."""
    if not block.strip():
        return {}
    entries = _mapping(_compose(block))
    if entries is not None:
        return entries
    # YAML refuses the whole block for one entry such as ``title: Foo: bar``; so each entry by itself.
    entries = {}
    before, *chunks = _NEXT_ENTRY.split(block)
    for chunk in chunks:
        one = _mapping(_compose(chunk))
        if one is None:
            one = _refused_entry(chunk)
        if one is None:
            return None
        entries.update(one)
    comments = all(line.lstrip().startswith("#") for line in before.split("\n") if line.strip())
    return entries if entries and comments else None


def _compose(block: str) -> Any:
    """What YAML makes of a block: nodes, as Python objects would come with surprises; None if it refuses the block."""
    import yaml

    try:
        return yaml.compose(block, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError):  # escapes of no character, brackets in brackets
        return None


def _mapping(node: Any) -> dict[str, Any] | None:
    if node is None or node.id != "mapping":
        return None
    used: set[int] = set()
    entries: dict[str, Any] = {}
    for key, value in node.value:
        if key.id != "scalar" or len(key.value) > _LONGEST_KEY:
            return None
        entries[clean_text(key.value)] = _value(value, used)
    return entries


def _value(node: Any, used: set[int]) -> Any:
    """A scalar or a flat list; None for all else."""
    if id(node) in used:
        return None  # an alias: a few lines of them could unfold to gigabytes
    used.add(id(node))
    if node.id == "sequence":
        scalars = [_value(item, used) for item in node.value if item.id == "scalar"]
        items = [item for item in scalars if item is not None]
        return items if items or not node.value else None
    if node.id == "mapping" or node.style in {"|", ">"}:
        return None
    return clean_text(node.value) if node.style else _plain(node.value)


def _plain(text: str) -> Any:
    """A scalar without quotes, by the rules of YAML 1.2: ``no`` is a word, ``007`` no number."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    number = _NUMBER.match(text)
    if number and (number["fraction"] or number["exponent"]):
        return float(text) if math.isfinite(float(text)) else text
    return int(text) if number else text


def _refused_entry(chunk: str) -> dict[str, Any] | None:
    """An entry that YAML refuses: its value as it stands, or those items of its list that YAML reads."""
    first, *lines = chunk.split("\n")
    entry = _ENTRY.match(first)
    if not entry:
        return None
    key, value = entry["key"].strip("'\""), _COMMENT.sub("", entry["value"] or "").strip()
    if flow := _FLOW_LIST.match(value):
        return {key: [_plain(item.strip().strip("'\"")) for item in flow[1].split(",")]}
    if value:
        return {key: _plain(value)}
    nodes = [node for line in lines if (node := _compose(line)) is not None and node.id == "sequence"]
    return {key: [item for node in nodes for item in _value(node, set()) or []] or None}


def add_markdown(text: str, builder: SectionBuilder) -> None:
    """Add the headings and paragraphs of a text without front matter."""
    from markdown_it import MarkdownIt
    from markdown_it.tree import SyntaxTreeNode

    parser = MarkdownIt("commonmark", {"maxNesting": _DEEPEST}).enable(["table", "strikethrough"])
    tokens = parser.parse(text)
    if any(token.level >= _DEEPEST - 1 for token in tokens):
        builder.paragraph(text)  # the parser drops what is nested deeper; so the text as it stands
        return
    for node in SyntaxTreeNode(tokens).children:
        if node.type == "heading":
            builder.heading(int(node.tag[1:]), _ATTRIBUTES.sub("", _inline(node)))
        elif node.type == "html_block":
            for block in html_blocks(node.content):
                builder.block(*block)
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
