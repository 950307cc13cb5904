"""``smart demo`` on a handful of the collection's documents: real model, real questions, less of both."""

import json

import pytest
from typer.testing import CliRunner

from smart_retrieval.cli.main import app
from smart_retrieval.demo import text_demo
from smart_retrieval.demo.stdlib_docs import StdlibCollection, stdlib_collection


@pytest.fixture(scope="module")
def few():
    """Nine questions and some 60 documents, the relevant ones among them."""
    whole = stdlib_collection()
    questions = whole.questions[:9]
    wanted = {name for question in questions for name in question.relevant}
    docs = [doc for index, doc in enumerate(whole.docs) if doc.id in wanted or index % 200 == 0]
    return StdlibCollection(docs, questions, 0, ())


@pytest.fixture
def demo(few, minilm, monkeypatch, tmp_path):
    monkeypatch.setattr(text_demo, "stdlib_collection", lambda: few)
    return lambda *arguments: CliRunner().invoke(app, ["demo", "--cache", str(tmp_path), *arguments])


def test_demo_prints_tables_and_three_questions(demo):
    result = demo()
    assert result.exit_code == 0, result.output
    for row in ("anchor", "late", "hybrid", "hybrid over anchor", "helped most", "hurt most"):
        assert row in result.stdout
    assert result.stdout.count("nDCG@10 ") >= 6, "three questions, two columns each"


def test_json_holds_the_evaluation_and_the_questions(demo, few):
    result = json.loads(demo("--json", "--preset", "paper").stdout)
    assert [row["name"] for row in result["rows"]] == ["anchor", "late", "hybrid"]
    assert result["preset"] == "paper"
    first, second, last = result["questions"]
    gains = [q["hybrid"]["ndcg@10"] - q["anchor"]["ndcg@10"] for q in (first, second, last)]
    assert gains == sorted(gains, reverse=True)
    ids = {doc.id for doc in few.docs}
    grades = {question.text: question.relevant for question in few.questions}
    for question in result["questions"]:
        for column in ("anchor", "hybrid"):
            assert {entry["id"] for entry in question[column]["results"]} <= ids
            for entry in question[column]["results"]:
                assert entry["grade"] == grades[question["question"]].get(entry["id"], 0)
        assert all(token["difference"] > 0 for token in question["tokens"])
