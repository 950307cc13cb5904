"""``smart explain``: why a passage was found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .options import (
    AsJson,
    Audio,
    Floor,
    Image,
    IndexAddress,
    IndexModel,
    LambdaAnchor,
    LambdaLate,
    Weights,
    scoring_of,
)
from .output import console, echo_json, export_encoder, item_of_options, location, printable, shaded, shown_name

if TYPE_CHECKING:
    from ..index.explain.explanation import Explanation
    from ..index.explain.score import VisualExplanation

_BAR = 20


def explain(
    index_path: IndexAddress,
    query: Annotated[str, typer.Argument(metavar="QUERY", help='The query; "" if there is only --image or --audio.')],
    id: Annotated[str, typer.Argument(metavar="ID", help="The passage's id, as search prints it.")],
    image: Image = None,
    audio: Audio = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write a web page, or a picture if FILE ends in .png: the heat map of an image or of sound, or the "
            "page of a PDF or scan with the words that matched marked.",
        ),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(metavar="DIR", exists=True, file_okay=False, help="The indexed folder, if it was moved since."),
    ] = None,
    weights: Weights = None,
    lambda_anchor: LambdaAnchor = None,
    lambda_late: LambdaLate = None,
    floor: Floor = None,
    where: options.Where = None,
    lexical: options.Lexical = False,
    lexical_weight: options.LexicalWeight = None,
    feedback: options.Feedback = 0.0,
    neighbours: options.Neighbours = 0.0,
    rerank: options.Rerank = None,
    model: IndexModel = None,
    as_json: AsJson = False,
) -> None:
    """Explain the score of passage ID for QUERY: what each query token matched, and what that contributed.

    Options that change scores are to be those of the search.
    """
    scoring = scoring_of(weights, lambda_anchor, lambda_late, floor)
    refinements = options.refinements_of(feedback, neighbours, rerank)
    from ..files import write_text
    from ..stores.opening import open_index

    with open_index(index_path, model, mode="r") as index:
        weight = options.lexical_of(lexical, lexical_weight)
        item = item_of_options(query, image, audio)
        found = index.explain(item, id, where=where, lexical_weight=weight, **refinements, **scoring)
        if out is not None:
            as_png = out.suffix.lower() == ".png"
            write_text(found.to_png(root) if as_png else found.to_html(root), out)
        if as_json:
            echo_json(found.to_dict())
        elif out is not None:
            typer.echo(f"wrote {out}")
        else:
            _print(found)
        export_encoder(index)


def _print(found: Explanation) -> None:
    from rich.table import Table
    from rich.text import Text

    out = console()
    out.print(Text(f"{shown_name(found.id)}  {location(found.source, found.page, found.heading)}", style="dim"))
    added = "".join(f" + {part.weight:g} × {part.value:.4f} {part.name}" for part in found.added)
    out.print(
        f"{found.score:.4f} = {found.lambda_anchor:g} × {found.anchor:.4f} anchor "
        f"+ {found.lambda_late:.4g} × {found.late:.4f} late{added}",
        markup=False,
    )
    for line in found.likeness():
        out.print(Text(printable(line), style="dim"))
    out.print()
    table = Table(box=None, pad_edge=False, show_footer=True)
    table.add_column("query token", footer="late score")
    table.add_column("weight", justify="right")
    table.add_column("best match")
    table.add_column("similarity", justify="right")
    table.add_column("contribution", footer=f"{found.late:.4f}", justify="right")
    table.add_column("")
    rows = found.rows()
    most = max((row.contribution for row in rows), default=0) or 1
    for row in rows:
        table.add_row(
            Text(printable(row.label)),
            f"{100 * row.weight:.1f} %",
            Text(printable(row.answer) or "–"),
            f"{row.similarity:.3f}",
            f"{row.contribution:.4f}",
            Text("█" * round(_BAR * max(0.0, row.contribution) / most), style="#b37700"),
        )
    out.print(table)
    if found.floor is not None:
        out.print(f"Similarities below {found.floor:.3g} count as none.", style="dim", markup=False)
    if found.visual is not None:
        _print_visual(found, found.visual)
    if found.text:
        out.print()
        out.print(shaded(found.text, found.shaded_words()))


def _print_visual(found: Explanation, visual: VisualExplanation) -> None:
    from ..index.explain.shown_pictures import clock

    out = console()
    out.print(
        f"Tokens of the query that are no content bring {100 * found.special_share:.1f} % of the late score; "
        f"{100 * visual.outside:.1f} % was found outside the "
        f"{'sound' if visual.media.kind == 'audio' else 'picture'}. --out draws the heat maps.",
        style="dim",
        markup=False,
    )
    for number, one in enumerate(visual.maps):
        if one.grid.kind != "image":
            frames = [
                f"{'frame ' + str(step + 1) if time is None else clock(time)} ({score:.3f})"
                for step, time, score in visual.shown_frames(number)
            ]
            name = "frames" if one.grid.kind == "video" else "seconds"
            out.print(f"best {name}: {', '.join(frames)}", markup=False)
