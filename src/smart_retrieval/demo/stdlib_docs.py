"""A test collection made of the running Python's own documentation strings.

Every machine with Python has several thousand real, hand-written documents: the docstrings of the standard library.
:func:`build_stdlib_docs` collects them in a fixed order, :func:`load_questions` reads the hand-judged questions
packaged beside this file, and :func:`stdlib_collection` joins the two.
"""

from __future__ import annotations

import importlib.resources
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..errors import SmartError


@dataclass(frozen=True, slots=True)
class StdlibDoc:
    """One docstring: public dotted name (``"shutil.rmtree"``, ``"str.split"``), name with signature, and text."""

    id: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Question:
    """A question and its judged answers: by document id 3 (answers it), 2 (answers it too) or 1 (helps in part)."""

    id: str
    text: str
    relevant: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class StdlibCollection:
    """Documents ordered by id, the questions they can answer, and what this Python has no document for."""

    docs: list[StdlibDoc]
    questions: list[Question]
    dropped_ids: int
    dropped_questions: tuple[str, ...]


def build_stdlib_docs() -> list[StdlibDoc]:
    """The docstrings of this Python's public standard library, each object once under its most public name.

    Another Python process collects them, so that what this one has imported makes no difference.
    """
    return list(_documents())


@cache
def _documents() -> tuple[StdlibDoc, ...]:
    collector = Path(__file__).with_name("collect_docstrings.py")
    try:
        # -I and -S: no variables, no user's folders and no site-packages.
        done = subprocess.run([sys.executable, "-I", "-S", str(collector)], check=True, capture_output=True, text=True)
        return tuple(StdlibDoc(*entry) for entry in json.loads(done.stdout))
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        reason = " ".join(str(getattr(error, "stderr", None) or error).split())[-300:]
        raise SmartError(
            f"the standard library's docstrings cannot be collected by {sys.executable}: {reason}"
        ) from error


def load_questions() -> list[Question]:
    """The packaged questions in file order, whether or not this Python has every judged id."""
    packaged = importlib.resources.files("smart_retrieval.demo") / "questions.jsonl"
    rows = (json.loads(line) for line in packaged.read_text(encoding="utf-8").splitlines() if line.strip())
    return [Question(row["id"], row["text"], dict(row["relevant"])) for row in rows]


def stdlib_collection() -> StdlibCollection:
    """Join the documents of the running Python with the questions they can answer.

    Judged ids which this Python lacks are dropped and counted; a question without any left is dropped too.

    Returns:
        The documents, the fitting questions and what was dropped.

    Example:
        >>> stdlib_collection().dropped_questions
        ()
    """
    docs = build_stdlib_docs()
    known = {doc.id for doc in docs}
    judged = load_questions()
    fitting = [
        Question(q.id, q.text, {doc_id: grade for doc_id, grade in q.relevant.items() if doc_id in known})
        for q in judged
    ]
    return StdlibCollection(
        docs=docs,
        questions=[q for q in fitting if q.relevant],
        dropped_ids=sum(len(q.relevant) for q in judged) - sum(len(q.relevant) for q in fitting),
        dropped_questions=tuple(q.id for q in fitting if not q.relevant),
    )


def write_beir(folder: str | os.PathLike[str], docs: Iterable[StdlibDoc], questions: Sequence[Question]) -> None:
    """Write a collection in the BEIR folder layout.

    Creates ``corpus.jsonl``, ``queries.jsonl`` and ``qrels/test.tsv`` (header
    ``query-id<TAB>corpus-id<TAB>score``), replacing files of these names.

    Args:
        folder: Where to write; created when missing.
        docs: The documents.
        questions: The questions with their graded document ids.

    Raises:
        OSError: The folder cannot be written.

    Example:
        >>> collection = stdlib_collection()
        >>> write_beir("stdlib-beir", collection.docs, collection.questions)  # doctest: +SKIP
    """
    root = Path(folder)
    (root / "qrels").mkdir(parents=True, exist_ok=True)
    corpus = (json.dumps({"_id": d.id, "title": d.title, "text": d.text}, ensure_ascii=False) for d in docs)
    queries = (json.dumps({"_id": q.id, "text": q.text}, ensure_ascii=False) for q in questions)
    qrels = (f"{q.id}\t{doc_id}\t{grade}" for q in questions for doc_id, grade in q.relevant.items())
    for name, lines in (
        ("corpus.jsonl", corpus),
        ("queries.jsonl", queries),
        ("qrels/test.tsv", itertools.chain(["query-id\tcorpus-id\tscore"], qrels)),
    ):
        with (root / name).open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{line}\n" for line in lines)
