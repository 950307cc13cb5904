"""Filters of other libraries become ``where`` texts that say what they said, whatever names and values hold."""

import datetime

import pytest
from fixtures.library import selected
from hypothesis import given
from hypothesis import strategies as st

from smart_retrieval.errors import FilterError
from smart_retrieval.index.store.where import And, Compare, Field, In, Not, Or, parse
from smart_retrieval.integrations.filters import (
    EVERYTHING,
    NOTHING,
    all_of,
    any_of,
    compare,
    narrowed,
    negated,
    one_of,
    where_of,
)

HOSTILE = ["'", "''", "`", "\\", "%", ") or (id exists", "' or '1'='1", "a' or id exists or 'b", "--", "\n", '"', "x.y"]
TEXT = st.text(max_size=12) | st.sampled_from(HOSTILE)
NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = TEXT | NUMBERS | st.booleans() | st.none()


@given(TEXT, VALUES)
def test_a_name_and_a_value_stay_one_condition(name, value):
    try:
        found = parse(compare(name, "=", value))
    except FilterError:
        pieces = name.split(".")
        bad = [piece for piece in pieces if not piece or any(c in '`"\\' or c < " " for c in piece)]
        fits = name not in ("id", "source", "heading", "page")
        assert bad or not fits or (isinstance(value, str) and "\0" in value), (name, value)
        return
    path = tuple(name.split("."))
    path = path[1:] if len(path) > 1 and path[0] == "metadata" else path
    assert found == Compare(Field(path, built_in=name in ("id", "source", "heading", "page")), "=", value)
    assert type(found.value) is type(value)


@given(st.lists(VALUES, min_size=1, max_size=5))
def test_lists_hold_what_they_held(values):
    try:
        found = parse(one_of("year", values))
    except FilterError:
        assert any(isinstance(value, str) and "\0" in value for value in values)
        return
    assert found == In(Field(("year",)), tuple(values))


def test_nothing_and_everything():
    assert where_of({}) == EVERYTHING == all_of([])
    assert where_of({"$or": []}) == NOTHING == any_of([]) == one_of("year", [])
    documents = {"a": {}, "b": {"year": 1}}
    assert selected(EVERYTHING, documents) == {"a", "b"}
    assert selected(NOTHING, documents) == set()
    assert selected(where_of({"year": {"$nin": []}}), documents) == {"a", "b"}


def test_narrowing_keeps_each_part_whole():
    joined = narrowed("year = 1 or lang = 'en'", None, "tags = 'x'")
    assert parse(joined) == And((parse("year = 1 or lang = 'en'"), parse("tags = 'x'")))
    assert narrowed(None, None) is None
    for escape in ("year = 1) or (id exists", "year = 1 -- ", "", "year = 'x"):
        with pytest.raises(FilterError):
            narrowed("tenant = 'a'", escape)


CONDITIONS = st.tuples(
    st.sampled_from(["$eq", "$ne", "$in", "$nin", "$exists", "$gt", "$lte"]),
    st.sampled_from([*HOSTILE[:6], "en", 1, 2, 2.5]),
)
KEYS = st.sampled_from(["year", "la ng", "x'y", "and"])
LEAVES = st.tuples(KEYS, CONDITIONS)
FILTERS = st.recursive(
    LEAVES.map(lambda leaf: {leaf[0]: {leaf[1][0]: [leaf[1][1]] if leaf[1][0] in ("$in", "$nin") else leaf[1][1]}}),
    lambda inner: (
        st.builds(lambda parts: {"$and": parts}, st.lists(inner, max_size=3))
        | st.builds(lambda parts: {"$or": parts}, st.lists(inner, max_size=3))
        | st.builds(lambda part: {"$not": part}, inner)
    ),
    max_leaves=6,
)
DOCUMENTS = {
    "none": {},
    "one": {"year": 1, "la ng": "en", "x'y": "'", "and": "`"},
    "two": {"year": 2, "la ng": "' or '1'='1", "and": 2.5},
    "three": {"year": "en", "x'y": ") or (id exists", "la ng": "\\"},
}


def passes(filter, metadata):
    """What a filter means, without any text in between."""
    ((name, value),) = filter.items()
    if name == "$and":
        return all(passes(part, metadata) for part in value)
    if name == "$or":
        return any(passes(part, metadata) for part in value)
    if name == "$not":
        return not passes(value, metadata)
    ((operator, operand),) = value.items()
    found = metadata.get(name)
    alike = found is not None and isinstance(found, str) == isinstance(operand, str)
    return {
        "$eq": lambda: found == operand,
        "$ne": lambda: found != operand,
        "$in": lambda: found in operand,
        "$nin": lambda: found not in operand,
        "$exists": lambda: (name in metadata) == bool(operand),
        "$gt": lambda: alike and found > operand,
        "$lte": lambda: alike and found <= operand,
    }[operator]()


@given(FILTERS)
def test_a_filter_lets_through_what_it_says(filter):
    expected = {name for name, metadata in DOCUMENTS.items() if passes(filter, metadata)}
    assert selected(where_of(filter), DOCUMENTS) == expected


def test_short_forms_and_dates():
    assert parse(where_of({"lang": "en", "year": [1, 2]})) == And(
        (Compare(Field(("lang",)), "=", "en"), In(Field(("year",)), (1, 2)))
    )
    assert parse(where_of({"year": {"$gt": 1, "$not": {"$eq": 5}}})) == And(
        (Compare(Field(("year",)), ">", 1), Not(Compare(Field(("year",)), "=", 5)))
    )
    assert parse(where_of({"$or": [{"a": None}, {"a": True}]})) == Or(
        (Compare(Field(("a",)), "=", None), Compare(Field(("a",)), "=", True))
    )
    assert compare("day", ">=", datetime.date(2024, 5, 1)) == "`day` >= '2024-05-01'"
    assert compare("author.name", "=", "O'Hara") == "`author`.`name` = 'O''Hara'"
    assert negated("year = 1") == "not (year = 1)"
    assert where_of("year = 1") == "year = 1"
    assert where_of(None) is None


@pytest.mark.parametrize(
    "bad",
    [
        {"year": {"$near": 3}},
        {"$and": {"year": 3}},
        {"$or": ["year = 3"]},
        {"year": {"$in": "2020"}},
        {"year": {"$gt": object()}},
        {"year": float("nan")},
        {3: 4},
        {"a`b": 1},
    ],
)
def test_what_cannot_be_said_is_refused(bad):
    with pytest.raises(FilterError):
        where_of(bad)
