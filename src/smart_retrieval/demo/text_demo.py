"""The demo: a real model against its own hidden states on real documents, and the tokens that made the difference."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..core.hybrid import anchor_scores
from ..core.matches import TokenMatch, token_matches
from ..core.scoring import Scoring
from ..core.weights import IdfWeights
from ..embeddings import SmartEmbeddings
from ..evaluation.beir import BeirDataset, load_beir
from ..evaluation.cache import EncodingCache, encode_dataset
from ..evaluation.evaluate import evaluate_beir
from ..evaluation.metrics import per_query_metrics, rank
from .stdlib_docs import stdlib_collection, write_beir

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from ..model.smart_model import SmartModel

# Results shown side by side, and query tokens named under them.
_SHOWN = 3
_TOKENS = 3


@dataclass(frozen=True)
class Comparison:
    """One question, ranked by the anchor and by the hybrid.

    Args:
        question: Its text.
        why: Why it is shown.
        anchor: Best document ids by the anchor, and ``ndcg`` of that ranking.
        hybrid: The same by the hybrid.
        tokens: Query tokens that did most to put the hybrid's first document before the anchor's.
    """

    question: str
    why: str
    anchor: dict[str, Any]
    hybrid: dict[str, Any]
    tokens: list[dict[str, Any]]


def run_demo(
    *, model: str = "minilm", preset: str = "default", cache: Path | None = None, as_json: bool = False
) -> None:
    """Build the standard library's collection, measure a model on it, and show three questions.

    Prints to stdout; progress goes to stderr.

    Args:
        model: A packaged name, a folder, or a hub name.
        preset: ``"default"`` or ``"paper"``.
        cache: Where encodings are kept; the user's cache when None.
        as_json: Print one JSON object (the evaluation's, and ``questions``) instead of tables.

    Raises:
        SmartError: The model cannot be loaded or run, or the cache cannot be written.

    Example:
        >>> run_demo(preset="paper")  # doctest: +SKIP
    """
    from ..model.smart_model import SmartModel

    encodings = EncodingCache(cache)
    collection = stdlib_collection()
    folder = encodings.folder.parent / "stdlib-docs"
    write_beir(folder, collection.docs, collection.questions)
    smart = SmartModel(model, preset=preset)
    result = evaluate_beir(folder, model=smart, cache=encodings, progress=None)
    questions = compare_questions(smart, load_beir(folder), encodings)
    if as_json:
        from ..evaluation.results import write_json

        write_json({**result, "questions": [vars(question) for question in questions]})
        return
    from rich.console import Console

    from ..evaluation.terminal import render_table

    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    console.print(
        f"\nThe documentation of this Python's standard library, and {len(collection.questions)} questions about it,\n"
        "written and judged by hand before any system had ranked them.\n"
    )
    console.print(render_table(result))
    _print_questions(console, questions)


def compare_questions(smart: SmartModel, data: BeirDataset, cache: EncodingCache) -> list[Comparison]:
    """Three questions: the two that the hybrid helps most, and the one it hurts most.

    Args:
        smart: The model.
        data: The collection; its encodings are expected in the cache.
        cache: Where they are.
    """
    documents, queries = (encoding.embeddings for encoding in encode_dataset(smart, data, cache))
    scoring = smart.preset.scoring.fitted(lambda: IdfWeights.fit(documents))
    by_anchor = anchor_scores(queries, documents)
    by_hybrid = smart.similarity(queries, documents, scoring=scoring)
    anchor_ndcg, hybrid_ndcg = (_ndcg(data, scores) for scores in (by_anchor, by_hybrid))
    # A stable sort: of questions with equal gains the first is shown, on every machine.
    order = np.argsort(hybrid_ndcg - anchor_ndcg, kind="stable")
    chosen = [(order[-1], "helped most"), (order[-2], "helped second most"), (order[0], "hurt most")]
    shown = []
    for position, why in chosen:
        index = int(position)
        first, second = (_best(scores[index], data) for scores in (by_anchor, by_hybrid))
        shown.append(
            Comparison(
                question=data.queries[index],
                why=why,
                anchor=_column(first, data, index, float(anchor_ndcg[index])),
                hybrid=_column(second, data, index, float(hybrid_ndcg[index])),
                tokens=_deciding_tokens(queries[index], documents, second[0], first[0], scoring),
            )
        )
    return shown


def _ndcg(data: BeirDataset, scores: NDArray[Any]) -> NDArray[Any]:
    ranking = dict(zip(data.query_ids, rank(scores, data.document_ids, 10), strict=True))
    return per_query_metrics(data.qrels, ranking)["ndcg@10"]


def _best(scores: NDArray[Any], data: BeirDataset) -> list[int]:
    index = {name: position for position, name in enumerate(data.document_ids)}
    return [index[name] for name in rank(scores[None], data.document_ids, _SHOWN)[0]]


def _column(best: list[int], data: BeirDataset, query: int, ndcg: float) -> dict[str, Any]:
    grades = data.qrels[data.query_ids[query]]
    ids = [data.document_ids[position] for position in best]
    return {"ndcg@10": ndcg, "results": [{"id": name, "grade": grades.get(name, 0)} for name in ids]}


def _deciding_tokens(
    query: SmartEmbeddings,
    documents: SmartEmbeddings,
    winner: int,
    loser: int,
    scoring: Scoring,
) -> list[dict[str, Any]]:
    """Query tokens by how much more they found in the hybrid's first document than in the anchor's."""
    ours, theirs = (token_matches(query, documents[i], scoring.query_weights, scoring.floor) for i in (winner, loser))
    words = query.token_strings(0)
    found = {i: documents.token_strings(i) for i in (winner, loser)}

    def described(match: TokenMatch, other: TokenMatch) -> dict[str, Any]:
        return {
            "query_token": words[match.query_index],
            "matched": found[winner][match.document_index],
            "similarity": round(match.similarity, 3),
            "instead_of": found[loser][other.document_index],
            "instead_of_similarity": round(other.similarity, 3),
            "difference": round(scoring.lambda_late * (match.contribution - other.contribution), 4),
        }

    tokens = [described(match, other) for match, other in zip(ours, theirs, strict=True)]
    # Where both rank the same document first, nothing made a difference.
    return sorted((t for t in tokens if t["difference"] > 0), key=lambda t: -t["difference"])[:_TOKENS]


def _print_questions(console: Console, questions: list[Comparison]) -> None:
    for number, shown in enumerate(questions, start=1):
        console.print(f'\n[bold]{number}. "{_escaped(shown.question)}"[/bold]  ({shown.why})')
        console.print(_side_by_side(shown))
        for token in shown.tokens:
            console.print(
                f"   {_escaped(token['query_token'])} found {_escaped(token['matched'])} ({token['similarity']:.2f}) "
                f"in the hybrid's first, {_escaped(token['instead_of'])} ({token['instead_of_similarity']:.2f}) "
                f"in the anchor's: {token['difference']:+.3f}"
            )
    console.print("\nGrades in brackets: 3 answers the question, 2 answers it too, 1 helps; none: not judged relevant.")


def _side_by_side(shown: Comparison) -> RenderableType:
    from rich.table import Table

    table = Table(box=None, padding=(0, 3, 0, 3), header_style="italic")
    columns = (("anchor", shown.anchor), ("hybrid", shown.hybrid))
    for name, column in columns:
        table.add_column(f"{name} (nDCG@10 {column['ndcg@10']:.2f})", min_width=34, overflow="fold")
    for row in range(len(shown.anchor["results"])):
        table.add_row(*(_result(row, column["results"][row]) for _, column in columns))
    return table


def _result(row: int, result: dict[str, Any]) -> str:
    grade = f" [green]\\[{result['grade']}][/green]" if result["grade"] else ""
    return f"{row + 1}. {_escaped(result['id'])}{grade}"


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)
