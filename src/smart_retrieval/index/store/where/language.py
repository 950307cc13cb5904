"""The language of ``where``: from text to a tree, and what the tree's parts mean.

A condition holds of a list if it holds of one of its items, and a path of keys goes on in each object of a list; lists
within lists are not looked into. Text that Unicode holds equal, composed or decomposed, is equal.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from ....errors import FilterError
from ....files import typed_name

BUILT_IN = ("id", "source", "page", "heading")
MAX_LENGTH = 20_000
MAX_DEPTH = 20  # SQLite reads a hundred nested symbols, and a level takes three or four
MAX_CONDITIONS = 200
MAX_VALUES = 5_000
MAX_KEYS = 20  # of a path: each takes a table, and SQLite joins 64

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


# What SQLite's JSON paths can hold of a key, and backticks enclose.
_NAMED = re.compile(r'[^"\\`\x00-\x1f\ud800-\udfff]+')
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
        if len(names) > MAX_KEYS:
            raise self.error(f"found a path of {len(names)} keys, expected at most {MAX_KEYS}", at)
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
        if not _NAMED.fullmatch(name):
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


def nfc(text: Any) -> Any:
    """Text as it is compared, letters composed with their accents; anything else as it is."""
    return unicodedata.normalize("NFC", text) if isinstance(text, str) else text


def spellings(key: str) -> list[str]:
    """How a key may be stored: as it is written, composed, or decomposed."""
    return list(dict.fromkeys([key, *(unicodedata.normalize(form, key) for form in ("NFC", "NFD"))]))


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


def as_written(path: tuple[str, ...]) -> str:
    """A path of keys as an expression names it."""

    def name(key: str) -> str:
        plain = re.fullmatch(r"[^\W\d]\w*", key) and key.lower() not in _KEYWORDS
        return key if plain and (len(path) > 1 or key not in BUILT_IN) else f"`{key}`"

    return ".".join(map(name, path))


def paths_of(metadata: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """Each path that an expression can name in metadata, and the JSON type of what it leads to."""
    try:
        waiting: list[tuple[tuple[str, ...], Any]] = [((), json.loads(metadata))]
    except (ValueError, RecursionError):  # another program's
        return
    while waiting:
        path, value = waiting.pop()
        if path:
            yield path, _kind(value)
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, dict) and len(path) < MAX_KEYS:
                waiting += [((*path, key), part) for key, part in one.items() if _NAMED.fullmatch(key)]


def _kind(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return {str: "text", int: "integer", float: "real", list: "array", dict: "object"}[type(value)]
