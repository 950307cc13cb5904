"""From a ``where`` tree to PostgreSQL's SQL over ``documents``: every value and every key is a bound parameter.

It means what SQLite's does: see :mod:`~smart_retrieval.index.store.where`. No condition is ever NULL, and a value is
cast only where its kind is known, since PostgreSQL evaluates the parts of AND in any order.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from ...index.store.where import Dialect, Expression, Sql, Value, joined, nfc, parse, spellings

# Letters that SQLite's LIKE takes without their case.
_LOWER = {ord(letter): letter.lower() for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}


def compile_where(where: str | Expression | None) -> Sql:
    """A condition for the WHERE clause, with ``%s``, and its parameters.

    Example:
        >>> compile_where("source = 'a.md'")
        ("coalesce(source = %s, false)", ['a.md'])
    """
    if where is None:
        return "true", []
    return _POSTGRES.sql(where if isinstance(where, Expression) else parse(where))


class _Operand(NamedTuple):
    """What a condition is about: the SQL of a ``jsonb`` value, or a column."""

    value: Sql
    column: str = ""


def _column(name: str) -> _Operand:
    return _Operand((name, []), name)  # a name of the parser's own list, not from the text


def _member(of: str, key: str) -> _Operand:
    keys, sql = spellings(key), of if of == "metadata" else f"{of}.value"
    # With a text on its right, -> takes keys of objects only, and no places of lists.
    values = ", ".join([f"{sql} -> %s::text"] * len(keys))
    return _Operand((f"coalesce({values})" if len(keys) > 1 else f"({values})", list(keys)))


def _items(operand: _Operand) -> Sql:
    value, paths = operand.value
    items = f"jsonb_array_elements(CASE jsonb_typeof({value}) WHEN 'array' THEN {value} ELSE '[]' END)"
    return f"{items} AS item (value)", [*paths, *paths]


def _objects(operand: _Operand, name: str) -> Sql:
    value, paths = operand.value
    each = f"CASE jsonb_typeof({value}) WHEN 'array' THEN {value} ELSE jsonb_build_array({value}) END"
    return f"jsonb_array_elements({each}) AS {name} (value)", [*paths, *paths, *paths]


def _text(operand: _Operand, test: str, *bound: Any, composed: bool = True) -> Sql:
    """A test of a value that is text, named ``{}`` in the test; false of any other."""
    sql, parameters = operand.value
    own = sql if operand.column else f"({sql} #>> '{{}}')"
    compared = f"normalize({own}, NFC)" if composed else own
    found = test.format(f'({compared} COLLATE "C")')
    if operand.column:
        return (f"coalesce({found}, false)", [*parameters, *bound]) if operand.column != "page" else ("false", [])
    return (
        f"(CASE jsonb_typeof({sql}) WHEN 'string' THEN {found} ELSE false END)",
        [*parameters, *parameters, *bound],
    )


def _number(operand: _Operand, test: str, *bound: Any) -> Sql:
    """A test of a value that is a number; false of any other."""
    sql, parameters = operand.value
    if operand.column:
        found = test.format("page::numeric")
        return (f"coalesce({found}, false)", list(bound)) if operand.column == "page" else ("false", [])
    found = test.format(f"({sql} #>> '{{}}')::numeric")
    return (
        f"(CASE jsonb_typeof({sql}) WHEN 'number' THEN {found} ELSE false END)",
        [*parameters, *parameters, *bound],
    )


def _exact(value: float) -> Decimal:
    """A number as both sides have it: whole ones exactly, fractions as they are written."""
    return Decimal(int(value)) if float(value).is_integer() else Decimal(repr(value))


def filtered_json(text: str) -> str:
    """JSON whose numbers ``jsonb`` compares as they are: large whole ones by all their digits."""

    def number(digits: str) -> float | int:
        value = float(digits)
        return int(value) if value.is_integer() and abs(value) >= 2**53 else value

    return json.dumps(json.loads(text, parse_float=number), ensure_ascii=False)


def _compare(operand: _Operand, operator: str, value: str | int | float | bool) -> Sql:
    sql, parameters = operand.value
    if isinstance(value, bool):
        if operand.column:
            return "false", []
        return f"coalesce({sql} = '{str(value).lower()}'::jsonb, false)", parameters
    if not isinstance(value, str):
        return _number(operand, f"{{}} {operator} %s::numeric", value if isinstance(value, int) else _exact(value))
    if operand.column not in ("", "page") and operator == "=" and value.isascii():
        return f"coalesce({sql} = %s, false)", [value]  # so that the indexes serve it
    # No other spelling equals an ASCII text.
    plain = operator == "=" and value.isascii()
    return _text(operand, f"{{}} {operator} %s", nfc(value), composed=not plain)


def _in(operand: _Operand, values: Sequence[Value]) -> Sql:
    parts = [_compare(operand, "=", value) for value in (True, False) if any(value is found for found in values)]
    texts = [value for value in values if isinstance(value, str)]
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if texts:
        plain = all(text.isascii() for text in texts)
        parts.append(_text(operand, "{} = ANY(%s::text[])", [nfc(text) for text in texts], composed=not plain))
    if numbers:
        parts.append(
            _number(
                operand, "{} = ANY(%s::numeric[])", [_exact(n) if isinstance(n, float) else Decimal(n) for n in numbers]
            )
        )
    return joined(" OR ", parts)


def _like(operand: _Operand, pattern: str) -> Sql:
    # In the collation C, lower() changes ASCII letters alone.
    return _text(operand, "lower({}) LIKE %s", nfc(pattern).translate(_LOWER))


def _has_part(operand: _Operand, part: str) -> Sql:
    return _text(operand, "strpos({}, %s) > 0", nfc(part))


def _there(operand: _Operand) -> Sql:
    sql, parameters = operand.value
    return f"({sql} IS NOT NULL)", parameters


def _not_null(operand: _Operand) -> Sql:
    if operand.column:
        return _there(operand)
    sql, parameters = operand.value
    return f"(coalesce(jsonb_typeof({sql}), 'null') != 'null')", parameters


_ITEM = _Operand(("item.value", []))
_POSTGRES = Dialect(
    _column, _member, _items, _objects, _ITEM, _compare, _in, _like, _has_part, there=_there, not_null=_not_null
)
