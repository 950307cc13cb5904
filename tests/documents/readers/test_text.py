"""Plain text: encodings, line ends, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures.documents import written

from smart_retrieval.documents.read import read_file
from smart_retrieval.errors import MediaError


@pytest.mark.parametrize(
    ("data", "text", "noted"),
    [
        ("Größe – 漢字".encode(), "Größe – 漢字", False),
        (b"\xef\xbb\xbfcaf\xc3\xa9", "café", False),
        ("café".encode("utf-16"), "café", False),
        (b"\xfe\xff" + "café".encode("utf-16-be"), "café", False),
        ("café".encode("utf-32"), "café", False),
        ("caf\u00e9 \u201cquoted\u201d".encode("cp1252"), "café “quoted”", True),
        ("éèàüö".encode() + b" \xff end", "éèàüö \ufffd end", True),
        (b"one\r\ntwo\rthree\x0cfour", "one\ntwo\nthree\n\nfour", False),
    ],
)
def test_encodings_and_line_ends(tmp_path: Path, data: bytes, text: str, noted: bool) -> None:
    document = read_file(written(tmp_path, "a.txt", data))
    assert [section.text for section in document.sections] == [text]
    assert bool(document.notes) is noted


@pytest.mark.parametrize(
    "data", [b"ab\x00cd", bytes(range(1, 32)) * 50, b"%PDF-1.4 text only", b"text with one \x00 in it!"]
)
def test_binary_is_refused_with_name_and_reason(tmp_path: Path, data: bytes) -> None:
    path = written(tmp_path, "a.txt", data)
    with pytest.raises(MediaError, match=r"a\.txt: binary, not text"):
        read_file(path)
