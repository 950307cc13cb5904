"""Results as tables for a terminal (rich); the pieces are shared by all commands that measure."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .charts import one_line
from .metrics import METRICS, metric_title
from .results import About, BeirResult, CodecsResult, CompareResult, ComparisonFacts, MetricMeans
from .significance import format_p_value, p_value_text

if TYPE_CHECKING:
    from rich.console import Group, RenderableType
    from rich.table import Table
    from rich.text import Text


def render_table(result: BeirResult) -> RenderableType:
    """Draw an evaluation: what was measured, one row a system, and the gains over the anchor.

    What was left out or cut off stands below it (`notes`).

    Args:
        result: What `evaluate_beir` returned, or its JSON read back.

    Returns:
        Something rich can print. It fits 80 columns; no value in it is shortened.

    Example:
        >>> from rich.console import Console
        >>> Console().print(render_table(evaluate_beir("cranfield")))  # doctest: +SKIP

    Source:
        Figures as in information-retrieval papers: metrics to four decimals, the best of each column in bold.
    """
    table = new_table("", *map(metric_title, METRICS), "bytes/doc", "encode", "score/query")
    # The anchor alone needs the same forward pass, so every row has cost the same to encode; from the cache, nothing.
    seconds = result["encode"].get("seconds")
    encoding = "cached" if result["encode"].get("cached") or seconds is None else f"{seconds:.1f} s"
    gain, refined = result["gain"], result["gain"].get("refined")
    for row, values in zip(result["rows"], _metric_cells(result["rows"]), strict=True):
        # The name of a row with options is as long as there are options: it stands below, in full.
        name = "+ options" if refined is not None and row is result["rows"][-1] else row["name"]
        size, milliseconds = f"{row['bytes_per_document']:,.0f}", f"{row['score_ms_per_query']:.2f} ms"
        table.add_row(name, *values, size, encoding, milliseconds)
    lines = [_gain_line("hybrid", gain, gain["metric"])]
    if "late" in gain:
        lines.append(_gain_line("late", gain["late"], gain["metric"]))
    if (found := result.get("calibration")) is not None:
        # Of few documents the model's own calibration is taken, which was measured on more.
        of = "on the documents" if found["documents"] <= result["dataset"]["n_documents"] else "for the model"
        lines.append(f"calibrated {of}: λ_late {found['lambda_late']:.3g}, floor {found['floor'] or 0:.3g}")
    if refined is not None:
        lines.append(_gain_line(f"options ({result['rows'][-1]['name']})", refined, gain["metric"], over="hybrid"))
    return _render(result, table, lines)


def render_comparison(result: CompareResult) -> RenderableType:
    """Draw systems side by side, each with its gain over the anchor and how likely chance alone gives as much."""
    table, fusion = new_table("", *map(metric_title, METRICS), "gain", "p", gap=1), result["fusion"]
    for row, values in zip(result["systems"], _metric_cells(result["systems"]), strict=True):
        gain = row["gain"]
        relative = "" if gain is None or gain["relative"] is None else f"{gain['relative']:+.1%}"
        table.add_row(row["name"], *values, relative, "" if gain is None else p_value_text(gain["p_value"]))
    lines = [
        "gain and p: over the anchor, nDCG@10, paired randomisation test",
        f"SMART + BM25: SMART + {fusion['lexical_weight']:g} x {fusion['anchor_spread']:.2g} x s / max(best s, "
        f"{fusion['full_bm25']:g}); "
        f"RRF with k = {fusion['rrf_k']}",
    ]
    return _render(result, table, lines)


def render_codecs(result: CodecsResult) -> RenderableType:
    """Draw codecs: bytes, and what is left of the uncompressed hybrid's quality."""
    table = new_table("", "bytes/token", "token bytes/doc", "nDCG@10", "kept", gap=1)
    fit, whole = result["fit"], result["uncompressed"]
    shares = [None, *(row["share"] for row in result["codecs"])]
    rows = [whole, *result["codecs"]]
    for row, share in zip(rows, shares, strict=True):
        sizes = (f"{row['bytes_per_token']:,.0f}", f"{row['token_bytes_per_document']:,.0f}")
        table.add_row(row["name"], *sizes, f"{row['ndcg@10']:.4f}", "" if share is None else f"{share:.1%}")
    anchors = sorted({round(row["bytes_per_document"] - row["token_bytes_per_document"]) for row in rows})
    lines = [
        f"hybrid; codecs fitted on {fit['documents']:,} of the documents (seed {fit['seed']}), measured on all",
        f"the anchor takes {' or '.join(f'{size:,}' for size in anchors)} bytes a document besides",
    ]
    return _render(result, table, lines)


