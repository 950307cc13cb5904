"""One explanation as a web page that needs nothing but itself."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from .explanation import Explanation
from .overlay import HUE, STRONGEST, jpeg_bytes, overlay, png_bytes
from .shots import Shot, Shots
from .visual import VisualExplanation

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


_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*|_+|[^\w\s]")


@dataclass(frozen=True)
class ShadedWord:
    """A word of the passage that answered query tokens.

    Args:
        start: Where it begins in the passage, in characters.
        stop: Where it ends.
        contribution: What its tokens added to the late score together.
        tokens: Positions of the query tokens it answered.
    """

    start: int
    stop: int
    contribution: float
    tokens: tuple[int, ...]


def shaded_words(explanation: Explanation) -> list[ShadedWord]:
    """Words of the passage that contributed to the score, in order; pieces of one word are put together.

    Example:
        >>> from smart_retrieval.index.explain.explanation import ExplainedToken
        >>> pieces = [("rotate", (0, 3), 0.25), ("logs", (3, 9), 0.5)]
        >>> tokens = tuple(ExplainedToken(word, "", 0, span, 1, 1, value) for word, span, value in pieces)
        >>> one = Explanation("", "a", 1, 0, 0.75, 1, 1, None, tokens, "logrotate.", None, None, None)
        >>> shaded_words(one)
        [ShadedWord(start=0, stop=9, contribution=0.75, tokens=(0, 1))]
    """
    words = [match.span() for match in _WORD.finditer(explanation.text)]
    found: dict[tuple[int, int], list[int]] = {}
    for position, token in enumerate(explanation.tokens):
        if token.span is None or token.contribution <= 0 or token.span[0] >= token.span[1]:
            continue
        start, stop = token.span
        over = [word for word in words if word[0] < stop and word[1] > start] or [token.span]
        whole = (min(over[0][0], start), max(over[-1][1], stop))
        found.setdefault(whole, []).append(position)
    return _apart(explanation, found)


def _apart(explanation: Explanation, found: dict[tuple[int, int], list[int]]) -> list[ShadedWord]:
    """Join words that overlap, so that each character is shaded once."""
    merged: list[tuple[int, int, list[int]]] = []
    for (start, stop), positions in sorted(found.items()):
        if merged and start < merged[-1][1]:
            before = merged.pop()
            merged.append((before[0], max(before[1], stop), before[2] + positions))
        else:
            merged.append((start, stop, positions))
    return [
        ShadedWord(
            start,
            stop,
            sum(explanation.tokens[position].contribution for position in positions),
            tuple(sorted(positions)),
        )
        for start, stop, positions in merged
    ]


def explanation_page(explanation: Explanation, shots: Shots | None = None) -> str:
    """A page of HTML: the score, the query's tokens with what each added, the passage with its words shaded.

    Pointing at a query token, or choosing it, marks the word that answered it, and the other way round; over a picture
    it shows the token's heat map. Nothing is loaded from anywhere; everything that is shown is escaped.

    Args:
        explanation: What :meth:`~smart_retrieval.index.smart_index.SmartIndex.explain` gave.
        shots: What its heat maps are drawn on: :func:`~smart_retrieval.index.explain.shots.find_shots`.

    Returns:
        The page.
    """
    title = explanation.query if explanation.query is not None else explanation.id
    place = " › ".join(
        part
        for part in (
            explanation.source or "",
            f"page {explanation.page}" if explanation.page is not None else "",
            (explanation.heading or "").replace(" > ", " › "),
        )
        if part
    )
    visual = explanation.visual
    pooled = all(token.span is None for token in explanation.tokens)
    hint = "Token positions are not known here: tokens were merged, or the text does not give them." if pooled else ""
    passage = "" if visual is not None and not explanation.text else _PASSAGE
    parts = {
        "title": escape(f"Why: {title}"),
        "query": escape(title),
        "id": escape(explanation.id),
        "place": escape(place),
        "score": _score(explanation),
        "rows": "\n".join(_rows(explanation)),
        "late": f"{explanation.late:.4f}",
        "floor": "" if explanation.floor is None else f"Similarities below {explanation.floor:g} count as none.",
        "picture": picture_section(explanation, shots or Shots(())),
        "passage": passage.format(hint=escape(hint), passage=_passage(explanation)),
        "style": PICTURE_STYLE if visual is not None else "",
        "script": PICTURE_SCRIPT if visual is not None else "  function lay() {}",
    }
    # One pass, so that a passage that holds "{{id}}" is left as it is.
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _PAGE)


def _score(explanation: Explanation) -> str:
    a, b = explanation.lambda_anchor, explanation.lambda_late
    return (
        f"<b>{explanation.score:.4f}</b> = {a:g} × <span title='cosine of the anchors'>{explanation.anchor:.4f}</span> "
        f"anchor + {b:g} × <span title='sum of the contributions below'>{explanation.late:.4f}</span> late"
    )


def _rows(explanation: Explanation) -> list[str]:
    lines = explanation.rows()
    most = max((line.contribution for line in lines), default=0) or 1
    heaviest = max((line.weight for line in lines), default=0) or 1
    rows = []
    for number, line in enumerate(lines):
        share = max(0.0, line.contribution / most)
        answer = escape(line.answer) if line.answer else "–"
        rows.append(
            f'<tr data-q="{number}" tabindex="0" style="--s:{share:.3f}"><th scope="row"><span class="t">'
            f"{escape(line.label)}</span></th>"
            f'<td class="n"><span class="bar w" style="--b:{max(0.0, line.weight / heaviest):.3f}"></span>'
            f"{100 * line.weight:.1f} %</td>"
            f'<td>{answer}</td><td class="n">{line.similarity:.3f}</td>'
            f'<td class="n"><span class="bar" style="--b:{share:.3f}"></span>{line.contribution:.4f}</td></tr>'
        )
    return rows


def _passage(explanation: Explanation) -> str:
    text, last, out = explanation.text, 0, []
    row_of = {token: number for number, row in enumerate(explanation.rows()) for token in row.tokens}
    words = shaded_words(explanation)
    most = max((word.contribution for word in words), default=1.0)
    for word in words:
        named = ", ".join(explanation.tokens[position].query_token for position in word.tokens)
        out.append(escape(text[last : word.start]))
        out.append(
            f'<mark data-q="{" ".join(dict.fromkeys(str(row_of[token]) for token in word.tokens))}" '
            f'style="--s:{word.contribution / most:.3f}" '
            f'title="{escape(f"{word.contribution:.4f} for {named}")}">{escape(text[word.start : word.stop])}</mark>'
        )
        last = word.stop
    out.append(escape(text[last:]))
    return "".join(out)


_PASSAGE = """<h2>The passage</h2>
<p class="soft">nothing <span class="scale"></span> most of the score. {hint}</p>
<div class="passage">{passage}</div>"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>{{title}}</title>
<style>
:root { color-scheme: light dark; --ink: #1c1d21; --soft: #62656e; --paper: #fff; --line: #e2e4e9;
  --hue: 255, 163, 26; --ring: #2457c5; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e9eaee; --soft: #a0a4ae; --paper: #17181c; --line: #33353d;
    --hue: 240, 140, 20; --ring: #8fb4ff; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 2rem 1.25rem 4rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, sans-serif; }
h1 { font-size: 1.4rem; line-height: 1.25; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1rem; margin: 2rem 0 .5rem; }
p { margin: .25rem 0; }
.soft { color: var(--soft); overflow-wrap: anywhere; }
.score { font-size: 1.1rem; margin-top: 1rem; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .25rem .75rem .25rem .25rem; font-weight: 400;
  border-bottom: 1px solid var(--line); }
thead th, tfoot td { color: var(--soft); }
tbody tr { cursor: pointer; }
.n { white-space: nowrap; }
.t, mark { background: rgba(var(--hue), calc(var(--s) * .75)); color: inherit; border-radius: .25em;
  padding: .05em .2em; }
mark { padding: .05em 0; cursor: pointer; }
.bar { display: inline-block; vertical-align: middle; width: 7rem; height: .6rem; margin-right: .5rem;
  border-radius: 2px;
  background: linear-gradient(rgb(var(--hue)), rgb(var(--hue))) no-repeat 0 / calc(var(--b) * 100%) 100%, var(--line); }
.bar.w { width: 4rem;
  background: linear-gradient(var(--soft), var(--soft)) no-repeat 0 / calc(var(--b) * 100%) 100%, var(--line); }
.passage { white-space: pre-wrap; overflow-wrap: anywhere; border: 1px solid var(--line); border-radius: .5rem;
  padding: 1rem; }
.on { outline: 2px solid var(--ring); outline-offset: 1px; }
.scale { display: inline-block; width: 8rem; height: .7rem; border-radius: 2px; vertical-align: middle;
  background: linear-gradient(90deg, rgba(var(--hue), 0), rgba(var(--hue), .75)); border: 1px solid var(--line); }
{{style}}
</style>
</head>
<body>
<h1>{{query}}</h1>
<p class="soft">{{id}}</p>
<p class="soft">{{place}}</p>
<p class="score">{{score}}</p>
<h2>What each word of the query found</h2>
<div class="wide"><table>
<thead><tr><th scope="col">query token</th><th scope="col">weight</th><th scope="col">best match</th>
<th scope="col">similarity</th><th scope="col">contribution</th></tr></thead>
<tbody>
{{rows}}
</tbody>
<tfoot><tr><td colspan="4">late score, the sum</td><td>{{late}}</td></tr></tfoot>
</table></div>
<p class="soft">{{floor}}</p>
{{picture}}
{{passage}}
<script>
(function () {
{{script}}
  var parts = [].slice.call(document.querySelectorAll("[data-q]")), held = null;
  function numbers(part) { return part.getAttribute("data-q").split(" "); }
  function show(from) {
    var wanted = from ? numbers(from) : [];
    parts.forEach(function (part) {
      part.classList.toggle("on", numbers(part).some(function (n) { return wanted.indexOf(n) >= 0; }));
    });
    lay(wanted);
  }
  parts.forEach(function (part) {
    part.addEventListener("mouseenter", function () { show(part); });
    part.addEventListener("mouseleave", function () { show(held); });
    part.addEventListener("focus", function () { show(part); });
    part.addEventListener("click", function () {
      held = held === part ? null : part;
      show(held);
      var answer = held && document.querySelector("mark.on");
      if (answer && part.tagName === "TR") answer.scrollIntoView({ block: "nearest" });
    });
  });
})();
</script>
</body>
</html>
"""
