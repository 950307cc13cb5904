"""E-mail: the subject as a heading, who wrote when to whom as metadata, the text, and the names of what is attached."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from email import message_from_bytes, policy
from email.errors import CloseBoundaryNotFoundDefect
from email.message import EmailMessage
from email.utils import parsedate_to_datetime
from pathlib import Path, PurePosixPath
from typing import Any

from ...files import UnreadableFileError, read_bytes
from ...pictures.sources import IMAGE_SUFFIXES
from ...pictures.text_parts import in_utf8, messages
from ..sections import Document, Section, SectionBuilder, one_line
from .html import decode_page, html_blocks
from .text import decode

_DEEPEST = 20  # messages forwarded in messages
_MOST_ADDRESSES = 100
NOT_READ = "attachments of e-mail, of which only the name is read"
TOO_DEEP = f"messages forwarded in more than {_DEEPEST} others"


def read(path: Path, max_bytes: int) -> Document:
    """Read one message."""
    message = _parsed(in_utf8(read_bytes(path, max_bytes), "replace"))
    if not message.keys():
        raise UnreadableFileError(path, "not a readable e-mail", "found no headers")
    document = Document([], _headers(message))
    document.sections.extend(_sections(message, path, document))
    return _said_once(document)


def read_mailbox(path: Path, max_bytes: int) -> Document:
    """Read a mailbox in the format mbox: a record for each message, with metadata of its own."""
    data = in_utf8(read_bytes(path, max_bytes), "replace")
    document, number = Document([]), 0
    for number, one in enumerate(messages(data, path), 1):
        message = _parsed(one)
        about = _headers(message)
        own = _sections(message, path, document)
        document.sections.extend(replace(one, key=str(number), metadata=about) for one in own)
    if data.strip() and not number:
        raise UnreadableFileError(path, "not a readable mailbox", "found no line that begins with 'From '")
    return _said_once(document)


def _said_once(document: Document) -> Document:
    return replace(document, notes=list(dict.fromkeys(document.notes)))


def _parsed(data: bytes) -> EmailMessage:
    message = message_from_bytes(data, policy=policy.default)
    assert isinstance(message, EmailMessage)
    return message


def _header(message: EmailMessage, name: str) -> str:
    """A header as text; empty if there is none, or none that can be read."""
    try:
        return one_line(str(message[name] or ""))
    except Exception:  # the standard library fails in many ways on malformed ones
        return ""


def _headers(message: EmailMessage) -> dict[str, Any]:
    found: dict[str, Any] = {name: _header(message, name) for name in ("subject", "from")}
    for name in ("to", "cc"):
        text = _header(message, name)
        found[name] = [part.strip() for part in re.split(r",(?=[^,]*@)", text) if part.strip()][:_MOST_ADDRESSES]
    try:
        found["date"] = parsedate_to_datetime(_header(message, "date")).isoformat()
    except (ValueError, TypeError, IndexError, OverflowError):
        found["date"] = _header(message, "date")
    found["attachments"] = [name for part in _attached(message) if (name := _file_name(part))]
    return {name: value for name, value in found.items() if value}


def _parts(message: EmailMessage) -> list[EmailMessage]:
    try:
        return [part for part in message.walk() if isinstance(part, EmailMessage)]
    except Exception:  # as above
        return []


def _attached(message: EmailMessage) -> list[EmailMessage]:
    return [part for part in _parts(message) if _file_name(part)]


def _not_read(message: EmailMessage) -> list[tuple[str, str]]:
    """Attachments that are no pictures; whether those can be read is said elsewhere."""
    names: dict[str, str] = {}
    for part in _parts(message):
        name, kind = _file_name(part), part.get_content_maintype()
        if name or kind not in ("text", "image", "multipart", "message"):
            names[name or f"one without a name, {part.get_content_type()}"] = kind
    return [
        (NOT_READ, name)
        for name, kind in names.items()
        if kind != "image" and PurePosixPath(name).suffix.lower() not in IMAGE_SUFFIXES
    ]


def _file_name(part: EmailMessage) -> str:
    try:
        return one_line(part.get_filename() or "")
    except Exception:  # as above
        return ""


def _sections(message: EmailMessage, path: Path, document: Document, depth: int = 0) -> Iterator[Section]:
    """The text of a message and of those forwarded in it; the document takes what is to be said of them."""
    if not depth:
        document.left_out.extend(_not_read(message))
    if any(isinstance(one, CloseBoundaryNotFoundDefect) for one in message.defects):
        document.notes.append("message cut off: it ends before its last part does")
    builder = SectionBuilder()
    builder.heading(1, _header(message, "subject"))
    for part in _leaves(message):
        kind = part.get_content_type()
        if kind == "text/html":
            for block in html_blocks(_text(part, path, document, decode_page)):
                builder.block(block.level + 1 if block.level else 0, block.text)
        elif kind.startswith("text/"):
            for paragraph in re.split(r"\n[ \t]*\n", _text(part, path, document, decode).replace("\r\n", "\n")):
                builder.paragraph(paragraph)
    if names := [name for part in _attached(message) if (name := _file_name(part))]:
        builder.paragraph(f"Attachments: {', '.join(names)}")
    yield from builder.sections()
    for part in _forwarded(message):
        if depth == _DEEPEST:
            document.left_out.append((TOO_DEEP, _header(part, "subject")))
        else:
            yield from _sections(part, path, document, depth + 1)


def _leaves(message: EmailMessage) -> Iterator[EmailMessage]:
    """The parts that are the message's own text: of alternatives the plain one, nothing attached or forwarded."""
    kind = message.get_content_type()
    if kind == "message/rfc822" or message.is_attachment():
        return
    if not message.is_multipart():
        if not _file_name(message):
            yield message
        return
    parts = [part for part in message.iter_parts() if isinstance(part, EmailMessage)]
    if kind == "multipart/alternative":
        plain = [part for part in parts if part.get_content_type() == "text/plain" and str(part.get_payload()).strip()]
        parts = plain[:1] or parts[-1:]
    for part in parts:
        yield from _leaves(part)


def _forwarded(message: EmailMessage) -> Iterator[EmailMessage]:
    if message.get_content_type() == "message/rfc822":
        yield from (part for part in message.get_payload() if isinstance(part, EmailMessage))
    elif message.is_multipart():
        for part in message.iter_parts():
            if isinstance(part, EmailMessage):
                yield from _forwarded(part)


def _text(part: EmailMessage, path: Path, document: Document, decoded: Callable[..., tuple[str, list[str]]]) -> str:
    data = part.get_payload(decode=True)
    if not isinstance(data, bytes):
        return ""
    try:
        text, notes = decoded(data, path, part.get_content_charset("") or "")
    except UnreadableFileError as error:  # named text, and it is none
        text, notes = "", [f"part of a message not read: {error.reason}"]
    document.notes.extend(notes)
    return text
