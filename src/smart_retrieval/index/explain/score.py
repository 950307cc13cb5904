"""A document's score for one query, taken apart: query tokens, the document tokens that match them best, heat maps."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from ...core.roles import CONTENT_ROLES
from ...sound.sources import TOKENS_A_SECOND
from ..search.boosts import AddedPart
from ..store.pictures import Media
from .heatmap import GridMap, Scale, best_frames, frame_of_step

QUERY_PICTURE, QUERY_SOUND = "[picture]", "[sound]"
FRAMES_SHOWN = 4  # of a video, and seconds of sound
Place = tuple[int, int, int, int]  # grid, frame, row, column

# Roles whose tokens are shown together, and as what.
_TOGETHER = {"image": QUERY_PICTURE, "video": QUERY_PICTURE, "audio": QUERY_SOUND}
_CONTENT_ROLES = frozenset(role.name.lower() for role in CONTENT_ROLES)
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*|_+|[^\w\s]")


@dataclass(frozen=True)
class ExplainedToken:
    """One query token, and the document token that matches it best."""

    query_token: str
    document_token: str  # "" where tokens were pooled
    document_index: int  # position among the document's tokens; -1 where it has none
    span: tuple[int, int] | None  # characters of the passage that the document token stands for, if known
    similarity: float  # cosine of the two
    weight: float  # the query token's share of all weights
    contribution: float  # what it adds to the late score
    # "text", "image", "video", "audio"; every other is no content of the query ("prompt", "punctuation", ...)
    role: str = "text"


@dataclass(frozen=True)
class Row:
    """A line of the query: one token, or all tokens of its pictures or of its sound together."""

    label: str
    tokens: tuple[int, ...]  # positions of its query tokens
    weight: float  # their share of all weights
    similarity: float  # their mean, by weight
    contribution: float  # what they add to the late score
    answer: str  # the document token that matches best, or where in the picture that is
    place: Place | None = None  # of the visual token that matches best; None also where the row is several tokens
    special: bool = False  # whether it is no content: a special, template, prompt or unknown token, or punctuation

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; the numbers are those of its tokens."""
        place = self.place and list(self.place)
        return {"label": self.label, "tokens": list(self.tokens), "place": place, "special": self.special}


@dataclass(frozen=True)
class ShadedWord:
    """A word of the passage, from ``start`` to ``stop``, that matched the query tokens at the positions ``tokens``."""

    start: int
    stop: int
    contribution: float
    tokens: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class VisualExplanation:
    """Where in a picture, or when in a recording, a query found what."""

    media: Media
    rows: tuple[Row, ...]  # lines of the query; the maps have one layer for each
    maps: tuple[GridMap, ...]  # one a grid; none where grids are not known, as after token pooling
    row_scale: Scale  # the one colour scale of all rows: lowest and highest similarity
    whole_scale: Scale
    # Share of the late score from document tokens that are not visual: a caption; template and prompt under "paper".
    outside: float

    def shown_frames(self, number: int) -> list[tuple[int, float | None, float]]:
        """The frames of a video, or seconds of sound, that matched best, best first: step, second, score."""
        one, times = self.maps[number], self.media.times
        kind = one.grid.kind
        moving = kind != "image"
        if kind == "audio":
            start = times[0] if times else 0.0
            times = tuple(start + step * self.cell_seconds(number) * TOKENS_A_SECOND for step in range(len(one.frames)))
        steps = best_frames(one.frames, FRAMES_SHOWN if moving else one.grid.t)
        shown = [self.frame(number, step) if kind == "video" else step for step in steps]
        seconds = [times[frame] if times and moving else None for frame in shown]
        return [(step, second, float(one.frames[step])) for step, second in zip(steps, seconds, strict=True)]

    def cell_seconds(self, number: int) -> float:
        """How long a token of a grid of sound is."""
        times, width = self.media.times, self.maps[number].grid.w
        return (times[1] - times[0]) / width if len(times) == 2 else 1 / TOKENS_A_SECOND

    def frame(self, number: int, step: int) -> int:
        """Which of the frames that the model was given a step of a grid begins with; 0 for a still picture."""
        grid = self.maps[number].grid
        return frame_of_step(step, grid.t, len(self.media.times)) if grid.kind == "video" else 0

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            **self.media.to_dict(),
            "outside": self.outside,
            "row_scale": list(self.row_scale),
            "whole_scale": list(self.whole_scale),
            "rows": [row.to_dict() for row in self.rows],
            "maps": [one.to_dict() for one in self.maps],
            "frames": [
                [
                    {"step": step, "time": time, "score": round(score, 6)}
                    for step, time, score in self.shown_frames(number)
                ]
                for number, one in enumerate(self.maps)
                if one.grid.kind != "image"
            ],
        }


