"""The text demo: a model and its own token vectors on this Python's documentation, and the tokens that decided."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from ..core.hybrid import anchor_scores
from ..core.matches import TokenMatch, token_matches
from ..core.scoring import Scoring
from ..embeddings import SmartEmbeddings
from ..evaluation.beir import BeirDataset, load_beir
from ..evaluation.cache import EncodingCache, encode_dataset
from ..evaluation.evaluate import evaluate_beir
from ..evaluation.metrics import per_query_metrics
from ..evaluation.results import write_json
from ..evaluation.terminal import render_table
from .stdlib_docs import stdlib_collection, write_beir

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from ..model.smart_model import SmartModel

# Results shown side by side, and query tokens named under them.
_SHOWN = 3
_TOKENS = 3


class Question(TypedDict):
    """A question ranked by the anchor and by the hybrid, why it is shown, and the query tokens that decided."""

    question: str
    why: str
    anchor: dict[str, Any]
    hybrid: dict[str, Any]
    tokens: list[dict[str, Any]]


def run_demo(
    *, model: str = "minilm", preset: str = "default", cache: Path | None = None, as_json: bool = False
) -> None:
    """Measure a model on the standard library's documentation, and show three questions on stdout."""
    from ..model.smart_model import SmartModel

    encodings = EncodingCache(cache)
    collection = stdlib_collection()
    folder = encodings.folder.parent / "stdlib-docs"
    write_beir(folder, collection.docs, collection.questions)
    smart = SmartModel(model, preset=preset)
    result = evaluate_beir(folder, model=smart, cache=encodings, progress=None)
    questions = compare_questions(smart, load_beir(folder), encodings)
    if as_json:
        write_json({**result, "questions": questions})
        return
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    console.print(
        f"\nThe documentation of this Python's standard library, and {len(collection.questions)} questions about it,\n"
        "written and judged by hand before any system had ranked them.\n"
    )
    console.print(render_table(result))
    for number, question in enumerate(questions, start=1):
        _print_question(console, number, question)
    console.print("\nGrades in brackets: 3 answers the question, 2 answers it too, 1 helps; none: not judged relevant.")


def compare_questions(smart: SmartModel, data: BeirDataset, cache: EncodingCache) -> list[Question]:
    """The two questions that the hybrid helps most, and the one it hurts most."""
    documents, queries = (encoding.embeddings for encoding in encode_dataset(smart, data, cache))
    scoring = smart.preset.scoring.fitted(smart.calibrator.statistics(documents))
    scores = {
        "anchor": anchor_scores(queries, documents),
        "hybrid": smart.similarity(queries, documents, scoring=scoring),
    }
    ranked = {system: data.rank(own, 10) for system, own in scores.items()}
    ndcg = {system: per_query_metrics(data.qrels, own)["ndcg@10"] for system, own in ranked.items()}
    # A stable sort: of questions with equal gains the first is shown, on every machine.
    order = np.argsort(ndcg["hybrid"] - ndcg["anchor"], kind="stable")
    position = {name: place for place, name in enumerate(data.document_ids)}

    def described(query: int, why: str) -> Question:
        grades = data.qrels[data.query_ids[query]]
        best = {system: own[data.query_ids[query]][:_SHOWN] for system, own in ranked.items()}
        anchor, hybrid = (
            {
                "ndcg@10": float(ndcg[system][query]),
                "results": [{"id": name, "grade": grades.get(name, 0)} for name in best[system]],
            }
            for system in ("anchor", "hybrid")
        )
        winner, loser = position[best["hybrid"][0]], position[best["anchor"][0]]
        tokens = _deciding_tokens(queries[query], documents[winner], documents[loser], scoring)
        return {"question": data.queries[query], "why": why, "anchor": anchor, "hybrid": hybrid, "tokens": tokens}

    shown = ((-1, "helped most"), (-2, "helped second most"), (0, "hurt most"))
    return [described(int(order[place]), why) for place, why in shown]


def _deciding_tokens(
    query: SmartEmbeddings, winner: SmartEmbeddings, loser: SmartEmbeddings, scoring: Scoring
) -> list[dict[str, Any]]:
    """Query tokens by how much more they found in the hybrid's first document than in the anchor's."""
    ours, theirs = (token_matches(query, one, scoring.query_weights, scoring.late_floor) for one in (winner, loser))
    # Of a document without token vectors the match is number -1.
    words, found, instead = query.token_strings(0), [*winner.token_strings(0), ""], [*loser.token_strings(0), ""]

    def described(match: TokenMatch, other: TokenMatch) -> dict[str, Any]:
        return {
            "query_token": words[match.query_index],
            "matched": found[match.document_index],
            "similarity": round(match.similarity, 3),
            "instead_of": instead[other.document_index],
            "instead_of_similarity": round(other.similarity, 3),
            "difference": round(scoring.late_weight * (match.contribution - other.contribution), 4),
        }

    tokens = [described(match, other) for match, other in zip(ours, theirs, strict=True)]
    # Where both rank the same document first, nothing made a difference.
    return sorted((t for t in tokens if t["difference"] > 0), key=lambda t: -t["difference"])[:_TOKENS]


def _print_question(console: Console, number: int, shown: Question) -> None:
    from rich.markup import escape

    console.print(f'\n[bold]{number}. "{escape(shown["question"])}"[/bold]  ({shown["why"]})')
    console.print(_side_by_side(shown))
    for token in shown["tokens"]:
        console.print(
            f"   {escape(token['query_token'])} found {escape(token['matched'])} ({token['similarity']:.2f}) "
            f"in the hybrid's first, {escape(token['instead_of'])} ({token['instead_of_similarity']:.2f}) "
            f"in the anchor's: {token['difference']:+.3f}"
        )


def _side_by_side(shown: Question) -> RenderableType:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, padding=(0, 3, 0, 3), header_style="italic")
    for name, column in (("anchor", shown["anchor"]), ("hybrid", shown["hybrid"])):
        table.add_column(f"{name} (nDCG@10 {column['ndcg@10']:.2f})", min_width=34, overflow="fold")
    for number, row in enumerate(zip(shown["anchor"]["results"], shown["hybrid"]["results"], strict=True), start=1):
        grades = (f" [green]\\[{result['grade']}][/green]" if result["grade"] else "" for result in row)
        table.add_row(*(f"{number}. {escape(result['id'])}{grade}" for result, grade in zip(row, grades, strict=True)))
    return table
