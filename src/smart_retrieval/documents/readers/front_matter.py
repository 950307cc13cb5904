"""Front matter: what a text says about itself before it begins, in YAML, TOML (``+++``) or JSON.

Whatever it holds becomes JSON: objects stay objects, dates become texts, which sort as dates do, and what is null is
left out. What cannot be stored is named in a note.
"""

from __future__ import annotations

import json
import math
import re
import tomllib
from datetime import date, time
from textwrap import dedent
from typing import Any

from ..sections import clean_text

_FENCES = {
    mark: re.compile(rf"{re.escape(mark)}[ \t]*({languages})?[ \t]*\n(.*?\n)??(?:{ends})[ \t]*(?:\n|\Z)", re.DOTALL)
    for mark, languages, ends in (("---", "yaml|json|toml", r"---|\.\.\."), ("+++", "toml", r"\+\+\+"))
}
_BEGINS = re.compile(r"[ \t]*\n\s*\S")
_FARTHEST = 65_536  # a block that does not end within so many characters is not front matter
_LONGEST = 2 * _FARTHEST  # characters and values: a few lines of YAML's aliases could unfold to gigabytes
_DEEPEST = 20  # objects and lists in each other
_MOST_NAMED = 5
_LONGEST_KEY = 100  # a sentence with a colon in it is no entry
_KEY = r"[^\s:#\-\[{'\"][^:\n]{0,99}?|'[^'\n]{1,99}'|\"[^\"\n]{1,99}\""
_ENTRY = re.compile(rf"(?P<key>{_KEY})[ \t]*:(?:[ \t]+(?P<value>.*))?$", re.MULTILINE)
_NEXT_ENTRY = re.compile(r"^(?=[^\s#-]|-[^ \t\n])", re.MULTILINE)  # unindented, no comment and no item of a list
_FLOW_LIST = re.compile(r"\[([^\[\]]*)\]$")
_COMMENT = re.compile(r"(?:^|[ \t])#.*$")
_NUMBER = re.compile(r"[-+]?(?:0|[1-9]\d{0,17})(?P<fraction>\.\d{1,30})?(?P<exponent>[eE][-+]?\d{1,3})?$")
_WORDS: dict[str, Any] = {"true": True, "false": False, "null": None, "~": None, "": None}
_REFUSED = object()  # stands for what the syntax allows and JSON does not


class _RefusedError(Exception):
    """Why a value cannot be stored."""


def split_front_matter(text: str) -> tuple[dict[str, Any], str, list[str]]:
    r"""Take the front matter off a text with ``\n`` as its line end: its entries, the rest of the text, and notes.

    A block that holds anything but front matter stays in the text.
    """
    entries: dict[str, Any] | None = None
    if text.startswith("{"):
        entries, end = _json_object(text)
        if not _BEGINS.match(text, end):  # an object and nothing else is what the file is about
            entries = None
    elif (fence := _FENCES.get(text[:3])) and (found := fence.match(text, 0, _FARTHEST)):
        block, end = found[2] or "", found.end()
        language = found[1] or ("toml" if text[0] == "+" else "yaml")
        if language == "json":
            entries, _ = _json_object(block)
        else:
            entries = _yaml(block) if language == "yaml" else _toml(block)
    if entries is None:
        return {}, text, []
    stored, notes = storable(entries)
    return stored, text[end:], notes


def storable(entries: dict[Any, Any]) -> tuple[dict[str, Any], list[str]]:
    """Entries as JSON, as much of them as can be, and a note on the others."""
    storing = _Storing()
    return storing.mapping(entries, "", 0), storing.notes()


def title_of(metadata: dict[str, Any]) -> str:
    """The title among the entries, which may be a number."""
    title = metadata.get("title")
    return str(title) if isinstance(title, str | int | float) else ""


