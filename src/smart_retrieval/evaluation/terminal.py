"""Draw the result object of an evaluation (of `evaluate`, `compare` or `codecs`) for people to read in a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import SmartError
from .metrics import METRICS
from .significance import p_value_text, p_value_told

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

#: How people write the metrics.
_TITLES = {"ndcg@10": "nDCG@10", "recall@100": "Recall@100", "mrr@10": "MRR@10", "map": "MAP"}


def render_table(result: Mapping[str, Any]) -> RenderableType:
    """Draw an evaluation: what was measured, one row a system, and the gains over the anchor.

    What was left out or cut off is said below it (`notes`).

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
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    rows = result["rows"]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("", no_wrap=True)
    for title in (*_TITLES.values(), "bytes/doc", "encode", "score/query"):
        table.add_column(title, justify="right", no_wrap=True)
    best = {metric: max(row[metric] for row in rows) for metric in METRICS}
    # The anchor alone needs the same forward pass, so every row has cost the same to encode.
    encode_time = _encode_time(result["encode"])
    for row in rows:
        values = [Text(f"{row[name]:.4f}", style="bold" if row[name] == best[name] else "") for name in METRICS]
        table.add_row(
            row["name"],
            *values,
            f"{row['bytes_per_document']:,.0f}",
            encode_time,
            f"{row['score_ms_per_query']:.2f} ms",
        )
    gain = result["gain"]
    lines = [_gain_line("hybrid", gain)]
    if "late" in gain:
        lines.append(_gain_line("late", gain["late"]))
    return Group(
        Text(_headline(result)),
        Text(""),
        table,
        Text(""),
        *(Text(line) for line in lines),
        *(Text(f"note: {note}") for note in notes(result)),
    )


def render_comparison(result: Mapping[str, Any]) -> RenderableType:
    """Draw systems side by side, each with its gain over the anchor and how likely chance alone gives as much.

    Args:
        result: What `compare_beir` returned, or its JSON read back.

    Returns:
        Something rich can print. It fits 80 columns.

    Example:
        >>> print_table(compare_beir("cranfield"))  # doctest: +SKIP
    """
    from rich.console import Group
    from rich.text import Text

    rows, fusion = result["systems"], result["fusion"]
    best = {metric: max(row[metric] for row in rows) for metric in METRICS}
    table = _table(*_TITLES.values(), "gain", "p")
    for row in rows:
        gain = row["gain"]
        told = ("", "")
        if gain is not None:
            told = (
                "" if gain["relative"] is None else f"{gain['relative']:+.1%}",
                p_value_text(gain["p_value"]),
            )
        values = [Text(f"{row[name]:.4f}", style="bold" if row[name] == best[name] else "") for name in METRICS]
        table.add_row(row["name"], *values, *told)
    lines = [
        "gain and p: over the anchor, nDCG@10, paired randomisation test",
        f"SMART + BM25: SMART + {fusion['lexical_weight']:g} x s / (s + {fusion['lexical_half']:g}); "
        f"RRF with k = {fusion['rrf_k']}",
    ]
    return Group(Text(_headline(result)), Text(""), table, Text(""), *_lines(lines, result))


def render_codecs(result: Mapping[str, Any]) -> RenderableType:
    """Draw codecs: bytes, and what is left of the uncompressed hybrid's quality.

    Args:
        result: What `evaluate_codecs` returned, or its JSON read back.

    Returns:
        Something rich can print. It fits 80 columns.

    Example:
        >>> print_table(evaluate_codecs("cranfield"))  # doctest: +SKIP
    """
    from rich.console import Group
    from rich.text import Text

    table = _table("bytes/token", "token bytes/doc", "nDCG@10", "kept")
    for row in [result["uncompressed"], *result["codecs"]]:
        share = row.get("share")
        table.add_row(
            row["name"],
            f"{row['bytes_per_token']:,.0f}",
            f"{row['token_bytes_per_document']:,.0f}",
            f"{row['ndcg@10']:.4f}",
            "" if share is None else f"{share:.1%}",
        )
    fit, anchor = result["fit"], result["uncompressed"]
    lines = [
        f"hybrid; codecs fitted on {fit['documents']:,} of the documents (seed {fit['seed']}), measured on all",
        f"the anchor takes {anchor['bytes_per_document'] - anchor['token_bytes_per_document']:,.0f} bytes a document "
        "besides",
    ]
    return Group(Text(_headline(result)), Text(""), table, Text(""), *_lines(lines, result))


