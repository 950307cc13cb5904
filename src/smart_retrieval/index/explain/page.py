"""An explanation as a web page that loads nothing: the template's values, everything escaped by it."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple

from ...templates import render
from .heatmap import HUE, STRONGEST, file_bytes, overlay
from .score import Row, ScoreBreakdown, VisualExplanation
from .shown_pictures import ShownPicture, ShownPictures, map_notes

if TYPE_CHECKING:
    from PIL.Image import Image

_TITLES = {"image": "The picture", "page": "The page", "video": "The frames that matched"}


class _Piece(NamedTuple):
    """A stretch of the passage; one that matched has the rows it belongs to, and its share of the highest score."""

    text: str
    rows: tuple[int, ...] = ()
    share: float = 0.0
    contribution: float = 0.0
    names: str = ""


class _Layer(NamedTuple):
    """A map over a picture; ``best`` is the place of its best cell, in percent of the picture."""

    map: str
    source: str
    best: dict[str, float] | None = None


class _Figure(NamedTuple):
    source: str
    size: tuple[int, int]
    caption: str
    layers: list[_Layer]


def render_page(score: ScoreBreakdown, shown: ShownPictures) -> str:
    """The page of an explanation whose maps are drawn on these pictures."""
    rows, visual = score.rows(), score.visual
    page = f"page {score.page}" if score.page is not None else ""
    place = (score.source, page, (score.heading or "").replace(" > ", " › "))
    return render(
        __package__,
        "explanation.html.j2",
        score=score,
        title=score.query if score.query is not None else score.id,
        place=" › ".join(part for part in place if part),
        rows=rows,
        heaviest=max((row.weight for row in rows), default=0) or 1,
        most=max((row.contribution for row in rows), default=0) or 1,
        visual=visual,
        picture_title=_TITLES.get(visual.media.kind, "The picture") if visual is not None else "",
        notes=[*filter(None, [shown.note]), *map_notes(score)],
        figures=[_figure(visual, picture) for picture in shown.pictures] if visual is not None else [],
        ramp=[f"rgba({HUE[0]}, {HUE[1]}, {HUE[2]}, {STRONGEST * part**2:.3f})" for part in (0, 0.25, 0.5, 0.75, 1)],
        passage=_passage(score, rows) if visual is None or score.text else None,
        placed=any(token.span is not None for token in score.tokens),
    )


def _passage(score: ScoreBreakdown, rows: tuple[Row, ...]) -> list[_Piece]:
    row_of = {token: number for number, row in enumerate(rows) for token in row.tokens}
    words = score.shaded_words()
    most = max((word.contribution for word in words), default=1.0)
    pieces: list[_Piece] = []
    last = 0
    for word in words:
        own = tuple(dict.fromkeys(row_of[token] for token in word.tokens))
        names = ", ".join(score.tokens[position].query_token for position in word.tokens)
        pieces.append(_Piece(score.text[last : word.start]))
        text = score.text[word.start : word.stop]
        pieces.append(_Piece(text, own, word.contribution / most, word.contribution, names))
        last = word.stop
    return [*pieces, _Piece(score.text[last:])]


def _figure(visual: VisualExplanation, picture: ShownPicture) -> _Figure:
    source = _data_uri(picture.image, "jpeg")
    return _Figure(source, picture.image.size, picture.caption, list(_layers(visual, picture)))


def _layers(visual: VisualExplanation, picture: ShownPicture) -> Iterator[_Layer]:
    """The whole query's map first, then one a row."""
    if picture.grid is None:
        return
    one = visual.maps[picture.grid]
    yield _Layer("all", _data_uri(overlay(one.whole[picture.step], visual.whole_scale)))
    for number, row in enumerate(visual.rows):
        best = None
        if row.place is not None and row.place[:2] == (picture.grid, picture.step):
            y, x = row.place[2:]
            h, w = one.grid.h, one.grid.w
            best = {"left": 100 * x / w, "top": 100 * y / h, "width": 100 / w, "height": 100 / h}
        yield _Layer(str(number), _data_uri(overlay(one.rows[number, picture.step], visual.row_scale)), best)


def _data_uri(image: Image, kind: Literal["png", "jpeg"] = "png") -> str:
    return f"data:image/{kind};base64,{b64encode(file_bytes(image, kind)).decode()}"
