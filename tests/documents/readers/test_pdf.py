"""PDF text: paragraphs, pages, outline; and every way a PDF can be unreadable."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from fixtures.tiny_pdf import Text, lines, tiny_pdf

from smart_retrieval.documents.passages import split
from smart_retrieval.documents.read import ReadOptions, read_file, read_files
from smart_retrieval.documents.readers.pdf import Line, drop_running_lines, heading_line, paragraphs
from smart_retrieval.documents.sections import Document
from smart_retrieval.documents.walk import scan
from smart_retrieval.errors import MissingExtraError
from smart_retrieval.files import SkipLog, UnreadableFileError

pypdfium2 = pytest.importorskip("pypdfium2")

BODY = (
    "Logs grow without end unless some programme rotates them regu-",
    "larly, which means that old files are renamed and well-",
    "Known tools compress them.",
    "The second paragraph begins after a short line that ends a sentence.",
)


def read(folder: Path, data: bytes, **options: int) -> Document:
    path = folder / "a.pdf"
    path.write_bytes(data)
    return read_file(path, ReadOptions(**options))


def test_lines_are_joined_and_divided_words_made_whole(tmp_path: Path) -> None:
    page = [*lines(*BODY), Text("After a gap.", 500), Text("A large title", 400, size=24), Text("Beneath.", 380)]
    document = read(tmp_path, tiny_pdf([page], info={"Title": "On logs", "CreationDate": "D:20240305"}))
    assert document.metadata == {"pages": 1, "title": "On logs", "created": "2024-03-05"}
    assert document.sections[0].page == 1
    assert document.sections[0].text.split("\n\n") == [
        "Logs grow without end unless some programme rotates them regularly, which means that old files are renamed "
        "and well-Known tools compress them.",
        BODY[3],
        "After a gap.",
        "A large title",
        "Beneath.",
    ]


def test_outline_becomes_headings_and_pages_are_kept(tmp_path: Path) -> None:
    pages = [
        lines("Preface text.", "1 Growth", "They grow."),
        lines("They grow on."),
        [],
        lines("2 Rotation of", "logs", "They rotate."),
    ]
    outline = [("Growth", 0), ("Rotation of logs", 3), ("Not on the page", 3)]
    document = read(tmp_path, tiny_pdf(pages, outline))
    assert [(part.page, part.heading, part.text) for part in document.sections] == [
        (1, (), "Preface text."),
        (1, ("Growth",), "They grow."),
        (2, ("Growth",), "They grow on."),
        (4, (), "Rotation of logs"),
        (4, ("Not on the page",), "They rotate."),
    ]
    assert document.notes == ["1 of 4 pages hold no text (scanned or drawn)"]
    passages = list(
        split(document.sections, max_tokens=50, count_tokens=lambda text: len(text.split()), source="a.pdf")
    )
    assert [(part.page, part.text) for part in passages][:2] == [
        (1, "Preface text."),
        (1, "They grow.\n\nThey grow on."),
    ]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"not a pdf", "not a readable PDF"),
        (tiny_pdf([lines("x")])[:60], "not a readable PDF"),
        (tiny_pdf([]), "a PDF without pages"),
        (tiny_pdf([lines("secret")], password="pw"), "encrypted, needs a password"),
    ],
)
def test_unreadable_pdfs_are_named(tmp_path: Path, data: bytes, reason: str) -> None:
    with pytest.raises(UnreadableFileError, match=rf"a\.pdf: {reason}"):
        read(tmp_path, data)


def test_too_many_pages_or_bytes(tmp_path: Path) -> None:
    data = tiny_pdf([lines("x")] * 3)
    with pytest.raises(UnreadableFileError, match=r"more than 2 pages \(3\)"):
        read(tmp_path, data, max_pages=2)
    with pytest.raises(UnreadableFileError, match="larger than the limit"):
        read(tmp_path, data, max_bytes=100)
    assert len(read(tmp_path, data, max_pages=3).sections) == 3


def test_encrypted_without_a_password_opens(tmp_path: Path) -> None:
    assert read(tmp_path, tiny_pdf([lines("Open to all.")], password="")).sections[0].text == "Open to all."


def test_damaged_bytes_never_stop_a_run(tmp_path: Path) -> None:
    data = tiny_pdf([lines(*BODY), lines("two")], [("Growth", 0)])
    for position in range(0, len(data), 97):
        damaged = data[:position] + b"\xff<<" + data[position + 3 :]
        try:
            read(tmp_path, damaged)
        except UnreadableFileError:
            continue


def test_a_missing_extra_is_one_reason_for_all_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.pdf", "b.pdf"):
        (tmp_path / name).write_bytes(tiny_pdf([lines("x")]))
    (tmp_path / "c.txt").write_text("text")
    monkeypatch.setitem(sys.modules, "pypdfium2", None)
    with pytest.raises(MissingExtraError, match=r"smart-retrieval\[pdf\]"):
        read_file(tmp_path / "a.pdf")
    log = SkipLog()
    assert [file.relative for file, _ in read_files(scan(tmp_path), log)] == ["c.txt"]
    assert (len(log.counts), log.failed, len(log)) == (1, 2, 2)
    assert "smart-retrieval[pdf]" in next(iter(log.counts))


def test_paragraphs_keep_rows_and_list_items_as_lines() -> None:
    def row(text: str, bottom: float, right: float) -> Line:
        return Line(text, 50, right, bottom, 12)

    page = [row("A full line of text that", 700, 300), row("goes on", 686, 110), row("short", 672, 100)]
    assert paragraphs(page) == ["A full line of text that goes on\nshort"]
    page = [row("A full line that ends here, then:", 700, 300), row("• one", 686, 80), row("• two", 672, 80)]
    assert paragraphs(page) == ["A full line that ends here, then:\n• one\n• two"]
    assert paragraphs([]) == []
    assert paragraphs([Line("cut off", hyphen=True)]) == ["cut off-"]


def test_heading_lines_and_running_lines() -> None:
    page = [Line("Intro"), Line("Introduction"), Line("3.1 Logs and"), Line("rotation"), Line("Logs")]
    assert heading_line(page, "Introduction", 0) == (1, 1)
    assert heading_line(page, "Logs and rotation", 0) == (2, 2)
    assert heading_line(page, "Logs", 0) == (4, 1)
    assert heading_line(page, "missing", 0) is None
    assert heading_line(page, "!!!", 0) is None
    pages = [[Line("Guide"), Line(f"text {word}"), Line(f"Page {number}")] for number, word in enumerate("abcde")]
    kept = drop_running_lines(pages)
    assert [len(page) for page in kept] == [3, 1, 1, 1, 1]
    assert drop_running_lines(pages[:3]) == pages[:3]
