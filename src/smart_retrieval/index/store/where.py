"""From a ``where`` tree to SQL over ``documents``: every value and every path is a bound parameter.

Each condition first asks for the kind of the stored value, with tests that are never NULL, so that every condition is
true or false and ``not`` is its exact opposite.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from ...errors import FilterError

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


Expression: TypeAlias = Compare | In | Like | Exists | Not | And | Or

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
                found = In(field, self.values())
            elif self.accept("like"):
                found = Like(field, self.pattern())
            elif self.accept("exists"):
                found = Exists(field)
            else:
                wanted = (
                    "'in', 'like' or 'exists'" if opposite else "'=', '<', 'in', 'like', 'is', 'exists' or their like"
                )
                raise self.unexpected(wanted)
        return Not(found) if opposite else found

    def comparison(self, field: Field) -> Expression:
        at = self.token.at
        operator = _OPERATORS[self.token.text]
        self.next += 1
        value = self.value()
        if operator == "!=":
            return Not(Compare(field, "=", value))
        if operator != "=" and (value is None or isinstance(value, bool)):
            raise self.error(f"found '{operator}' with true, false or null, which have no order", at)
        return Compare(field, operator, value)

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
        if not name or any(character in '"\\' or character < " " for character in name):
            raise self.error('found a field name that is empty or holds ", \\ or a control code', token.at)
        return name

    def values(self) -> tuple[Value, ...]:
        self.expect("(")
        found = [self.value()]
        while self.accept(","):
            if len(found) == MAX_VALUES:
                raise self.error(f"found more than {MAX_VALUES} values")
            found.append(self.value())
        self.expect(")")
        return tuple(found)

    def value(self) -> Value:
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
        value = token.text[1:-1].replace(quote * 2, quote)
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

    def pattern(self) -> str:
        token = self.token
        if token.kind != "string":
            raise self.unexpected("a pattern in quotes after 'like'")
        pattern = str(self.value())
        if len(pattern) > 1000:
            raise self.error("found a pattern of more than 1000 characters", token.at)
        if re.fullmatch(r"(?:[^\\]|\\.)*", pattern, re.DOTALL) is None:
            raise self.error("found a pattern that ends in a lone backslash; write it twice", token.at)
        return pattern


Sql = tuple[str, list[Any]]


def compile_where(where: str | Expression | None) -> Sql:
    """A condition for the WHERE clause of a query over ``documents``, with question marks, and their parameters.

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
