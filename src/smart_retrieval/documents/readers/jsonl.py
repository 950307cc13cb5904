"""JSON Lines: one record a line, its fields chosen by name."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Any, BinaryIO

from ...files import UnreadableFileError, open_local, os_error
from ..sections import Document, Section, clean_json, clean_text
from .text import damage, encoding_of

_NOTES_KEPT = 20
_SAMPLE_BYTES = 2**20
_MISSING = object()


@dataclass(frozen=True, slots=True)
class JsonlFields:
    """Which fields of a record mean what; a dot reaches into an object (``"meta.title"``).

    Attributes:
        text: Fields whose text is indexed, joined by blank lines. Strings, numbers or lists of strings; a record with
            none of them is a bad line.
        title: Field that becomes the heading; empty for none. Records may lack it.
        id: Field that becomes the record's part of the passage id; empty: the line number. With it, each record must
            have one of its own.
        metadata: Fields kept as metadata; None keeps every top-level field not named above.
    """

    text: tuple[str, ...] = ("text",)
    title: str = ""
    id: str = ""
    metadata: tuple[str, ...] | None = None


class _BadLineError(Exception):
    """Why one line is skipped."""


def read(path: Path, max_bytes: int, fields: JsonlFields, encoding: str = "") -> Document:
    """Read a whole JSON Lines file; see `iter_jsonl` for one larger than memory."""
    with open_local(path) as file:
        if os.fstat(file.fileno()).st_size > max_bytes:
            raise UnreadableFileError(path, f"larger than the limit of {max_bytes:,} bytes")
    notes: list[str] = []
    sections = list(iter_jsonl(path, fields, notes, max_line_bytes=max_bytes, encoding=encoding))
    return Document(sections, {}, notes)


def iter_jsonl(
    path: Path, fields: JsonlFields, notes: list[str], *, max_line_bytes: int = 64 * 2**20, encoding: str = ""
) -> Iterator[Section]:
    """Read the records of a file one after another, in constant memory; a section's key is the record's id.

    A bad line (no JSON object, no text, longer than `max_line_bytes`, an id missing or used before) is skipped; blank
    lines do not count. `notes` receives one sentence for each of the first 20 bad lines and, at the end, their number.
    """
    good = bad = damaged = 0
    first_bad = ""
    seen: set[str] = set()
    with open_local(path) as file:
        codec, guessed = _encoding(path, file, encoding)
        notes += guessed
        for number, line in enumerate(_lines(path, file, max_line_bytes, codec), start=1):
            if line is not None and not line.strip():
                continue
            damaged += line.count("\ufffd") if line else 0
            try:
                section = _section(line, number, fields)
                if section.key in seen:
                    raise _BadLineError(f"id {section.key!r} was used before")
            except _BadLineError as error:
                bad += 1
                first_bad = first_bad or f"line {number}: {error}"
                if bad <= _NOTES_KEPT:
                    notes.append(f"lines skipped: line {number}: {error}")
                continue
            if fields.id:
                seen.add(section.key)
            good += 1
            yield section
    if bad and not good:
        raise UnreadableFileError(path, "no good line of JSON", first_bad)
    if bad:
        notes.append(f"lines skipped: {bad} of {bad + good}")
    if damaged:
        notes.append(damage(damaged, codec))


def _encoding(path: Path, file: BinaryIO, encoding: str) -> tuple[str, list[str]]:
    """The encoding of the file, by its first lines."""
    try:
        sample = file.read(_SAMPLE_BYTES)
        file.seek(0)
    except OSError as error:
        raise os_error(path, error) from error
    whole = sample[: sample.rfind(b"\n") + 1] if len(sample) == _SAMPLE_BYTES and b"\x00" not in sample else sample
    return encoding_of(whole or sample, path, encoding=encoding)


def _lines(path: Path, file: BinaryIO, limit: int, codec: str) -> Iterator[str | None]:
    """The lines of a file; None for one longer than the limit, which is never held in memory."""
    try:
        with TextIOWrapper(file, codec, errors="replace", newline="\n") as text:
            while line := text.readline(limit + 1):
                if len(line) > limit and not line.endswith("\n"):
                    while line and not line.endswith("\n"):
                        line = text.readline(limit + 1)
                    yield None
                else:
                    yield line
    except OSError as error:
        raise os_error(path, error) from error


def _section(line: str | None, number: int, fields: JsonlFields) -> Section:
    """One record as a section."""
    record = _parse(line)
    texts = [text for name in fields.text if (text := _text(_get(record, name)))]
    if not texts:
        expected = " or ".join(repr(name) for name in fields.text)
        raise _BadLineError(f"no text in {expected}; found fields {', '.join(sorted(record)[:10]) or 'none'}")
    key = str(number)
    if fields.id:
        value = _get(record, fields.id)
        if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
            raise _BadLineError(f"no id in {fields.id!r}: expected text or an integer")
        key = clean_text(str(value)).strip()
    title = " ".join(_text(_get(record, fields.title)).split()) if fields.title else ""
    if fields.metadata is None:
        used = {*fields.text, fields.title, fields.id}
        metadata = {name: value for name, value in record.items() if name not in used}
    else:
        found = {name: _get(record, name) for name in fields.metadata}
        metadata = {name: value for name, value in found.items() if value is not _MISSING}
    return Section("\n\n".join(texts), (title,) if title else (), None, key, metadata)


def _parse(line: str | None) -> dict[str, Any]:
    if line is None:
        raise _BadLineError("longer than the limit")
    try:
        record = json.loads(line, parse_constant=_no_constant, parse_float=_finite)
        if "\\u" in line:
            record = clean_json(record)  # an escape can spell NUL or half a character ("\ud800")
    except json.JSONDecodeError as error:
        raise _BadLineError(f"not JSON: {error.msg} at column {error.colno}") from None
    except (ValueError, RecursionError) as error:
        raise _BadLineError(f"not JSON: {error}") from None
    if not isinstance(record, dict):
        raise _BadLineError(f"expected an object {{...}}, found {type(record).__name__}")
    return record


def _no_constant(name: str) -> None:
    """NaN and Infinity are not JSON, and no database would take them back as such."""
    raise ValueError(f"{name} is not a JSON value")


def _finite(digits: str) -> float:
    """A number; Python would read 1e999 as infinity."""
    if math.isinf(number := float(digits)):
        raise ValueError(f"{digits[:20]} is too large a number")
    return number


def _get(record: dict[str, Any], name: str) -> Any:
    """A field by name; by dotted path if there is no field of that very name."""
    if name in record:
        return record[name]
    found: Any = record
    for part in name.split("."):
        if not isinstance(found, dict) or part not in found:
            return _MISSING
        found = found[part]
    return found


def _text(value: Any) -> str:
    """A field's value as text; empty for what is not text."""
    if isinstance(value, str):
        return clean_text(value).strip("\n").rstrip()
    if isinstance(value, list):
        return "\n".join(text for item in value if not isinstance(item, list) and (text := _text(item)))
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return ""
