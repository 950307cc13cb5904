"""Neighbouring sections of one heading as one text: what passages are cut from."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from .sections import Section


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
