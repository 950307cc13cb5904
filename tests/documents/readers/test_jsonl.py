"""JSON Lines: fields by name, bad lines counted, streaming."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures.documents import written

from smart_retrieval.documents.read import ReadOptions, read_file, stream_file
from smart_retrieval.documents.readers.jsonl import JsonlFields, iter_jsonl
from smart_retrieval.errors import MediaError
from smart_retrieval.files import UnreadableFileError

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


def test_jsonl_bad_lines_are_named_and_skipped(tmp_path: Path) -> None:
    bad = [
        b'{"_id": 1, "title": ',
        b"[1, 2]",
        b'{"_id": 1, "text": "x"}',
        b'{"title": "x"}',
        b'{"_id": true, "title": "x"}',
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
    assert document.notes[0].startswith("lines skipped: line 2: not JSON: ")
    assert "lines skipped: line 3: expected an object {...}, found list" in document.notes
    assert "lines skipped: line 11: id 'ok' was used before" in document.notes
    assert document.notes[-1] == "lines skipped: 10 of 11"
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
    assert notes == ["lines skipped: line 6: longer than the limit", "lines skipped: 1 of 7"]
    endless: list[str] = []
    written(tmp_path, "b.jsonl", line + "{\n" * 100)
    assert len(list(iter_jsonl(tmp_path / "b.jsonl", JsonlFields(), endless))) == 1
    assert len(endless) == 21, "twenty lines named, all counted"


@pytest.mark.parametrize(
    "encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig", "cp1251", "gb18030", "shift_jis"]
)
def test_jsonl_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    text = (
        "今日は天気がいいので、公園を散歩しました。"
        if encoding == "shift_jis"
        else "今天天气很好,我们一起去公园散步吧。"
    )
    text = "Сегодня мы собрались, чтобы обсудить важный вопрос." if encoding == "cp1251" else text
    lines = "".join(f'{{"text": "{number}. {text}"}}\n' for number in range(3))
    document = read_file(written(tmp_path, "a.jsonl", lines.encode(encoding)))
    assert [section.text for section in document.sections] == [f"{number}. {text}" for number in range(3)]
    told = encoding in {"utf-16", "utf-8-sig"}
    assert [note.partition(":")[0] for note in document.notes] == ([] if told else ["encoding guessed"])


def test_a_bad_byte_costs_a_character_and_not_the_line(tmp_path: Path) -> None:
    document = read_file(written(tmp_path, "a.jsonl", '{"text": "éèàü'.encode() + b'\xff"}\n{"text": "b"}\n'))
    assert [section.text for section in document.sections] == ["éèàü\ufffd", "b"]
    assert document.notes == ["damaged characters: 1 in utf-8"]
