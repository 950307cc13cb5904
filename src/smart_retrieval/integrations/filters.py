"""Filters of other libraries as ``where`` texts, in which every name and every value is quoted."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from typing import Any

from ..errors import FilterError
from ..index.store.where import BUILT_IN, parse

# Of an id, which every document has.
EVERYTHING, NOTHING = "id exists", "id is null"


def field(name: str) -> str:
    """A field by name; dots reach into objects, and ``metadata.page`` is the metadata's where ``page`` is built in."""
    if not isinstance(name, str):
        raise FilterError(f"filter: found the field {name!r}, expected its name")
    if name in BUILT_IN:
        return name
    if "`" in name:
        raise FilterError(f"filter: found the field {name!r}; names with backticks cannot be searched")
    return ".".join(f"`{part}`" for part in name.split("."))


def literal(value: Any) -> str:
    """A value: text, a number, true, false, null; a date is the text that JSON would hold."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, date):
        value = value.isoformat()
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, int | float) and math.isfinite(value):
        return repr(float(value)) if isinstance(value, float) else repr(int(value))
    raise FilterError(f"filter: found the value {value!r}, expected text, a finite number, true, false or null")


def compare(name: str, operator: str, value: Any) -> str:
    """One condition, by an operator of ``where``."""
    return f"{field(name)} {operator} {literal(value)}"


def one_of(name: str, values: Any) -> str:
    """The field equals one of the values; of none, never."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise FilterError(f"filter: found {values!r} for {name!r}, expected a list of values")
    listed = ", ".join(literal(value) for value in values)
    return f"{field(name)} in ({listed})" if listed else NOTHING


def negated(part: str) -> str:
    """The opposite."""
    return f"not ({part})"


def all_of(parts: Iterable[str]) -> str:
    """All parts hold; without parts, always."""
    return _joined("and", list(parts)) or EVERYTHING


def any_of(parts: Iterable[str]) -> str:
    """One part holds; without parts, never."""
    return _joined("or", list(parts)) or NOTHING


def _joined(word: str, parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f" {word} ".join(f"({part})" for part in parts)


def narrowed(*wheres: str | None) -> str | None:
    """All of several ``where`` texts; each is read by itself first, so that none can end the parentheses around it."""
    given = [where for where in wheres if where is not None]
    for where in given:
        parse(where)
    return all_of(given) if given else None


def where_of(given: str | Mapping[str, Any] | None) -> str | None:
    """A filter as vector stores take it: ``{"year": {"$gte": 2020}, "lang": "en"}``; a ``where`` text stays as it is.

    Between conditions stand ``$and``, ``$or`` and ``$not``; those of a field are ``$eq``, ``$ne``, ``$gt``, ``$gte``,
    ``$lt``, ``$lte``, ``$in``, ``$nin``, ``$like``, ``$contains`` and ``$exists``.
    """
    return _of_mapping(given) if isinstance(given, Mapping) else given


def _of_mapping(given: Any) -> str:
    if not isinstance(given, Mapping):
        raise FilterError(f'filter: found {given!r}, expected a mapping such as {{"year": {{"$gte": 2020}}}}')
    return all_of(_entry(name, value) for name, value in given.items())


def _entry(name: str, value: Any) -> str:
    if name in ("$and", "$or"):
        if not isinstance(value, list | tuple):
            raise FilterError(f"filter: found {value!r} for {name}, expected a list of filters")
        return (all_of if name == "$and" else any_of)(_of_mapping(part) for part in value)
    if name == "$not":
        return negated(_of_mapping(value))
    if not isinstance(value, Mapping):
        return one_of(name, value) if isinstance(value, list | tuple) else compare(name, "=", value)
    return all_of(_condition(name, operator, operand) for operator, operand in value.items())


_COMPARISONS = {
    "$eq": "=",
    "$ne": "!=",
    "$gt": ">",
    "$gte": ">=",
    "$lt": "<",
    "$lte": "<=",
    "$like": "like",
    "$contains": "contains",
}
_OTHERS: dict[str, Callable[[str, Any], str]] = {
    "$in": one_of,
    "$nin": lambda name, values: negated(one_of(name, values)),
    "$exists": lambda name, wanted: f"{field(name)} {'exists' if wanted else 'not exists'}",
    "$not": lambda name, value: negated(_entry(name, value)),
}


def _condition(name: str, operator: str, operand: Any) -> str:
    if operator in _COMPARISONS:
        return compare(name, _COMPARISONS[operator], operand)
    if operator not in _OTHERS:
        known = ", ".join([*_COMPARISONS, *_OTHERS])
        raise FilterError(f"filter: found the operator {operator!r} for {name!r}, expected one of {known}")
    return _OTHERS[operator](name, operand)
