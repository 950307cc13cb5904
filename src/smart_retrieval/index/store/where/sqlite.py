"""From a ``where`` tree to SQLite's SQL over ``documents``.

Each condition first asks for the kind of the stored value, with tests that are never NULL. Texts are compared in NFC.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from .dialect import Dialect, Sql, joined
from .language import Expression, OfKinds, Value, nfc, parse, spellings


def add_functions(connection: sqlite3.Connection) -> None:
    """Give a connection the SQL function that filters use."""
    connection.create_function("smart_nfc", 1, nfc, deterministic=True)


def compile_where(where: str | Expression | OfKinds | None, *, pictures: bool = False) -> Sql:
    """A condition for the WHERE clause of a query over ``documents``, with question marks, and their parameters.

    The connection needs :func:`add_functions`; ``pictures`` says whether it has a table of them.

    Example:
        >>> compile_where("source = 'a.md'")
        ("(source IS NOT NULL AND source = ?)", ['a.md'])
    """
    if where is None:
        return "1", []
    if isinstance(where, OfKinds):
        sql, parameters = compile_where(where.within)
        stored = "(SELECT m.kind FROM media AS m WHERE m.rowid = documents.rowid)" if pictures else "NULL"
        marks = ", ".join("?" * len(where.kinds))
        return f"({sql} AND ifnull({stored}, 'text') IN ({marks}))", [*parameters, *where.kinds]
    return _SQLITE.sql(where if isinstance(where, Expression) else parse(where))


class _Operand(NamedTuple):
    """What a condition is about: the SQL of a value and of its JSON type, a column, or an item of a list."""

    value: Sql
    kind: Sql
    built_in: str = ""


def _column(name: str) -> _Operand:
    return _Operand((name, []), ("", []), name)  # a name of the parser's own list, not from the text


def _member(of: str, key: str) -> _Operand:
    # ``value`` of a text is no JSON.
    sql = of if of == "metadata" else f"CASE {of}.type WHEN 'object' THEN {of}.value ELSE '{{}}' END"
    paths = [f'$."{name}"' for name in spellings(key)]

    def of_each(function: str) -> Sql:
        calls = ", ".join([f"{function}({sql}, ?)"] * len(paths))
        return (f"coalesce({calls})" if len(paths) > 1 else calls), paths

    return _Operand(of_each("json_extract"), of_each("json_type"))


def _items(operand: _Operand) -> Sql:
    kind, kind_paths = operand.kind
    value, value_paths = operand.value
    # ``atom`` is NULL for a list or an object; a text that is no list must not be read as JSON.
    return f"json_each(CASE {kind} WHEN 'array' THEN {value} ELSE '[]' END) AS item", [*kind_paths, *value_paths]


def _objects(operand: _Operand, name: str) -> Sql:
    kind, kind_paths = operand.kind
    value, value_paths = operand.value
    json = f"CASE {kind} WHEN 'array' THEN {value} WHEN 'object' THEN '[' || {value} || ']' ELSE '[]' END"
    return f"json_each({json}) AS {name}", [*kind_paths, *value_paths, *value_paths]


def _is_kind(operand: _Operand, kind: str) -> Sql:
    """A test for the kind of a value: text, number, true or false. Never NULL itself."""
    name = operand.built_in
    if name:
        if kind == "text":
            # Spelt so that SQLite uses the indexes on id and source; page is the one that is no text.
            return ("0" if name == "page" else f"{name} IS NOT NULL"), []
        return (f"{name} IS NOT NULL" if name == "page" and kind == "number" else "0"), []
    sql, parameters = operand.kind
    if kind == "number":
        return f"ifnull({sql}, '') IN ('integer', 'real')", parameters
    return f"{sql} IS ?", [*parameters, kind]


def _not_null(operand: _Operand) -> Sql:
    if operand.built_in:
        return _there(operand)
    sql, parameters = operand.kind
    return f"(ifnull({sql}, 'null') != 'null')", parameters


def _there(operand: _Operand) -> Sql:
    sql, parameters = operand.value if operand.built_in else operand.kind
    return f"({sql} IS NOT NULL)", parameters


def _composed(operand: _Operand) -> Sql:
    sql, parameters = operand.value
    return f"smart_nfc({sql})", parameters


def _bound(value: str | int | float) -> Sql:
    # A fraction is read by SQLite's own JSON reader, like the stored one: both end up as the same float.
    return ("json_extract(?, '$')", [repr(value)]) if isinstance(value, float) else ("?", [nfc(value)])


def _compare(operand: _Operand, operator: str, value: str | int | float | bool) -> Sql:
    if isinstance(value, bool):
        sql, parameters = _is_kind(operand, str(value).lower())
        return f"({sql})", parameters
    test, kind = _is_kind(operand, "text" if isinstance(value, str) else "number")
    # No other spelling equals an ASCII text, so that the indexes serve the usual condition.
    plain = not isinstance(value, str) or (operator == "=" and value.isascii())
    sql, parameters = operand.value if plain else _composed(operand)
    mark, bound = _bound(value)
    return f"({test} AND {sql} {operator} {mark})", [*kind, *parameters, *bound]


def _in(operand: _Operand, values: Sequence[Value]) -> Sql:
    parts = [_compare(operand, "=", value) for value in (True, False) if any(value is found for found in values)]
    texts = [value for value in values if isinstance(value, str)]
    groups: list[tuple[str, Sql, Sequence[str | int | float]]] = [
        ("text", operand.value, [value for value in texts if value.isascii()]),
        ("text", _composed(operand), [value for value in texts if not value.isascii()]),
        ("number", operand.value, [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]),
    ]
    for kind, (sql, parameters), chosen in groups:
        if chosen:
            test, tested = _is_kind(operand, kind)
            marks = [_bound(value) for value in chosen]
            listed = ", ".join(mark for mark, _ in marks)
            bound = [part for _, values in marks for part in values]
            parts.append((f"({test} AND {sql} IN ({listed}))", [*tested, *parameters, *bound]))
    return joined(" OR ", parts)


def _like(operand: _Operand, pattern: str) -> Sql:
    test, kind = _is_kind(operand, "text")
    sql, parameters = _composed(operand)
    return f"({test} AND {sql} LIKE ? ESCAPE '\\')", [*kind, *parameters, nfc(pattern)]


def _has_part(operand: _Operand, part: str) -> Sql:
    test, kind = _is_kind(operand, "text")
    sql, parameters = _composed(operand)
    return f"({test} AND instr({sql}, ?) > 0)", [*kind, *parameters, nfc(part)]


_ITEM = _Operand(("item.atom", []), ("item.type", []))
_SQLITE = Dialect(
    _column, _member, _items, _objects, _ITEM, _compare, _in, _like, _has_part, there=_there, not_null=_not_null
)
