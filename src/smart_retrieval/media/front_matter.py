"""The block of ``key: value`` lines that many Markdown files begin with.

A reader of our own, not YAML: it takes what front matter is used for (scalars and flat lists), needs no dependency,
and has nothing to execute or expand. What it does not understand is left out; the text is never at risk.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

_FENCED = re.compile(r"---[ \t]*\n(.*?\n)??(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_FARTHEST = 65_536  # a block that does not end within so many characters is not front matter
_ENTRY = re.compile(
    r"(?P<key>[^\s:#\-\[{'\"][^:\n]{0,99}?|'[^'\n]{1,99}'|\"[^\"\n]{1,99}\")[ \t]*:(?:[ \t]+(?P<value>.*))?$"
)
_ITEM = re.compile(r"[ \t]*-[ \t]+(.*)$")
_COMMENT = re.compile(r"(?:^|[ \t])#.*$")
_NUMBER = re.compile(r"[-+]?(?:0|[1-9]\d{0,17})(?P<fraction>\.\d{1,30})?(?P<exponent>[eE][-+]?\d{1,3})?$")
_WORDS: dict[str, Any] = {"true": True, "false": False, "null": None, "~": None, "": None}


def split_front_matter(text: str) -> tuple[dict[str, Any], str]:
    r"""Take the front matter off a text.

    Args:
        text: A text with ``\n`` as its line end.

    Returns:
        Its entries (strings, numbers, booleans, flat lists of those; empty and nested values left out), and the rest
        of the text. A block that holds anything but front matter stays in the text.

    Example:
        >>> split_front_matter("---\ntitle: Logs\nyear: 2024\ntags: [a, b]\n---\nText.")
        ({'title': 'Logs', 'year': 2024, 'tags': ['a', 'b']}, 'Text.')
    """
    fenced = _FENCED.match(text, 0, _FARTHEST)
    if not fenced:
        return {}, text
    entries = _entries((fenced[1] or "").split("\n"))
    return ({}, text) if entries is None else (entries, text[fenced.end() :])


def _entries(lines: list[str]) -> dict[str, Any] | None:
    """The entries of a block, or None if some unindented line is not an entry: then it is text between two rules."""
    entries: dict[str, Any] = {}
    key, seen = "", False
    for line in lines:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        item = _ITEM.match(line)
        entry = None if item else _ENTRY.match(line)
        if entry:
            seen = True
            key = entry["key"].strip().strip("'\"")
            value = _value(entry["value"] or "")
            # Indented lines after "key:" or "key: >" are its value; only a list among them is understood.
            entries[key] = None if isinstance(value, str) and value[:1] in {"|", ">", "&", "*", "{"} else value
        elif item and key:
            kept = entries.get(key)
            element = _value(item[1])
            if (kept is None or isinstance(kept, list)) and element is not None and not _looks_nested(item[1]):
                entries[key] = [*(kept or []), element]
        elif not (key and line[0] in " \t"):
            return None
    if not seen and any(line.strip() for line in lines):
        return None
    return {key: value for key, value in entries.items() if value is not None}


def _looks_nested(item: str) -> bool:
    """Whether a list's element is itself a mapping (``- name: x``)."""
    return item[:1] not in {"'", '"'} and bool(re.search(r":(?:\s|$)", item))


def _value(raw: str) -> Any:
    """A scalar or a flat ``[list]``; dates stay strings, which sort as dates do."""
    raw = raw.strip()
    if raw[:1] in {"'", '"'}:
        return _quoted(raw)
    raw = _COMMENT.sub("", raw).strip()
    if raw.startswith("[") and raw.endswith("]"):
        return [value for part in _list_parts(raw[1:-1]) if (value := _value(part)) is not None]
    if raw.lower() in _WORDS:
        return _WORDS[raw.lower()]
    number = _NUMBER.match(raw)
    if number and (number["fraction"] or number["exponent"]):
        return float(raw) if math.isfinite(float(raw)) else raw
    return int(raw) if number else raw


def _quoted(raw: str) -> str:
    """A string in quotes; a comment may follow it."""
    quote = raw[0]
    if quote == "'":
        closed = re.match(r"'((?:[^']|'')*)'", raw)
        return closed[1].replace("''", "'") if closed else raw
    closed = re.match(r'"(?:[^"\\]|\\.)*"', raw)
    if not closed:
        return raw
    try:
        return str(json.loads(closed[0]))
    except ValueError:
        return closed[0][1:-1]


def _list_parts(inner: str) -> list[str]:
    """The elements of a flow list, commas within quotes left alone."""
    return [
        part for part in re.findall(r"""\s*("(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^,]+)\s*(?:,|$)""", inner) if part.strip()
    ]
