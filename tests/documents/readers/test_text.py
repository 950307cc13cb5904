"""Plain text: encodings, line ends, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures.documents import written
from hypothesis import given
from hypothesis import strategies as st

from smart_retrieval.documents.read import ReadOptions, read_file
from smart_retrieval.documents.readers.text import codec_of, decode
from smart_retrieval.documents.sections import clean_text
from smart_retrieval.errors import MediaError, SmartError
from smart_retrieval.files import UnreadableFileError


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


SENTENCES = {
    "windows-1251": "Сегодня мы собрались, чтобы обсудить важный вопрос о будущем нашего города.",
    "koi8-r": "Сегодня мы собрались, чтобы обсудить важный вопрос о будущем нашего города.",
    "windows-1253": "Η γρήγορη αλεπού πηδάει πάνω από το τεμπέλικο σκυλί. Σήμερα είναι μια όμορφη μέρα.",
    "windows-1250": "Včera jsme byli v kině na výborném filmu. Příliš žluťoučký kůň úpěl ďábelské ódy.",
    "windows-1252": "Übermorgen fällt die Prüfung aus; nur „Größe“ zählt beim Boxen über den Deich.",
    "shift_jis": "今日は天気がいいので、公園を散歩しました。",
    "euc-jp": "今日は天気がいいので、公園を散歩しました。",
    "iso-2022-jp": "今日は天気がいいので、公園を散歩しました。",
    "iso-2022-kr": "오늘은 날씨가 좋아서 공원을 산책했습니다.",
    "gbk": "今天天气很好，我们一起去公园散步吧。",
    "hz-gb-2312": "今天天气很好，我们一起去公园散步吧。",
    "big5": "今天天氣很好，我們一起去公園散步吧。這是一個測試檔案。",
    "euc-kr": "오늘은 날씨가 좋아서 공원을 산책했습니다.",
    "utf-16": "plain text, 今日は天気がいいので、公園を散歩しました。",
}


@pytest.mark.parametrize("label", SENTENCES)
def test_text_without_a_label_is_guessed_with_a_note_and_read_as_the_user_says(tmp_path: Path, label: str) -> None:
    path = written(tmp_path, "a.txt", SENTENCES[label].encode(codec_of(label)))
    document = read_file(path)
    assert document.sections[0].text == SENTENCES[label]
    assert [note.partition(": ")[0] for note in document.notes] == ["encoding guessed"]
    told = read_file(path, ReadOptions(encoding=label))
    assert (told.sections, told.notes) == (document.sections, [])


@pytest.mark.parametrize(
    ("label", "codec", "text"),
    [
        ("windows-31j", "cp932", "日本語 ①㈱髙"),
        ("x-sjis", "cp932", "日本語"),
        ("Shift_JIS", "cp932", "日本語 ①㈱髙"),
        ("gb2312", "gb18030", "朱镕基 镕 你好"),
        ("x-gbk", "gb18030", "你好世界"),
        ("ks_c_5601-1987", "cp949", "안녕하세요 똠방각하"),
        ("euc-kr", "cp949", "안녕하세요 똠방각하"),
        ("euc-jp", "euc_jis_2004", "日本語 ①"),
        ("big5", "big5hkscs", "今天天氣很好"),
        ("latin2", "iso8859-2", "Příliš žluťoučký kůň"),
        ("greek", "iso8859-7", "Καλημέρα κόσμε"),
        ("arabic", "iso8859-6", "مرحبا بالعالم"),
        ("logical", "iso8859-8", "שלום עולם"),
        ("dos-874", "cp874", "สวัสดีชาวโลก"),
        ("koi", "koi8-r", "Привет мир"),
        ("x-mac-roman", "mac-roman", "café “q”"),
        ("us-ascii", "cp1252", "café “quoted”"),
        ("hz-gb-2312", "hz", "你好世界"),
        ("iso-2022-jp", "iso2022_jp", "日本語のテキスト。"),
        ("cp437", "cp437", "naïve ½"),
        ("no-such-label", "utf-8", "日本"),
        ("punycode", "utf-8", "日本"),
        ("utf-16", "utf-8", "wörld"),
        ("windows-1252", "utf-8", "日本 is no Western text"),
    ],
)
def test_labels_that_files_declare(label: str, codec: str, text: str) -> None:
    """In ASCII around it, so that a guess would have little to go by."""
    data = f"<p>{text}</p>".encode(codec)
    assert decode(data, Path("a.html"), label)[0] == f"<p>{text}</p>"


def test_one_bad_byte_costs_one_character() -> None:
    sentence = "今日は天気がいいので、公園を散歩しました。" * 3
    data = sentence.encode("cp932")
    text, notes = decode(data[:20] + b"\x85" + data[20:], Path("a"), "shift_jis")
    assert text == sentence[:10] + "\ufffd" + sentence[10:]
    assert notes == ["damaged characters: 1 in cp932"]
    text, notes = decode(b"a log with\x00 one NUL byte " + b"in it. " * 20, Path("a"))
    assert notes == ["damaged characters: 1 NUL"]


def test_an_unknown_encoding_is_refused_when_it_is_given() -> None:
    for wrong in ("klingon", "rot13", "idna"):
        with pytest.raises(SmartError, match=f"found '{wrong}', expected the name of one"):
            ReadOptions(encoding=wrong)


@given(st.binary(max_size=300), st.sampled_from(["", "utf-8", "gbk", "shift_jis", "utf-16", "hz-gb-2312", "big5", "x"]))
def test_no_bytes_make_it_fail(data: bytes, declared: str) -> None:
    try:
        text, _ = decode(data, Path("a"), declared)
    except UnreadableFileError as error:
        assert error.reason == "binary, not text"  # noqa: PT017
    else:
        clean_text(text).encode()
