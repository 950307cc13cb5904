"""An explanation as a web page that loads nothing: the template's values, everything escaped by it."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from ...templates import render
from .heatmap import HUE, STRONGEST, file_bytes, overlay
from .score import Row, ScoreBreakdown, ShadedWord, VisualExplanation
from .shown_pictures import ShownPicture, ShownPictures, map_notes

if TYPE_CHECKING:
    from PIL.Image import Image

_TITLES = {
    "image": "The picture",
    "page": "The page",
    "video": "The frames that matched",
    "audio": "The seconds that matched",
}


def render_page(score: ScoreBreakdown, shown: ShownPictures) -> str:
    """The page of an explanation whose maps are drawn on these pictures."""
    return render(__package__, "explanation.html.j2", **page_values(score, shown))


def page_values(score: ScoreBreakdown, shown: ShownPictures) -> dict[str, Any]:
    """What a page of an explanation shows: rows, pictures with their maps and marks, the passage in stretches."""
    rows, visual = score.rows(), score.visual
    page = f"page {score.page}" if score.page is not None else ""
    place = (score.source, page, *(score.heading or "").split(" > "))
    return {
        "data_uri": _data_uri,
        "score": score,
        "title": score.query if score.query is not None else score.id,
        "place": [part for part in place if part],
        "rows": rows,
        "heaviest": max((row.weight for row in rows), default=0) or 1,
        "most": max((row.contribution for row in rows), default=0) or 1,
        "visual": visual,
        "picture_title": _TITLES[visual.media.kind if visual is not None else "page" if score.page else "image"],
        "notes": [*filter(None, [shown.note]), *map_notes(score)],
        "pictures": shown.pictures,
        "layers": partial(_layers, visual),
        "marks": partial(_marks, score, rows),
        "ramp": [f"rgba({HUE[0]}, {HUE[1]}, {HUE[2]}, {STRONGEST * part**2:.3f})" for part in (0, 0.25, 0.5, 0.75, 1)],
        "passage": _passage(score, rows) if visual is None or score.text else None,
        "placed": any(token.span is not None for token in score.tokens),
    }


def _passage(score: ScoreBreakdown, rows: tuple[Row, ...]) -> Iterator[dict[str, Any]]:
    """Stretches of the passage; those that matched with their rows, and their share of the highest contribution."""
    words = score.shaded_words()
    last = 0
    for word, found in zip(words, _matches(score, rows, words), strict=True):
        yield {"text": score.text[last : word.start], "rows": ()}
        yield {"text": score.text[word.start : word.stop], **found}
        last = word.stop
    yield {"text": score.text[last:], "rows": ()}


def _marks(score: ScoreBreakdown, rows: tuple[Row, ...], picture: ShownPicture) -> Iterator[dict[str, Any]]:
    """Marked words of a page: their places in percent, their rows, and their share of the highest contribution."""
    found = _matches(score, rows, [word.shaded for word in picture.words])
    for word, match in zip(picture.words, found, strict=True):
        left, top, right, bottom = (100 * side for side in word.box)
        yield {**match, "box": {"left": left, "top": top, "width": right - left, "height": bottom - top}}


def _matches(score: ScoreBreakdown, rows: tuple[Row, ...], words: Sequence[ShadedWord]) -> Iterator[dict[str, Any]]:
    """What words of the passage matched."""
    row_of = {token: number for number, row in enumerate(rows) for token in row.tokens}
    most = max((word.contribution for word in words), default=1.0)
    for word in words:
        yield {
            "rows": dict.fromkeys(row_of[token] for token in word.tokens),
            "share": word.contribution / most,
            "contribution": word.contribution,
            "names": ", ".join(score.tokens[position].query_token for position in word.tokens),
        }


def _layers(
    visual: VisualExplanation | None, picture: ShownPicture
) -> Iterator[tuple[str, Image, dict[str, float] | None]]:
    """Maps over a picture, the whole query's and one a row, and the place of a row's best cell in percent."""
    if visual is None or picture.grid is None:
        return
    one = visual.maps[picture.grid]
    yield "all", overlay(one.whole[picture.step], visual.whole_scale), None
    for number, row in enumerate(visual.rows):
        best = None
        if row.place is not None and row.place[:2] == (picture.grid, picture.step):
            y, x = row.place[2:]
            h, w = one.grid.h, one.grid.w
            best = {"left": 100 * x / w, "top": 100 * y / h, "width": 100 / w, "height": 100 / h}
        yield str(number), overlay(one.rows[number, picture.step], visual.row_scale), best


def _data_uri(image: Image, kind: Literal["png", "jpeg"]) -> str:
    return f"data:image/{kind};base64,{b64encode(file_bytes(image, kind)).decode()}"
