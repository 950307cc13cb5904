"""The visual demo: pages as pictures, indexed, searched with and without their token vectors, and a heat map."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..evaluation.cache import EncodingCache
from ..evaluation.metrics import per_query_metrics
from ..evaluation.significance import paired_comparison
from .glyph_pages import GlyphCollection, glyph_collection

if TYPE_CHECKING:
    from ..index.smart_index import SmartIndex

PAGES = 300
_DEPTH = 10
_SHOWN = 3
_SYSTEMS: dict[str, dict[str, Any]] = {
    "anchor": {"lambda_late": 0.0},
    "late": {"lambda_anchor": 0.0},
    "hybrid": {},
}


@dataclass(frozen=True)
class VisualComparison:
    """Pages searched by anchor, by tokens and by both.

    Args:
        ndcg: nDCG@10 of each query by system, ``[Q]`` each.
        ids: The pages found, by system and query.
    """

    ndcg: dict[str, NDArray[Any]]
    ids: dict[str, list[list[str]]]


def run_visual_demo(
    *,
    model: str = "glyph",
    pages: int = PAGES,
    cache: Path | None = None,
    out: Path | None = None,
    as_json: bool = False,
) -> None:
    """Draw pages, index them as pictures, and search them with queries that name what stands on them.

    Args:
        model: A packaged name, a folder, or a hub name of a model that takes pictures.
        pages: How many pages.
        cache: Where pages and index are kept; the user's cache when None.
        out: Where the page that explains one hit is written; beside the index when None.
        as_json: Print one JSON object instead of tables.

    Raises:
        SmartError: The model cannot be loaded, takes no pictures, or the cache cannot be written.

    Example:
        >>> run_visual_demo(pages=50)  # doctest: +SKIP
    """
    from ..index.smart_index import SmartIndex
    from ..model.smart_model import SmartModel

    home = EncodingCache(cache).folder.parent
    collection = glyph_collection("test", pages)
    folder = _draw(home / f"glyph-pages-{pages}", collection)
    smart = SmartModel(model)
    place = home / f"glyph-pages-{pages}-{smart.identity()['fingerprint']}.smart"
    with SmartIndex.open_or_create(place, smart, files_as="pages") as index:
        report = index.index_folder(folder)
        compared = compare(index, collection)
        gain = paired_comparison(compared.ndcg["anchor"], compared.ndcg["hybrid"])
        # A stable choice: of queries with equal gains the first is shown, on every machine.
        chosen = int(np.argmax(compared.ndcg["hybrid"] - compared.ndcg["anchor"]))
        page = out or index.path.with_suffix(".html")
        explanation = index.explain(collection.queries[chosen].text, compared.ids["hybrid"][chosen][0])
        page.write_text(explanation.to_html(folder), encoding="utf-8")
        figures: dict[str, Any] = {
            "pages": pages,
            "queries": len(collection.queries),
            "indexed": report.added,
            "ndcg@10": {name: float(values.mean()) for name, values in compared.ndcg.items()},
            "gain": gain.to_dict(),
            "query": collection.queries[chosen].text,
            "index": str(index.path),
            "explanation": str(page),
        }
        if as_json:
            from ..evaluation.results import write_json

            write_json(figures)
        else:
            _print(figures, collection, compared, chosen)


def compare(index: SmartIndex, collection: GlyphCollection) -> VisualComparison:
    """Every query against every page, by anchor, by tokens and by both."""
    queries = index.model.encode_query([query.text for query in collection.queries], show_progress=False)
    names = [query.id for query in collection.queries]
    ndcg: dict[str, NDArray[Any]] = {}
    ids: dict[str, list[list[str]]] = {}
    for system, lambdas in _SYSTEMS.items():
        hits = index.search_many(queries, _DEPTH, exact=True, **lambdas)
        # A page's id in the index is its file's name and place in it.
        ids[system] = [[hit.id for hit in found] for found in hits]
        ranked = {name: [Path(hit.source or "").stem for hit in found] for name, found in zip(names, hits, strict=True)}
        ndcg[system] = per_query_metrics(collection.qrels, ranked)["ndcg@10"]
    return VisualComparison(ndcg, ids)


def _draw(folder: Path, collection: GlyphCollection) -> Path:
    """Write the pages as PNG files, those that are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    for page in collection.pages:
        target = folder / f"{page.id}.png"
        if not target.exists():
            partial = target.with_suffix(".part")
            page.image().save(partial, format="PNG")
            partial.replace(target)
    return folder


def _print(figures: dict[str, Any], collection: GlyphCollection, compared: VisualComparison, chosen: int) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    console.print(
        f"\n{figures['pages']} pages of coloured shapes, indexed as pictures, and {figures['queries']} queries that\n"
        "name one to four shapes of a page. The model was trained on other pages, with the pooled embedding alone.\n"
    )
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    table.add_column("nDCG@10", justify="right")
    for name, value in figures["ndcg@10"].items():
        table.add_row(name, f"{value:.4f}")
    console.print(table)
    gain = figures["gain"]
    console.print(f"\nhybrid over anchor: {100 * gain['relative']:+.1f} %, p {_p(gain['p_value'])}")
    by_id = {page.id: page for page in collection.pages}
    console.print(f'\n[bold]"{figures["query"]}"[/bold]  (helped most)')
    for system in ("anchor", "hybrid"):
        found = []
        for id in compared.ids[system][chosen][:_SHOWN]:
            page = by_id[Path(id.split("#")[0]).stem]
            wanted = collection.queries[chosen].objects
            found.append(f"{page.id} ({sum(kind in page.objects for kind in wanted)} of {len(wanted)})")
        console.print(f"   {system:7} {', '.join(found)}")
    console.print(
        f"\nWhere each word was found on the page: {figures['explanation']}\n"
        f'Search on:  smart search {figures["index"]} "red circle, blue star"',
        soft_wrap=True,
        markup=False,
    )


def _p(value: float) -> str:
    return "< .0001" if value < 1e-4 else f"= {value:.4f}"