def _table(*titles: str) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("", no_wrap=True)
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    return table


def _lines(lines: Sequence[str], result: Mapping[str, Any]) -> list[Text]:
    from rich.text import Text

    return [Text(line) for line in (*lines, *(f"note: {note}" for note in notes(result)))]


def notes(result: Mapping[str, Any]) -> list[str]:
    """List what a reader of the figures should know: what the data lacked, what the model cut off.

    Args:
        result: What `evaluate_beir` returned, or its JSON read back.

    Returns:
        One sentence each, without a full stop; an empty list if there is nothing to tell.

    Example:
        >>> notes({"dataset": {"warnings": [], "n_documents": 1400}, "encode": {"truncated_documents": 311}})
        ["311 of 1,400 documents cut at the model's maximum length"]
    """
    told = list(result["dataset"]["warnings"])
    for kind in ("documents", "queries"):
        if truncated := result["encode"].get(f"truncated_{kind}"):
            told.append(f"{truncated:,} of {result['dataset'][f'n_{kind}']:,} {kind} cut at the model's maximum length")
    return told


def print_table(result: Mapping[str, Any]) -> None:
    """Print a result to stdout, drawn by whichever of the functions above fits it; in colour on a terminal only.

    Args:
        result: What `evaluate_beir`, `compare_beir` or `evaluate_codecs` returned, or its JSON read back.

    Example:
        >>> print_table(evaluate_beir("cranfield"))  # doctest: +SKIP
    """
    from rich.console import Console

    # Piped into a file there is no width to fit: lines stay whole.
    render = render_codecs if "codecs" in result else render_comparison if "systems" in result else render_table
    Console(width=None if sys.stdout.isatty() else 200).print(render(result))


def write_json(result: Mapping[str, Any], file: Path | None = None) -> None:
    """Write the result as one indented JSON object.

    Args:
        result: What `evaluate_beir` returned.
        file: Where to; its folder is made if need be. None writes to stdout.

    Raises:
        SmartError: The file cannot be written.

    Example:
        >>> write_json({"model": "minilm"})
        {
          "model": "minilm"
        }
    """
    text = json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False)
    if file is None:
        print(text)
        return
    write_text(text + "\n", file)


def write_text(text: str, file: Path) -> None:
    """Write a file; its folder is made if need be.

    Raises:
        SmartError: It cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SmartError(f"cannot write {file} ({error.strerror or error}): name another file") from error


def _headline(result: Mapping[str, Any]) -> str:
    """Say in one line what was measured with what."""
    data = result["dataset"]
    return (
        f"{data['name']} ({data['split']}): {data['n_documents']:,} documents, {data['n_queries']:,} queries, "
        f"{data['n_judgments']:,} judgments; model {result['model']}, preset {result['preset']}"
    )


def _encode_time(encode: Mapping[str, Any]) -> str:
    """Phrase the time of encoding; a cached encoding has cost nothing now, and says so rather than 0 s."""
    seconds = encode.get("seconds")
    if encode.get("cached") or seconds is None:
        return "cached"
    return f"{seconds:.1f} s"


def _gain_line(name: str, gain: Mapping[str, Any]) -> str:
    """Phrase one comparison with the anchor."""
    metric = _TITLES[gain.get("metric", "ndcg@10")]
    relative = "" if gain["relative"] is None else f" ({gain['relative']:+.1%})"
    return (
        f"{name} over anchor, {metric}: {gain['difference']:+.4f}{relative}, {p_value_told(gain['p_value'])}, "
        f"95 % interval {gain['ci_low']:+.4f} to {gain['ci_high']:+.4f}; "
        f"{gain['wins']} wins, {gain['ties']} ties, {gain['losses']} losses"
    )
