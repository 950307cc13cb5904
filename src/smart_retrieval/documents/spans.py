"""Where a text may be cut: between paragraphs, sentences, lines, words, and as a last resort within a word."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

Span = tuple[int, int]

#: No token is taken to be longer on average; longer spans are cut without being counted.
MOST_CHARACTERS_PER_TOKEN = 16

# The indentation of a paragraph's first line belongs to it.
_BETWEEN_PARAGRAPHS = re.compile(r"\n(?:[^\S\n]*\n)+")
# A full stop, its closing quotes and a space; Chinese and Japanese put no space. Not after "e.g." or an initial.
_AFTER_SENTENCE = re.compile(
    r"(?:(?<![\s.(][A-Z])(?<!\be\.g)(?<!\bi\.e)(?<!\bcf)(?<!\bvs)(?<!\bDr)(?<!\bMr)(?<!\bFig)\.|[!?…])[\"'”’»)\]]{0,3}(\s+)"
    r"|[。！？][」』”’）]{0,3}(\s*)"
)
_BETWEEN_LINES = re.compile(r"\n")
_SPACE = re.compile(r"\s")
_NO_SPACE = re.compile(r"\S")
_JOINERS = frozenset("\u200d\ufe0e\ufe0f")


class Piece(NamedTuple):
    """A span of a text, and the tokens in it."""

    start: int
    end: int
    tokens: int


def _between(pattern: re.Pattern[str], text: str, start: int, end: int) -> Iterator[Span]:
    """The spans between matches; what a pattern's groups hold is the gap, or all of the match without groups."""
    position = start
    for match in pattern.finditer(text, start, end):
        group = next((index for index, found in enumerate(match.groups(), 1) if found is not None), 0)
        yield position, match.start(group)
        position = match.end(group)
    yield position, end


paragraph_spans = partial(_between, _BETWEEN_PARAGRAPHS)
sentence_spans = partial(_between, _AFTER_SENTENCE)
line_spans = partial(_between, _BETWEEN_LINES)
#: From the best places to cut to the worst ones that keep words whole; after them there is `word_pieces`.
LEVELS = (paragraph_spans, sentence_spans, line_spans)


def trimmed(text: str, start: int, end: int) -> Span:
    """The span without whitespace at its end and without line breaks at its beginning; indentation stays."""
    while start < end and text[start] in "\r\n":
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    return start, end


def word_pieces(
    text: str, start: int, end: int, budget: int, count: Callable[[str], int], longest: int = 0
) -> Iterator[Piece]:
    """Cut text that has no better place to be cut into runs of whole words of at most `budget` tokens each.

    Lengths are guessed from the tokens per character seen so far, so a run costs one or two counts and not one a word.
    A single word may have `longest` tokens; one that is longer (Chinese without punctuation, base64) is cut between
    characters, never before a combining one.
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
                tokens = count(text[start:stop])
                if whole_word:
                    if tokens <= longest:
                        break
                    whole_word = False
                    continue
            else:
                tokens = count(text[start:stop])
            if tokens <= budget or stop - start == 1 or size == 1:
                break
            # A little below the guess: one count more costs less than a run that is half full.
            size = max(1, min(size, stop - start, int((stop - start) * budget / tokens * 0.95) + 1) - 1)
        per_token = 0.5 * per_token + 0.5 * min(MOST_CHARACTERS_PER_TOKEN, (stop - start) / max(1, tokens))
        yield Piece(start, stop, tokens)
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
    """`stop`, or a little before it, so that no combining mark is separated from its letter."""
    earlier = stop
    while start < earlier < len(text) and stop - earlier < 16:
        following = text[earlier]
        if not (unicodedata.combining(following) or following in _JOINERS or text[earlier - 1] == "\u200d"):
            return earlier
        earlier -= 1
    return stop
