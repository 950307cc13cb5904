"""HTML: headings, paragraphs, lists and tables as text; scripts, styles and navigation left out.

The tree is built by lexbor (selectolax): by the standard's rules, so as browsers see the page; 1.5 MB in C, with wheels
everywhere. html5lib, in Python, is far slower and not kept up any more; lxml's trees are not the standard's. What a
reader may reveal (``hidden``, accordions, tab panels, buttons) is text; navigation, ``<noscript>``, templates and the
choices of forms are only where a page has next to no other text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ...files import read_bytes
from ..sections import Document, SectionBuilder, clean_text, one_line
from .front_matter import split_front_matter, title_of
from .html_markup import ASIDE, Markup
from .text import decode

if TYPE_CHECKING:
    from selectolax.lexbor import LexborNode

_LEVELS = {"h1": 1, "h2": 2, "h3": 3, "h4": 4, "h5": 5, "h6": 6}
_PARAGRAPHS = frozenset({"div", "p", "hr", "dt", "dd"})
_LINES = frozenset({"li", "tr", "br", "dt", "dd", "caption"})
_GROUPS = frozenset({"ul", "ol", "table", "dl"})  # within these, blocks are lines of one paragraph
_FEW_WORDS = 5  # "Loading...", "Please wait while the page loads"

_SPACES = re.compile(r"[ \t\n\f\r\xa0]+")
# Comments are matched first, so that what they hold is passed over; one without an end runs to the end.
_DECLARATION = re.compile(
    rb"<!--.*?(?:-->|\Z)|<meta[^>]{0,400}?charset\s*=\s*[\"']?\s*([\w.:+-]{2,40})"
    rb"|<\?xml[^>]{0,100}?encoding\s*=\s*[\"']([\w.:+-]{2,40})",
    re.IGNORECASE | re.DOTALL,
)
_DECLARED_WITHIN = 65_536  # bytes; the standard says 1,024, browsers look further


class Block(NamedTuple):
    """A heading (`level` 1 to 6) or a paragraph (`level` 0)."""

    level: int
    text: str


def read(path: Path, max_bytes: int, encoding: str = "") -> Document:
    """Read a web page.

    Its ``<title>``, language, description, author and keywords become metadata; the title also stands above headings
    that lack an ``<h1>``.
    """
    data = read_bytes(path, max_bytes)
    text, notes = decode_page(data, path, encoding=encoding)
    front, markup, refused = split_front_matter(clean_text(text))  # of pages that a site is built from
    page = Markup(markup)
    builder = SectionBuilder()
    for block in _blocks(page.body):
        builder.block(*block)
    metadata = {**page.said, **front}
    return Document(builder.sections(title_of(metadata)), metadata, notes + refused)


def decode_page(data: bytes, path: Path, declared: str = "", encoding: str = "") -> tuple[str, list[str]]:
    """A page as text, see `decode`: in the encoding that is declared for it, else in the one that it names itself."""
    return decode(data, path, declared or _declared(data), encoding)


def html_blocks(markup: str) -> list[Block]:
    """Headings and paragraphs of HTML, a fragment or a whole page, in order."""
    return _blocks(Markup(clean_text(markup)).body)


def _declared(data: bytes) -> str:
    """The encoding a page names."""
    for match in _DECLARATION.finditer(data, 0, _DECLARED_WITHIN):
        if name := match[1] or match[2]:
            return name.decode("ascii")
    return ""


def _blocks(body: str) -> list[Block]:
    if not body.strip():
        return []
    from selectolax.lexbor import LexborHTMLParser

    root = LexborHTMLParser(f"<body>{body}").body
    if root is None:
        return []
    blocks = _Text(root, whole=False).blocks
    if f" class={ASIDE}>" in body and sum(len(block.text.split()) for block in blocks) < _FEW_WORDS:
        blocks = _Text(root, whole=True).blocks
    return blocks


class _Text:
    """The blocks of a tree: a walk over it that breaks lines and paragraphs where elements do."""

    def __init__(self, root: LexborNode, *, whole: bool) -> None:
        self.blocks: list[Block] = []
        self._whole = whole
        self._parts: list[str] = []
        self._level = 0
        self._preformatted = 0
        self._groups = 0
        self._row_started = True
        self._walk(root)
        self._end_block()

    def _walk(self, root: LexborNode) -> None:
        node = root.child
        while node is not None:
            tag = node.tag
            if tag == "-text":
                self._data(node.text_content or "")
            elif self._whole or not node.attributes:  # the only attribute left is the class of what stands aside
                self._start(tag or "")
                if (child := node.child) is not None:
                    node = child
                    continue
                self._boundary(tag or "", opening=False)
            while node is not None and node.next is None:
                node = node.parent
                if node is None or node.mem_id == root.mem_id:
                    return
                self._boundary(node.tag or "", opening=False)
            node = node.next if node is not None else None

    def _start(self, tag: str) -> None:
        if tag in _LEVELS:
            self._end_block()
            self._level = _LEVELS[tag]
        elif tag in {"td", "th"}:
            self._add("" if self._row_started else " | ")
            self._row_started = False
        self._boundary(tag, opening=True)

    def _data(self, data: str) -> None:
        if self._preformatted:
            self._parts.append(data)
        else:
            self._add(_SPACES.sub(" ", data))

    def _add(self, text: str) -> None:
        """Add text; of two spaces that meet, one is enough."""
        if text.startswith(" ") and self._parts and self._parts[-1][-1].isspace():
            text = text[1:]
        if text:
            self._parts.append(text)

    def _boundary(self, tag: str, *, opening: bool) -> None:
        """Break the line or the paragraph where the element does."""
        if tag in _LEVELS and not opening:
            self._end_block()
        elif tag in _GROUPS:
            if self._groups == 0:
                self._end_block()
            self._groups = max(0, self._groups + (1 if opening else -1))
            self._parts.append("\n")
            if not opening and self._groups == 0:
                self._end_block()
        elif tag == "pre":
            if self._groups == 0:
                self._end_block()
            self._preformatted = max(0, self._preformatted + (1 if opening else -1))
            self._parts.append("\n")
        elif tag in _LINES:
            self._parts.append("\n- " if tag == "li" and opening else "\n")
            self._row_started = self._row_started or tag == "tr"
        elif tag in _PARAGRAPHS and not self._level:
            if self._groups:
                # A paragraph in a list item or a cell; a cell goes on in its line.
                self._add(" " if not self._row_started else "\n" if not opening else "")
            else:
                self._end_block()

    def _end_block(self) -> None:
        """Finish the heading or paragraph that is open."""
        joined, self._parts = "".join(self._parts), []
        if self._level:
            text = one_line(joined).rstrip("¶ ").strip()
        elif joined.strip():
            text = "\n".join(_lines(joined))
        else:
            text = ""
        if text:
            self.blocks.append(Block(self._level, text))
        self._level = 0


def _lines(joined: str) -> Iterator[str]:
    """The lines of a block that are not empty; a list's mark goes with the text after it."""
    mark = ""
    for line in joined.split("\n"):
        stripped = line.strip()
        if stripped in {"", "-"}:
            mark = "- " if stripped else mark
            continue
        yield mark + line.rstrip() if not line.startswith(" ") or line.startswith("  ") else mark + stripped
        mark = ""
