"""Plain text: encodings, line ends, what is refused; and the JSON Lines reader."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from smart_retrieval.documents.read import ReadOptions, read_file, stream_file
from smart_retrieval.documents.readers.jsonl import JsonlFields, iter_jsonl
from smart_retrieval.documents.sections import clean_text
from smart_retrieval.errors import MediaError
from smart_retrieval.files import UnreadableFileError


def written(folder: Path, name: str, data: bytes | str) -> Path:
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


@pytest.mark.parametrize(
    ("data", "text", "noted"),
    [
        ("Größe – 漢字".encode(), "Größe – 漢字", False),
        (b"\xef\xbb\xbfcaf\xc3\xa9", "café", False),
        ("café".encode("utf-16"), "café", False),
        (b"\xfe\xff" + "café".encode("utf-16-be"), "café", False),
        ("café".encode("utf-32"), "café", False),
        ("caf\u00e9 \u201cquoted\u201d".encode("cp1252"), "café “quoted”", True),
        (b"caf\xe9 \x81", "café \x81", True),
        ("éèàüö".encode() + b" \xff end", "éèàüö \ufffd end", True),
        (b"one\r\ntwo\rthree\x0cfour", "one\ntwo\nthree\n\nfour", False),
    ],
)
def test_encodings_and_line_ends(tmp_path: Path, data: bytes, text: str, noted: bool) -> None:
    document = read_file(written(tmp_path, "a.txt", data))
    assert [section.text for section in document.sections] == [text]
    assert bool(document.notes) is noted


@pytest.mark.parametrize("data", [b"", b"\n \r\n\t\n", b"\xef\xbb\xbf", b"\xff\xfe"])
@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.html", "a.rst", "a.jsonl"])
def test_empty_files_have_no_sections(tmp_path: Path, data: bytes, name: str) -> None:
    if name == "a.jsonl" and data == b"\xff\xfe":
        pytest.skip("JSON Lines is UTF-8")
    assert read_file(written(tmp_path, name, data)).sections == []


@pytest.mark.parametrize(
    "data", [b"ab\x00cd", bytes(range(1, 32)) * 50, b"%PDF-1.4 text only", "no mark".encode("utf-16-le")]
)
def test_binary_is_refused_with_name_and_reason(tmp_path: Path, data: bytes) -> None:
    path = written(tmp_path, "a.txt", data)
    with pytest.raises(MediaError, match=r"a\.txt: binary, not text"):
        read_file(path)


def test_clean_text_leaves_nothing_a_tokenizer_or_database_refuses() -> None:
    cleaned = clean_text("a\x00b\ud800c\u2028d\u00ade\ufefff")
    assert cleaned == "ab\ufffdc\ndef"
    cleaned.encode()
    assert clean_text("plain") == "plain"


def test_not_regular_missing_large_and_unknown(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(UnreadableFileError, match="not a regular file"):
        read_file(tmp_path / "pipe.txt")
    with pytest.raises(UnreadableFileError, match="no such file"):
        read_file(tmp_path / "none.txt")
    with pytest.raises(UnreadableFileError, match="larger than the limit of 10 bytes"):
        read_file(written(tmp_path, "big.txt", "x" * 11), ReadOptions(max_bytes=10))
    with pytest.raises(UnreadableFileError, match=r"not a type that is read \(\.bin\)"):
        read_file(tmp_path / "a.bin")
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(UnreadableFileError, match="is a directory"):
        read_file(tmp_path / "folder.txt")


def test_other_suffixes_and_names(tmp_path: Path) -> None:
    options = ReadOptions(formats={".conf": "text", ".md": ""})
    assert read_file(written(tmp_path, "a.CONF", "x"), options).sections[0].text == "x"
    assert read_file(written(tmp_path, "README", "x")).sections[0].text == "x"
    with pytest.raises(UnreadableFileError, match="not a type"):
        read_file(written(tmp_path, "a.md", "x"), options)
    with pytest.raises(UnreadableFileError, match="no reader for the format 'word'"):
        read_file(written(tmp_path, "a.doc", "x"), ReadOptions(formats={".doc": "word"}))


def test_huge_single_line(tmp_path: Path) -> None:
    for name in ("a.txt", "a.md", "a.html", "a.rst"):
        document = read_file(written(tmp_path, name, "word " * 200_000))
        assert len(document.sections[0].text.split()) == 200_000


FIELDS = JsonlFields(text=("title", "meta.body"), title="title", id="_id")


def test_jsonl_fields(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "a.jsonl",
        '\ufeff{"_id": 7, "title": "Logs", "meta": {"body": "They grow."}, "year": 2024, "tags": ["a"]}\r\n'
        "\r\n"
        '{"_id": "b", "title": "Only a title"}',
    )
    first, second = read_file(path, ReadOptions(jsonl=FIELDS)).sections
    assert (first.text, first.heading, first.key) == ("Logs\n\nThey grow.", ("Logs",), "7")
    assert first.metadata == {"meta": {"body": "They grow."}, "year": 2024, "tags": ["a"]}
    assert (second.text, second.key, dict(second.metadata)) == ("Only a title", "b", {})
    chosen = JsonlFields(text=("title",), metadata=("year", "meta.body", "none"))
    first, second = read_file(path, ReadOptions(jsonl=chosen)).sections
    assert first.metadata == {"year": 2024, "meta.body": "They grow."}
    assert (first.key, second.key) == ("1", "3"), "without an id the line number"


def test_jsonl_bad_lines_are_named_and_passed_over(tmp_path: Path) -> None:
    bad = [
        b'{"_id": 1, "title": ',
        b"[1, 2]",
        b'{"_id": 1, "text": "x"}',
        b'{"title": "x"}',
        b'{"_id": true, "title": "x"}',
        b'{"_id": 1, "title": "\xff"}',
        b'{"_id": 1, "title": "x", "n": NaN}',
        b'{"_id": 1, "title": "x", "n": 1e999}',
        b'{"_id": 1, "title": "x", "n": ' + b"9" * 5000 + b"}",
        b'{"_id": 1, "n": ' + b"[" * 100_000 + b"}",
        b'{"_id": "ok", "title": "again"}',
    ]
    path = written(tmp_path, "a.jsonl", b'{"_id": "ok", "title": "fine"}\n' + b"\n".join(bad))
    document = read_file(path, ReadOptions(jsonl=FIELDS))
    assert [section.key for section in document.sections] == ["ok"]
    assert len(document.notes) == len(bad) + 1
    assert document.notes[0].startswith("line 2: not JSON: ")
    assert "line 3: expected an object {...}, found list" in document.notes
    assert "line 12: id 'ok' was used before" in document.notes
    assert document.notes[-1] == "11 of 12 lines passed over"
    with pytest.raises(MediaError, match=r"no good line of JSON \(line 1: "):
        read_file(written(tmp_path, "b.jsonl", b"\n".join(bad[:3])), ReadOptions(jsonl=FIELDS))


def test_jsonl_odd_characters_are_made_storable(tmp_path: Path) -> None:
    path = written(tmp_path, "a.jsonl", r'{"text": "a\u0000b \ud800", "k\ud800": ["\u0000", {"x": "\udfff"}]}')
    section = read_file(path).sections[0]
    assert section.text == "ab \ufffd"
    assert section.metadata == {"k\ufffd": ["", {"x": "\ufffd"}]}


def test_jsonl_streams_past_the_size_limit_and_drops_overlong_lines(tmp_path: Path) -> None:
    line = '{"text": "short"}\n'
    path = written(tmp_path, "a.jsonl", line * 5 + '{"text": "' + "x" * 500 + '"}\n' + line)
    options = ReadOptions(max_bytes=100)
    with pytest.raises(UnreadableFileError, match="larger than the limit"):
        read_file(path, options)
    notes: list[str] = []
    assert [section.key for section in stream_file(path, notes, options)] == ["1", "2", "3", "4", "5", "7"]
    assert notes == ["line 6: longer than the limit", "1 of 7 lines passed over"]
    endless: list[str] = []
    written(tmp_path, "b.jsonl", line + "{\n" * 100)
    assert len(list(iter_jsonl(tmp_path / "b.jsonl", JsonlFields(), endless))) == 1
    assert len(endless) == 21, "twenty lines named, all counted"


def test_stream_file_puts_the_files_metadata_into_sections(tmp_path: Path) -> None:
    path = written(tmp_path, "a.md", "---\nyear: 2024\n---\nText.")
    assert [(part.text, part.metadata) for part in stream_file(path, [])] == [("Text.", {"year": 2024})]
