"""Neighbouring sections of one heading as one text: what passages are cut from."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

_LINE_ENDS = re.compile("\r\n?|\v|\x85|\u2028")
_PARAGRAPH_ENDS = re.compile("\n?[\f\u2029]\n?")
# Control characters, byte-order marks inside the text and soft hyphens: never seen, yet they split words in two for
# a tokenizer. NUL would also end a string in SQLite.
_INVISIBLE = re.compile("[\x00-\x08\x0e-\x1f\x7f\u00ad\ufeff\ufffe\uffff]")
# Half of a surrogate pair ("\ud800" in JSON) cannot be written as UTF-8, so tokenizers and databases refuse it.
_SURROGATES = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Section:
    """A stretch of a file under one heading, on one page.

    Attributes:
        text: Paragraphs separated by blank lines; never empty.
        heading: The headings it stands under, outermost first.
        page: Page number counted from 1 for formats that have pages, else None.
        key: The record's own id for formats made of records (JSON Lines), else empty. Text of different keys is
            never joined.
        metadata: What a record says about itself; empty for formats without records.
    """

    text: str
    heading: tuple[str, ...] = ()
    page: int | None = None
    key: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Document:
    """One file, read.

    Attributes:
        sections: In the order of the file; empty for an empty file.
        metadata: What the file says about itself: front matter, title, author. JSON values only.
        notes: What was guessed, repaired or passed over while reading, one sentence each.
    """

    sections: list[Section]
    metadata: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of text that fits the model, and where it came from.

    Attributes:
        id: ``"<source>#<n>"``, or ``"<source>#<key>"`` (then ``"<source>#<key>#1"``, ...) for records.
        text: The passage as it stands in the file.
        source: The file's path relative to what was indexed, ``/`` between folders.
        heading: The headings it stands under, outermost first.
        page: Page of its first character, counted from 1; None for formats without pages.
        order: Its place in the file, counted from 0.
        metadata: The file's and, over it, the record's.
        prefix: The headings as they go before the text for encoding; outer ones left out if they take too much room.
    """

    id: str
    text: str
    source: str
    heading: tuple[str, ...] = ()
    page: int | None = None
    order: int = 0
    metadata: Mapping[str, Any] = field(default_factory=dict)
    prefix: str = ""

    @property
    def text_for_encoding(self) -> str:
        r"""What the model should see: the heading path in a line of its own, then the text.

        Example:
            >>> Passage("a.md#0", "Use logrotate.", "a.md", prefix="Logs > Rotation").text_for_encoding
            'Logs > Rotation\nUse logrotate.'
        """
        return f"{self.prefix}\n{self.text}" if self.prefix else self.text


def clean_text(text: str) -> str:
    r"""Make text safe to tokenize and store: ``\n`` as the only line end, no control or half characters.

    Form feeds and paragraph separators become blank lines, half surrogate pairs U+FFFD; other control characters,
    soft hyphens and stray byte-order marks are removed.

    Example:
        >>> clean_text("one\r\ntwo\x00 co\u00adoperate")
        'one\ntwo cooperate'
    """
    if text.isascii() and text.isprintable():
        return text
    text = _PARAGRAPH_ENDS.sub("\n\n", _LINE_ENDS.sub("\n", text))
    return _SURROGATES.sub("\ufffd", _INVISIBLE.sub("", text))


