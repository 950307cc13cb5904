"""Markdown (CommonMark and tables): headings, text without its marks, code as it stands.

Read with markdown-it-py, which is complete, maintained, pure Python and already here through rich. Links keep their
text, images their description; nothing is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..sections import Document, SectionBuilder
from .front_matter import split_front_matter, title_of
from .html import html_blocks
from .text import read_text

if TYPE_CHECKING:
    from markdown_it.tree import SyntaxTreeNode

_ATTRIBUTES = re.compile(r"\s{0,9}\{[#.:][^{}]{0,200}\}$")  # "Title {#anchor}", as Pandoc, Hugo and others write it
_DEEPEST = 60  # lists in lists, two levels each
_BREAK = re.compile(r"<br\s*/?>$", re.IGNORECASE)


def read(path: Path, max_bytes: int, encoding: str = "") -> Document:
    """Read a Markdown file; front matter becomes its metadata."""
    text, notes = read_text(path, max_bytes, encoding)
    metadata, body, refused = split_front_matter(text)
    builder = SectionBuilder()
    add_markdown(body, builder)
    return Document(builder.sections(title_of(metadata)), metadata, notes + refused)


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
