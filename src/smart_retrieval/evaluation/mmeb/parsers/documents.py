"""Visual documents: a question, and the page pictures that answer it, among all of the collection."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import PurePosixPath

from ..annotations import Row
from ..cases import TaskData
from ..layout import Source
from ..prompts import Prompts


def vidore(source: Source, prompts: Prompts, data: TaskData) -> None:
    """Pages lie under their ids as PNG files."""
    _documents(source, prompts, data, page_file)


def visrag(source: Source, prompts: Prompts, data: TaskData) -> None:
    """Page ids are file names, shortened on disk."""
    _documents(source, prompts, data, short_file)


def page_file(name: str) -> str:
    """The file of a page of ViDoRe, ViDoSeek or MMLongBench."""
    return f"{name}.png"


def short_file(name: str) -> str:
    """The file of a VisRAG page: fifty characters of its name, and a digest of the whole.

    Example:
        >>> short_file("a" * 60 + ".jpg")
        'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa_91cc2af0.jpg'
    """
    path = PurePosixPath(name)
    base = name.removesuffix(path.suffix)
    digest = hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()[:8]
    return f"{base[:50]}_{digest}{path.suffix}"


def _documents(source: Source, prompts: Prompts, data: TaskData, file_of: Callable[[str], str]) -> None:
    judged = _judgments(source)
    texts = {
        row.text("query-id"): (row.text("query"), row) for row in source.rows(("query-id", "query"), config="queries")
    }

    def add(name: str, row: Row) -> None:
        page = source.image(file_of(name), row)
        data.add_candidate(name, prompts.candidate(source.task, image=page))

    pages = {row.text("corpus-id"): row for row in source.rows(("corpus-id",), config="corpus")}
    unjudged = 0
    for query, (text, row) in texts.items():
        grades = judged.get(query, {})
        if not grades:
            unjudged += 1
            continue
        # The pages of the queries come first, as in the benchmark's own code.
        for name in grades:
            add(name, pages.get(name, row))
        data.add_query(prompts.query(source.task, text), list(grades), list(grades.values()))
    for name, row in pages.items():
        add(name, row)
    data.left_out = unjudged
    if unjudged:
        data.notes.append(f"queries without a relevant page left out ({unjudged})")


def _judgments(source: Source) -> dict[str, dict[str, float]]:
    """Grades above 0 by query and page; of two for one pair the higher."""
    judged: dict[str, dict[str, float]] = {}
    for row in source.rows(("query-id", "corpus-id", "score"), config="qrels"):
        grade = row.number("score")
        if grade > 0:
            grades = judged.setdefault(row.text("query-id"), {})
            name = row.text("corpus-id")
            grades[name] = max(grade, grades.get(name, 0.0))
    return judged
