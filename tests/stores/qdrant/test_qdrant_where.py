"""Filters mean in Qdrant what they mean in SQLite, or are refused: in the server's own code, and in the client's."""

import importlib.util
import json
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

pytest.importorskip("qdrant_client")
pytest.importorskip("qdrant_edge")
from fixtures.edge import EdgeClient
from qdrant_client import QdrantClient, models

from smart_retrieval.errors import FilterError, StoreError
from smart_retrieval.index.store.where import And, Compare, Contains, Exists, Field, In, Not, Or, parse
from smart_retrieval.stores.engine import Row
from smart_retrieval.stores.qdrant.engine import QdrantEngine
from smart_retrieval.stores.qdrant.points import point_of, row_of_point
from smart_retrieval.stores.qdrant.where import compile_filter

_PATH = Path(__file__).parents[2] / "index" / "store" / "test_where.py"
_spec = importlib.util.spec_from_file_location("sqlite_where", _PATH)
#: The tests of SQLite's filters: their rows, their trees, and what these mean.
sqlite = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(sqlite)


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    edge = EdgeClient(tmp_path_factory.mktemp("edge"))
    made = [QdrantEngine(client, "rows") for client in (edge, QdrantClient(":memory:"))]
    for engine in made:
        engine.create(2, None, replace=False)
    yield made
    for engine in made:
        engine.close()


def run(engine, where, rows):
    chosen = compile_filter(where)
    engine.remove(range(10))
    points = [
        point_of(Row(place, row["id"], sqlite_vector(), b"", {**row, "text": "", "added": 1}), None)
        for place, row in enumerate(rows)
    ]
    engine.client.upsert("rows", points)
    found = {int(point.id) for point in engine._scroll(chosen, with_payload=False, with_vectors=False)}
    return [place in found for place in range(len(rows))]


def sqlite_vector():
    import numpy as np

    return np.array([1, 0], np.float32)


def assert_agrees(engines, node, rows):
    try:
        compile_filter(node)
    except FilterError as error:
        assert "Qdrant cannot tell" in str(error)  # noqa: PT017
        return False
    expected = sqlite.run(node, rows)
    for engine in engines:
        try:
            assert run(engine, node, rows) == expected, type(engine.client).__name__
        except StoreError as error:  # of keys that are one to Unicode
            assume("same to Unicode" not in str(error))
            raise
        assert run(engine, Not(node), rows) == [not value for value in expected]
    return True


A, B = Field(("a",)), Field(("a", "b"))
said = st.recursive(
    st.one_of(
        st.builds(Compare, sqlite.fields, st.just("="), sqlite.scalars),
        st.builds(Compare, sqlite.fields, st.sampled_from(["<", "<=", ">", ">="]), sqlite.numbers),
        st.builds(In, sqlite.fields, st.lists(sqlite.scalars, min_size=1, max_size=4).map(tuple)),
        st.builds(Contains, sqlite.fields, st.booleans() | sqlite.numbers | sqlite.texts),
        st.builds(Exists, sqlite.fields),
    ),
    lambda inner: st.builds(Not, inner) | st.builds(And, st.lists(inner, min_size=2, max_size=3).map(tuple))
    | st.builds(Or, st.lists(inner, min_size=2, max_size=3).map(tuple)),
    max_leaves=6,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(said, st.lists(sqlite.rows, min_size=1, max_size=4))
@example(Compare(A, "=", None), [sqlite.document({"a": []}), sqlite.document({"a": [None]}), sqlite.document({})])
@example(Compare(B, "=", 1), [sqlite.document({"a": [{"b": 1}]}), sqlite.document({"a": {"b": [[1]]}})])
@example(
    Contains(B, "x"), [sqlite.document({"a": [{"b": "xy"}, {"b": ["z"]}]}), sqlite.document({"a": [{"b": ["xy"]}]})]
)
@example(
    Compare(B, "=", None), [sqlite.document({"a": [{"b": None}, {"b": 1}]}), sqlite.document({"a": [{"b": None}]})]
)
@example(Compare(B, "=", True), [sqlite.document({"a": [{"b": [True]}]}), sqlite.document({"a": [{"b": 1}]})])
@example(Compare(A, "=", 2**60), [sqlite.document({"a": 2.0**60}), sqlite.document({"a": 2**60 + 1})])
@example(Compare(A, "=", 1), [sqlite.document({"a": True}), sqlite.document({"a": 1.0}), sqlite.document({"a": "1"})])
@example(
    Contains(A, "x"), [sqlite.document({"a": ["xy"]}), sqlite.document({"a": "xy"}), sqlite.document({"a": ["x"]})]
)
@example(Contains(A, ""), [sqlite.document({"a": ""}), sqlite.document({"a": [1]}), sqlite.document({"a": "y"})])
@example(Compare(Field(("c d",)), ">", 0.5), [sqlite.document({"c d": 1}), sqlite.document({"c d": [0, 0.75]})])
def test_both_agree_or_it_is_refused(engines, node, found):
    assert_agrees(engines, node, found)


def _meanings():
    (mark,) = sqlite.test_meaning.pytestmark
    return mark.args[1]


def test_what_filters_mean(engines):
    asked = [(where, metadata) for where, metadata, _ in _meanings()]
    said = sum(assert_agrees(engines, parse(where), [sqlite.document(metadata)]) for where, metadata in asked)
    assert said > 0.8 * len(asked)


@pytest.mark.parametrize(
    ("where", "named"),
    [
        ("x like 'a%'", "like 'a%'; use contains"),
        ("x > 'a'", "order of texts (x > …); keep dates as numbers"),
        ("page = 1 and (x = 2 or not heading <= 'b')", "order of texts (heading <= …)"),
        ("x > 9007199254740992", "order of numbers as large as 9007199254740992"),
        ("a.a.a.a.a.a.a = 1", "paths of 7 keys; use at most 6"),
        ("x = 1e30", "numbers as large as 1e+30 apart"),
    ],
)
def test_what_cannot_be_said_is_refused_by_name(where, named):
    with pytest.raises(FilterError) as caught:
        compile_filter(where)
    assert named in str(caught.value)


def test_a_filter_that_cannot_be_read():
    for wrong in ("year >", 3, {"a": 1}):
        with pytest.raises(FilterError):
            compile_filter(wrong)
    assert compile_filter(None) is None
    assert isinstance(compile_filter("x = 1"), models.Filter)


@settings(max_examples=100, deadline=None)
@given(sqlite.rows)
def test_documents_come_back_as_they_were_given(row):
    """Whatever spelling of them a filter compares."""
    row = json.loads(json.dumps(row))
    document = {**row, "text": "t", "added": 1}
    try:
        point = point_of(Row(1, row["id"], sqlite_vector(), b"\0x", document), None)
    except StoreError as error:
        assert "same to Unicode" in str(error)  # noqa: PT017
        return
    found = row_of_point(point)
    assert json.dumps(dict(found.document), sort_keys=True) == json.dumps(document, sort_keys=True)
    assert (found.id, found.blob) == (row["id"], b"\0x")