@dataclass(frozen=True)
class ScoreBreakdown:
    """The numbers and texts of an :class:`~smart_retrieval.Explanation`, which documents the fields."""

    query: str | None
    id: str
    score: float
    anchor: float
    late: float
    lambda_anchor: float
    lambda_late: float
    floor: float | None
    tokens: tuple[ExplainedToken, ...]
    text: str
    source: str | None
    page: int | None
    heading: str | None
    visual: VisualExplanation | None = None
    added: tuple[AddedPart, ...] = ()
    rerank: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: the fields by name, and ``special_share``; the tokens' ``contribution`` adds up to ``late``."""
        found = {part.name: getattr(self, part.name) for part in fields(ScoreBreakdown)}
        return {
            **found,
            "tokens": [asdict(token) for token in self.tokens],
            "added": [{**asdict(part), "contribution": part.contribution} for part in self.added],
            "special_share": self.special_share,
            "visual": self.visual.to_dict() if self.visual is not None else None,
        }

    @property
    def special_share(self) -> float:
        """Share of the late score that comes from tokens of the query that are no content: prompts, punctuation, ...

        Example:
            >>> parts = [("cat", 0.3, "text"), ("<s>", 0.1, "special")]
            >>> tokens = tuple(ExplainedToken(word, "", 0, None, 1, 0.5, value, role) for word, value, role in parts)
            >>> ScoreBreakdown("cat", "a", 1, 0, 0.4, 1, 1, None, tokens, "", None, None, None).special_share
            0.25
        """
        own = sum(token.contribution for token in self.tokens if token.role not in _CONTENT_ROLES)
        return own / self.late if self.late > 0 else 0.0

    def likeness(self) -> list[str]:
        """What the search's options add, and which documents that comes from, one sentence each.

        Example:
            >>> part = AddedPart("feedback", 0.5, 0.25, ("guide.md#3",))
            >>> ScoreBreakdown("", "a", 1, 0, 0, 1, 1, None, (), "", None, None, None, added=(part,)).likeness()
            ['like hit guide.md#3: +0.1250 (feedback)']
        """
        found = [
            f"{'like hit' if part.name == 'feedback' else 'beside'} {', '.join(part.like)}: "
            f"{part.contribution:+.4f} ({part.name})"
            for part in self.added
            if part.like
        ]
        if self.rerank is not None:
            found.append(f"reranked with {self.rerank:.4f}, which orders the first hits")
        return found

    def rows(self) -> tuple[Row, ...]:
        """Lines of the query to show: its tokens one by one, those of its pictures as one."""
        return self.visual.rows if self.visual is not None else rows_of(self.tokens)

    def shaded_words(self) -> list[ShadedWord]:
        """Words of the passage that contribute to the score, in order; pieces of one word are put together.

        Example:
            >>> pieces = [("rotate", (0, 3), 0.25), ("logs", (3, 9), 0.5)]
            >>> tokens = tuple(ExplainedToken(word, "", 0, span, 1, 1, value) for word, span, value in pieces)
            >>> ScoreBreakdown("", "a", 1, 0, 0.75, 1, 1, None, tokens, "logrotate.", None, None, None).shaded_words()
            [ShadedWord(start=0, stop=9, contribution=0.75, tokens=(0, 1))]
        """
        words = [match.span() for match in _WORD.finditer(self.text)]
        found: list[tuple[int, int, int]] = []  # from, to, position of the query token
        for position, token in enumerate(self.tokens):
            if token.span is None or token.contribution <= 0 or token.span[0] >= token.span[1]:
                continue
            start, stop = token.span
            over = [word for word in words if word[0] < stop and word[1] > start] or [token.span]
            found.append((min(over[0][0], start), max(over[-1][1], stop), position))
        merged: list[tuple[int, int, list[int]]] = []
        for start, stop, position in sorted(found):
            if merged and start < merged[-1][1]:  # so that each character is shaded once
                first, last, positions = merged[-1]
                merged[-1] = (first, max(last, stop), [*positions, position])
            else:
                merged.append((start, stop, [position]))
        return [
            ShadedWord(start, stop, sum(self.tokens[one].contribution for one in positions), tuple(sorted(positions)))
            for start, stop, positions in merged
        ]


def window(text: str, words: Sequence[ShadedWord], first: int = 0, width: int = 280) -> tuple[int, int]:
    """The part of a passage to show: where most of the score comes from, cut between words."""
    if len(text) - first <= width:
        return first, len(text)
    starts = [first, *(max(first, word.start - width // 5) for word in words)]

    def worth(start: int) -> float:
        return sum(word.contribution for word in words if start <= word.start and word.stop <= start + width)

    start = max(starts, key=lambda place: (worth(place), -place))
    start = min(start, len(text) - width)
    while start > first and not text[start - 1].isspace():
        start -= 1
    stop = min(len(text), start + width)
    if stop < len(text) and not text[stop].isspace():
        space = max(text.rfind(" ", start, stop), text.rfind("\n", start, stop))
        stop = space if space > start else stop
    return start, stop


def rows_of(tokens: Sequence[ExplainedToken], places: Sequence[Place | None] = ()) -> tuple[Row, ...]:
    """Lines of a query: its tokens one by one, those of its pictures together, and those of its sound.

    ``places`` says where in the document's picture each token has its best match.
    """
    rows: list[Row] = []
    groups: dict[str, list[int]] = {}
    for position, token in enumerate(tokens):
        if token.role in _TOGETHER:
            groups.setdefault(_TOGETHER[token.role], []).append(position)
    for position, token in enumerate(tokens):
        name = _TOGETHER.get(token.role, "")
        visual = bool(name)
        own = groups[name] if visual else [position]
        if position != own[0]:
            continue
        weight = sum(tokens[one].weight for one in own)
        place = places[position] if places and not visual else None
        rows.append(
            Row(
                f"{name} × {len(own)}" if visual else _word(token.query_token),
                tuple(own),
                weight,
                # The plain mean of tokens that weigh nothing.
                sum((tokens[one].weight / weight if weight else 1 / len(own)) * tokens[one].similarity for one in own),
                sum(tokens[one].contribution for one in own),
                "" if visual else _answer(token, place),
                place,
                token.role not in _CONTENT_ROLES,
            )
        )
    return tuple(rows)


def _word(token: str) -> str:
    """A token without the marks that byte-level and SentencePiece vocabularies put for blanks and line ends."""
    return token.replace("Ċ", "⏎").lstrip("Ġ▁") or token.replace("Ġ", "␣").replace("▁", "␣")


def _answer(token: ExplainedToken, place: Place | None) -> str:
    if place is None:
        return _word(token.document_token)
    _, frame, row, column = place
    return f"row {row + 1}, column {column + 1}" + (f", frame {frame + 1}" if frame else "")
