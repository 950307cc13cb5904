"""A probe as one web page that needs nothing but itself."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ...files import write_text
from ..significance import p_value_text
from ..terminal import notes
from .plots import Series, bars, curves, dots, legend

Result = Mapping[str, Any]

# Characters of a cell that may be broken into lines.
_LONG = 24


def write_page(result: Result, file: Path) -> None:
    """Write the page.

    Args:
        result: What `probe.probe` returned, or its JSON read back.
        file: Where to; its folder is made if need be.

    Raises:
        SmartError: The file cannot be written.
    """
    write_text(probe_page(result), file)


def probe_page(result: Result) -> str:
    """Draw a probe: the verdict, then every curve and table it rests on.

    Nothing is loaded from anywhere, nothing runs; everything that is shown is escaped.

    Args:
        result: What `probe.probe` returned, or its JSON read back.

    Returns:
        A page of HTML.
    """
    said = result["verdict"]
    data = result["dataset"]
    parts = {
        "title": escape(said["headline"]),
        "effect": said["effect"],
        "what": escape(
            f"{data['name']} ({data['split']}): {data['n_documents']:,} documents, {data['n_queries']:,} queries; "
            f"model {result['model']}, nDCG@10"
        ),
        "sentences": "".join(f"<li>{escape(sentence)}</li>" for sentence in said["sentences"]),
        "note": "".join(f"<p>{escape(_sentence(note))}</p>" for note in [*result["notes"], *_own_notes(result)]),
        "systems": _systems(result["systems"]),
        "layers": _layers(result["layers"]),
        "lambdas": _lambdas(result),
        "variants": _variants(result["variants"]),
        "lengths": _lengths(result),
        "queries": _queries(result["queries"]),
        "tokens": _tokens(result["tokens"]),
        "facts": _facts(result),
    }
    # One pass, so that a query that holds "{{title}}" is left as it is.
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _PAGE)


def layers_plot(layers: Result, system: str) -> tuple[str, list[str]]:
    """Quality of one system over the layers, by weighting.

    Args:
        layers: The result's ``layers``.
        system: ``"late"`` or ``"hybrid"``.

    Returns:
        The plot, and the names of its series.
    """
    chosen = [row for row in layers["points"] if row["system"] == system]
    names = list(dict.fromkeys(row["weights"] for row in chosen))
    series = [
        Series(f"{system}, {name} weights", [(row["layer"] or 0, row) for row in chosen if row["weights"] == name])
        for name in names
    ]
    ticks = [(row["layer"] or 0, _layer(row["layer"])) for row in chosen if row["weights"] == names[0]]
    plot = curves(
        f"nDCG@10 of {system} by layer",
        series,
        x_label="hidden state (0: embeddings)",
        ticks=ticks,
        reference=("anchor", layers["anchor"]["value"]),
    )
    return plot, [one.name for one in series]


def _systems(rows: Sequence[Result]) -> str:
    plot = dots("nDCG@10", [(row["name"], row) for row in rows], zero=rows[0]["value"], x_label="nDCG@10")
    cells = [(row["name"], *_value(row), *_gain(row["gain"])) for row in rows]
    return plot + _table(("", "nDCG@10", "95 % interval", "over the anchor", "95 % interval", "p"), cells)


def _layers(layers: Result) -> str:
    drawn = [layers_plot(layers, system) for system in ("late", "hybrid")]
    return "".join(f"<figure>{plot}<figcaption>{legend(names)}</figcaption></figure>" for plot, names in drawn)


def _lambdas(result: Result) -> str:
    series = [
        Series(curve["preset"], [(row["lambda_late"], row) for row in curve["points"]], curve["chosen"])
        for curve in result["lambda_late"]
    ]
    plot = curves(
        "nDCG@10 of the hybrid by the weight of the late score",
        series,
        x_label="λ_late (anchor: 1); large: the preset's own",
        ticks=[(value, f"{value:g}") for value in (0, 0.5, 1, 2, 4, 8)],
        reference=("anchor", result["systems"][0]["value"]),
        scale=lambda value: math.log2(1 + value),
    )
    return f"<figure>{plot}<figcaption>{legend([one.name for one in series])}</figcaption></figure>"


def _variants(rows: Sequence[Result]) -> str:
    if not rows:
        return "<p>There is nothing to change.</p>"
    changes = [(row["name"], {**row["gain"], "value": row["gain"]["difference"]}) for row in rows]
    plot = dots("Differences from the default", changes, zero=0.0, x_label="nDCG@10 over the default")
    cells = [(row["name"], *_value(row), *_gain(row["gain"])) for row in rows]
    return plot + _table(("", "nDCG@10", "95 % interval", "over the default", "95 % interval", "p"), cells)


def _lengths(result: Result) -> str:
    out = []
    for key, label in (
        ("query_length", "tokens of the query"),
        ("document_length", "tokens of its relevant documents"),
    ):
        rows = [(_span(row), f"n = {row['queries']}", row) for row in result[key]]
        out.append(f"<figure>{bars(f'Gain over the anchor by {label}', rows, x_label=label)}</figure>")
    return "".join(out)


def _queries(counted: Result) -> str:
    shares = "".join(
        f'<span class="{name}" style="flex-grow:{counted[name]["share"]:.4f}"></span>'
        for name in ("helped", "unchanged", "hurt")
    )
    told = ", ".join(
        f"{counted[name]['count']:,} {name} ({counted[name]['share']:.0%})" for name in ("helped", "unchanged", "hurt")
    )
    out = [f'<div class="shares">{shares}</div><p>{told}</p>']
    for key, title in (("most_helped", "Most helped"), ("most_hurt", "Most hurt")):
        cells = [
            (row["id"], row["text"], f"{row['anchor']:.3f}", f"{row['hybrid']:.3f}", f"{row['difference']:+.3f}")
            for row in counted[key]
        ]
        table = _table(("id", "query", "anchor", "hybrid", "difference"), cells) if cells else "<p>None.</p>"
        out.append(f"<h3>{title}</h3>{table}")
    return "".join(out)


def _tokens(tokens: Result) -> str:
    every, used, sample = tokens["all_kept"], tokens["as_used"], tokens["sample"]
    cells = [
        (
            role,
            _share(every["query_tokens"].get(role)),
            _share(share),
            _share(every["wins"][role]),
            _share(every["score"][role]),
            _share(used["ever_win"].get(role)),
        )
        for role, share in every["document_tokens"].items()
    ]
    heads = (
        "role",
        "of query tokens",
        "of document tokens",
        "of best matches",
        "of the late score",
        "ever a best match",
    )
    return (
        f"<p>A sample of {sample['queries']:,} queries and {sample['documents']:,} documents, every query with "
        "every document. All columns but the last: if every position were kept, equal weights, no floor. Last column: "
        "under the token filter in use.</p>" + _table(heads, cells)
    )


def _facts(result: Result) -> str:
    rows = {
        "preset": result["preset"],
        "readout": result["readout"],
        "scoring": result["scoring"],
        "prompts": result["prompts"],
        "maximum length": result["encode"]["max_length"],
        "weights": result["encode"]["weights_fingerprint"],
        "data": result["dataset"]["fingerprint"],
        "versions": result["versions"],
    }
    cells = [
        (name, "; ".join(f"{key} {item}" for key, item in value.items()) if isinstance(value, Mapping) else value)
        for name, value in rows.items()
    ]
    return _table(("", ""), cells)


def _own_notes(result: Result) -> list[str]:
    # The note on known-item queries is told already.
    return [note for note in notes(result) if note not in result["notes"]]


def _table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in heads)
    body = "".join(f"<tr>{''.join(_cell(cell) for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(value: object) -> str:
    text = "" if value is None else str(value)
    # Figures stay in one line; the table is moved sideways on a phone.
    return f"<td{' class=t' if len(text) > _LONG else ''}>{escape(text)}</td>"


def _value(row: Result) -> tuple[str, str]:
    interval = "" if row["ci_low"] is None else f"{row['ci_low']:.4f} to {row['ci_high']:.4f}"
    return f"{row['value']:.4f}", interval


def _gain(gain: Result | None) -> tuple[str, str, str]:
    if gain is None:
        return "", "", ""
    return (
        f"{gain['difference']:+.4f}",
        f"{gain['ci_low']:+.4f} to {gain['ci_high']:+.4f}",
        p_value_text(gain["p_value"]),
    )


def _span(row: Result) -> str:
    low, high = f"{row['low']:.0f}", f"{row['high']:.0f}"
    return low if low == high else f"{low}–{high}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _layer(layer: int | None) -> str:
    return "adapter" if layer is None else str(layer)


def _sentence(note: str) -> str:
    return note[:1].upper() + note[1:] + "."


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{{title}}</title>
<style>
:root { color-scheme: light dark; --ink: #1c1d21; --soft: #62656e; --paper: #fff; --line: #e2e4e9;
  --a: #2f6fde; --b: #c9650a; --c: #2e8b57; --d: #8a5cd6; --bad: #c2413a; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e9eaee; --soft: #a0a4ae; --paper: #17181c; --line: #33353d;
    --a: #7aa7ff; --b: #ffab54; --c: #63c48d; --d: #b795ff; --bad: #ff8a82; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 2rem 1.25rem 4rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 2.5rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1.25rem 0 .25rem; }
p { margin: .25rem 0; }
.soft, figcaption { color: var(--soft); overflow-wrap: anywhere; }
.verdict { border-left: 4px solid var(--soft); padding-left: 1rem; }
.verdict.helps { border-color: var(--c); }
.verdict.hurts { border-color: var(--bad); }
.note { background: color-mix(in srgb, var(--b) 12%, transparent); border-radius: .5rem; padding: .5rem 1rem;
  margin-top: 1rem; }
ul { padding-left: 1.25rem; margin: .75rem 0 0; }
svg { display: block; width: 100%; max-width: 30rem; height: auto; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); gap: 1rem; }
figure { margin: 0; }
.key { display: inline-block; margin-right: 1rem; }
.key span { display: inline-block; width: .8rem; height: .8rem; border-radius: 50%; margin-right: .35rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin-top: .5rem; }
th, td { text-align: left; padding: .25rem .9rem .25rem 0; font-weight: 400; border-bottom: 1px solid var(--line);
  vertical-align: top; white-space: nowrap; }
.t { white-space: normal; min-width: 16rem; overflow-wrap: anywhere; }
th { color: var(--soft); }
.shares { display: flex; height: 1rem; border-radius: 4px; overflow: hidden; max-width: 30rem; }
.shares .helped { background: var(--c); }
.shares .unchanged { background: var(--line); }
.shares .hurt { background: var(--bad); }
</style>
</head>
<body>
<div class="verdict {{effect}}">
<h1>{{title}}</h1>
<p class="soft">{{what}}</p>
<ul>{{sentences}}</ul>
</div>
<div class="note">{{note}}</div>
<h2>Anchor, late and hybrid</h2>
{{systems}}
<h2>Layer by layer</h2>
<p class="soft">Each hidden state alone, no floor, λ_late = 1.</p>
<div class="plots">{{layers}}</div>
<h2>How much the late score counts</h2>
{{lambdas}}
<h2>The default with one thing changed</h2>
{{variants}}
<h2>Gain by length</h2>
<p class="soft">The default's hybrid over the anchor, nDCG@10; about as many queries in each column.</p>
<div class="plots">{{lengths}}</div>
<h2>Query by query</h2>
{{queries}}
<h2>Which tokens match</h2>
{{tokens}}
<h2>What was measured</h2>
{{facts}}
</body>
</html>
"""
