"""``smart search``: find passages, with the parts of their scores."""

from __future__ import annotations

from itertools import count, islice
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
from .output import (
    console,
    echo_json,
    export_encoder,
    item_of_options,
    location,
    on_terminal,
    shaded,
    shown_name,
)

if TYPE_CHECKING:
    from rich.console import Console

    from ..index.explain.explanation import Explanation
    from ..index.search.hits import Hit, Hits
    from ..index.shards.sharded_index import ShardedIndex
    from ..index.smart_index import SmartIndex
    from ..stores.index import StoreIndex

_PASSAGES_A_FILE = 5  # hits searched for each file wanted


def search(
    index_path: IndexAddress,
    query: Annotated[
        str, typer.Argument(metavar="QUERY", help="The query; may be left out with --image or --audio.")
    ] = "",
    image: Image = None,
    audio: Audio = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Number of hits; of files with --group-by.")] = 10,
    where: options.Where = None,
    candidates: Annotated[
        int | None, typer.Option(min=1, help="Documents chosen by anchor score for the hybrid score.")
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Score every document with the hybrid.")] = False,
    lexical: options.Lexical = False,
    lexical_weight: options.LexicalWeight = None,
    feedback: options.Feedback = 0.0,
    neighbours: options.Neighbours = 0.0,
    rerank: options.Rerank = None,
    rerank_depth: options.RerankDepth = None,
    weights: Weights = None,
    lambda_anchor: LambdaAnchor = None,
    lambda_late: LambdaLate = None,
    floor: Floor = None,
    group_by: Annotated[str | None, typer.Option(help="file: show the best passages of each file together.")] = None,
    deadline_ms: Annotated[
        float | None,
        typer.Option(min=0, help="Stop scoring after this many milliseconds; hits are then marked partial."),
    ] = None,
    model: IndexModel = None,
    as_json: AsJson = False,
    thumbnails: Annotated[
        bool, typer.Option("--thumbnails", help="With --json: a thumbnail of each page, image or video, in Base64.")
    ] = False,
) -> None:
    """Find the passages, pages, images and recordings of INDEX that answer QUERY, best first."""
    if group_by not in (None, "file"):
        raise typer.BadParameter(f"--group-by: found {group_by!r}, expected file")
    item = item_of_options(query, image, audio)
    scoring = scoring_of(weights, lambda_anchor, lambda_late, floor)
    refinements = options.refinements_of(feedback, neighbours, rerank, rerank_depth)
    from ..index.search.searcher import DEFAULT_CANDIDATES
    from ..stores.opening import open_index

    with open_index(index_path, model, mode="r") as index:
        hits = index.search(
            item,
            k * _PASSAGES_A_FILE if group_by else k,
            where=where,
            candidates=candidates or DEFAULT_CANDIDATES,
            exact=exact,
            lexical_weight=options.lexical_of(lexical, lexical_weight),
            deadline_ms=deadline_ms,
            **refinements,
            **scoring,
        )
        groups = dict(islice(hits.group_by_source().items(), k)) if group_by else None
        if as_json:
            found = hits.to_dict(thumbnails=thumbnails)
            if groups is not None:
                dicts = {hit["id"]: hit for hit in found.pop("hits")}
                found["groups"] = [
                    {"source": source, "hits": [dicts[hit.id] for hit in group]} for source, group in groups.items()
                ]
            echo_json(
                {
                    "query": query,
                    **{name: str(file) for name, file in (("image", image), ("audio", audio)) if file},
                    **found,
                }
            )
        else:
            _print(index, hits, groups)
        export_encoder(index)


def _print(index: SmartIndex | ShardedIndex | StoreIndex, hits: Hits, groups: dict[str, list[Hit]] | None) -> None:
    out = console()
    if not len(hits):
        out.print("nothing found" if hits.searched else "nothing to search: no document passes the filter")
        return
    # Shading needs an explanation of each hit; only a terminal shows it, and only of text.
    query = hits.query if on_terminal() else None
    rank = count(1)
    for source, group in groups.items() if groups is not None else [("", list(hits))]:
        if groups is not None:
            out.print(shown_name(source), style="bold", markup=False)
        for hit in group:
            why = index.explain(query, hit.id) if query is not None and hit.text else None
            _print_hit(out, next(rank), hit, why, grouped=bool(source))
    if hits.partial:
        out.print("partial: the deadline ended the scoring", markup=False)


def _print_hit(out: Console, rank: int, hit: Hit, explanation: Explanation | None, *, grouped: bool) -> None:
    from rich.padding import Padding
    from rich.text import Text

    from ..documents.passages import passage_body
    from ..index.explain.score import window

    parts = f"anchor {hit.anchor:.3f}  late {hit.late:.3f}"
    for name in ("lexical", "feedback", "neighbours", "rerank"):
        if (value := getattr(hit, name)) is not None:
            parts += f"  {name} {value:.3f}"
    head = Text(f"{rank:>3}  {hit.score:.3f}  ", style="bold")
    head.append(f"({parts})  ", style="not bold dim")
    head.append(shown_name(hit.id), style="not bold cyan")
    out.print(head)
    place = location(None if grouped else hit.source, hit.page, hit.heading)
    if hit.media is not None:
        from ..index.explain.shown_pictures import clock

        times = hit.media.times if hit.kind == "audio" else ()
        place = "  ".join(filter(None, [place, "–".join(map(clock, times)), f"({hit.kind})"]))
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
