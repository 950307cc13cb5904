"""What a file is read into: its text in sections under headings, and what it says about itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

_LINE_ENDS = re.compile("\r\n?|\v|\x85|\u2028")
_PARAGRAPH_ENDS = re.compile("\n?[\f\u2029]\n?")
# Control characters, byte-order marks inside the text, soft hyphens, marks of direction and invisible operators: not
# seen, yet they split words in two for a tokenizer. NUL would also end a string in SQLite.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f\u00ad\u034f\u061c\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufffe\uffff]"
)
# Characters without width that mean something in some scripts only. A zero-width space parts the words of Thai, Lao,
# Tibetan, Burmese and Khmer. Joiners shape letters from Hebrew and Arabic on, in India's scripts, and emoji.
_WORDS_PARTED = "\u0e00-\u109f\u1780-\u17ff\u1950-\u1aaf"
_SHAPED = "\u0590-\u1dff\u2190-\u2bff\ua800-\uabff\ufb1d-\ufdff\ufe0e\ufe0f\ufe70-\ufefc\U00010800-\U0001faff"
_WIDTHLESS = re.compile(
    f"\u200b+(?![{_WORDS_PARTED}])|(?<![{_WORDS_PARTED}])\u200b+"
    f"|(?<![{_SHAPED}])[\u200c\u200d]++|[\u200c\u200d]++(?![{_SHAPED}])"
    # Tags spell the flags of England, Scotland and Wales behind a black flag; elsewhere they are hidden text.
    "|(\U0001f3f4[\U000e0020-\U000e007f]++)|[\U000e0000-\U000e007f]"
)
# Half of a surrogate pair ("\ud800" in JSON) cannot be written as UTF-8, so tokenizers and databases refuse it.
_SURROGATES = re.compile("[\ud800-\udfff]")

_LONGEST_HEADING = 1_000  # characters


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
        notes: What was guessed, repaired or skipped while reading, one sentence each.
        left_out: Pages or pictures that were not read: why, in words shared by all of that kind, and which.
    """

    sections: list[Section]
    metadata: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)


def clean_text(text: str) -> str:
    r"""Make text safe to tokenize and store: ``\n`` as the only line end, no control or half characters.

    Form feeds and paragraph separators become blank lines, half surrogate pairs U+FFFD; other control characters, soft
    hyphens, byte-order marks, marks of direction, and characters without width where they mean nothing are removed.
    """
    if text.isascii() and text.isprintable():
        return text
    text = _PARAGRAPH_ENDS.sub("\n\n", _LINE_ENDS.sub("\n", text))
    return _SURROGATES.sub("\ufffd", _WIDTHLESS.sub(r"\1", _INVISIBLE.sub("", text)))


def clean_json(value: Any) -> Any:
    """A JSON value with every string in it cleaned, names too."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, list | tuple):
        return [clean_json(item) for item in value]
    if isinstance(value, Mapping):
        return {clean_json(name): clean_json(item) for name, item in value.items()}
    return value


def one_line(text: str) -> str:
    """Clean text with every run of whitespace made one space."""
    return " ".join(clean_text(text).split())


class SectionBuilder:
    """Collects headings and paragraphs in reading order and turns them into sections.

    No word is lost: a heading with nothing under it becomes the text of a section of its own.
    """

    def __init__(self) -> None:
        self._sections: list[Section] = []
        self._open: list[tuple[int, str]] = []
        self._paragraphs: list[str] = []
        self._bare = False  # the innermost heading has nothing under it yet
        self._has_top = False
        self._page: int | None = None
        self._bare_page: int | None = None

    def heading(self, level: int, text: str) -> None:
        """Begin a section; `level` counts from 1 and only its order matters, so levels may be skipped.

        What is too long for a heading becomes a paragraph: headings are repeated with every passage under them.
        """
        title = one_line(text)
        if not title:
            return
        if len(title) > _LONGEST_HEADING:
            self.paragraph(text)
            return
        self._has_top = self._has_top or level == 1
        if not self._open or self._open[-1][0] >= level:
            self._keep_bare_heading()
        self._flush()
        while self._open and self._open[-1][0] >= level:
            self._open.pop()
        self._open.append((level, title))
        self._bare, self._bare_page = True, self._page

    def block(self, level: int, text: str) -> None:
        """Add a heading, or a paragraph if its level is 0."""
        if level:
            self.heading(level, text)
        else:
            self.paragraph(text)

    def page(self, number: int) -> None:
        """Begin a page; what follows is on it, under the same headings."""
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

        The document's title (from front matter or ``<title>``) goes above all headings, unless there is one of level 1:
        it often says what a file is about when its text does not.
        """
        self._keep_bare_heading()
        self._flush()
        title = one_line(title)[:_LONGEST_HEADING]
        if not title or self._has_top:
            return self._sections
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
