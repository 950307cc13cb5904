"""Filters mean in PostgreSQL what they mean in SQLite."""

import importlib.util
import json
import math
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from smart_retrieval.errors import FilterError
from smart_retrieval.index.store.where import And, Compare, Exists, Field, In, Like, Not, Or, parse
from smart_retrieval.stores.postgres.where import compile_where, filtered_json

_PATH = Path(__file__).parents[2] / "index" / "store" / "test_where.py"
_spec = importlib.util.spec_from_file_location("sqlite_where", _PATH)
#: The tests of SQLite's filters: their rows, their trees, and what these mean.
sqlite = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(sqlite)

TABLE = (
    'CREATE TEMP TABLE documents (id text COLLATE "C", source text COLLATE "C", page bigint, heading text COLLATE "C", '
    "metadata jsonb, place int)"
)


@pytest.fixture(scope="module")
def connection(server):
    import psycopg

    with psycopg.connect(server, autocommit=True) as opened:
        opened.prepare_threshold = None
        opened.execute(TABLE)
        yield opened


def run(connection, where, rows):
    connection.execute("TRUNCATE documents")
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO documents VALUES (%s, %s, %s, %s, %s::jsonb, %s)",
            [
                (
                    row["id"],
                    row["source"],
                    row["page"],
                    row["heading"],
                    filtered_json(json.dumps(row["metadata"])),
                    place,
                )
                for place, row in enumerate(rows)
            ],
        )
    sql, parameters = compile_where(where)
    assert sql.count("%s") == len(parameters)
    return [found[0] for found in connection.execute(f"SELECT {sql} FROM documents ORDER BY place", parameters)]


@settings(max_examples=60)
@given(sqlite.expressions, st.lists(sqlite.rows, min_size=1, max_size=5))
@example(Compare(Field(("a",)), "=", "\x1f"), [sqlite.document({"a": "\x1f"})])
@example(Compare(Field(("tags", "0")), "=", 1), [sqlite.document({"tags": [1]})])
@example(Compare(Field(("a",)), "<", float(2**60)), [sqlite.document({"a": 2**60 - 1}), sqlite.document({"a": 2**60})])
@example(Like(Field(("a",)), "ä%"), [sqlite.document({"a": "Äb"}), sqlite.document({"a": "äB"})])
@example(Not(Exists(Field(("a",)))), [sqlite.document({"a": None}), sqlite.document({})])
def test_both_databases_agree(connection, node, found):
    expected = sqlite.run(node, found)
    assert run(connection, node, found) == expected == [sqlite.holds(node, row) for row in found]
    assert run(connection, Not(node), found) == [not value for value in expected]


def _meanings():
    (mark,) = sqlite.test_meaning.pytestmark
    return mark.args[1]


def test_what_filters_mean(connection):
    for where, metadata, expected in _meanings():
        assert run(connection, where, [sqlite.document(metadata)]) == [expected], where


def test_fractions_are_equal_to_themselves(connection):
    values = [0.1, 1 / 3, math.pi, 1e-300, 5e-324, 1e300, -2.5e-8]
    for value in values:
        assert run(connection, f"x = {value!r}", [sqlite.document({"x": value})]) == [True]
        assert run(connection, f"x in ({value!r})", [sqlite.document({"x": [value]})]) == [True]


def test_the_longest_allowed_expressions_run(connection):
    row = [sqlite.document({"x": 1})]
    assert run(connection, " or ".join(["x = 1"] * 200), row) == [True]
    assert run(connection, f"x in ({', '.join(['1'] * 5000)})", row) == [True]
    assert run(connection, "not " * 19 + "x = 1", row) == [False]


@pytest.mark.parametrize("attack", [*sqlite.ATTACKS, "%(name)s", "{}", "{0}", "%%"])
def test_values_and_names_never_reach_the_sql(connection, attack):
    quoted = attack.replace("'", "''")
    plain = compile_where("a = 'x' and b in ('x')")[0]
    sql, parameters = compile_where(f"a = '{quoted}' and b in ('{quoted}')")
    assert sql == plain
    assert sum(value == attack or value == [attack] for value in parameters) == 4  # a value, and an item of a list
    found = [sqlite.document({"a": attack}), sqlite.document({"a": "x"})]
    assert run(connection, f"a = '{quoted}'", found) == [True, False]
    if '"' not in attack:
        assert compile_where(f"`{attack}` = 1")[0] == compile_where("a = 1")[0]
        found = [sqlite.document({attack: 1}), sqlite.document({"a": 1})]
        assert run(connection, f"`{attack}` = 1", found) == [True, False]


def test_empty_and_other_expressions(connection):
    for expression, expected in ((In(Field(("id",), built_in=True), ()), False), (Or(()), False), (And(()), True)):
        assert run(connection, expression, [sqlite.document()]) == [expected]
    assert compile_where(None) == ("true", [])
    assert compile_where(parse("x = 1")) == compile_where("x = 1")
    for wrong in ("year >", 3, {"a": 1}):
        with pytest.raises(FilterError):
            compile_where(wrong)
