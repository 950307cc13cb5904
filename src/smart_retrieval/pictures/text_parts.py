"""Pictures within files that are text: attached to e-mail, or in Base64 in pages, Markdown and notebooks."""

from __future__ import annotations

import re
from binascii import a2b_base64
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote_to_bytes

from ..files import UnreadableFileError, valid_name
from .sources import IMAGE_SUFFIXES

_MOST_MESSAGES = 200_000
_FROM_LINE = re.compile(rb"^From [^\n]*\n", re.MULTILINE)
_MARKED_FROM = re.compile(rb"^>(>*From )", re.MULTILINE)  # within a message
_HEADER = re.compile(rb"\s*[!-9;-~]{1,80}:")

_KIND = rb"image/(?P<%s>[a-z0-9.+-]{2,20})"
_EMBEDDED = re.compile(
    # In HTML, CSS and Markdown; and in a notebook, where lines are strings of a list, or end in "\n".
    rb"data:"
    + _KIND % b"uri"
    + rb"(?:;[\w.=-]{1,40}){0,4};base64,(?P<data>[\w+/=%-]{16}(?:[\w+/=%-]++|\r?\n[ \t]*+)*+)"
    rb"|\"" + _KIND % b"output" + rb"\"\s*:\s*(?P<lines>\"[\w+/=\\-]{16,}+\"|\[\s*\"[\w+/=\\\"\s,-]{16,}+\])",
    re.ASCII | re.IGNORECASE,
)
_SUFFIXES = {"jpeg": "jpg", "svg+xml": "svg", "x-ms-bmp": "bmp", "x-png": "png"}
_NOT_BASE64 = re.compile(rb"\\[nr]|[^A-Za-z0-9+/]")
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_NAMED = re.compile(rb"image/|" + b"|".join(re.escape(suffix.encode()) for suffix in IMAGE_SUFFIXES), re.IGNORECASE)

#: What reads each picture, by name.
Pictures = dict[str, Callable[[], bytes]]


def in_utf8(data: bytes, errors: str) -> bytes:
    """A file without its byte-order mark, which some programs save with their text; of UTF-16 as UTF-8."""
    if data[:2] in (BOM_UTF16_LE, BOM_UTF16_BE):
        return data.decode("utf-16", errors).encode()
    return data.removeprefix(BOM_UTF8)


def messages(data: bytes, path: Path) -> Iterator[bytes]:
    """The messages of a mailbox in the format mbox."""
    # Within a message such a line has a mark before it; that it follows an empty one tells it from older ways to write.
    starts = [found.span() for found in _FROM_LINE.finditer(data) if _blank(data, found.start())]
    if len(starts) > _MOST_MESSAGES:
        raise UnreadableFileError(path, f"a mailbox of more than {_MOST_MESSAGES:,} messages", "divide it")
    for (_, start), (end, _) in pairwise([*starts, (len(data), 0)]):
        yield _MARKED_FROM.sub(rb"\1", data[start:end])


def _blank(data: bytes, at: int) -> bool:
    return not data[:at].strip() if at < 5 else data.endswith((b"\n\n", b"\n\r\n"), at - 3, at)


def pictures_in_text(path: Path, data: bytes, wanted: str | None = None) -> Pictures:
    """The pictures in a mailbox, an e-mail or another text; `wanted`: at least the one of this name."""
    found: Pictures = {}
    data = in_utf8(data, "ignore")
    if data.lstrip()[:5] == b"From ":
        for number, message in enumerate(messages(data, path), 1):
            if wanted is None or wanted.startswith(f"{number}/"):
                found |= {f"{number}/{name}": read for name, read in _attached(path, message).items()}
    elif _HEADER.match(data):
        found = _attached(path, data)
    return found or embedded(path, data)


def record_of(data: bytes, name: str) -> str:
    """The number of the mailbox's message that a picture is in."""
    return name.partition("/")[0] if data.lstrip()[:5] == b"From " and not name.startswith("data/") else ""


def _attached(path: Path, data: bytes) -> Pictures:
    from email import message_from_bytes, policy

    found: Pictures = {}
    if not _NAMED.search(data):
        return found
    try:
        for number, part in enumerate(message_from_bytes(data, policy=policy.default).walk()):
            named = part.get_filename() or ""
            if part.get_content_maintype() == "image" or PurePosixPath(named).suffix.lower() in IMAGE_SUFFIXES:
                name = valid_name(" ".join((named or part.get_content_subtype()).split()))
                found[f"{number}/{name}"] = partial(_decoded, path, part)
            elif part.get_content_type() == "text/html":
                within = embedded(path, bytes(part.get_payload(decode=True) or b""))
                found |= {f"{number}/{name}": read for name, read in within.items()}
    except Exception as error:  # the standard library fails in many ways on malformed ones
        raise UnreadableFileError(path, "not a readable e-mail", str(error)) from error
    return found


def _decoded(path: Path, part: Any) -> bytes:
    try:
        return bytes(part.get_payload(decode=True) or b"")
    except Exception as error:  # as above
        raise UnreadableFileError(path, "a damaged picture", str(error)) from error


def embedded(path: Path, data: bytes) -> Pictures:
    """The pictures in Base64 in a text, by number."""
    found: Pictures = {}
    for number, match in enumerate(_EMBEDDED.finditer(data), 1):
        kind = (match["uri"] or match["output"]).decode().lower()
        span = match.span("data" if match["uri"] else "lines")
        found[f"data/{number}.{_SUFFIXES.get(kind, kind)}"] = partial(_of_base64, path, data, span)
    return found


def _of_base64(path: Path, data: bytes, span: tuple[int, int]) -> bytes:
    text = _NOT_BASE64.sub(b"", unquote_to_bytes(data[slice(*span)]).translate(_URL_SAFE))
    text = text[: len(text) - (len(text) % 4 == 1)]
    try:
        return a2b_base64(text + b"=" * (-len(text) % 4))
    except ValueError as error:
        raise UnreadableFileError(path, "a damaged picture", str(error)) from error
