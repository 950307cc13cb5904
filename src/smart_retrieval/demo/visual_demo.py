"""The visual demo: pages as pictures, searched with and without their token vectors, and one hit explained."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..evaluation.cache import EncodingCache
from ..evaluation.metrics import per_query_metrics
from ..evaluation.results import write_json
from ..evaluation.significance import format_p_value, paired_comparison
from ..evaluation.terminal import new_table
from ..files import atomic_file
from ..types import Array
from .glyph_pages import GlyphCollection, glyph_collection

if TYPE_CHECKING:
    from ..index.smart_index import SmartIndex

PAGES = 300
_DEPTH = 10
_SHOWN = 3
_LAMBDAS = {"anchor": (1.0, 0.0), "late": (0.0, None), "hybrid": (None, None)}


class Ranking(NamedTuple):
    """Pages ranked by one system: for each query its nDCG@10, and the ids found."""

    ndcg: Array
    ids: list[list[str]]


def run_visual_demo(
    *,
    model: str = "glyph",
    pages: int = PAGES,
    cache: Path | None = None,
    out: Path | None = None,
    as_json: bool = False,
) -> None:
    """Index drawn pages as pictures, search them with queries that name shapes on them, and explain one hit.

    The explanation is written to ``out``, or beside the index in the user's cache.
    """
    from ..index.smart_index import SmartIndex
    from ..model.smart_model import SmartModel

    home = EncodingCache(cache).folder.parent
    collection = glyph_collection("test", pages)
    folder = _draw(home / f"glyph-pages-{pages}", collection)
    smart = SmartModel(model)
    # An index that an earlier version left keeps its readout and scoring, and would show that version's figures.
    made_with = json.dumps([smart.identity()["fingerprint"], smart.readout.to_dict(), smart.preset.scoring.to_dict()])
    place = home / f"glyph-pages-{pages}-{hashlib.sha256(made_with.encode()).hexdigest()[:16]}.smart"
    with SmartIndex.open_or_create(place, smart, files_as="pages") as index:
        report = index.index_folder(folder)
        rankings = search_pages(index, collection)
        anchor, hybrid = rankings["anchor"], rankings["hybrid"]
        # A stable choice: of queries with equal gains the first is shown, on every machine.
        chosen = int(np.argmax(hybrid.ndcg - anchor.ndcg))
        query = collection.queries[chosen].text
        page = out or index.path.with_suffix(".html")
        page.write_text(index.explain(query, hybrid.ids[chosen][0]).to_html(folder), encoding="utf-8")
        figures: dict[str, Any] = {
            "pages": pages,
            "queries": len(collection.queries),
            "indexed": report.added,
            "ndcg@10": {name: float(ranking.ndcg.mean()) for name, ranking in rankings.items()},
            "gain": paired_comparison(anchor.ndcg, hybrid.ndcg).to_dict(),
            "query": query,
            "index": str(index.path),
            "explanation": str(page),
        }
    if as_json:
        write_json(figures)
    else:
        _print(figures, collection, rankings, chosen)


def search_pages(index: SmartIndex, collection: GlyphCollection) -> dict[str, Ranking]:
    """Every query against every page, by anchor, by tokens and by both."""
    queries = index.model.encode_query([query.text for query in collection.queries], show_progress=False)
    names = [query.id for query in collection.queries]
    rankings = {}
    for system, (lambda_anchor, lambda_late) in _LAMBDAS.items():
        hits = index.search_many(queries, _DEPTH, exact=True, lambda_anchor=lambda_anchor, lambda_late=lambda_late)
        # A page's id in the index is its file's name and place in it.
        ranked = {name: [Path(hit.source or "").stem for hit in found] for name, found in zip(names, hits, strict=True)}
        ndcg = per_query_metrics(collection.qrels, ranked)["ndcg@10"]
        rankings[system] = Ranking(ndcg, [[hit.id for hit in found] for found in hits])
    return rankings


def _draw(folder: Path, collection: GlyphCollection) -> Path:
    """Write the pages as PNG files, those that are not there yet."""
    for page in collection.pages:
        target = folder / f"{page.id}.png"
        if not target.exists():
            with atomic_file(target) as partial:
                page.image().save(partial, format="PNG")
    return folder


def _print(figures: dict[str, Any], collection: GlyphCollection, rankings: dict[str, Ranking], chosen: int) -> None:
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    console.print(
        f"\n{figures['pages']} pages of coloured shapes, indexed as pictures, and {figures['queries']} queries that\n"
        "name one to four shapes of a page. The model was trained on other pages, with the pooled embedding alone.\n"
    )
    table = new_table("", "nDCG@10")
    for name, value in figures["ndcg@10"].items():
        table.add_row(name, f"{value:.4f}")
    console.print(table)
    gain = figures["gain"]
    console.print(f"\nhybrid over anchor: {100 * gain['relative']:+.1f} %, {format_p_value(gain['p_value'])}")
    objects = {page.id: page.objects for page in collection.pages}
    wanted = collection.queries[chosen].objects
    console.print(f'\n[bold]"{figures["query"]}"[/bold]  (helped most)')
    for system in ("anchor", "hybrid"):
        pages = [Path(id.split("#")[0]).stem for id in rankings[system].ids[chosen][:_SHOWN]]
        found = [f"{page} ({sum(kind in objects[page] for kind in wanted)} of {len(wanted)})" for page in pages]
        console.print(f"   {system:7} {', '.join(found)}")
    console.print(
        f"\nWhere each word was found on the page: {figures['explanation']}\n"
        f'Search on:  smart search {figures["index"]} "red circle, blue star"',
        soft_wrap=True,
        markup=False,
    )
