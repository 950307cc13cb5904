"""From a ``where`` tree to Qdrant's filters over payloads, and payloads that those filters mean the same of.

Qdrant tells whole numbers from fractions, takes null in a list for null, and cannot tell a missing key from an empty
list. A payload is therefore written with its whole numbers as integers, its text composed (NFC), and a list ``fields``
of the paths that are there and of those that lead to nothing but null, to a list, true or false. What cannot be said
exactly is refused: an order of texts, ``like``, an order of numbers beyond 2^53, and paths of more than six keys.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ...errors import FilterError, StoreError
from ...index.store.where import And, Compare, Contains, Exists, Expression, Field, In, Like, Not, Or, Value, nfc, parse

if TYPE_CHECKING:
    from qdrant_client import models

_BUILT_IN = ("id", "source", "page", "heading")
TEXTS = "texts"  # beside the fields
_MOST_KEYS = 6
_EXACT = 2**53  # the range of numbers that Qdrant compares without rounding
_LARGEST = 2**63
_REFUSED = "where: Qdrant cannot tell {}; {}"


def payload_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """What filters of Qdrant look at, of a row's document: it replaces the fields of the same names."""
    metadata = _plain(document["metadata"])
    found: dict[str, Any] = {name: _plain(document[name]) for name in _BUILT_IN if document.get(name) is not None}
    values: dict[str, list[Any]] = {}
    _collect(metadata, (), values)
    # Beside a list, which a search for a part of a text would look into.
    mixed = {
        _ascii(path): [text for text in some if isinstance(text, str)]
        for path, some in values.items()
        if any(isinstance(one, list) for one in some)
    }
    texts = {path: some for path, some in mixed.items() if some}
    fields = sorted(mark for path, some in values.items() for mark in _marks(path, some))
    return {**found, "metadata": metadata, "fields": fields} | ({TEXTS: texts} if texts else {})


def _plain(value: Any) -> Any:
    """A JSON value as filters compare it."""
    if isinstance(value, dict):
        plain = {nfc(key): _plain(part) for key, part in value.items()}
        if len(plain) < len(value):
            raise StoreError(f"metadata: found keys that are the same to Unicode in {sorted(value)}; keep one of each")
        return plain
    if isinstance(value, list):
        return [_plain(part) for part in value]
    if isinstance(value, float) and value.is_integer() and -_LARGEST <= value < _LARGEST:
        return int(value)
    if isinstance(value, int) and not -_LARGEST <= value < _LARGEST:
        return float(value)
    return nfc(value)


def _collect(value: Mapping[str, Any], path: tuple[str, ...], values: dict[str, list[Any]]) -> None:
    """What every path leads to: one value, or several through lists of objects."""
    for key, part in value.items():
        values.setdefault(_path((*path, key)), []).append(part)
        for one in part if isinstance(part, list) else [part]:
            if isinstance(one, dict):
                _collect(one, (*path, key), values)


def _marks(path: str, values: list[Any]) -> Iterator[str]:
    """That a path is there, and whether it leads to nothing but null, to a list, true or false."""
    yield path
    if all(value is None for value in values):
        yield f"{path} null"
    if any(isinstance(value, list) for value in values):
        yield f"{path} list"
    # Clients differ in whether true is 1.
    items = [item for value in values for item in (value if isinstance(value, list) else [value])]
    yield from (f"{path} {str(truth).lower()}" for truth in (True, False) if any(truth is item for item in items))


def _path(path: tuple[str, ...]) -> str:
    """A path as Qdrant spells it, every key in quotes."""
    return ".".join(json.dumps(key, ensure_ascii=False) for key in path)


def _ascii(path: str) -> str:
    """A path as one key, which needs no quotes."""
    return path.encode().hex()


def compile_filter(where: str | Expression | None) -> models.Filter | None:
    """A filter in the grammar of ``where`` as one of Qdrant, for the payloads of a :class:`QdrantIndex`.

    Args:
        where: The filter; None for none.

    Returns:
        What ``query_points``, ``scroll`` and ``count`` of the client take.

    Raises:
        FilterError: It cannot be read, or Qdrant cannot express it exactly.

    Example:
        >>> compile_filter("source = 'a.md'").must[0].key
        'source'
    """
    from qdrant_client import models

    if where is None:
        return None
    found = _compile(where if isinstance(where, Expression) else parse(where))
    return found if isinstance(found, models.Filter) else models.Filter(must=[found])


