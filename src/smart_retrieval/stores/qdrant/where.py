"""From a ``where`` tree to Qdrant's filters over payloads, and payloads that those filters mean the same of.

Qdrant tells whole numbers from fractions, takes null in a list for null, and cannot tell a missing key from an empty
list. A payload is therefore written with its whole numbers as integers, its text composed (NFC), and a list ``fields``
of the paths that are there and of those that lead to null, a list, true or false. What cannot be said exactly is
refused: an order of texts, ``like``, and an order of numbers beyond 2^53.
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
_EXACT = 2**53  # the range of numbers that Qdrant compares without rounding
_LARGEST = 2**63
_REFUSED = "where: Qdrant cannot tell {}; {}"


def payload_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """What filters of Qdrant look at, of a row's document: it replaces the fields of the same names."""
    metadata = _plain(document["metadata"])
    found: dict[str, Any] = {name: _plain(document[name]) for name in _BUILT_IN if document.get(name) is not None}
    return {**found, "metadata": metadata, "fields": sorted(set(_fields(metadata, ())))}


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


def _fields(value: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    """Every path that is there, and whether it leads to null, a list, true or false."""
    for key, part in value.items():
        name = _path((*path, key))
        yield name
        if part is None or isinstance(part, list):
            yield f"{name} {'null' if part is None else 'list'}"
        # Clients differ in whether true is 1.
        items = part if isinstance(part, list) else [part]
        yield from (f"{name} {str(truth).lower()}" for truth in (True, False) if any(truth is item for item in items))
        if isinstance(part, dict):
            yield from _fields(part, (*path, key))


def _path(path: tuple[str, ...]) -> str:
    """A path as Qdrant spells it, every key in quotes."""
    return ".".join(json.dumps(key, ensure_ascii=False) for key in path)


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
                part = _value(field, match=models.MatchSubstring(substring=nfc(value)))
                whole = [] if field.built_in else [_has(field, " list")]  # not of a list's items
                equal = models.Filter(should=[equal, models.Filter(must=[part], must_not=whole)])
            return equal
        case Exists(field):
            return _exists(field)
        case Like(field, pattern):
            raise FilterError(_REFUSED.format(f"like {pattern[:40]!r}", "use contains or ="))


def _key(field: Field) -> str:
    return field.path[0] if field.built_in else f"metadata.{_path(_composed(field))}"


def _composed(field: Field) -> tuple[str, ...]:
    return tuple(unicodedata.normalize("NFC", key) for key in field.path)


def _value(field: Field, **test: Any) -> Any:
    """A test of the value, or of one of its items where it is a list."""
    from qdrant_client import models

    found = models.FieldCondition(key=_key(field), **test)
    # A path through a list leads nowhere, but Qdrant might go on with the list's items.
    return found if field.built_in or len(field.path) == 1 else models.Filter(must=[_has(field), found])


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
