"""From a ``where`` tree to SQL over ``documents``: every value and every path is a bound parameter.

Each condition first asks for the kind of the stored value, with tests that are never NULL, so that every condition is
true or false and ``not`` is its exact opposite.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import FilterError
from .where import And, Compare, Exists, Expression, Field, In, Like, Not, Or, Value, parse

Sql = tuple[str, list[Any]]


def compile_where(where: str | Expression | None) -> Sql:
    """A condition for the WHERE clause of a query over ``documents``.

    Args:
        where: An expression, its text, or ``None`` for every document.

    Returns:
        SQL with question marks, and the parameters for them.

    Raises:
        FilterError: The text cannot be read.

    Example:
        >>> compile_where("year > 2020")[1]
        ['$."year"', '$."year"', 2020]
    """
    if where is None:
        return "1", []
    if not isinstance(where, str | Compare | In | Like | Exists | Not | And | Or):
        raise FilterError(f'where: found {where!r}, expected a text such as "year > 2020"')
    return _compile(parse(where) if isinstance(where, str) else where)


def _compile(node: Expression) -> Sql:
    match node:
        case And(parts):
            return _joined(" AND ", [_compile(part) for part in parts])
        case Or(parts):
            return _joined(" OR ", [_compile(part) for part in parts])
        case Not(part):
            sql, parameters = _compile(part)
            return f"(NOT {sql})", parameters
        case Compare(field, operator, value):
            return _compare(field, operator, value)
        case In(field, values):
            return _in(field, values)
        case Like(field, pattern):
            sql, parameters = _operand(field)
            text, kind = _is_kind(field, "text")
            return f"({text} AND {sql} LIKE ? ESCAPE '\\')", [*kind, *parameters, pattern]
        case Exists(field):
            if field.built_in:
                return f"({field.path[0]} IS NOT NULL)", []
            return "(json_type(metadata, ?) IS NOT NULL)", [_path(field)]


def _joined(word: str, parts: Sequence[Sql]) -> Sql:
    if not parts:  # all of nothing hold, and none of them does
        return ("(1)" if word == " AND " else "(0)"), []
    return f"({word.join(sql for sql, _ in parts)})", [value for _, values in parts for value in values]


def _path(field: Field) -> str:
    return "$" + "".join(f'."{name}"' for name in field.path)


def _operand(field: Field) -> Sql:
    # The built-in names come from the parser's own list, not from the text.
    return (field.path[0], []) if field.built_in else ("json_extract(metadata, ?)", [_path(field)])


def _is_kind(field: Field, kind: str) -> Sql:
    """A test for the kind of the stored value: text, number, true, false or null. Never NULL itself."""
    if field.built_in:
        name = field.path[0]
        if kind == "text":
            # Spelt so that SQLite uses the indexes on id and source; page is the one that is no text.
            return ("0" if name == "page" else f"{name} IS NOT NULL"), []
        if kind == "number":
            return (f"{name} IS NOT NULL" if name == "page" else "0"), []
        return (f"{name} IS NULL" if kind == "null" else "0"), []
    if kind == "number":
        return "ifnull(json_type(metadata, ?), '') IN ('integer', 'real')", [_path(field)]
    if kind == "null":
        return "ifnull(json_type(metadata, ?), 'null') = 'null'", [_path(field)]
    return "json_type(metadata, ?) IS ?", [_path(field), kind]


def _bound(value: str | int | float) -> Sql:
    # A fraction is read by SQLite's own JSON reader, like the stored one: both end up as the same float.
    return ("json_extract(?, '$')", [repr(value)]) if isinstance(value, float) else ("?", [value])


def _compare(field: Field, operator: str, value: Value) -> Sql:
    if value is None or isinstance(value, bool):
        sql, parameters = _is_kind(field, "null" if value is None else str(value).lower())
        return f"({sql})", parameters
    test, kind = _is_kind(field, "text" if isinstance(value, str) else "number")
    operand, path = _operand(field)
    mark, bound = _bound(value)
    return f"({test} AND {operand} {operator} {mark})", [*kind, *path, *bound]


def _in(field: Field, values: Sequence[Value]) -> Sql:
    texts = [value for value in values if isinstance(value, str)]
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    parts = [_compare(field, "=", value) for value in (None, True, False) if any(value is found for found in values)]
    operand, path = _operand(field)
    for kind, chosen in (("text", texts), ("number", numbers)):
        if chosen:
            test, parameters = _is_kind(field, kind)
            marks = [_bound(value) for value in chosen]
            listed = ", ".join(sql for sql, _ in marks)
            bound = [part for _, values in marks for part in values]
            parts.append((f"({test} AND {operand} IN ({listed}))", [*parameters, *path, *bound]))
    return _joined(" OR ", parts)
