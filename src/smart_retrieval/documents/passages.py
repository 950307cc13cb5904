"""Cut sections into passages that fit the model: along headings and paragraphs first, within a word last."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import accumulate, groupby, takewhile
from typing import Any, NamedTuple

from .sections import Section
from .spans import LEVELS, MOST_CHARACTERS_PER_TOKEN, Piece, Span, sentence_spans, trimmed, word_pieces


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
        r"""What the model sees, the heading path in a line of its own, then the text.

        Example:
            >>> Passage("a.md#0", "Use logrotate.", "a.md", prefix="Logs > Rotation").text_for_encoding
            'Logs > Rotation\nUse logrotate.'
        """
        return f"{self.prefix}\n{self.text}" if self.prefix else self.text


def passage_body(text: str, heading: str | None) -> tuple[int, str]:
    r"""Where the passage begins in a hit's text, and the passage as it stands in its file, without the heading path.

    Example:
        >>> passage_body("Rotation\nUse logrotate.", "Logs > Rotation")
        (9, 'Use logrotate.')
    """
    prefix, newline, body = text.partition("\n")
    if heading and newline and body and heading.endswith(prefix):
        return len(text) - len(body), body
    return 0, text


def split(
    sections: Iterable[Section],
    *,
    max_tokens: int,
    count_tokens: Callable[[str], int],
    source: str = "",
    overlap: int = 0,
    min_tokens: int = 0,
    prefix_heading: bool = True,
    metadata: Mapping[str, Any] | None = None,
) -> Iterator[Passage]:
    """Cut the sections of one file into passages, in order, reading no further ahead than it must.

    Paragraphs under one heading are joined up to the limit, over pages too. A paragraph too long for one passage is cut
    between sentences, then lines, then words; a word too long alone (Chinese without punctuation, base64) between
    characters. With `overlap` and `min_tokens` 0 no word is lost or repeated.

    The tokenizer is called about twice for each paragraph and once for each passage.

    Args:
        sections: What a reader found, one file's.
        max_tokens: Most tokens `Passage.text_for_encoding` may have, as `count_tokens` counts.
        count_tokens: Length of a text in tokens as the model will see it, special tokens included, nothing cut off.
        source: The file's relative path; ids are made of it.
        overlap: Tokens of a passage repeated at the beginning of the next under the same heading, whole sentences or
            words; at most a third of `max_tokens`.
        min_tokens: Neighbouring sections shorter than this are joined if they stand under the same parent heading
            (their own headings become lines of the text), and a short end of a section is filled up from the passage
            before it. 0 joins nothing.
        prefix_heading: Whether the heading path goes before the text for encoding; outer headings are left out if
            the path takes more than half of `max_tokens`.
        metadata: The file's metadata; a record's own goes over it.

    Yields:
        Passages; ids depend on nothing but the file and these arguments.

    Raises:
        ValueError: The limits contradict each other.

    Example:
        >>> section = Section("They grow. They rotate. They vanish.", ("Logs",))
        >>> for passage in split([section], max_tokens=5, count_tokens=lambda text: len(text.split()), source="a.md"):
        ...     print(passage.id, passage.heading, passage.text)
        a.md#0 ('Logs',) They grow. They rotate.
        a.md#1 ('Logs',) They vanish.
    """
    special = count_tokens("")
    if max_tokens <= special:
        raise ValueError(f"found max_tokens {max_tokens}, expected more than the model's {special} special tokens")
    if not 0 <= overlap <= max_tokens // 3:
        raise ValueError(f"found overlap {overlap}, expected 0 to {max_tokens // 3} (a third of max_tokens)")
    if not 0 <= min_tokens <= max_tokens:
        raise ValueError(f"found min_tokens {min_tokens}, expected 0 to max_tokens {max_tokens}")
    splitter = _Splitter(max_tokens, count_tokens, special, overlap, min_tokens, prefix_heading)
    return _passages(splitter, sections, source, metadata or {})


def _passages(
    splitter: _Splitter, sections: Iterable[Section], source: str, metadata: Mapping[str, Any]
) -> Iterator[Passage]:
    """Cut each group of sections and number its passages."""
    order = in_record = 0
    key = ""
    groups = _groups(sections)
    for group in splitter.joined(groups) if splitter.min_tokens else groups:
        in_record = in_record + 1 if group.key == key and order else 0
        key = group.key
        prefix = splitter.prefix(group.heading)
        for number, (start, text) in enumerate(splitter.cut(group.text, prefix)):
            in_record += number > 0
            yield Passage(
                id=_passage_id(source, key, order, in_record),
                text=text,
                source=source,
                heading=group.heading,
                page=group.page_at(start),
                order=order,
                metadata={**metadata, **group.metadata},
                prefix=prefix,
            )
            order += 1


def _passage_id(source: str, key: str, order: int, in_record: int) -> str:
    """An id that no other passage of the file has; a ``#`` within a record's id is written ``%23``."""
    if not key:
        return f"{source}#{order}"
    quoted = key.replace("%", "%25").replace("#", "%23")
    return f"{source}#{quoted}#{in_record}" if in_record else f"{source}#{quoted}"


