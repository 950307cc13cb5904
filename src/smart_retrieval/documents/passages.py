"""Cut sections into passages that fit the model: along headings and paragraphs first, within a word last."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .sections import Group, Passage, Section, groups
from .spans import LEVELS, MOST_CHARACTERS_PER_TOKEN, Span, sentence_spans, trimmed, word_spans


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
    """Cut each group of sections and number what comes of it."""
    order = in_record = 0
    key = ""
    for group in splitter.joined(groups(sections)):
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


def _grouped(spans: Iterator[Span], characters: int) -> Iterator[Span]:
    """Put neighbouring spans together while they are few characters: a count for each word-long line is a waste."""
    first = last = -1
    for start, end in spans:
        if first >= 0 and end - first > characters:
            yield first, last
            first = -1
        first, last = start if first < 0 else first, end
    if first >= 0:
        yield first, last


@dataclass(frozen=True, slots=True)
class _Piece:
    """A span of a group's text that goes into a passage as a whole."""

    start: int
    end: int
    tokens: int


@dataclass(frozen=True, slots=True)
class _Pack:
    """The pieces of one passage; `start` is before the first of them where it repeats the end of the one before."""

    start: int
    pieces: list[_Piece]

    @property
    def end(self) -> int:
        return self.pieces[-1].end


