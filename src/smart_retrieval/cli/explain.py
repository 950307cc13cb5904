"""``smart explain``: why a passage was found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..index.explain import Explanation

_BAR = 20


def explain(
    index_path: Annotated[Path, typer.Argument(metavar="INDEX", help="The index's folder.")],
    query: Annotated[str, typer.Argument(help="The query.")],
    id: Annotated[str, typer.Argument(metavar="ID", help="The passage's id, as search prints it.")],
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a web page that shows it.")] = None,
    lambda_anchor: Annotated[
        float | None, typer.Option(help="Weight of the anchor score. [default: the preset's]")
    ] = None,
    lambda_late: Annotated[float | None, typer.Option(help="Weight of the late score. [default: the preset's]")] = None,
    model: Annotated[str | None, typer.Option(help="The index's model, if it lies elsewhere by now.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Take the score of passage ID for QUERY apart: which query token matched what, and what that was worth."""
    from ..index.smart_index import SmartIndex

    with SmartIndex.open(index_path, model, mode="r") as index:
        found = index.explain(query, id, lambda_anchor=lambda_anchor, lambda_late=lambda_late)
    if out is not None:
        from ..index.explain_page import explanation_page

        out.write_text(explanation_page(found), encoding="utf-8")
    if as_json:
        from .output import echo_json

        echo_json(found.to_dict())
    elif out is not None:
        typer.echo(f"wrote {out}")
    else:
        _print(found)


def _print(found: Explanation) -> None:
    from rich.table import Table
    from rich.text import Text

    from ..index.explain_page import shaded_words
    from .output import console, location, printable, shaded

    out = console()
    out.print(Text(f"{found.id}  {location(found.source, found.page, found.heading)}", style="dim"))
    out.print(
        f"{found.score:.4f} = {found.lambda_anchor:g} × {found.anchor:.4f} anchor "
        f"+ {found.lambda_late:g} × {found.late:.4f} late\n",
        markup=False,
    )
    table = Table(box=None, pad_edge=False, show_footer=True)
    table.add_column("query token", footer="late score")
    table.add_column("weight", justify="right")
    table.add_column("best match")
    table.add_column("similarity", justify="right")
    table.add_column("contribution", footer=f"{found.late:.4f}", justify="right")
    table.add_column("")
    most = max((token.contribution for token in found.tokens), default=0) or 1
    for token in found.tokens:
        table.add_row(
            Text(printable(token.query_token)),
            f"{100 * token.weight:.1f} %",
            Text(printable(token.document_token) or "–"),
            f"{token.similarity:.3f}",
            f"{token.contribution:.4f}",
            Text("█" * round(_BAR * max(0.0, token.contribution) / most), style="#b37700"),
        )
    out.print(table)
    if found.floor is not None:
        out.print(f"Similarities below {found.floor:g} count as none.", style="dim", markup=False)
    out.print()
    out.print(shaded(found.text, shaded_words(found)))
