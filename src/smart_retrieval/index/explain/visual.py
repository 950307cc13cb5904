"""The part of an explanation that is a picture: heat maps over its grids, and how much of the score lies outside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.matches import TokenMatch
from ...embeddings import SmartEmbeddings
from ...types import Array
from ..store.pictures import SPECIAL, VISUAL, Media
from .heatmap import GridMap, best_frames, frame_of_step, grid_maps, place_in_grid, row_scale, whole_scale

if TYPE_CHECKING:
    from .explanation import ExplainedToken

QUERY_PICTURE = "[picture]"
# Frames of a video that are shown.
FRAMES_SHOWN = 4


@dataclass(frozen=True)
class Row:
    """A line of the query: one token, or all of its picture's together.

    Args:
        label: What to call it.
        tokens: Positions of its query tokens.
        weight: Their share of all weights.
        similarity: Their mean similarity, by weight.
        contribution: What they add to the late score.
        answer: The document token that answered it, or where in the picture that was.
        place: Grid, frame, row and column of the visual token that answered it best; None where that was none, or
            where it stands for several tokens.
        special: Whether it is a special, template or prompt token, which nobody asked with.
    """

    label: str
    tokens: tuple[int, ...]
    weight: float
    similarity: float
    contribution: float
    answer: str
    place: tuple[int, int, int, int] | None = None
    special: bool = False


@dataclass(frozen=True, eq=False)
class VisualExplanation:
    """Where in a picture a query found what.

    Args:
        media: The picture.
        rows: Lines of the query; the maps have one layer for each.
        maps: One a grid; none where grids are not known, as after token pooling.
        row_scale: The one colour scale of all rows: lowest and highest similarity.
        whole_scale: The colour scale of the whole query.
        outside: Share of the late score that other tokens of the document than visual ones answered: its template,
            prompt and special tokens, and a caption.
    """

    media: Media
    rows: tuple[Row, ...]
    maps: tuple[GridMap, ...]
    row_scale: tuple[float, float]
    whole_scale: tuple[float, float]
    outside: float

    def shown_frames(self, number: int) -> list[tuple[int, float | None, float]]:
        """Frames of a grid that matched best, best first: step, second in the video, score.

        Args:
            number: The grid.
        """
        one = self.maps[number]
        count = FRAMES_SHOWN if one.grid.kind == "video" else one.grid.t
        return [(step, self.time_of(one, step), float(one.frames[step])) for step in best_frames(one.frames, count)]

    def time_of(self, one: GridMap, step: int) -> float | None:
        """The second in the video of a step of a grid."""
        times = self.media.times
        return times[frame_of_step(step, one.grid.t, len(times))] if times and one.grid.kind == "video" else None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            **self.media.to_dict(),
            "outside": self.outside,
            "row_scale": list(self.row_scale),
            "whole_scale": list(self.whole_scale),
            "rows": [
                {
                    "label": row.label,
                    "tokens": list(row.tokens),
                    "place": row.place and list(row.place),
                    "special": row.special,
                }
                for row in self.rows
            ],
            "maps": [one.to_dict() for one in self.maps],
            "frames": [
                [
                    {"step": step, "time": time, "score": round(score, 6)}
                    for step, time, score in self.shown_frames(number)
                ]
                for number, one in enumerate(self.maps)
                if one.grid.kind == "video"
            ],
        }


def rows_of(tokens: Sequence[ExplainedToken], roles: Sequence[int], places: Sequence[Any] = ()) -> tuple[Row, ...]:
    """Lines of a query: its tokens one by one, those of its pictures together.

    Args:
        tokens: Its tokens.
        roles: Their roles.
        places: Where in the document's picture each was answered; nowhere when left out.
    """
    rows: list[Row] = []
    picture = [position for position, role in enumerate(roles) if role in VISUAL]
    for position, token in enumerate(tokens):
        if position in picture[1:]:
            continue
        own = picture if position in picture else [position]
        weight = sum(tokens[one].weight for one in own)
        place = places[position] if places and len(own) == 1 and position not in picture else None
        rows.append(
            Row(
                f"{QUERY_PICTURE} × {len(picture)}" if position in picture else _word(token.query_token),
                tuple(own),
                weight,
                sum(tokens[one].weight * tokens[one].similarity for one in own) / weight if weight else 0.0,
                sum(tokens[one].contribution for one in own),
                _answer(token, place) if position not in picture else "",
                place,
                roles[position] in SPECIAL,
            )
        )
    return tuple(rows)


def _word(token: str) -> str:
    """A token without the marks that byte-level and SentencePiece vocabularies put for blanks and line ends."""
    return token.replace("Ċ", "⏎").lstrip("Ġ▁") or token.replace("Ġ", "␣").replace("▁", "␣")


def explain_visual(
    media: Media,
    query: SmartEmbeddings,
    document: SmartEmbeddings,
    shares: Array,
    floor: float | None,
    tokens: Sequence[ExplainedToken],
    matches: Sequence[TokenMatch],
) -> VisualExplanation:
    """Lay one document's picture open.

    Args:
        media: Its picture.
        query: One query.
        document: The document as its codes give it back.
        shares: ``[Tq]`` weights of the query's tokens.
        floor: Similarities that count as none.
        tokens: The explained query tokens.
        matches: Their matches.
    """
    similarities = np.asarray(query.token_vectors, np.float32) @ np.asarray(document.token_vectors, np.float32).T
    places = [_place(media, match.document_index) for match in matches]
    rows = rows_of(tokens, query.roles.tolist(), places)
    groups = [row.tokens for row in rows]
    maps = grid_maps(similarities, shares, media.grids, floor=floor, rows=groups)
    late = sum(match.contribution for match in matches)
    outside = sum(match.contribution for match, place in zip(matches, places, strict=True) if place is None)
    return VisualExplanation(
        media, rows, maps, row_scale(maps), whole_scale(maps), outside / late if late > 0 and maps else 0.0
    )


def _place(media: Media, position: int) -> tuple[int, int, int, int] | None:
    for number, grid in enumerate(media.grids):
        place = place_in_grid(grid, position)
        if place is not None:
            return (number, *place)
    return None


def _answer(token: ExplainedToken, place: tuple[int, int, int, int] | None) -> str:
    if place is None:
        return _word(token.document_token)
    _, frame, row, column = place
    return f"row {row + 1}, column {column + 1}" + (f", frame {frame + 1}" if frame else "")
