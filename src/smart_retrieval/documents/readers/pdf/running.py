"""Lines that run through all pages: headers, footers, page numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from .runs import PageText, Run

_RUNNING_SHARE = 0.5  # of the pages that have text
_RUNNING_PAGES = 4
_EDGE_LINES = 3  # a header or footer has at most so many
_SAME_PLACE = 3.0  # points

# A page number says nothing else: "3", "- 3 -", "Page 3 of 12", "S. 3/12". In "Chapter 3" it is no page number.
_PAGE_WORDS = set(
    re.findall(
        r"\w+",
        "page pages pg p pp seite s seiten página pagina pàgina pág pag side sida sivu strona str strana oldal sayfa "
        "страница стр с σελίδα עמוד صفحة 第 页 頁 ページ 쪽 of von de di sur van av af z iz из",
    )
)
_TOKEN = re.compile(r"\d+|[^\W\d]+")
_MOST_TOKENS = 6


def drop_running_lines(pages: Sequence[PageText]) -> list[PageText]:
    """Drop what certainly is decoration from all pages but the first it stands on.

    That is a line at the upper or lower edge that is exactly the same in the same place on half of the pages and at
    least four, and a page number that counts the pages there. A page keeps its last line.
    """
    edges = [_edges(page.runs) for page in pages]
    filled = sum(bool(page.runs) for page in pages)
    counts = Counter(key for number, runs in enumerate(edges) for key in {_key(run, number) for run in runs})
    seen: set[tuple[str, int]] = set()
    found: list[PageText] = []
    for number, (page, runs) in enumerate(zip(pages, edges, strict=True)):
        dropped: set[int] = set()
        for key, run in ((_key(run, number), run) for run in runs):
            # A line on the border of two places is counted in both.
            count = counts[key] + max(counts[key[0], key[1] - 1], counts[key[0], key[1] + 1])
            if count >= max(_RUNNING_PAGES, _RUNNING_SHARE * filled):
                if seen & {(key[0], key[1] + shift) for shift in (-1, 0, 1)}:
                    dropped.add(id(run))
                seen.add(key)
        kept = [run for run in page.runs if id(run) not in dropped]
        found.append(replace(page, runs=kept) if dropped and kept else page)
    return found


def _edges(runs: Sequence[Run]) -> list[Run]:
    """The runs of the first and last lines of a page."""
    level = sorted((run for run in runs if not run.turn and not run.field), key=lambda run: run.box.bottom)
    found: dict[int, Run] = {}
    for ordered in (level, level[::-1]):
        lines = 0
        last = float("inf")
        for run in ordered:
            if abs(run.box.bottom - last) > _SAME_PLACE:
                lines, last = lines + 1, run.box.bottom
            if lines > _EDGE_LINES:
                break
            found[id(run)] = run
    return list(found.values())


def _key(run: Run, number: int) -> tuple[str, int]:
    """What is the same for the same running line: its text and height, or by how much a page number is ahead."""
    text = run.text
    tokens = _TOKEN.findall(text.casefold()) if len(text) < 40 else []
    numbers = [token for token in tokens if token.isdecimal()]
    if (
        numbers
        and len(tokens) <= _MOST_TOKENS
        and all(token in _PAGE_WORDS for token in tokens if token not in numbers)
    ):
        text = f"{tokens[0] if tokens[0] not in numbers else ''}#{int(numbers[0]) - number}"
    return text, round(run.box.bottom / _SAME_PLACE)
