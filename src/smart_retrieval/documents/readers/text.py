"""Plain text, and how bytes become text for every format that is made of text."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from ...files import UnreadableFileError, read_bytes
from ..sections import Document, Section, clean_text

# UTF-32 before UTF-16: the little-endian mark of the first begins with that of the second.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_CONTROLS = re.compile(rb"[\x01-\x08\x0e-\x1a\x1c-\x1f\x7f]")  # not escape (1b): terminal logs are text
_SAMPLE_BYTES = 65_536
_BINARY_SHARE = 0.02  # text has next to no control characters; compressed bytes have about 10 %
_BINARY = "binary, not text"


def decode(data: bytes, path: Path, declared: str = "") -> tuple[str, str]:
    """Turn bytes into text: byte-order mark, else the encoding the file declares, else UTF-8, else Windows-1252.

    Returns the text (line ends as they were), and a note that says what was guessed, empty if nothing was.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            text = data[len(mark) :].decode(encoding, "replace")
            damaged = text.count("\ufffd")
            return text, f"{damaged} damaged characters in {encoding}" if damaged else ""
    _refuse_binary(data, path)
    if declared:
        try:
            return data.decode(declared), ""
        except (UnicodeDecodeError, LookupError):
            pass  # the declared encoding is often wrong
    try:
        return data.decode("utf-8"), ""
    except UnicodeDecodeError:
        return _decode_guessing(data)


def _refuse_binary(data: bytes, path: Path) -> None:
    """Refuse what no text file holds: NUL bytes anywhere, or many control characters at the beginning."""
    if b"\x00" in data:
        detail = "NUL bytes; if it is UTF-16, save it with a byte-order mark or as UTF-8"
        raise UnreadableFileError(path, _BINARY, detail)
    if data.startswith(b"%PDF-"):
        raise UnreadableFileError(path, _BINARY, "a PDF; name it .pdf")
    sample = data[:_SAMPLE_BYTES]
    if len(_CONTROLS.findall(sample)) > _BINARY_SHARE * len(sample):
        raise UnreadableFileError(path, _BINARY, "many control characters")


def _decode_guessing(data: bytes) -> tuple[str, str]:
    """Decode bytes that are not valid UTF-8: damaged UTF-8 if most of it is, else a Western single-byte encoding."""
    text = data.decode("utf-8", "replace")
    damaged = text.count("\ufffd")
    beyond_ascii = len(text) - len(text.encode("ascii", "ignore")) - damaged
    if beyond_ascii > damaged:
        return text, f"{damaged} damaged characters in UTF-8"
    try:
        return data.decode("cp1252"), "not UTF-8, read as Windows-1252"
    except UnicodeDecodeError:
        return data.decode("latin-1"), "not UTF-8, read as Latin-1"


def read_text(path: Path, max_bytes: int) -> tuple[str, list[str]]:
    """Read a text file: its text with plain line ends (see `clean_text`), and notes on what was guessed."""
    text, note = decode(read_bytes(path, max_bytes), path)
    return clean_text(text), [note] if note else []


def read(path: Path, max_bytes: int) -> Document:
    """Read a plain text file as one section; its paragraphs are what blank lines separate."""
    text, notes = read_text(path, max_bytes)
    text = text.strip("\n").rstrip()
    return Document([Section(text)] if text.strip() else [], {}, notes)