def _compile(node: Expression) -> Any:
    from qdrant_client import models

    match node:
        case And(parts):
            return models.Filter(must=[_compile(part) for part in parts])
        case Or(parts) if parts:
            return models.Filter(should=[_compile(part) for part in parts])
        case Or(_):
            return _never()
        case Not(part):
            return models.Filter(must_not=[_compile(part)])
        case Compare(field, operator, value):
            return _equal(field, [value]) if operator == "=" else _ordered(field, operator, value)
        case In(field, values):
            return _equal(field, list(values))
        case Contains(field, value):
            equal = _equal(field, [value])
            if isinstance(value, str):
                match = models.MatchSubstring(substring=nfc(value))
                whole = [] if field.built_in else [_has(field, " list")]  # not of a list's items
                found = [equal, models.Filter(must=[_value(field, match=match)], must_not=whole)]
                if not field.built_in:
                    key = f"{TEXTS}.{_ascii(_path(_composed(field)))}"
                    found.append(models.FieldCondition(key=key, match=match))
                equal = models.Filter(should=found)
            return equal
        case Exists(field):
            return _exists(field)
        case Like(field, pattern):
            raise FilterError(_REFUSED.format(f"like {pattern[:40]!r}", "use contains or ="))


def _keys(field: Field) -> list[str]:
    """How Qdrant names what a path leads to: brackets stand for the objects of a list, at each key but the last."""
    if field.built_in:
        return [field.path[0]]
    *within, last = (_path((key,)) for key in _composed(field))
    if len(within) >= _MOST_KEYS:
        raise FilterError(_REFUSED.format(f"paths of {len(field.path)} keys", f"use at most {_MOST_KEYS}"))
    found = ["metadata"]
    for key in within:
        found = [f"{one}.{key}{brackets}" for one in found for brackets in ("", "[]")]
    return [f"{one}.{last}" for one in found]


def _composed(field: Field) -> tuple[str, ...]:
    return tuple(unicodedata.normalize("NFC", key) for key in field.path)


def _value(field: Field, **test: Any) -> Any:
    """A test of the value, or of one of its items where it is a list."""
    from qdrant_client import models

    found: list[Any] = [models.FieldCondition(key=key, **test) for key in _keys(field)]
    return found[0] if len(found) == 1 else models.Filter(should=found)


def _has(field: Field, kind: str = "") -> Any:
    from qdrant_client import models

    return models.FieldCondition(key="fields", match=models.MatchValue(value=_path(_composed(field)) + kind))


def _exists(field: Field) -> Any:
    from qdrant_client import models

    if not field.built_in:
        return _has(field)
    return models.Filter(must_not=[models.IsEmptyCondition(is_empty=models.PayloadField(key=field.path[0]))])


def _never() -> Any:
    from qdrant_client import models

    return models.HasIdCondition(has_id=[])


def _equal(field: Field, values: list[Value]) -> Any:
    """The field is one of these, or a list that holds one."""
    from qdrant_client import models

    found: list[Any] = []
    texts = [nfc(value) for value in values if isinstance(value, str)]
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    whole = [int(value) for value in numbers if float(value).is_integer() and -_LARGEST <= value < _LARGEST]
    for some in (texts, whole):
        if some:
            one = models.MatchAny(any=some) if len(some) > 1 else models.MatchValue(value=some[0])
            found.append(_value(field, match=one))
    for number in numbers:
        if not float(number).is_integer():
            found.append(_value(field, range=models.Range(gte=number, lte=number)))
        elif not -_LARGEST <= number < _LARGEST:
            raise FilterError(_REFUSED.format(f"numbers as large as {number!r} apart", "use a text"))
    truths = [truth for truth in (True, False) if any(truth is value for value in values)]
    found += [] if field.built_in else [_has(field, f" {str(truth).lower()}") for truth in truths]
    if any(value is None for value in values):
        found.append(models.Filter(must_not=[_exists(field)]))
        found += [] if field.built_in else [_has(field, " null")]
    return found[0] if len(found) == 1 else models.Filter(should=found) if found else _never()


def _ordered(field: Field, operator: str, value: Value) -> Any:
    from qdrant_client import models

    if isinstance(value, str):
        raise FilterError(
            _REFUSED.format(f"the order of texts ({field.path[-1]} {operator} …)", "keep dates as numbers")
        )
    if value is None or isinstance(value, bool) or not -_EXACT < value < _EXACT:
        raise FilterError(_REFUSED.format(f"the order of numbers as large as {value!r}", "filter on smaller ones"))
    name = {"<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}[operator]
    return _value(field, range=models.Range(**{name: float(value)}))
