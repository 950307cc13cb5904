"""Where a text may be cut: between paragraphs, sentences, lines, words, and as a last resort within a word."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator

Span = tuple[int, int]

# The indentation of a paragraph's first line belongs to it.
_BETWEEN_PARAGRAPHS = re.compile(r"\n(?:[^\S\n]*\n)+")
# A full stop, its closing quotes and a space; Chinese and Japanese put no space. Not after "e.g." or an initial.
_AFTER_SENTENCE = re.compile(
    r"(?:(?<![\s.(][A-Z])(?<!\be\.g)(?<!\bi\.e)(?<!\bcf)(?<!\bvs)(?<!\bDr)(?<!\bMr)(?<!\bFig)\.|[!?…])[\"'”’»)\]]{0,3}(\s+)"
    r"|[。！？][」』”’）]{0,3}(\s*)"
)
#: No token is taken to be longer on average; longer spans are cut without being counted.
MOST_CHARACTERS_PER_TOKEN = 16

_BETWEEN_LINES = re.compile(r"\n")
_SPACE = re.compile(r"\s")
_NO_SPACE = re.compile(r"\S")
_JOINERS = frozenset("\u200d\ufe0e\ufe0f")


def _cut(pattern: re.Pattern[str], text: str, start: int, end: int) -> Iterator[Span]:
    """The spans between matches; what a pattern's groups hold is the gap, or all of the match without groups."""
    position = start
    for match in pattern.finditer(text, start, end):
        group = next((index for index, found in enumerate(match.groups(), 1) if found is not None), 0)
        yield position, match.start(group)
        position = match.end(group)
    yield position, end


def paragraph_spans(text: str, start: int, end: int) -> Iterator[Span]:
    r"""Stretches between blank lines.

    Example:
        >>> list(paragraph_spans("one\n\ntwo", 0, 8))
        [(0, 3), (5, 8)]
    """
    return _cut(_BETWEEN_PARAGRAPHS, text, start, end)


def sentence_spans(text: str, start: int, end: int) -> Iterator[Span]:
    """Sentences, as far as punctuation tells.

    Example:
        >>> [("A b. C! D"[start:end]) for start, end in sentence_spans("A b. C! D", 0, 9)]
        ['A b.', 'C!', 'D']
    """
    return _cut(_AFTER_SENTENCE, text, start, end)


def line_spans(text: str, start: int, end: int) -> Iterator[Span]:
    """Lines."""
    return _cut(_BETWEEN_LINES, text, start, end)


#: From the kindest place to cut to the last one that keeps words whole but for `word_spans`.
LEVELS: tuple[Callable[[str, int, int], Iterator[Span]], ...] = (paragraph_spans, sentence_spans, line_spans)


def trimmed(text: str, start: int, end: int) -> Span:
    """The span without whitespace at its end and without line breaks at its beginning; indentation stays."""
    while start < end and text[start] in "\r\n":
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    return start, end


def word_spans(
    text: str, start: int, end: int, budget: int, cost: Callable[[int, int], int], longest: int = 0
) -> Iterator[Span]:
    """Cut text that has no better place to be cut into runs of whole words within a budget.

    Lengths are guessed from the tokens per character seen so far, so a run costs one or two counts and not one a word.
    A word that is too long alone (Chinese without punctuation, base64) is cut between characters, never before
    a combining one.

    Args:
        text: The text around the span.
        start: First character.
        end: One past the last.
        budget: Most tokens of a run, at least 1.
        cost: Counts the tokens between two positions.
        longest: Most tokens of a run that is a single word; the budget if that is more.

    Yields:
        Spans in order; between two of them there is whitespace or nothing.
    """
    longest = max(budget, longest)
    per_token = 3.0
    while match := _NO_SPACE.search(text, start, end):
        start = match.start()
        size = max(1, int(budget * per_token))
        whole_word = True  # until the first word has been seen to exceed the budget alone
        while True:
            stop = _last_space(text, start, min(start + size, end), end)
            if stop == start:
                word_end = _word_end(text, start, min(end, start + longest * MOST_CHARACTERS_PER_TOKEN))
                whole_word = whole_word and word_end > start
                stop = word_end if whole_word else _whole_character(text, start, min(start + size, end))
                tokens = cost(start, stop)
                if whole_word:
                    if tokens <= longest:
                        break
                    whole_word = False
                    continue
            else:
                tokens = cost(start, stop)
            if tokens <= budget or stop - start == 1 or size == 1:
                break
            # A little below the guess: one count more costs less than a run that is half full.
            size = max(1, min(size, stop - start, int((stop - start) * budget / tokens * 0.95) + 1) - 1)
        per_token = 0.5 * per_token + 0.5 * min(MOST_CHARACTERS_PER_TOKEN, (stop - start) / max(1, tokens))
        yield start, stop
        start = stop


def _last_space(text: str, start: int, stop: int, end: int) -> int:
    """Where the last word that ends by `stop` ends; `start` if none does."""
    if stop == end or text[stop].isspace():
        return stop
    while stop > start and not text[stop - 1].isspace():
        stop -= 1
    while stop > start and text[stop - 1].isspace():
        stop -= 1
    return stop


def _word_end(text: str, start: int, farthest: int) -> int:
    """Where the word at `start` ends; `start` if not by `farthest`."""
    match = _SPACE.search(text, start, farthest + 1)
    return match.start() if match else farthest if farthest == len(text) else start


def _whole_character(text: str, start: int, stop: int) -> int:
    """`stop`, or a little before it, so that no combining mark is parted from its letter."""
    earlier = stop
    while start < earlier < len(text) and stop - earlier < 16:
        following = text[earlier]
        if not (unicodedata.combining(following) or following in _JOINERS or text[earlier - 1] == "\u200d"):
            return earlier
        earlier -= 1
    return stop