def notes(result: Mapping[str, Any]) -> list[str]:
    """What a reader of the figures should know, one sentence each: what the data lacked, what the model cut off."""
    data, encode = result["dataset"], result["encode"]
    cut = [
        f"{truncated:,} of {data[f'n_{kind}']:,} {kind} cut at the model's maximum length"
        for kind in ("documents", "queries")
        if (truncated := encode.get(f"truncated_{kind}"))
    ]
    return [*data["warnings"], *cut]


def print_table(result: BeirResult | CompareResult | CodecsResult) -> None:
    """Print a result to stdout as a table; in colour on a terminal only.

    Args:
        result: What `evaluate_beir`, `compare_beir` or `evaluate_codecs` returned, or its JSON read back.

    Example:
        >>> print_table(evaluate_beir("cranfield"))  # doctest: +SKIP
    """
    if "codecs" in result:
        print_rendered(render_codecs(result))
    elif "systems" in result:
        print_rendered(render_comparison(result))
    else:
        print_rendered(render_table(result))


def new_table(corner: str, *titles: str, gap: int = 2) -> Table:
    """A table without lines: labels on the left below `corner`, figures on the right below their titles."""
    from rich.table import Table

    table = Table(box=None, padding=(0, gap, 0, 0), header_style="bold")
    table.add_column(corner, no_wrap=True)
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    return table


def stacked(*parts: Table | Text | Sequence[str]) -> Group:
    """Tables and lines below one another, an empty line between the parts; text is never read as markup."""
    from rich.console import Group
    from rich.text import Text

    shown: list[RenderableType] = []
    for part in parts:
        lines = [Text(one_line(line)) for line in part] if isinstance(part, Sequence) else [part]
        shown += [Text(""), *lines] if shown else lines
    return Group(*shown)


def print_verdict(
    verdict: Mapping[str, Any], table: Table, notes: Sequence[str], details: Sequence[str] | None = None
) -> None:
    """Print headline, table and sentences of a probe or a tuning, and what else there is to say."""
    from rich.text import Text

    sentences = [f"- {sentence}" for sentence in verdict["sentences"]]
    more = [] if details is None else [details]
    headline = Text(one_line(verdict["headline"]), style="bold")
    print_rendered(stacked(headline, table, sentences, *more, [f"note: {note}" for note in notes]))


def print_rendered(rendered: RenderableType) -> None:
    """Print to stdout, in colour on a terminal only; in a pipe there is no width to fit, and lines stay whole."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else 400
    Console(width=width, highlight=False, markup=False, emoji=False).print(rendered)


def _render(result: About, table: Table, lines: Sequence[str]) -> RenderableType:
    data = result["dataset"]
    headline = (
        f"{data['name']} ({data['split']}): {data['n_documents']:,} documents, {data['n_queries']:,} queries, "
        f"{data['n_judgments']:,} judgments; model {result['model']}, preset {result['preset']}"
    )
    return stacked([headline], table, [*lines, *(f"note: {note}" for note in notes(result))])


def _metric_cells(rows: Sequence[MetricMeans]) -> list[list[Text]]:
    """Each row's metrics to four decimals, the best of each column in bold."""
    from rich.text import Text

    best = {metric: max(row[metric] for row in rows) for metric in METRICS}
    return [
        [Text(f"{row[name]:.4f}", style="bold" if row[name] == best[name] else "") for name in METRICS] for row in rows
    ]


def _gain_line(name: str, gain: ComparisonFacts, metric: str, *, over: str = "anchor") -> str:
    relative = "" if gain["relative"] is None else f" ({gain['relative']:+.1%})"
    return (
        f"{name} over {over}, {metric_title(metric)}: {gain['difference']:+.4f}{relative}, "
        f"{format_p_value(gain['p_value'])}, 95 % interval {gain['ci_low']:+.4f} to {gain['ci_high']:+.4f}; "
        f"{gain['wins']} wins, {gain['ties']} ties, {gain['losses']} losses"
    )
