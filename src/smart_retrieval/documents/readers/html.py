"""HTML: headings, paragraphs, lists and tables as text; scripts, styles and navigation left out.

Read with the standard library's parser: it needs no dependency, works on a stream of tags (no tree, so nesting can be
as deep as it likes), expands no XML entities and loads nothing. lxml and Beautiful Soup would bring 5 MB of binaries
or a second layer over this same parser for a tree that is not needed here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

from ...files import read_bytes
from ..sections import Document, SectionBuilder, clean_text, one_line
from .text import decode

_HEADINGS = {"h1": 1, "h2": 2, "h3": 3, "h4": 4, "h5": 5, "h6": 6}
_NEVER_TEXT = frozenset({"script", "style", "template", "noscript", "iframe", "object", "textarea", "select", "svg"})
_NAVIGATION = frozenset({"nav", "button", "dialog"})
# Hidden parts are skipped only in elements that must be closed, or the rest of the page could go with them.
_CLOSED = frozenset({"div", "section", "span", "aside", "ul", "ol", "table", "header", "footer", "figure", "a", "form"})
_PARAGRAPHS = frozenset(
    """address article aside blockquote body center dd details div dl dt fieldset figcaption figure footer form
    header hr html main ol p pre section summary table ul caption""".split()  # noqa: SIM905
)
_LINES = frozenset({"li", "tr", "br", "dt", "dd", "option", "caption"})
_GROUPS = frozenset({"ul", "ol", "table", "dl"})  # within these, blocks are lines of one paragraph
_VOID = frozenset("area base br col embed hr img input link meta source track wbr".split())  # noqa: SIM905

_SPACES = re.compile(r"[ \t\n\f\r\xa0]+")
_OPAQUE = re.compile(r"<!--|<(?:script|style)(?=[\s>/])", re.IGNORECASE)
_MARKED = re.compile(r"<!\[[^>]*>|<\?[^>]*>")
_META = re.compile(
    rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w.:-]{2,40})|<\?xml[^>]{0,100}?encoding=[\"']([\w.:-]{2,40})", re.I
)
# Only what web pages are written in: Python also knows "encodings" that are slow or not encodings at all.
_KNOWN_ENCODING = re.compile(
    r"utf-?8|(iso-?8859|windows|cp|koi8|gb|big5|euc|shift|iso-2022|mac|ibm|tis)[\w-]*$|sjis|latin-?1", re.I
)


class Block(NamedTuple):
    """A heading (`level` 1 to 6) or a paragraph (`level` 0)."""

    level: int
    text: str


def read(path: Path, max_bytes: int) -> Document:
    """Read a web page.

    Its ``<title>`` and language become metadata; the title also stands above headings that lack an ``<h1>``.
    """
    data = read_bytes(path, max_bytes)
    text, note = decode(data, path, _declared(data))
    parser = _parse(text)
    builder = SectionBuilder()
    for block in parser.blocks:
        builder.block(*block)
    found = {"title": parser.title, "language": parser.language, "description": parser.description}
    metadata = {name: value for name, value in found.items() if value}
    return Document(builder.sections(parser.title), metadata, [note] if note else [])


def html_blocks(markup: str) -> list[Block]:
    """Headings and paragraphs of a fragment of HTML, in order."""
    return _parse(markup).blocks


def _parse(markup: str) -> _TextParser:
    """Run the parser; once more with navigation if skipping it lost the end of the page."""
    cleaned = _harmless(clean_text(markup))
    parser = _TextParser(_NEVER_TEXT | _NAVIGATION)
    parser.run(cleaned)
    if parser.skip_depth:  # an element that is never closed: better some navigation than no text
        parser = _TextParser(frozenset())
        parser.run(cleaned)
    return parser


def _declared(data: bytes) -> str:
    """The encoding a page names in its first bytes; Latin-1 means Windows-1252 on the web."""
    match = _META.search(data, 0, 2048)
    name = (match[1] or match[2]).decode("ascii") if match else ""
    if not _KNOWN_ENCODING.match(name):
        return ""
    return "cp1252" if re.fullmatch(r"(iso-?8859-?1|latin-?1)", name, re.IGNORECASE) else name


def _harmless(markup: str) -> str:
    """Remove comments, scripts, styles and processing instructions, in time linear in the length.

    The standard parser takes quadratic time on long runs of unfinished comments and tags; after this there are none.
    """
    last = markup.rfind(">") + 1
    markup, tail = markup[:last], markup[last:].replace("<", "&lt;")
    lower = markup.lower() if len(markup.lower()) == len(markup) else markup  # "İ" grows when lowered
    parts: list[str] = []
    unfinished: set[str] = set()
    position = copied = 0
    while match := _OPAQUE.search(markup, position):
        opening = match[0].lower()
        closing = {"<!--": "-->", "<script": "</script", "<style": "</style"}[opening]
        end = -1 if opening in unfinished else lower.find(closing, match.start() + 2)
        position = match.end()
        if end < 0:
            unfinished.add(opening)  # nothing closes later ones either
            if opening == "<!--":
                parts += [markup[copied : match.start()], "&lt;!--"]
                copied = position
            continue
        parts.append(markup[copied : match.start()])
        copied = position = end + len(closing)
        if opening != "<!--":
            copied = position = max(markup.find(">", position) + 1, position)
    parts.append(markup[copied:])
    return _MARKED.sub("", "".join(parts)) + tail


class _TextParser(HTMLParser):
    """Turns tags and data into blocks."""

    def __init__(self, skipped: frozenset[str]) -> None:
        super().__init__(convert_charrefs=True)
        self.blocks: list[Block] = []
        self.title = ""
        self.language = ""
        self.description = ""
        self._skipped = skipped
        self._skip_tag = ""  # the element being skipped, and how many of its kind are open within
        self.skip_depth = 0
        self._parts: list[str] = []
        self._level = 0
        self._preformatted = 0
        self._groups = 0
        self._in_title = False
        self._row_started = True

    def run(self, markup: str) -> None:
        self.feed(markup)
        self.close()
        self._end_block()

    def parse_marked_section(self, i: int, report: int = 1) -> int:
        """Skip what the standard parser would stop at (``<![odd]>``)."""
        end = self.rawdata.find(">", i)
        return end + 1 if end >= 0 else len(self.rawdata)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self.skip_depth:
            self.skip_depth += tag == self._skip_tag
            return
        if tag not in _VOID and self._to_skip(tag, dict(attrs)):
            self._skip_tag, self.skip_depth = tag, 1
        elif tag in _HEADINGS:
            self._end_block()
            self._level = _HEADINGS[tag]
        elif tag == "title":
            self._in_title = not self.title
        elif tag in {"td", "th"}:
            self._add("" if self._row_started else " | ")
            self._row_started = False
        elif tag == "img":
            self._add(f" {one_line(dict(attrs).get('alt') or '')} ")
        elif tag == "html":
            self.language = clean_text(dict(attrs).get("lang") or "")
        elif tag == "meta" and (dict(attrs).get("name") or "").lower() == "description":
            self.description = one_line(dict(attrs).get("content") or "")
        self._boundary(tag, opening=True)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """``<div/>`` opens a div in HTML; only elements without content close themselves."""
        if tag in self._skipped and not self.skip_depth:
            return  # <svg/>, <script/> in XHTML
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if self.skip_depth:
            self.skip_depth -= tag == self._skip_tag
            return
        if tag in _HEADINGS:
            self._end_block()
        elif tag == "title":
            self._in_title = False
        self._boundary(tag, opening=False)

    def handle_data(self, data: str) -> None:
        if self.skip_depth:
            return
        if self._in_title:
            self.title = one_line(self.title + data)
        elif self._preformatted:
            self._parts.append(data)
        else:
            self._add(_SPACES.sub(" ", data))

    def _add(self, text: str) -> None:
        """Add text; of two spaces that meet, one is enough."""
        if text.startswith(" ") and self._parts and self._parts[-1][-1].isspace():
            text = text[1:]
        if text:
            self._parts.append(text)

    def _to_skip(self, tag: str, attrs: dict[str, str | None]) -> bool:
        if tag in self._skipped or not self._skipped or tag not in _CLOSED:
            return tag in self._skipped
        style = (attrs.get("style") or "").replace(" ", "").lower()
        return (
            "hidden" in attrs
            or attrs.get("aria-hidden") == "true"
            or attrs.get("role") == "navigation"
            or "display:none" in style
            or (tag == "a" and "headerlink" in (attrs.get("class") or ""))
        )

    def _boundary(self, tag: str, *, opening: bool) -> None:
        """Break the line or the paragraph where the element does."""
        if tag in _GROUPS:
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
