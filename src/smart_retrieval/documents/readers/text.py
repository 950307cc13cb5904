"""Plain text, and how bytes become text for every format that is made of text."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from ...files import UnreadableFileError, open_local, os_error
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
BINARY = "binary, not text"


def read_bytes(path: Path, max_bytes: int) -> bytes:
    """Read a regular file whole, never more than a limit, never waiting on a pipe.

    Args:
        path: The file.
        max_bytes: Most bytes it may have.

    Raises:
        UnreadableFileError: It is missing, not permitted, not a regular file or larger than the limit.

    Example:
        >>> read_bytes(Path("no/such/file"), 100)
        Traceback (most recent call last):
        smart_retrieval.files.UnreadableFileError: cannot read no/such/file: no such file or directory
    """
    with open_local(path) as file:
        try:
            # One more than allowed: the size in the directory may be stale, or 0 as under /proc.
            data = file.read(max_bytes + 1)
        except OSError as error:
            raise os_error(path, error) from error
    if len(data) > max_bytes:
        raise UnreadableFileError(path, f"larger than the limit of {max_bytes:,} bytes")
    return data


def decode(data: bytes, path: Path, declared: str = "") -> tuple[str, str]:
    r"""Turn bytes into text: byte-order mark, else a declared encoding, else UTF-8, else Windows-1252.

    Args:
        data: The bytes of a text file.
        path: The file, for the message.
        declared: An encoding the file names itself, if any; ignored where the bytes do not fit it.

    Returns:
        The text (line ends as they were), and a note that says what was guessed, empty if nothing was.

    Raises:
        UnreadableFileError: The bytes are not text.

    Example:
        >>> decode("caf\u00e9".encode("cp1252"), Path("a.txt"))
        ('café', 'not UTF-8, read as Windows-1252')
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
            pass  # what a file says of itself is often wrong
    try:
        return data.decode("utf-8"), ""
    except UnicodeDecodeError:
        return _decode_guessing(data)


def _refuse_binary(data: bytes, path: Path) -> None:
    """Refuse what no text file holds: NUL bytes anywhere, or many control characters at the beginning."""
    if b"\x00" in data:
        detail = "NUL bytes; if it is UTF-16, save it with a byte-order mark or as UTF-8"
        raise UnreadableFileError(path, BINARY, detail)
    if data.startswith(b"%PDF-"):
        raise UnreadableFileError(path, BINARY, "a PDF; name it .pdf")
    sample = data[:_SAMPLE_BYTES]
    if len(_CONTROLS.findall(sample)) > _BINARY_SHARE * len(sample):
        raise UnreadableFileError(path, BINARY, "many control characters")


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
    """Read and decode a text file.

    Returns:
        Its text with plain line ends (see `clean_text`), and notes on what was guessed.

    Raises:
        UnreadableFileError: See `read_bytes` and `decode`.
    """
    text, note = decode(read_bytes(path, max_bytes), path)
    return clean_text(text), [note] if note else []


def read(path: Path, max_bytes: int) -> Document:
    """Read a plain text file as one section; its paragraphs are what blank lines separate.

    Raises:
        UnreadableFileError: The file cannot be read, or is not text.
    """
    text, notes = read_text(path, max_bytes)
    text = text.strip("\n").rstrip()
    return Document([Section(text)] if text.strip() else [], {}, notes)