def plain_value(text: str) -> Any:
    """A scalar without quotes, by the rules of YAML 1.2: ``no`` is a word, ``007`` no number."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    number = _NUMBER.match(text)
    if number and (number["fraction"] or number["exponent"]):
        return float(text) if math.isfinite(float(text)) else text
    return int(text) if number else text


class _Storing:
    """Makes JSON of entries, as much as may be, and keeps what it refuses."""

    def __init__(self) -> None:
        self._left = _LONGEST
        self._refused: list[str] = []

    def notes(self) -> list[str]:
        more = f"; and {len(self._refused) - _MOST_NAMED:,} more" if len(self._refused) > _MOST_NAMED else ""
        return [f"front matter left out: {'; '.join(self._refused[:_MOST_NAMED])}{more}"] if self._refused else []

    def mapping(self, entries: dict[Any, Any], path: str, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in entries.items():
            name = clean_text(str(key))
            here = f"{path}.{name}" if path else name
            try:
                stored = self._value(value, here, depth)
            except _RefusedError as error:
                self._refused.append(f"{here[:_LONGEST_KEY]} ({error})")
                continue
            if stored is not None:
                found[name] = stored
        return found

    def _value(self, value: Any, path: str, depth: int) -> Any:
        self._left -= 1 + (len(value) if isinstance(value, str) else 0)
        if self._left < 0:
            raise _RefusedError(f"more than {_LONGEST:,} characters in all")
        if depth == _DEEPEST:
            raise _RefusedError(f"deeper than {_DEEPEST} levels")
        if isinstance(value, dict):
            return self.mapping(value, path, depth + 1)
        if isinstance(value, list):
            items = (self._value(item, path, depth + 1) for item in value)
            return [item for item in items if item is not None]
        if isinstance(value, str):
            return clean_text(value)
        if isinstance(value, date | time):
            return value.isoformat()
        if isinstance(value, float) and not math.isfinite(value):
            raise _RefusedError("no finite number")
        if isinstance(value, int) and abs(value) >= 2**63:
            raise _RefusedError("a number of more than 64 bits")
        if value is _REFUSED:
            raise _RefusedError("its key is no text")
        return value


# -- JSON and TOML ----------------------------------------------------------------------------------------------------


def _json_object(text: str) -> tuple[dict[str, Any] | None, int]:
    """The object that a text begins with, and where it ends."""
    start = len(text) - len(text.lstrip())
    try:
        found, end = json.JSONDecoder().raw_decode(text[:_FARTHEST], start)
    except (ValueError, RecursionError):
        return None, 0
    return (found, end) if isinstance(found, dict) else (None, 0)


def _toml(block: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(block)
    except (ValueError, RecursionError):
        return None


# -- YAML -------------------------------------------------------------------------------------------------------------


def _yaml(block: str, depth: int = 0) -> dict[str, Any] | None:
    """The entries of a block, or None if it is not front matter: then it is text between two rules."""
    if not block.strip():
        return {}
    entries = _mapping(_compose(block))
    if entries is not None or depth == _DEEPEST:
        return entries
    # YAML refuses the whole block for one entry such as ``title: Foo: bar``; so each entry by itself.
    entries = {}
    before, *chunks = _NEXT_ENTRY.split(block)
    for chunk in chunks:
        one = _mapping(_compose(chunk))
        if one is None:
            one = _refused_entry(chunk, depth)
        if one is None:
            return None
        entries.update(one)
    comments = all(line.lstrip().startswith("#") for line in before.split("\n") if line.strip())
    return entries if entries and comments else None


def _compose(block: str) -> Any:
    """What YAML makes of a block: nodes, as Python objects would come with surprises; None if it refuses the block."""
    import yaml

    try:
        return yaml.compose(block, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError):  # escapes of no character, brackets in brackets
        return None


def _mapping(node: Any) -> dict[str, Any] | None:
    if node is None or node.id != "mapping":
        return None
    if any(key.id != "scalar" or len(key.value) > _LONGEST_KEY for key, _ in node.value):
        return None
    entries: dict[str, Any] = _value(node, {})
    return entries


def _value(node: Any, made: dict[int, Any]) -> Any:
    """A node as a Python value; an alias is the same object again, perhaps one that it is part of."""
    if id(node) in made:
        return made[id(node)]
    if node.id == "sequence":
        items = made[id(node)] = []
        items += (_value(item, made) for item in node.value)
        return items
    if node.id == "mapping":
        entries = made[id(node)] = {}
        for key, value in node.value:
            if key.id != "scalar":
                entries[f"? {key.id}"] = _REFUSED
            elif key.value == "<<" and not key.style and isinstance(base := _value(value, made), dict):
                entries.update({name: one for name, one in base.items() if name not in entries})
            else:
                entries[key.value] = _value(value, made)
        return entries
    return node.value if node.style else plain_value(node.value)


def _refused_entry(chunk: str, depth: int) -> dict[str, Any] | None:
    """An entry that YAML refuses: its value as it stands, the entries within, or the items of its list."""
    first, *lines = chunk.split("\n")
    entry = _ENTRY.match(first)
    if not entry:
        return None
    key, value = entry["key"].strip("'\""), _COMMENT.sub("", entry["value"] or "").strip()
    if flow := _FLOW_LIST.match(value):
        return {key: [plain_value(item.strip().strip("'\"")) for item in flow[1].split(",")]}
    if value:
        lines = [_COMMENT.sub("", line).strip() for line in lines]
        return {key: plain_value(" ".join([value, *filter(None, lines)]))}
    within = dedent("\n".join(lines))
    if (entries := _yaml(within, depth + 1)) is not None:
        return {key: entries or None}
    items = []
    for item in re.split(r"^-[ \t]+", within, flags=re.MULTILINE)[1:]:
        node = _compose(f"- {item}")
        if node is not None:
            items += _value(node, {})
        else:
            entries = _yaml(dedent(f"  {item}"), depth + 1)
            items.append(item.strip() if entries is None else entries)
    return {key: items or None}
