"""The picture's part of an explanation page: frames with a map for each word of the query, and one for the whole."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from html import escape

from .explain import Explanation
from .explain_overlay import HUE, STRONGEST, jpeg_bytes, overlay, png_bytes
from .explain_shots import Shot, Shots
from .explain_visual import VisualExplanation

WHOLE = "all"
_NAMES = {"image": "The picture", "page": "The page", "video": "The frames that matched"}

_RAMP = ", ".join(f"rgba({HUE[0]}, {HUE[1]}, {HUE[2]}, {STRONGEST * part**2:.3f})" for part in (0, 0.25, 0.5, 0.75, 1))
PICTURE_STYLE = f"""
.shots {{ display: flex; flex-wrap: wrap; gap: 1rem; margin: .75rem 0; }}
.shot {{ margin: 0; flex: 1 1 20rem; max-width: 62rem; }}
.stage {{ position: relative; line-height: 0; border: 1px solid var(--line); border-radius: .5rem; overflow: hidden; }}
.stage .under {{ width: 100%; height: auto; filter: grayscale(.75); }}
.stage .heat {{ position: absolute; inset: 0; width: 100%; height: 100%; image-rendering: pixelated; }}
.stage .best {{ position: absolute; outline: 2px solid var(--ring); }}
.stage [hidden] {{ display: none; }}
figcaption {{ color: var(--soft); line-height: 1.5; padding-top: .25rem; font-variant-numeric: tabular-nums; }}
.ramp {{ display: inline-block; width: 8rem; height: .7rem; border-radius: 2px; vertical-align: middle;
  border: 1px solid var(--line);
  background: linear-gradient(90deg, {_RAMP}); }}
"""

# Follows what the rest of the page calls when a word is pointed at: shows that word's map, or the whole query's.
PICTURE_SCRIPT = """
  var layers = [].slice.call(document.querySelectorAll("[data-map]"));
  function lay(wanted) {
    var name = wanted.length ? wanted[0] : "all";
    layers.forEach(function (layer) { layer.hidden = layer.getAttribute("data-map") !== name; });
  }
"""


def picture_section(explanation: Explanation, shots: Shots) -> str:
    """The section of the page, as HTML; empty for a document that is text.

    Everything is embedded; everything that is shown is escaped.

    Args:
        explanation: Of a picture.
        shots: What its maps are drawn on.
    """
    visual = explanation.visual
    if visual is None:
        return ""
    figures = "\n".join(_figure(visual, shot) for shot in shots.shots)
    lines = [f"<h2>{_NAMES.get(visual.media.kind, 'The picture')}</h2>"]
    if shots.note:
        lines.append(f'<p class="soft">{escape(shots.note)}</p>')
    lines += [f'<p class="soft">{escape(line)}</p>' for line in sentences(explanation)]
    if visual.maps:
        lines.append('<p class="soft">lowest <span class="ramp"></span> highest</p>')
    return "\n".join([*lines, f'<div class="shots">\n{figures}\n</div>'])


def sentences(explanation: Explanation) -> list[str]:
    """What is to be said of the maps: their scales, and what of the score they do not show."""
    visual = explanation.visual
    if visual is None:
        return []
    if not visual.maps:
        return ["There is no heat map: tokens were merged, or the model does not say where its visual tokens stand."]
    low, high = visual.whole_scale
    return [
        f"The whole query: weighted similarities from {low:.3f} to {high:.3f}. Choose a word above to see its own: "
        f"similarities from {visual.row_scale[0]:.3f} to {visual.row_scale[1]:.3f}, one scale for all words.",
        f"Special tokens of the query (its prompt and template) bring {100 * explanation.special_share:.1f} % of the "
        f"late score; {100 * visual.outside:.1f} % of it was found outside the picture, in the document's own prompt, "
        "template, special tokens or text.",
    ]


def _figure(visual: VisualExplanation, shot: Shot) -> str:
    layers = "\n".join(_layers(visual, shot))
    width, height = shot.image.size
    under = f'<img class="under" src="{_uri("jpeg", jpeg_bytes(shot.image))}" width="{width}" height="{height}" alt="">'
    caption = f"<figcaption>{escape(shot.caption)}</figcaption>" if shot.caption else ""
    return f'<figure class="shot"><div class="stage">{under}\n{layers}</div>{caption}</figure>'


def _layers(visual: VisualExplanation, shot: Shot) -> Iterator[str]:
    if shot.grid is None:
        return
    one = visual.maps[shot.grid]
    whole = png_bytes(overlay(one.whole[shot.step], visual.whole_scale))
    yield f'<img class="heat" data-map="{WHOLE}" src="{_uri("png", whole)}" alt="">'
    for number, row in enumerate(visual.rows):
        cells = png_bytes(overlay(one.rows[number, shot.step], visual.row_scale))
        yield f'<img class="heat" data-map="{number}" src="{_uri("png", cells)}" alt="" hidden>'
        if row.place is not None and row.place[:2] == (shot.grid, shot.step):
            _, _, y, x = row.place
            h, w = one.grid.h, one.grid.w
            yield (
                f'<span class="best" data-map="{number}" hidden style="left:{100 * x / w:.3f}%;top:{100 * y / h:.3f}%;'
                f'width:{100 / w:.3f}%;height:{100 / h:.3f}%"></span>'
            )


def _uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{b64encode(data).decode()}"
