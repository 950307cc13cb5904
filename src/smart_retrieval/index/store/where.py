"""From a ``where`` tree to SQL over ``documents``: every value and every path is a bound parameter.

Each condition first asks for the kind of the stored value, with tests that are never NULL, so that every condition is
true or false and ``not`` is its exact opposite. A condition holds of a list if it holds of one of its items. Text that
Unicode holds equal, composed or decomposed, is equal: both sides are compared in NFC.
"""

from __future__ import annotations

import re
import sqlite3
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

from ...errors import FilterError
from ...files import typed_name

BUILT_IN = ("id", "source", "page", "heading")
MAX_LENGTH = 20_000
MAX_DEPTH = 20  # SQLite reads a hundred nested symbols, and a level takes three or four
MAX_CONDITIONS = 200
MAX_VALUES = 5_000

Value: TypeAlias = str | int | float | bool | None


@dataclass(frozen=True)
class Field:
    """A path of metadata keys, or one of the document's own columns."""

    path: tuple[str, ...]
    built_in: bool = False


@dataclass(frozen=True)
class Compare:
    """``field operator value``; the operator is one of ``= < <= > >=``."""

    field: Field
    operator: str
    value: Value


@dataclass(frozen=True)
class In:
    """The field equals one of the values."""

    field: Field
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Like:
    """The field is a string that matches the pattern."""

    field: Field
    pattern: str


@dataclass(frozen=True)
class Contains:
    """The field is a list that holds the value, the value itself, or a text of which the value is a part."""

    field: Field
    value: str | int | float | bool


@dataclass(frozen=True)
class Exists:
    """The key is there, whatever its value."""

    field: Field


@dataclass(frozen=True)
class Not:
    """The opposite."""

    part: Expression


