"""``smart search``: find passages, with the parts of their scores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import AsJson, Floor, IndexModel, IndexPath, LambdaAnchor, LambdaLate, Weights, floor_of

if TYPE_CHECKING:
    from ..index.explain.explanation import Explanation
    from ..index.search.hits import Hit, Hits
    from ..index.smart_index import SmartIndex

_PASSAGES_A_FILE = 5  # how many hits are looked at for each file wanted


def search(
    index_path: IndexPath,
    query: Annotated[str, typer.Argument(help="What to look for, in words; may be left out with --image.")] = "",
    image: Annotated[
        Path | None, typer.Option(metavar="FILE", exists=True, dir_okay=False, help="Look for what a picture shows.")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Hits wanted; files with --group-by.")] = 10,
    where: Annotated[
        str | None,
        typer.Option(help="Filter over metadata, source, page, heading, id: \"year > 2020 and lang = 'en'\"."),
    ] = None,
    candidates: Annotated[
        int | None, typer.Option(min=1, help="Documents that the anchors choose for the hybrid score.")
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Give every document its hybrid score.")] = False,
    lexical: Annotated[bool, typer.Option("--lexical", help="Count BM25 in, with a weight of 0.2.")] = False,
    lexical_weight: Annotated[float | None, typer.Option(min=0, help="Count BM25 in, with this weight.")] = None,
    weights: Weights = None,
    lambda_anchor: LambdaAnchor = None,
    lambda_late: LambdaLate = None,
    floor: Floor = None,
    group_by: Annotated[str | None, typer.Option(help="file: the best passages of each file together.")] = None,
    deadline_ms: Annotated[
        float | None, typer.Option(min=0, help="Stop scoring after so many milliseconds; hits are then marked partial.")
    ] = None,
    model: IndexModel = None,
    as_json: AsJson = False,
    thumbnails: Annotated[
        bool,
        typer.Option("--thumbnails", help="With --json: a small picture of each page, image, video, in Base64."),
    ] = False,
) -> None:
    """Find the passages, pages and pictures of INDEX that answer QUERY, best first."""
    if not query and image is None:
        raise typer.BadParameter("found no query, expected words, --image, or both")
    if group_by not in (None, "file"):
        raise typer.BadParameter(f"--group-by: found {group_by!r}, expected file")
    lowest = floor_of(floor)
    from ..index.search.searcher import DEFAULT_CANDIDATES, LEXICAL_WEIGHT
    from ..index.smart_index import SmartIndex
    from .output import item_of_options

    asked = item_of_options(query, image)
    weight = lexical_weight if lexical_weight is not None else LEXICAL_WEIGHT * lexical
    with SmartIndex.open(index_path, model, mode="r") as index:
        hits = index.search(
            asked,
            k * _PASSAGES_A_FILE if group_by else k,
            where=where,
            candidates=candidates or DEFAULT_CANDIDATES,
            exact=exact,
            weights=weights or "preset",
            lambda_anchor=lambda_anchor,
            lambda_late=lambda_late,
            floor=lowest,
            lexical_weight=weight,
            deadline_ms=deadline_ms,
        )
        if as_json:
            _json(query, image, hits, k if group_by else None, thumbnails)
        else:
            _print(index, hits, k if group_by else None)


def _groups(hits: Hits, files: int) -> list[tuple[str, list[Hit]]]:
    return list(hits.group_by_source().items())[:files]


def _json(query: str, image: Path | None, hits: Hits, files: int | None, thumbnails: bool) -> None:
    from .output import echo_json

    found = hits.to_dict(thumbnails=thumbnails)
    if files is not None:
        dicts = {hit["id"]: hit for hit in found.pop("hits")}
        found["groups"] = [
            {"source": source, "hits": [dicts[hit.id] for hit in group]} for source, group in _groups(hits, files)
        ]
    asked = {"query": query} if image is None else {"query": query, "image": str(image)}
    echo_json({**asked, **found})


def _print(index: SmartIndex, hits: Hits, files: int | None) -> None:
    from .output import console, on_terminal, printable

    out = console()
    if not len(hits):
        out.print("nothing found" if hits.searched else "nothing to search: no document passes the filter")
        return
    # Shading needs an explanation of each hit; only a terminal shows it, and only of text.
    query = hits.query if on_terminal() else None
    rank = 0
    for source, group in _groups(hits, files) if files is not None else [("", list(hits))]:
        if files is not None:
            out.print(printable(source), style="bold", markup=False)
        for hit in group:
            rank += 1
            why = index.explain(query, hit.id) if query is not None and hit.text else None
            _print_hit(rank, hit, why, grouped=bool(source))
    if hits.partial:
        out.print("partial: the deadline ended the scoring", markup=False)


def _print_hit(rank: int, hit: Hit, explanation: Explanation | None, *, grouped: bool) -> None:
    from rich.padding import Padding
    from rich.text import Text

    from ..index.ingest.file_reader import passage_body
    from .output import console, location, on_terminal, printable, shaded, window

    out = console()
    parts = f"anchor {hit.anchor:.3f}  late {hit.late:.3f}"
    if hit.lexical is not None:
        parts += f"  lexical {hit.lexical:.3f}"
    head = Text(f"{rank:>3}  {hit.score:.3f}  ", style="bold")
    head.append(f"({parts})  ", style="not bold dim")
    head.append(printable(hit.id), style="not bold cyan")
    out.print(head)
    place = location(None if grouped else hit.source, hit.page, hit.heading)
    if hit.media is not None:
        place = f"{place}  ({hit.kind})".lstrip()
    if place:
        out.print(Text(f"     {place}", style="dim"))
    if hit.media is not None and not hit.text:
        out.print()
        return
    words = explanation.shaded_words() if explanation is not None else []
    first, _ = passage_body(hit.text, hit.heading)
    start, stop = window(hit.text, words, first)
    snippet = shaded(hit.text, words, start, stop)
    if start > first:
        snippet = Text("… ") + snippet
    if stop < len(hit.text):
        snippet.append(" …")
    if on_terminal():
        out.print(Padding(snippet, (0, 0, 1, 5)))
    else:
        out.print("     " + " ".join(snippet.plain.split()) + "\n", markup=False)
