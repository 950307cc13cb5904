"""The stdlib collection: what is in it, that it is stable, and that the questions fit it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from smart_retrieval.demo import stdlib_docs
from smart_retrieval.demo.collect_docstrings import MIN_TEXT_CHARS
from smart_retrieval.demo.stdlib_docs import (
    Question,
    StdlibCollection,
    StdlibDoc,
    build_stdlib_docs,
    load_questions,
    stdlib_collection,
    write_beir,
)
from smart_retrieval.errors import SmartError


@pytest.fixture(scope="module")
def docs() -> list[StdlibDoc]:
    return build_stdlib_docs()


@pytest.fixture(scope="module")
def by_id(docs: list[StdlibDoc]) -> dict[str, StdlibDoc]:
    return {doc.id: doc for doc in docs}


@pytest.fixture(scope="module")
def questions() -> list[Question]:
    return load_questions()


@pytest.fixture(scope="module")
def collection() -> StdlibCollection:
    return stdlib_collection()


def test_second_build_is_equal_and_sorted(docs: list[StdlibDoc]) -> None:
    ids = [doc.id for doc in docs]
    stdlib_docs._documents.cache_clear()
    assert build_stdlib_docs() == docs
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)


def test_what_other_packages_patch_makes_no_difference(docs: list[StdlibDoc], monkeypatch: pytest.MonkeyPatch) -> None:
    def getfile(object: object) -> str:
        """A stand-in of another package with a docstring of its own."""
        return ""

    monkeypatch.setattr("inspect.getfile", getfile)
    monkeypatch.setattr("logging.Logger.advise", getfile, raising=False)
    stdlib_docs._documents.cache_clear()
    assert build_stdlib_docs() == docs


def test_a_python_that_cannot_start_is_a_named_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    stdlib_docs._documents.cache_clear()
    with pytest.raises(SmartError, match="/nowhere/python"):
        build_stdlib_docs()


def test_size(docs: list[StdlibDoc]) -> None:
    assert 3000 < len(docs) < 12000
    assert min(len(doc.text) for doc in docs) >= MIN_TEXT_CHARS


@pytest.mark.parametrize(
    ("doc_id", "words"),
    [
        ("shutil.rmtree", "delete a directory tree"),
        ("str.split", "separator string"),
        ("os.path.join", "Join two or more pathname components"),
        ("sorted", "ascending order"),
        ("open", "Open file and return a stream"),
        ("collections.OrderedDict.move_to_end", "existing element to the end"),
        ("asyncio.TaskGroup", "groups of tasks"),
        ("concurrent.futures.ThreadPoolExecutor", "max_workers"),
        ("socket.socket.connect", "remote address"),
        ("unittest.mock.patch.object", "patch the named member"),
        ("random.choice", "random element"),
        ("json", "JavaScript Object Notation"),
    ],
)
def test_known_entries(by_id: dict[str, StdlibDoc], doc_id: str, words: str) -> None:
    doc = by_id[doc_id]
    assert words in doc.text
    assert doc.title.startswith(doc_id)


def test_titles_carry_signatures_without_self(by_id: dict[str, StdlibDoc]) -> None:
    assert by_id["shutil.rmtree"].title.startswith("shutil.rmtree(path, ignore_errors=False")
    assert by_id["str.split"].title.endswith("split(sep=None, maxsplit=-1)")
    assert by_id["pathlib.Path.read_bytes"].title == "pathlib.Path.read_bytes()"
    assert by_id["json"].title == "json"


def test_no_private_or_dunder_names_and_no_addresses(docs: list[StdlibDoc]) -> None:
    assert not [doc.id for doc in docs if any(part.startswith("_") for part in doc.id.split("."))]
    assert not [doc.id for doc in docs if " at 0x" in doc.title + doc.text]


def test_aliases_are_listed_once(docs: list[StdlibDoc], by_id: dict[str, StdlibDoc]) -> None:
    tops = {doc.id.partition(".")[0] for doc in docs}
    assert not tops & {"posixpath", "ntpath", "genericpath", "posix", "tkinter", "idlelib"}
    for alias in ("io.open", "random.Random.choice", "bytearray.find", "asyncio.taskgroups.TaskGroup"):
        assert alias not in by_id
    # Inherited methods belong to the class that defines them.
    assert "io.TextIOWrapper.readlines" not in by_id
    same = Counter((d.id.partition(".")[0], d.id.rpartition(".")[2], d.text) for d in docs)
    assert max(same.values()) == 1


def test_building_prints_nothing_and_loads_no_gui_or_numeric_package() -> None:
    code = (
        "import sys\n"
        "import smart_retrieval\n"
        "before = set(sys.modules)\n"
        "from smart_retrieval.demo.collect_docstrings import collect\n"
        "collect()\n"
        "new = set(sys.modules) - before\n"
        "print(sorted(new & {'torch', 'numpy', 'tkinter', 'turtle', 'antigravity', 'this'}))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": ":".join(p for p in sys.path if p)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == "[]"


def test_questions_are_well_formed(questions: list[Question]) -> None:
    assert len(questions) >= 60
    assert len({q.id for q in questions}) == len(questions)
    assert len({q.text.casefold() for q in questions}) == len(questions)
    for question in questions:
        grades = set(question.relevant.values())
        assert grades <= {1, 2, 3}, question.id
        assert 3 in grades, question.id
        assert question.text == question.text.strip()


def test_questions_span_many_modules(questions: list[Question]) -> None:
    answers = {doc_id for q in questions for doc_id, grade in q.relevant.items() if grade == 3}
    assert len({doc_id.partition(".")[0] for doc_id in answers}) >= 30


def test_judged_ids_exist_here(questions: list[Question], by_id: dict[str, StdlibDoc]) -> None:
    judged = [doc_id for q in questions for doc_id in q.relevant]
    missing = sorted({doc_id for doc_id in judged if doc_id not in by_id})
    assert len(missing) <= 0.02 * len(judged), missing


def test_collection_keeps_only_known_ids(
    collection: StdlibCollection, questions: list[Question], by_id: dict[str, StdlibDoc]
) -> None:
    kept = sum(len(q.relevant) for q in collection.questions)
    assert kept + collection.dropped_ids == sum(len(q.relevant) for q in questions)
    assert all(doc_id in by_id for q in collection.questions for doc_id in q.relevant)
    assert {q.id for q in collection.questions} | set(collection.dropped_questions) == {q.id for q in questions}
    assert all(q.relevant for q in collection.questions)


def test_absent_ids_are_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    from smart_retrieval.demo import stdlib_docs

    judged = [Question("a", "one", {"str.split": 3, "no.such": 2}), Question("b", "two", {"no.such": 3})]
    monkeypatch.setattr(stdlib_docs, "build_stdlib_docs", lambda: [StdlibDoc("str.split", "t", "x")])
    monkeypatch.setattr(stdlib_docs, "load_questions", lambda: judged)
    small = stdlib_docs.stdlib_collection()
    assert small.questions == [Question("a", "one", {"str.split": 3})]
    assert small.dropped_ids == 2
    assert small.dropped_questions == ("b",)


def test_beir_round_trip(tmp_path: Path, collection: StdlibCollection) -> None:
    write_beir(tmp_path / "new" / "beir", collection.docs, collection.questions)
    root = tmp_path / "new" / "beir"
    rows = [json.loads(line) for line in (root / "corpus.jsonl").read_text("utf-8").split("\n")[:-1]]
    assert [StdlibDoc(row["_id"], row["title"], row["text"]) for row in rows] == collection.docs
    rows = [json.loads(line) for line in (root / "queries.jsonl").read_text("utf-8").split("\n")[:-1]]
    header, *lines = (root / "qrels" / "test.tsv").read_text("utf-8").splitlines()
    assert header == "query-id\tcorpus-id\tscore"
    qrels: dict[str, dict[str, int]] = {}
    for line in lines:
        query, doc_id, score = line.split("\t")
        qrels.setdefault(query, {})[doc_id] = int(score)
    assert [Question(row["_id"], row["text"], qrels[row["_id"]]) for row in rows] == collection.questions