@dataclass(frozen=True)
class And:
    """All parts hold."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True)
class Or:
    """One part holds."""

    parts: tuple[Expression, ...]


Expression: TypeAlias = Compare | In | Like | Contains | Exists | Not | And | Or


@dataclass(frozen=True)
class OfKinds:
    """A filter for documents of some kinds alone (text, image, page, video), which its language has no words for."""

    kinds: tuple[str, ...]
    within: str | Expression | None = None


_TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<number>-?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
      | (?P<string>'(?:[^']|'')*'|"(?:[^"]|"")*")
      | (?P<name>[^\W\d]\w*|`[^`]*`)
      | (?P<symbol>==|!=|<>|<=|>=|[=<>(),.])""",
    re.VERBOSE,
)
_OPERATORS = {"=": "=", "==": "=", "!=": "!=", "<>": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_KEYWORDS = ("and", "or", "not", "in", "like", "is", "null", "exists", "true", "false")
# A key may have this name, which had no meaning before 0.2: it is read as an operator only where one stands.
_CONTAINS = "contains"


_PAGE = Field(("page",), built_in=True)


class _Token(NamedTuple):
    kind: str  # number, string, name, keyword, symbol, end
    text: str
    at: int


def parse(text: str) -> Expression:
    """Read a ``where`` expression; an error points at the place that cannot be read.

    Example:
        >>> parse("year > 2020")
        Compare(field=Field(path=('year',), built_in=False), operator='>', value=2020)
    """
    if not isinstance(text, str):
        raise FilterError(f'where: found a {type(text).__name__}, expected text such as "year > 2020"')
    if len(text) > MAX_LENGTH:
        raise FilterError(f"where: found {len(text)} characters, expected at most {MAX_LENGTH}")
    return _Parser(text).whole()


class _Parser:
    """Recursive descent; one method a rule."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = list(self._tokens())
        self.next = 0
        self.depth = 0
        self.conditions = 0

    def _tokens(self) -> Iterator[_Token]:
        at = 0
        while at < len(self.text):
            match = _TOKEN.match(self.text, at)
            if match is None:
                found = self.text[at]
                unclosed = found in "'\"`"
                raise self.error(
                    f"found a {found} that is never closed" if unclosed else f"found {found!r}, expected otherwise", at
                )
            kind, found = str(match.lastgroup), match.group()
            if kind == "name" and found.lower() in _KEYWORDS:
                yield _Token("keyword", found.lower(), at)
            elif kind != "space":
                yield _Token(kind, found, at)
            at = match.end()
        yield _Token("end", "", len(self.text))

    def error(self, problem: str, at: int | None = None) -> FilterError:
        """That points at a place, the next token if none is given."""
        at = self.token.at if at is None else at
        # A long expression is shown around the place; every blank as a space, so that the caret stands below it.
        start = max(0, at - 60)
        shown = re.sub(r"\s", " ", self.text[start : at + 40])
        return FilterError(f"where, column {at + 1}: {problem}\n  {shown}\n  {' ' * (at - start)}^")

    # -- helpers -----------------------------------------------------------------------------------------------

    @property
    def token(self) -> _Token:
        return self.tokens[self.next]

    def accept(self, *texts: str) -> bool:
        """Step over the next token if it is one of these keywords or symbols."""
        if self.token.kind in ("keyword", "symbol") and self.token.text in texts:
            self.next += 1
            return True
        return False

    def expect(self, text: str) -> None:
        if not self.accept(text):
            raise self.unexpected(f"'{text}'")

    def unexpected(self, wanted: str) -> FilterError:
        found = "the end" if self.token.kind == "end" else self.token.text
        return self.error(f"found {found}, expected {wanted}")

    # -- rules -------------------------------------------------------------------------------------------------

    def whole(self) -> Expression:
        found = self.either()
        if self.token.kind != "end":
            raise self.unexpected("'and', 'or' or the end")
        return found

    def either(self) -> Expression:
        parts = [self.both()]
        while self.accept("or"):
            parts.append(self.both())
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def both(self) -> Expression:
        parts = [self.negation()]
        while self.accept("and"):
            parts.append(self.negation())
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def negation(self) -> Expression:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.error(f"found more than {MAX_DEPTH} levels of 'not' and parentheses")
        if self.accept("not"):
            found: Expression = Not(self.negation())
        elif self.accept("("):
            found = self.either()
            self.expect(")")
        else:
            found = self.condition()
        self.depth -= 1
        return found

    def condition(self) -> Expression:
        self.conditions += 1
        if self.conditions > MAX_CONDITIONS:
            raise self.error(f"found more than {MAX_CONDITIONS} conditions; use in (…)")
        field = self.field()
        if self.token.kind == "symbol" and self.token.text in _OPERATORS:
            return self.comparison(field)
        if self.accept("is"):
            opposite = self.accept("not")
            self.expect("null")
            found: Expression = Compare(field, "=", None)
        else:
            opposite = self.accept("not")
            if self.accept("in"):
                found = In(field, self.values(field))
            elif self.accept("like"):
                found = Like(field, self.pattern(field))
            elif self.accept("exists"):
                found = Exists(field)
            elif self.token.kind == "name" and self.token.text.lower() == _CONTAINS:
                found = self.contains(field)
            else:
                words = "'in', 'like', 'contains' or 'exists'"
                raise self.unexpected(words if opposite else f"'=', '<', 'is', {words} or their like")
        return Not(found) if opposite else found

    def comparison(self, field: Field) -> Expression:
        at = self.token.at
        operator = _OPERATORS[self.token.text]
        self.next += 1
        value = self.value(field)
        if operator == "!=":
            return Not(Compare(field, "=", value))
        if operator != "=" and (value is None or isinstance(value, bool)):
            raise self.error(f"found '{operator}' with true, false or null, which have no order", at)
        return Compare(field, operator, value)

    def contains(self, field: Field) -> Contains:
        self.next += 1
        at = self.token.at
        value = self.value(field)
        if value is None:
            raise self.error("found null after 'contains', expected text, a number, true or false", at)
        if field == _PAGE:
            raise self.error("found 'contains' after page, which is a number; write page = 3", at)
        return Contains(field, value)

    def field(self) -> Field:
        at = self.token.at
        names = [self.name()]
        while self.accept("."):
            names.append(self.name())
        if len(names) == 1 and self.text[at] != "`" and names[0] in BUILT_IN:
            return Field((names[0],), built_in=True)
        if len(names) > 1 and names[0] == "metadata":
            names = names[1:]
        return Field(tuple(names))

    def name(self) -> str:
        token = self.token
        if token.kind != "name":
            hint = f" (a key of that name goes in backticks: `{token.text}`)" if token.kind == "keyword" else ""
            raise self.unexpected(f"a field name{hint}")
        self.next += 1
        name = token.text.strip("`")
        # SQLite's JSON paths have no way to write these inside a key.
        if not name or any(c in '"\\' or c < " " or "\ud800" <= c <= "\udfff" for c in name):
            raise self.error('found a field name that is empty or holds ", \\ or a control code', token.at)
        return name

    def values(self, field: Field) -> tuple[Value, ...]:
        self.expect("(")
        found = [self.value(field)]
        while self.accept(","):
            if len(found) == MAX_VALUES:
                raise self.error(f"found more than {MAX_VALUES} values")
            found.append(self.value(field))
        self.expect(")")
        return tuple(found)

    def value(self, field: Field) -> Value:
        """The next value; an error if the field is one of the document's own and never of its kind."""
        at = self.token.at
        value = self.any_value()
        if field.built_in and value is not None and isinstance(value, str) == (field == _PAGE):
            kind, example = ("a number", "page = 3") if field == _PAGE else ("text", f"{field.path[0]} = '3'")
            raise self.error(f"found a value that {field.path[0]} never has, as it is {kind}; write {example}", at)
        return value

    def any_value(self) -> Value:
        token = self.token
        if token.kind == "keyword" and token.text in ("true", "false", "null"):
            self.next += 1
            return {"true": True, "false": False}.get(token.text)
        if token.kind == "number":
            self.next += 1
            return self.number(token)
        if token.kind != "string":
            hint = "; text goes in quotes" if token.kind == "name" else ""
            raise self.unexpected(f"a value{hint}")
        self.next += 1
        quote = token.text[0]
        # A name from the command line as it is in the index; other halves of characters are not there.
        value = typed_name(token.text[1:-1].replace(quote * 2, quote))
        try:
            value.encode()
        except UnicodeEncodeError:
            raise self.error("found text that is not Unicode (a lone surrogate)", token.at) from None
        if "\0" in value:
            raise self.error("found a NUL character in text", token.at)
        return value

    def number(self, token: _Token) -> int | float:
        if not re.search(r"[.eE]", token.text) and len(token.text) <= 20 and -(2**63) <= int(token.text) < 2**63:
            return int(token.text)
        value = float(token.text)
        if value in (float("inf"), float("-inf")):
            raise self.error("found a number out of range", token.at)
        return value

    def pattern(self, field: Field) -> str:
        token = self.token
        if token.kind != "string":
            raise self.unexpected("a pattern in quotes after 'like'")
        pattern = str(self.value(field))
        if len(pattern) > 1000:
            raise self.error("found a pattern of more than 1000 characters", token.at)
        if re.fullmatch(r"(?:[^\\]|\\.)*", pattern, re.DOTALL) is None:
            raise self.error("found a pattern that ends in a lone backslash; write it twice", token.at)
        return pattern


Sql = tuple[str, list[Any]]


def nfc(text: Any) -> Any:
    """Text as it is compared, letters composed with their accents; anything else as it is."""
    return unicodedata.normalize("NFC", text) if isinstance(text, str) else text


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


def keys_of(node: Expression | OfKinds) -> Iterator[Field]:
    """The metadata keys that an expression names, each as often as it does."""
    match node:
        case And(parts) | Or(parts):
            for part in parts:
                yield from keys_of(part)
        case Not(part):
            yield from keys_of(part)
        case OfKinds(_, within):
            if within is not None:
                yield from keys_of(parse(within) if isinstance(within, str) else within)
        case _ if not node.field.built_in:
            yield node.field


Operand = TypeVar("Operand")


class Dialect(NamedTuple, Generic[Operand]):
    """A database's SQL for each kind of condition; :meth:`sql` puts together what a filter says with them."""

    operand: Callable[[Field], Operand]
    items: Callable[[Operand], Sql]  # of a list, for FROM
    item: Operand
    compare: Callable[[Operand, str, Value], Sql]
    among: Callable[[Operand, Sequence[Value]], Sql]
    like: Callable[[Operand, str], Sql]
    has_part: Callable[[Operand, str], Sql]
    exists: Callable[[Field], Sql]

    def sql(self, node: Expression) -> Sql:
        """The condition of a tree."""
        match node:
            case And(parts):
                return joined(" AND ", [self.sql(part) for part in parts])
            case Or(parts):
                return joined(" OR ", [self.sql(part) for part in parts])
            case Not(part):
                sql, parameters = self.sql(part)
                return f"(NOT {sql})", parameters
            case Compare(field, operator, value):
                return self.of_items(field, lambda operand: self.compare(operand, operator, value))
            case In(field, values):
                return self.of_items(field, lambda operand: self.among(operand, values))
            case Like(field, pattern):
                return self.of_items(field, lambda operand: self.like(operand, pattern))
            case Contains(field, value):
                equal = self.of_items(field, lambda operand: self.compare(operand, "=", value))
                if not isinstance(value, str):
                    return equal
                return joined(" OR ", [equal, self.has_part(self.operand(field), value)])
            case Exists(field):
                return self.exists(field)

    def of_items(self, field: Field, condition: Callable[[Operand], Sql]) -> Sql:
        """A condition of a value, or of one of its items where it is a list."""
        operand = self.operand(field)
        alone = condition(operand)
        if field.built_in:
            return alone
        (items, paths), (sql, parameters) = self.items(operand), condition(self.item)
        return joined(" OR ", [alone, (f"EXISTS (SELECT 1 FROM {items} WHERE {sql})", [*paths, *parameters])])


def joined(word: str, parts: Sequence[Sql]) -> Sql:
    """Conditions with AND or OR between them: all of nothing hold, and none of them does."""
    if not parts:
        return f"(1 = {int(word == ' AND ')})", []
    return f"({word.join(sql for sql, _ in parts)})", [value for _, values in parts for value in values]


class _Operand(NamedTuple):
    """What a condition is about: the SQL of a value and of its JSON type, a column, or an item of a list."""

    value: Sql
    kind: Sql
    built_in: str = ""
    item: bool = False


def _json(function: str, field: Field) -> Sql:
    """A JSON function of the metadata at a path; a key may be stored composed or decomposed."""
    paths = {"$" + "".join(f'."{name}"' for name in path): None for path in spellings(field.path)}
    calls = ", ".join([f"{function}(metadata, ?)"] * len(paths))
    return (f"coalesce({calls})" if len(paths) > 1 else calls), list(paths)


def spellings(path: tuple[str, ...]) -> list[tuple[str, ...]]:
    """How a path of keys may be stored: as it is written, composed, or decomposed."""
    return [path, *(tuple(unicodedata.normalize(form, name) for name in path) for form in ("NFC", "NFD"))]


def _operand(field: Field) -> _Operand:
    # The built-in names come from the parser's own list, not from the text.
    if field.built_in:
        return _Operand((field.path[0], []), ("", []), field.path[0])
    return _Operand(_json("json_extract", field), _json("json_type", field))


def _items(operand: _Operand) -> Sql:
    kind, kind_paths = operand.kind
    value, value_paths = operand.value
    # ``atom`` is NULL for a list or an object; a text that is no list must not be read as JSON.
    return f"json_each(CASE {kind} WHEN 'array' THEN {value} ELSE '[]' END) AS item", [*kind_paths, *value_paths]


def _is_kind(operand: _Operand, kind: str) -> Sql:
    """A test for the kind of a value: text, number, true, false or null. Never NULL itself."""
    name = operand.built_in
    if name:
        if kind == "text":
            # Spelt so that SQLite uses the indexes on id and source; page is the one that is no text.
            return ("0" if name == "page" else f"{name} IS NOT NULL"), []
        if kind == "number":
            return (f"{name} IS NOT NULL" if name == "page" else "0"), []
        return (f"{name} IS NULL" if kind == "null" else "0"), []
    sql, parameters = operand.kind
    if kind == "null":
        # Of the field as a whole: a list with null in it is there.
        return ("0", []) if operand.item else (f"ifnull({sql}, 'null') = 'null'", parameters)
    if kind == "number":
        return f"ifnull({sql}, '') IN ('integer', 'real')", parameters
    return f"{sql} IS ?", [*parameters, kind]


def _composed(operand: _Operand) -> Sql:
    sql, parameters = operand.value
    return f"smart_nfc({sql})", parameters


def _bound(value: str | int | float) -> Sql:
    # A fraction is read by SQLite's own JSON reader, like the stored one: both end up as the same float.
    return ("json_extract(?, '$')", [repr(value)]) if isinstance(value, float) else ("?", [nfc(value)])


def _compare(operand: _Operand, operator: str, value: Value) -> Sql:
    if value is None or isinstance(value, bool):
        sql, parameters = _is_kind(operand, "null" if value is None else str(value).lower())
        return f"({sql})", parameters
    test, kind = _is_kind(operand, "text" if isinstance(value, str) else "number")
    # No other spelling equals an ASCII text, so that the indexes serve the usual condition.
    plain = not isinstance(value, str) or (operator == "=" and value.isascii())
    sql, parameters = operand.value if plain else _composed(operand)
    mark, bound = _bound(value)
    return f"({test} AND {sql} {operator} {mark})", [*kind, *parameters, *bound]


def _in(operand: _Operand, values: Sequence[Value]) -> Sql:
    parts = [_compare(operand, "=", value) for value in (None, True, False) if any(value is found for found in values)]
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


def _exists(field: Field) -> Sql:
    sql, parameters = (field.path[0], []) if field.built_in else _json("json_type", field)
    return f"({sql} IS NOT NULL)", parameters


_ITEM = _Operand(("item.atom", []), ("item.type", []), item=True)
_SQLITE = Dialect(_operand, _items, _ITEM, _compare, _in, _like, _has_part, _exists)
