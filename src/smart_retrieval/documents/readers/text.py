"""Plain text, and how bytes become text for every format that is made of text.

Labels are read as browsers read them (the WHATWG's Encoding Standard, through webencodings): a page that says gb2312 or
shift_jis means the supersets that Windows writes. Text without a label is guessed by chardet, which on short texts is
right far more often than charset-normalizer (see dev/log.md).
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from pathlib import Path

from ...errors import SmartError
from ...files import UnreadableFileError, read_bytes
from ..sections import Document, Section, clean_text

# UTF-32 before UTF-16: the little-endian mark of the first begins with that of the second.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# What browsers refuse for reasons of script injection, or never knew; here it is only read.
_MORE_LABELS = {
    "hz-gb-2312": "hz",
    "iso-2022-kr": "iso2022_kr",
    "csiso2022kr": "iso2022_kr",
    "x-user-defined": "cp1252",
}
# Python also knows codecs that are slow, or no encodings of text at all ("idna", "rot13").
_TEXT_CODEC = re.compile(
    r"(utf|iso|cp|ibm|windows|mac|koi8|hp|gb|big5|euc|shift|johab|hz|tis|kz|ptcp|latin)[\w-]*$", re.I
)
# Of two codecs the narrower one first: where both can read a byte, they do not always agree.
_WIDER = {"euc_jp": "euc_jis_2004", "iso2022_jp": "iso2022_jp_ext", "big5hkscs": "cp950"}
_MULTI_BYTE = re.compile(r"utf|gb|big5|euc|cp932|cp949|cp950|shift|johab|iso2022|hz")
_UNLIKELY = frozenset({"mac-iceland", "hp-roman8", "cp1006"})  # taken for repeated words in German, Czech

_CONTROLS = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")  # not escape (1b): terminal logs are text
_HIGH_BYTE = re.compile(rb"[\x80-\xff]")
_SEVEN_BIT = re.compile(rb"\x1b\$|~\{[\x21-\x77][\x21-\x7e]")  # ISO-2022 and HZ switch to two-byte characters
_WHITE = frozenset("\t\n\v\f\r\x1b")
_SAMPLE_BYTES = 65_536
_COMMON = re.compile("[ -~\u3001-\u30ff\uff01-\uff5e]")  # spaces and marks, of which no text of any length has none
_BINARY_SHARE = 0.02  # text has next to no control characters; compressed bytes have about 10 %
_DAMAGED_SHARE = 0.1  # of the characters beyond ASCII; more of them, and it is another encoding
# A few accents say nothing to a detector; in other scripts nearly all bytes are high.
_FEW, _FEW_SHARE = 8, 0.3
_BINARY = "binary, not text"


def codec_of(label: str) -> str:
    """Python's codec for the name of an encoding, by the rules of browsers; empty if it is none.

    Example:
        >>> codec_of("gb2312"), codec_of("x-sjis"), codec_of("latin1"), codec_of("rot13")
        ('gb18030', 'cp932', 'cp1252', '')
    """
    import webencodings

    name = label.strip().lower()
    if name not in _MORE_LABELS and (found := webencodings.lookup(name)) is not None:
        codec = str(found.codec_info.name)
        return "gb18030" if codec == "gbk" else codec if codec != "replacement" else ""
    name = _MORE_LABELS.get(name, name)
    try:
        return codecs.lookup(name).name if _TEXT_CODEC.match(name) else ""
    except LookupError:
        return ""


def checked_encoding(label: str) -> str:
    """The codec of an encoding that a user names.

    Raises:
        SmartError: There is no encoding of this name.
    """
    if label and not codec_of(label):
        raise SmartError(
            f"encoding: found {label!r}, expected the name of one, such as utf-8, windows-1251, shift_jis or gbk"
        )
    return codec_of(label) if label else ""


def encoding_of(data: bytes, path: Path, declared: str = "", encoding: str = "") -> tuple[str, list[str]]:
    """The codec that reads these bytes, and a note if it was guessed.

    Byte-order mark; the ``encoding`` that a user gave; the label that the file declares, unless its bytes contradict
    it; UTF-8; else a guess. Bytes that are no text in any encoding are refused.
    """
    for mark, codec in _MARKS:
        if data.startswith(mark):
            return codec, []
    if encoding:
        return checked_encoding(encoding), []
    if reason := _binary(data):
        if codec := _wide(data):
            return codec, [_guessed(codec)]
        raise UnreadableFileError(path, _BINARY, reason)
    codec = codec_of(declared) if declared else ""
    if codec.startswith(("utf-16", "utf-32")):  # the bytes just read as ASCII say otherwise
        codec = "utf-8"
    is_utf8 = _damaged(data, "utf-8") == 0
    if codec and codec != "utf-8":
        if is_utf8 and _HIGH_BYTE.search(data) and not _MULTI_BYTE.match(codec):
            return "utf-8", [_guessed("utf-8", f"though {declared} is declared")]
        for one in (codec, _WIDER.get(codec, codec)):
            if _damaged(data, one) == 0:
                return one, []
        if _damaged(data, codec) <= _DAMAGED_SHARE * _beyond_ascii(data, codec):
            return codec, []
    if is_utf8 and not _SEVEN_BIT.search(data):
        return "utf-8", []
    # Damaged UTF-8 rather than another encoding if most of its characters beyond ASCII are whole.
    if not is_utf8 and _beyond_ascii(data, "utf-8") > 2 * _damaged(data, "utf-8"):
        return "utf-8", []
    guess = _guess(data)
    if is_utf8 and not re.match("iso2022|hz", guess):
        return "utf-8", []
    return guess, [_guessed(guess, f"though {declared} is declared" if declared else "")]


def decode(data: bytes, path: Path, declared: str = "", encoding: str = "") -> tuple[str, list[str]]:
    """Turn bytes into text, line ends as they were; see `encoding_of`. One bad byte costs one character.

    The notes say what was guessed and what is damaged.
    """
    codec, notes = encoding_of(data, path, declared, encoding)
    try:
        text = data.decode(codec)
    except UnicodeDecodeError:
        text = data.decode(codec, "replace")
        notes.append(damage(text.count("\ufffd"), codec))
    if zeros := text.count("\x00"):  # which `clean_text` removes
        notes.append(f"damaged characters: {zeros:,} NUL")
    return text, notes


def damage(count: int, codec: str) -> str:
    """The note on characters that could not be read and are U+FFFD now."""
    return f"damaged characters: {count:,} in {codec.removesuffix('-sig')}"


def _guessed(codec: str, why: str = "") -> str:
    return f"encoding guessed: {codec}" + (f", {why}" if why else "")


def _damaged(data: bytes, codec: str) -> int:
    """How many characters cannot be read."""
    try:
        data.decode(codec)
    except UnicodeDecodeError:
        return max(1, data.decode(codec, "replace").count("\ufffd"))
    return 0


def _beyond_ascii(data: bytes, codec: str) -> int:
    text = data.decode(codec, "replace")
    return len(text) - len(text.encode("ascii", "ignore"))


def _wide(data: bytes) -> str:
    """The form of UTF-16 or UTF-32 that data without a byte-order mark is in; empty if none."""
    found: list[tuple[int, str]] = []
    sample = data[: _SAMPLE_BYTES - _SAMPLE_BYTES % 4]
    if not _HIGH_BYTE.search(sample) and sample.count(0) < 0.4 * len(sample):
        return ""  # ASCII with a stray NUL; as UTF-16 it has one for each letter
    for name in ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be"):
        try:
            text = codecs.getincrementaldecoder(name)("strict").decode(sample)
        except UnicodeDecodeError:
            continue
        if _COMMON.search(text) and not any(
            unicodedata.category(one) in {"Cc", "Cn", "Co"} and one not in _WHITE for one in set(text)
        ):
            # The wrong order of bytes scatters letters of one script over all of Unicode.
            found.append((len({ord(one) >> 8 for one in text}), name))
    return min(found)[1] if found else ""


def _binary(data: bytes) -> str:
    """What no text file holds: many NUL bytes, or many control characters at the beginning; empty for text."""
    if data.startswith(b"%PDF-"):
        return "a PDF; name it .pdf"
    if data.count(0) > _BINARY_SHARE * len(data):
        return "NUL bytes"
    sample = data[:_SAMPLE_BYTES]
    if b"\x1b$)" in sample:  # ISO-2022-KR shifts with control characters
        sample = sample.replace(b"\x0e", b"").replace(b"\x0f", b"")
    return "many control characters" if len(_CONTROLS.findall(sample)) > _BINARY_SHARE * len(sample) else ""


def _guess(data: bytes) -> str:
    """The codec of text that does not say its encoding and is not UTF-8."""
    high = len(_HIGH_BYTE.findall(data))
    if 0 < high < _FEW and high < _FEW_SHARE * len(data) and _damaged(data, "cp1252") == 0:
        return "cp1252"
    import chardet

    first = _HIGH_BYTE.search(data) or _SEVEN_BIT.search(data)
    start = data.rfind(b"\n", 0, first.start()) + 1 if first else 0
    found = chardet.detect(data[start : start + _SAMPLE_BYTES], exclude_encodings=_UNLIKELY)["encoding"]
    return codec_of(found or "") or "cp1252"


def read_text(path: Path, max_bytes: int, encoding: str = "") -> tuple[str, list[str]]:
    """Read a text file: its text with plain line ends (see `clean_text`), and notes on what was guessed."""
    text, notes = decode(read_bytes(path, max_bytes), path, encoding=encoding)
    return clean_text(text), notes


def read(path: Path, max_bytes: int, encoding: str = "") -> Document:
    """Read a plain text file as one section; its paragraphs are what blank lines separate."""
    text, notes = read_text(path, max_bytes, encoding)
    text = text.strip("\n").rstrip()
    return Document([Section(text)] if text.strip() else [], {}, notes)
