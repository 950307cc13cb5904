"""What was found, as the page shows it: passages in stretches, bars, conditions to narrow the search by."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

from ...documents.passages import passage_body
from ...errors import FilterError
from ...index.explain.explanation import Explanation
from ...index.explain.score import ShadedWord, window
from ...index.search.hits import Hit, Hits
from ...index.store.where import BUILT_IN, parse
from ..requests import IndexInfo
from .asked import Asked

#: Numbers of hits to choose from.
STEPS = (10, 20, 50, 100, 200)
#: Width of a bar, in units of its drawing.
BAR = 120.0
_WIDTH = 320  # characters of a passage
_MOST_CHIPS = 6
_LONGEST_CHIP = 60
_LEVELS = 8
_PLAIN = re.compile(r"[a-z_]\w*", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class ShownHit:
    """One hit."""

    hit: Hit
    rank: int
    title: str
    place: list[str]
    link: str | None  # its source, if that is an address
    pieces: list[tuple[str, int]]  # stretches of the passage, and how much each brought: 0, or 1 to 8
    cut: tuple[bool, bool]  # whether there is more before and behind
    bars: list[tuple[str, float, float]]  # part, from, width
    parts: list[tuple[str, float]]  # part, its contribution to the score
    chips: list[tuple[str, str]]  # what it says, and the address of the search that it narrows this one to
    why: str


@dataclass(frozen=True)
class Results:
    """All hits of a search."""

    hits: list[ShownHit]
    summary: str
    more: int  # so many hits next time; 0 where there are no more


def results_of(
    hits: Hits, explained: Sequence[Explanation], asked: Asked, info: IndexInfo, took_ms: float, most: int
) -> Results:
    """What to show of a search's hits, the first of which are explained."""
    why = {one.id: one for one in explained}
    parts = [_parts(hit, explained[0]) if explained else [("score", hit.score)] for hit in hits]
    longest = max((sum(value for _, value in one if value > 0) for one in parts), default=1.0) or 1.0
    shown = [
        _shown(hit, rank, why.get(hit.id), own, longest, asked)
        for rank, (hit, own) in enumerate(zip(hits, parts, strict=True), 1)
    ]
    more = next((step for step in STEPS if step > asked.k), 0) if len(hits) == asked.k < hits.searched else 0
    return Results(shown, _summary(hits, info, took_ms), more if more <= most else 0)


def _summary(hits: Hits, info: IndexInfo, took_ms: float) -> str:
    if not len(hits):
        return "Nothing found." if hits.searched else "No document passes the filter."
    among = f"{hits.searched:,}" if hits.searched == info.documents else f"{hits.searched:,} of {info.documents:,}"
    documents = "document" if info.documents == 1 else "documents"
    partial = " · partial: time was up" if hits.partial else ""
    return f"{len(hits)} hit{'s' if len(hits) > 1 else ''} in {among} {documents} · {took_ms:.0f} ms{partial}"


def _parts(hit: Hit, explanation: Explanation) -> list[tuple[str, float]]:
    """What a score is the sum of."""
    found = [("anchor", explanation.lambda_anchor * hit.anchor), ("late", explanation.lambda_late * hit.late)]
    rest = hit.score - sum(value for _, value in found)
    return [*found, ("words", rest)] if hit.lexical is not None else found


def _shown(
    hit: Hit, rank: int, why: Explanation | None, parts: list[tuple[str, float]], longest: float, asked: Asked
) -> ShownHit:
    headings = [part for part in (hit.heading or "").split(" > ") if part]
    name = re.split(r"[\\/]", hit.source.rstrip("\\/"))[-1] if hit.source else ""
    title = headings[-1] if headings else name or hit.id
    page = f"page {hit.page}" if hit.page is not None else ""
    words = why.shaded_words() if why is not None else []
    first, _ = passage_body(hit.text, hit.heading)
    start, stop = window(hit.text, words, first, _WIDTH)
    bars, at = [], 0.0
    for part, value in parts:
        width = BAR * max(0.0, value) / longest
        bars.append((part, at, width))
        at += width
    return ShownHit(
        hit,
        rank,
        title,
        [part for part in (hit.source if hit.source != title else "", page, *headings[:-1]) if part],
        hit.source if hit.source and _is_address(hit.source) else None,
        list(_pieces(hit.text, words, start, stop)),
        (start > first, stop < len(hit.text)),
        bars,
        parts,
        list(_chips(hit, asked)),
        asked.href("why", id=hit.id),
    )


def _is_address(source: str) -> bool:
    with suppress(ValueError):
        return urlsplit(source).scheme in ("http", "https") and bool(urlsplit(source).hostname)
    return False


def _pieces(text: str, words: Sequence[ShadedWord], start: int, stop: int) -> Iterator[tuple[str, int]]:
    most, last = max((word.contribution for word in words), default=1.0), start
    for word in words:
        if start <= word.start and word.stop <= stop:
            yield text[last : word.start], 0
            yield text[word.start : word.stop], level(word.contribution / most)
            last = word.stop
    yield text[last:stop], 0


def level(share: float) -> int:
    """A share of the most as one of the levels that the style sheet knows; 0 for none.

    Example:
        >>> level(0), level(0.01), level(1)
        (0, 1, 8)
    """
    return 0 if share <= 0 else max(1, min(_LEVELS, round(_LEVELS * share)))


def _chips(hit: Hit, asked: Asked) -> Iterator[tuple[str, str]]:
    """Values of the metadata, each with the search that it narrows this one to."""
    lists = ((key, value if isinstance(value, list) else [value]) for key, value in hit.metadata.items())
    for key, value in islice(((key, one) for key, values in lists for one in values), _MOST_CHIPS):
        if isinstance(value, str | int | float) and value != "":
            written = condition(key, value)
            label = f"{key}: {str(value).lower() if isinstance(value, bool) else value}"
            label = label if len(label) <= _LONGEST_CHIP else f"{label[:_LONGEST_CHIP]}…"
            if written is not None and not asked.picture:
                where = f"({asked.where}) and {written}" if asked.where else written
                yield label, asked.href(where=asked.where if written in asked.where else where)
            else:
                yield label, ""


def condition(key: str, value: Any) -> str | None:
    """The filter for documents that have a value; None where none can be written.

    Example:
        >>> condition("year", 2026), condition("id", "it's"), condition("a`b", 1)
        ('year = 2026', "`id` = 'it''s'", None)
    """
    plain = _PLAIN.fullmatch(key) and key not in BUILT_IN
    if isinstance(value, bool):
        text = str(value).lower()
    else:
        text = "'" + value.replace("'", "''") + "'" if isinstance(value, str) else repr(value)
    for field in (key, f"`{key}`") if plain else (f"`{key}`",):
        with suppress(FilterError):
            parse(f"{field} = {text}")
            return f"{field} = {text}"
    return None