class _Splitter:
    """The limits, and what is done under them."""

    def __init__(
        self,
        max_tokens: int,
        count_tokens: Callable[[str], int],
        special: int,
        overlap: int,
        min_tokens: int,
        prefix_heading: bool,
    ) -> None:
        self._max = max_tokens
        self._count = count_tokens
        self._special = special
        self._overlap = overlap
        self._min = min_tokens
        self._prefix_heading = prefix_heading
        self._last_prefix: tuple[tuple[str, ...], str] = ((), "")

    def _cost(self, text: str) -> int:
        """Tokens of a text within a passage."""
        return max(0, self._count(text) - self._special)

    def prefix(self, heading: tuple[str, ...]) -> str:
        """The heading path for encoding: as many of the innermost headings as fit in half of the room."""
        if not self._prefix_heading or not heading:
            return ""
        if self._last_prefix[0] == heading:
            return self._last_prefix[1]
        room = (self._max - self._special) // 2
        kept, prefix = heading, ""
        while kept and not prefix:
            joined = " > ".join(kept)
            if len(joined) <= room * MOST_CHARACTERS_PER_TOKEN and self._cost(joined + "\n") <= room:
                prefix = joined
            kept = kept[1:]
        if not prefix and room > 0:
            title = heading[-1]
            spans = word_spans(title, 0, len(title), room, lambda start, end: self._cost(title[start:end]))
            prefix = title[slice(*next(spans))]
            prefix = prefix if self._cost(prefix + "\n") <= room else ""
        self._last_prefix = (heading, prefix)
        return prefix

    def joined(self, found: Iterator[Group]) -> Iterator[Group]:
        """Join neighbouring groups that are short and stand under the same parent heading."""
        if not self._min:
            yield from found
            return
        pending: Group | None = None
        for group in found:
            together = self._together(pending, group) if pending else None
            if pending and not together:
                yield pending
            pending = together or group
        if pending:
            yield pending

    def _together(self, first: Group, second: Group) -> Group | None:
        """Two groups as one, or None if one is long enough or they do not belong together."""
        common = 0
        for one, other in zip(first.heading, second.heading, strict=False):
            if one != other:
                break
            common += 1
        siblings = max(len(first.heading), len(second.heading)) <= common + 1
        if first.key != second.key or not siblings or not (self._is_short(first) and self._is_short(second)):
            return None
        return first.headed(first.heading[common:]).followed_by(
            second.headed(second.heading[common:]), first.heading[:common]
        )

    def _is_short(self, group: Group) -> bool:
        if len(group.text) > self._min * MOST_CHARACTERS_PER_TOKEN:
            return False
        return self._cost(group.text) < self._min

    def cut(self, text: str, prefix: str) -> Iterator[tuple[int, str]]:
        """Cut one group's text.

        Yields:
            Offset and text of each passage.
        """
        budget = self._max - self._special - (self._cost(prefix + "\n") if prefix else 0)
        packs = self._packs(text, prefix, max(1, budget))
        if self._min and not self._overlap:
            packs = self._balanced(text, prefix, packs)
        for pack in packs:
            yield pack.start, text[pack.start : pack.end]

    def _pieces(self, text: str, start: int, end: int, budget: int, level: int) -> Iterator[_Piece]:
        """Spans that fit the budget, each as large as its kind allows."""
        spans = LEVELS[level](text, start, end)
        for raw in _grouped(spans, budget // 2) if level else spans:
            first, last = trimmed(text, *raw)
            if first == last:
                continue
            # What cannot possibly fit is not counted: it may be a book in a single line.
            if last - first <= budget * MOST_CHARACTERS_PER_TOKEN:
                tokens = self._cost(text[first:last])
                if tokens <= budget:
                    yield _Piece(first, last, tokens)
                    continue
            if level + 1 < len(LEVELS):
                yield from self._pieces(text, first, last, budget, level + 1)
            else:
                yield from self._runs(text, first, last, budget)

    def _runs(self, text: str, start: int, end: int, budget: int) -> Iterator[_Piece]:
        """Runs of words; of a quarter of the budget, so that passages fill up well."""
        last = (0, 0)

        def cost(first: int, stop: int) -> int:
            nonlocal last
            last = (stop, self._cost(text[first:stop]))
            return last[1]

        for first, stop in word_spans(text, start, end, max(1, budget // 4), cost, budget):
            tokens = last[1] if last[0] == stop else self._cost(text[first:stop])
            yield _Piece(first, stop, tokens)

    def _packs(self, text: str, prefix: str, budget: int) -> Iterator[_Pack]:
        """Fill passages with pieces."""
        pieces = self._pieces(text, 0, len(text), budget, 0)
        waiting: deque[_Piece] = deque()
        before: _Pack | None = None
        while True:
            first = waiting.popleft() if waiting else next(pieces, None)
            if first is None:
                return
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

    def _fitted(self, text: str, prefix: str, pack: _Pack, estimate: int, budget: int) -> tuple[_Pack, list[_Piece]]:
        """A pack that truly fits, and what had to be taken off it: the sum of its pieces is only nearly its length."""
        back: list[_Piece] = []
        while (excess := self._length(prefix, text[pack.start : pack.end]) - self._max) > 0:
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
                smaller = max(1, min(only.tokens, budget) - excess)
                cut = list(self._runs(text, only.start, only.end, smaller))
                if len(cut) == 1:
                    break  # a single character: as short as can be
                pack = _Pack(only.start, cut)
        return pack, back[::-1]

    def _length(self, prefix: str, passage: str) -> int:
        """Tokens of a passage as it is encoded."""
        return self._count(f"{prefix}\n{passage}" if prefix else passage)

    def _overlap_before(self, text: str, before: _Pack | None, first: _Piece, budget: int) -> tuple[int, int]:
        """Where a passage begins that repeats the end of the one before, and the tokens of what it repeats."""
        none = (first.start, 0)
        room = min(self._overlap, budget - first.tokens)
        if before is None or room <= 0:
            return none
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
                return none
            if (tokens := self._cost(text[start : before.end])) <= room:
                return start, tokens
            size = min(size * 2 // 3, before.end - start - 1)
        return none

    def _balanced(self, text: str, prefix: str, packs: Iterator[_Pack]) -> Iterator[_Pack]:
        """Fill a last passage that is too short from the one before it."""
        before: _Pack | None = None
        last: _Pack | None = None
        for pack in packs:
            if before:
                yield before
            before, last = last, pack
        if before and last:
            before, last = self._shared(text, prefix, before, last)
        yield from (pack for pack in (before, last) if pack)

    def _shared(self, text: str, prefix: str, before: _Pack, last: _Pack) -> tuple[_Pack, _Pack]:
        """Move pieces from a passage to a short one after it, as long as both end up within the limits."""
        front, back = list(before.pieces), list(last.pieces)
        left, right = sum(piece.tokens for piece in front), sum(piece.tokens for piece in back)
        while right < self._min and len(front) > 1 and left - front[-1].tokens >= self._min:
            moved = front.pop()
            back.insert(0, moved)
            left, right = left - moved.tokens, right + moved.tokens
        one, two = _Pack(before.start, front), _Pack(back[0].start, back)
        if len(back) == len(last.pieces):
            return before, last
        fits = all(self._length(prefix, text[pack.start : pack.end]) <= self._max for pack in (one, two))
        return (one, two) if fits else (before, last)
