"""Source code and notebooks: Python split along its definitions, other languages where blank lines are."""

from __future__ import annotations

import ast
import json
from itertools import groupby
from pathlib import Path
from typing import Any

from ...files import UnreadableFileError
from ..sections import Document, Section, SectionBuilder, clean_text, one_line
from .front_matter import split_front_matter, storable, title_of
from .markdown import add_markdown
from .text import read_text

_PYTHON = (".py", ".pyi", ".pyw")
_MOST_PARSED = 2_000_000  # characters; a tree takes a hundred times as much memory
_SAID = ("title", "author", "authors", "date", "description", "keywords", "tags")  # of what a notebook's metadata hold
_LONG_LINE = 500  # characters a line on average: written by a program for a program


def read(path: Path, max_bytes: int, encoding: str = "") -> Document:
    """Read source code; of Python, a function, class or method is a section of its own."""
    text, notes = read_text(path, max_bytes, encoding)
    lines = text.split("\n")
    if len(text) > _LONG_LINE * len(lines) and len(text) > 10 * _LONG_LINE:
        raise UnreadableFileError(path, "minified code")
    owners = _definitions(text, len(lines)) if path.suffix.lower() in _PYTHON else [()] * len(lines)
    sections = []
    for owner, group in groupby(zip(owners, lines, strict=True), key=lambda pair: pair[0]):
        part = "\n".join(line for _, line in group).strip("\n").rstrip()
        if part.strip():
            sections.append(Section(part, owner))
    return Document(sections, {}, notes)


def _definitions(text: str, count: int) -> list[tuple[str, ...]]:
    """Of every line, the definitions it stands in, outermost first; none where it is no Python of this version."""
    owners: list[tuple[str, ...]] = [()] * count
    lines = text.split("\n")

    def mark(body: list[ast.stmt], outer: tuple[str, ...]) -> None:
        for node in body:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            first = min([node.lineno, *(one.lineno for one in node.decorator_list)]) - 1
            while first and lines[first - 1].lstrip().startswith("#") and owners[first - 1] == outer:
                first -= 1  # the comment right above it
            inner = (*outer, f"{'class' if isinstance(node, ast.ClassDef) else 'def'} {node.name}")
            last = min(node.end_lineno or node.lineno, count)
            owners[first:last] = [inner] * (last - first)
            if isinstance(node, ast.ClassDef):
                mark(node.body, inner)

    if len(text) <= _MOST_PARSED:
        try:
            mark(ast.parse(text).body, ())
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return [()] * count
    return owners


def read_notebook(path: Path, max_bytes: int) -> Document:
    """Read a Jupyter notebook: its texts and its code in their order, not what the code printed."""
    text, notes = read_text(path, max_bytes)
    try:
        notebook = json.loads(text)
        sheets = [notebook] if "cells" in notebook else notebook["worksheets"]  # of format 3
        cells = [cell for sheet in sheets for cell in sheet["cells"]]
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise UnreadableFileError(path, "not a readable notebook", str(error)) from error
    builder = SectionBuilder()
    metadata: dict[str, Any] = {}
    for number, cell in enumerate(cells):
        kind = cell.get("cell_type") if isinstance(cell, dict) else None
        source = _joined(cell.get("source", cell.get("input", ""))) if kind else ""
        if number == 0 and kind in ("markdown", "raw"):
            metadata, source, refused = split_front_matter(source)
            notes += refused
        if kind == "markdown":
            add_markdown(source, builder)
        elif kind == "heading":
            level = cell.get("level")
            builder.heading(level if isinstance(level, int) else 1, source)
        elif kind in ("code", "raw"):
            builder.paragraph(source)
    about = notebook.get("metadata")
    spec = about.get("kernelspec") if isinstance(about, dict) else None
    language = one_line(str(spec.get("language") or "")) if isinstance(spec, dict) else ""
    said = {name: about[name] for name in _SAID if name in about} if isinstance(about, dict) else {}
    own, refused = storable(said)
    metadata = {**({"language": language} if language else {}), **own, **metadata}
    return Document(builder.sections(title_of(metadata)), metadata, notes + refused)


def _joined(source: Any) -> str:
    lines = source if isinstance(source, list) else [source]
    return clean_text("".join(line for line in lines if isinstance(line, str)))