@dataclass(frozen=True)
class _Group:
    """Neighbouring sections under one heading, their text in one string; `pages` begin at these offsets."""

    text: str
    heading: tuple[str, ...]
    key: str
    metadata: Mapping[str, Any]
    pages: tuple[tuple[int, int | None], ...]

    def page_at(self, offset: int) -> int | None:
        """The page of a character."""
        return self.pages[max(0, bisect_right(self.pages, offset, key=lambda page: page[0]) - 1)][1]

    def below(self, depth: int) -> _Group:
        """The same group under the outer headings only, the inner ones written as lines before its text."""
        lines = "".join(f"{name}\n" for name in self.heading[depth:])
        (_, first), *others = self.pages
        pages = ((0, first), *((offset + len(lines), page) for offset, page in others))
        return replace(self, text=lines + self.text, heading=self.heading[:depth], pages=pages)

    def followed_by(self, other: _Group) -> _Group:
        """This group and another of the same heading as one."""
        shift = len(self.text) + 2
        pages = (*self.pages, *((offset + shift, page) for offset, page in other.pages))
        return replace(self, text=f"{self.text}\n\n{other.text}", pages=pages)


def _groups(sections: Iterable[Section]) -> Iterator[_Group]:
    """Join neighbouring sections of one heading and record."""
    filled = (section for section in sections if section.text.strip())
    for (heading, key), run in groupby(filled, lambda section: (section.heading, section.key)):
        parts = list(run)
        offsets = accumulate((len(part.text) + 2 for part in parts[:-1]), initial=0)
        pages = tuple(zip(offsets, (part.page for part in parts), strict=True))
        yield _Group("\n\n".join(part.text for part in parts), heading, key, parts[0].metadata, pages)


class _Pack(NamedTuple):
    """The pieces of one passage; `start` is before the first of them where it repeats the end of the one before."""

    start: int
    pieces: list[Piece]

    @property
    def end(self) -> int:
        return self.pieces[-1].end