class SectionBuilder:
    """Collects headings and paragraphs in reading order and turns them into sections.

    No word is lost: a heading with nothing beneath it becomes the text of a section of its own.

    Example:
        >>> builder = SectionBuilder()
        >>> builder.heading(1, "Logs")
        >>> builder.paragraph("They grow.")
        >>> builder.heading(2, "Rotation")
        >>> builder.sections()
        [Section(text='They grow.', heading=('Logs',), ...), Section(text='Rotation', heading=('Logs',), ...)]
    """

    def __init__(self) -> None:
        self._sections: list[Section] = []
        self._open: list[tuple[int, str]] = []
        self._paragraphs: list[str] = []
        self._bare = False  # the innermost heading has nothing beneath it yet
        self._has_top = False
        self._page: int | None = None
        self._bare_page: int | None = None

    def heading(self, level: int, text: str) -> None:
        """Begin a section; `level` counts from 1 and only its order matters, so levels may be skipped."""
        title = " ".join(clean_text(text).split())
        if not title:
            return
        self._has_top = self._has_top or level == 1
        nested = bool(self._open) and self._open[-1][0] < level
        if not nested:
            self._keep_bare_heading()
        self._flush()
        while self._open and self._open[-1][0] >= level:
            self._open.pop()
        self._open.append((level, title))
        self._bare, self._bare_page = True, self._page

    def page(self, number: int) -> None:
        """Turn to a page; what follows stands on it, under the same headings."""
        self._flush()
        self._page = number

    def paragraph(self, text: str) -> None:
        """Add a paragraph, a list, a table or a block of code; line breaks within it are kept."""
        cleaned = clean_text(text).strip("\n").rstrip()
        if cleaned.strip():
            self._paragraphs.append(cleaned)
            self._bare = False

    def sections(self, title: str = "") -> list[Section]:
        """Everything so far, in order.

        Args:
            title: The document's title, from front matter or ``<title>``. It goes above all headings, unless the
                document has a heading of level 1: it often says what a file is about when its text does not.
        """
        self._keep_bare_heading()
        self._flush()
        title = " ".join(clean_text(title).split())
        if not title or self._has_top:
            return list(self._sections)
        return [replace(section, heading=(title, *section.heading)) for section in self._sections]

    def _flush(self) -> None:
        if self._paragraphs:
            path = tuple(title for _, title in self._open)
            self._sections.append(Section("\n\n".join(self._paragraphs), path, self._page))
            self._paragraphs = []

    def _keep_bare_heading(self) -> None:
        if self._bare:
            *outer, (_, title) = self._open
            self._sections.append(Section(title, tuple(name for _, name in outer), self._bare_page))
            self._bare = False


@dataclass(frozen=True)
class Group:
    """Neighbouring sections under one heading: their text in one string, and the offset where each page begins."""

    text: str
    heading: tuple[str, ...]
    key: str
    metadata: Mapping[str, Any]
    offsets: tuple[int, ...]
    pages: tuple[int | None, ...]

    def page_at(self, offset: int) -> int | None:
        """The page of a character."""
        return self.pages[max(0, bisect_right(self.offsets, offset) - 1)]

    def headed(self, names: tuple[str, ...]) -> Group:
        """The same group, these of its headings written as lines before its text."""
        lines = "".join(f"{name}\n" for name in names)
        offsets = (0, *(offset + len(lines) for offset in self.offsets[1:]))
        return replace(self, text=lines + self.text, offsets=offsets)

    def followed_by(self, other: Group, heading: tuple[str, ...]) -> Group:
        """This group and another as one under a common heading."""
        shift = len(self.text) + 2
        offsets = (*self.offsets, *(offset + shift for offset in other.offsets))
        text = f"{self.text}\n\n{other.text}"
        return replace(self, text=text, heading=heading, offsets=offsets, pages=(*self.pages, *other.pages))


def groups(sections: Iterable[Section]) -> Iterator[Group]:
    """Join neighbouring sections of one heading and record."""
    run: list[Section] = []
    for section in sections:
        if not section.text.strip():
            continue
        if run and (section.heading, section.key) != (run[0].heading, run[0].key):
            yield _group(run)
            run = []
        run.append(section)
    if run:
        yield _group(run)


def _group(run: list[Section]) -> Group:
    offsets, length = [], 0
    for section in run:
        offsets.append(length)
        length += len(section.text) + 2
    first = run[0]
    text = first.text if len(run) == 1 else "\n\n".join(section.text for section in run)
    return Group(text, first.heading, first.key, first.metadata, tuple(offsets), tuple(part.page for part in run))