@dataclass(frozen=True)
class _Splitter:
    """The limits, and how text is cut under them."""

    max_tokens: int
    count: Callable[[str], int]
    special: int  # tokens of an empty text
    overlap: int
    min_tokens: int
    prefix_heading: bool

    def _cost(self, text: str) -> int:
        """Tokens of a text within a passage."""
        return max(0, self.count(text) - self.special)

    def prefix(self, heading: tuple[str, ...]) -> str:
        """The heading path for encoding: as many of the innermost headings as fit in half of the room."""
        if not self.prefix_heading or not heading:
            return ""
        room = (self.max_tokens - self.special) // 2
        for outermost in range(len(heading)):
            path = " > ".join(heading[outermost:])
            if len(path) <= room * MOST_CHARACTERS_PER_TOKEN and self._cost(path + "\n") <= room:
                return path
        if room < 1:
            return ""
        title = heading[-1]
        first = next(word_pieces(title, 0, len(title), room, self._cost))
        path = title[first.start : first.end]
        return path if self._cost(path + "\n") <= room else ""

    def joined(self, groups: Iterator[_Group]) -> Iterator[_Group]:
        """Join neighbouring groups that are short and stand under the same parent heading."""
        pending: _Group | None = None
        for group in groups:
            together = self._together(pending, group) if pending else None
            if pending and not together:
                yield pending
            pending = together or group
        if pending:
            yield pending

    def _together(self, first: _Group, second: _Group) -> _Group | None:
        """Two groups as one, or None if one is long enough or they do not belong together."""
        pairs = zip(first.heading, second.heading, strict=False)
        common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        siblings = max(len(first.heading), len(second.heading)) <= common + 1
        if first.key != second.key or not siblings or not (self._is_short(first) and self._is_short(second)):
            return None
        return first.below(common).followed_by(second.below(common))

    def _is_short(self, group: _Group) -> bool:
        countable = len(group.text) <= self.min_tokens * MOST_CHARACTERS_PER_TOKEN
        return countable and self._cost(group.text) < self.min_tokens

    def cut(self, text: str, prefix: str) -> Iterator[tuple[int, str]]:
        """Cut one group's text: offset and text of each passage."""
        budget = self.max_tokens - self.special - (self._cost(prefix + "\n") if prefix else 0)
        packs: Iterable[_Pack] = self._packs(text, prefix, max(1, budget))
        if self.min_tokens and not self.overlap:
            packs = self._balanced(text, prefix, list(packs))
        for pack in packs:
            yield pack.start, text[pack.start : pack.end]

    def _pieces(self, text: str, start: int, end: int, budget: int, level: int = 0) -> Iterator[Piece]:
        """Spans that fit the budget, each as large as its kind allows."""
        spans = LEVELS[level](text, start, end)
        for raw in _grouped(spans, budget // 2) if level else spans:
            first, last = trimmed(text, *raw)
            if first == last:
                continue
            # What cannot fit is not counted: it may be a book in a single line.
            countable = last - first <= budget * MOST_CHARACTERS_PER_TOKEN
            if countable and (tokens := self._cost(text[first:last])) <= budget:
                yield Piece(first, last, tokens)
            elif level + 1 < len(LEVELS):
                yield from self._pieces(text, first, last, budget, level + 1)
            else:
                yield from self._runs(text, first, last, budget)

    def _runs(self, text: str, start: int, end: int, budget: int) -> Iterator[Piece]:
        """Runs of words; of a quarter of the budget, so that passages fill up well."""
        return word_pieces(text, start, end, max(1, budget // 4), self._cost, budget)

    def _packs(self, text: str, prefix: str, budget: int) -> Iterator[_Pack]:
        """Fill passages with pieces."""
        pieces = self._pieces(text, 0, len(text), budget)
        waiting: deque[Piece] = deque()
        before: _Pack | None = None
        while first := waiting.popleft() if waiting else next(pieces, None):
            start, total = self._overlap_before(text, before, first, budget)
            total += first.tokens
            taken = [first]
            while following := waiting.popleft() if waiting else next(pieces, None):
                if total + following.tokens > budget:
                    waiting.appendleft(following)
                    break
                total += following.tokens
                taken.append(following)
            before, back = self._fitted(text, prefix, _Pack(start, taken), total, budget)
            waiting.extendleft(reversed(back))
            yield before

    def _fitted(self, text: str, prefix: str, pack: _Pack, estimate: int, budget: int) -> tuple[_Pack, list[Piece]]:
        """A pack that fits, and the pieces taken off its end: their tokens only nearly add up to its length."""
        back: list[Piece] = []
        while (excess := self._length(text, prefix, pack) - self.max_tokens) > 0:
            pieces = pack.pieces
            if len(pieces) > 1:
                # What stands between pieces counts too; so keep in proportion to what the estimate was short of.
                target = estimate * budget / (budget + excess)
                while len(pieces) > 1 and (estimate > target or len(pieces) == len(pack.pieces)):
                    estimate -= pieces[-1].tokens
                    back.append(pieces[-1])
                    pieces = pieces[:-1]
                pack = _Pack(pack.start, pieces)
            elif pack.start < pieces[0].start:
                pack = _Pack(pieces[0].start, pieces)  # without what it repeats
            else:
                only = pieces[0]
                cut = list(self._runs(text, only.start, only.end, max(1, min(only.tokens, budget) - excess)))
                if len(cut) == 1:
                    break  # a single character: as short as can be
                pack = _Pack(only.start, cut)
        return pack, back[::-1]

    def _length(self, text: str, prefix: str, pack: _Pack) -> int:
        """Tokens of a passage as it is encoded."""
        passage = text[pack.start : pack.end]
        return self.count(f"{prefix}\n{passage}" if prefix else passage)

    def _overlap_before(self, text: str, before: _Pack | None, first: Piece, budget: int) -> tuple[int, int]:
        """Where a passage begins that repeats the end of the one before, and the tokens of what it repeats."""
        room = min(self.overlap, budget - first.tokens)
        if before is None or room <= 0:
            return first.start, 0
        low = max(before.start + 1, before.end - room * MOST_CHARACTERS_PER_TOKEN)
        starts = [max(low, start) for start, _ in sentence_spans(text, low, before.end)][1:]
        for start in starts[-8:]:
            if (tokens := self._cost(text[start : before.end])) <= room and start < before.end:
                return start, tokens
        size = max(1, room * 4)
        while size:  # no sentence is short enough: whole words
            start = max(low, before.end - size)
            while start < before.end and not (text[start - 1].isspace() and not text[start].isspace()):
                start += 1
            if start >= before.end:
                break
            if (tokens := self._cost(text[start : before.end])) <= room:
                return start, tokens
            size = min(size * 2 // 3, before.end - start - 1)
        return first.start, 0

    def _balanced(self, text: str, prefix: str, packs: list[_Pack]) -> list[_Pack]:
        """Fill a last passage that is too short from the one before it, as long as both end up within the limits."""
        if len(packs) < 2:
            return packs
        *others, before, last = packs
        front, back = list(before.pieces), list(last.pieces)
        left, right = sum(piece.tokens for piece in front), sum(piece.tokens for piece in back)
        while right < self.min_tokens and len(front) > 1 and left - front[-1].tokens >= self.min_tokens:
            moved = front.pop()
            back.insert(0, moved)
            left, right = left - moved.tokens, right + moved.tokens
        if len(back) == len(last.pieces):
            return packs
        shared = [_Pack(before.start, front), _Pack(back[0].start, back)]
        fit = all(self._length(text, prefix, pack) <= self.max_tokens for pack in shared)
        return [*others, *shared] if fit else packs


def _grouped(spans: Iterator[Span], characters: int) -> Iterator[Span]:
    """Join neighbouring spans up to a number of characters, so that tokens are not counted for every short line."""
    first = last = -1
    for start, end in spans:
        if first >= 0 and end - first > characters:
            yield first, last
            first = -1
        first, last = start if first < 0 else first, end
    if first >= 0:
        yield first, last
