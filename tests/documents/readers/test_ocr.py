"""Scans and pictures read by OCR: what is read, what is left out and said, and what a file may not do."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from fixtures.scans import PUMP, WHALES, mail_with, mixed_pdf, picture_of, png_of, pretend_ocr, scanned_pdf, without_ocr
from fixtures.tiny_pdf import lines, tiny_pdf

from smart_retrieval.documents.passages import split
from smart_retrieval.documents.read import NO_TEXT, ReadOptions, format_of, read_file, read_files, stream_file
from smart_retrieval.documents.readers import ocr
from smart_retrieval.documents.readers.ocr import NOT_INSTALLED, NOTHING_FOUND, READ_BY_OCR, OcrPage
from smart_retrieval.documents.walk import scan
from smart_retrieval.errors import MissingExtraError, SmartError
from smart_retrieval.files import SkipLog, UnreadableFileError
from smart_retrieval.guarded import calls

pdf_read: Any = import_module("smart_retrieval.documents.readers.pdf.read")
TEXT = " ".join(PUMP)
real = pytest.mark.skipif(importlib.util.find_spec("rapidocr") is None, reason="OCR is not installed")


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    return pretend_ocr(monkeypatch)


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> None:
    without_ocr(monkeypatch)


def texts(path: Path, **options: Any) -> list[tuple[int | None, str]]:
    return [(part.page, part.text) for part in read_file(path, ReadOptions(**options)).sections]


@real
def test_a_scan_is_read_that_lies_on_its_side(tmp_path: Path) -> None:
    document = read_file(scanned_pdf(tmp_path / "a.pdf", [picture_of(PUMP).rotate(-90, expand=True)]))
    assert [(part.page, part.text) for part in document.sections] == [(1, TEXT)]
    assert document.notes == [f"{READ_BY_OCR}: 1 of 1 pages"]


@real
def test_a_picture_is_read_that_is_askew_and_upside_down(tmp_path: Path) -> None:
    picture_of(PUMP, (800, 500)).rotate(182, fillcolor="white").save(tmp_path / "askew.png")
    assert texts(tmp_path / "askew.png") == [(None, TEXT)]


@real
def test_a_hostile_picture_is_an_error_and_the_next_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)))
    with pytest.raises(UnreadableFileError, match="not a picture"):
        read_file(tmp_path / "a.png")
    picture_of(WHALES).save(tmp_path / "b.png")
    assert texts(tmp_path / "b.png") == [(None, WHALES[0])]
    picture_of(()).save(tmp_path / "empty.webp")
    document = read_file(tmp_path / "empty.webp")
    assert (document.sections, document.notes) == ([], [NOTHING_FOUND])
    child = calls._GUARDS["ocr"]._child
    assert child is not None
    assert calls._GUARD._child is not child, "the models are kept apart from the readers"


def test_the_process_that_does_ocr_has_no_network() -> None:
    code = (
        "import socket, sys; from smart_retrieval.documents.readers import ocr; ocr._unplug()\n"
        "try: socket.create_connection(('127.0.0.1', int(sys.argv[1])))\n"
        "except OSError as error: print(error)"
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        found = subprocess.run([sys.executable, "-c", code, port], capture_output=True, text=True, check=True)
    assert found.stdout == "there is no network here\n"


def test_only_pages_without_text_are_read(tmp_path: Path, pretend: list[int]) -> None:
    path = mixed_pdf(tmp_path / "a.pdf", "Typed words.", picture_of(WHALES))
    document = read_file(path)
    assert pretend == [2]
    assert [(part.page, part.text.split("\n\n")) for part in document.sections] == [
        (1, ["Typed words."]),
        (2, ["read on page 2", "Stamp 7"]),
    ]
    assert document.notes == [f"{READ_BY_OCR}: 1 of 3 pages", "1 of 3 pages hold no text (scanned or drawn)"]


def test_always_and_never(tmp_path: Path, pretend: list[int]) -> None:
    path = mixed_pdf(tmp_path / "a.pdf", "Typed words.", picture_of(WHALES))
    assert texts(path, ocr="always") == [(page, f"read on page {page}") for page in (1, 2, 3)]
    pretend.clear()
    assert texts(path, ocr="never") == [(1, "Typed words."), (2, "Stamp 7")]
    picture_of(WHALES).save(tmp_path / "b.jpg")
    assert (format_of(tmp_path / "b.jpg"), format_of(tmp_path / "b.jpg", ReadOptions(ocr="never"))) == ("picture", "")
    with pytest.raises(UnreadableFileError, match="not a type that is read"):
        read_file(tmp_path / "b.jpg", ReadOptions(ocr="never"))
    assert pretend == []


def test_a_page_of_text_over_a_picture_is_text(tmp_path: Path, pretend: list[int]) -> None:
    read_file(mixed_pdf(tmp_path / "a.pdf", "Typed words.", picture_of(WHALES)), ReadOptions(max_ocr_pages=1))
    assert pretend == [2]
    pretend.clear()
    (tmp_path / "b.pdf").write_bytes(tiny_pdf([lines("Short."), lines("Words.")]))
    assert len(read_file(tmp_path / "b.pdf").sections) == 2
    assert pretend == []


def test_text_in_pictures_of_a_mailbox_is_part_of_their_messages(tmp_path: Path, pretend: list[int]) -> None:
    one = mail_with(tmp_path / "m.eml", "See it.", {"a.png": png_of(picture_of(WHALES))}).read_bytes()
    two = mail_with(tmp_path / "m.eml", "Or not.", {}).read_bytes()
    (tmp_path / "a.mbox").write_bytes(b"From x\n" + one + b"\nFrom x\n" + two)
    sections = read_file(tmp_path / "a.mbox").sections
    assert [(part.key, part.heading[-1]) for part in sections] == [
        ("1", "Whales"),
        ("1", "Picture a.png"),
        ("2", "Whales"),
    ]
    assert sections[1].metadata == sections[0].metadata != {}
    ids = [
        one.id for one in split(sections, max_tokens=50, count_tokens=lambda text: len(text.split()), source="a.mbox")
    ]
    assert ids == ["a.mbox#1", "a.mbox#1#1", "a.mbox#2"]


def test_the_limit_of_pages_is_said(tmp_path: Path, pretend: list[int]) -> None:
    pages = [picture_of(WHALES, (300, 200))] * 4
    log = SkipLog()
    path = scanned_pdf(tmp_path / "a.pdf", pages)
    parts = list(stream_file(path, [], ReadOptions(max_ocr_pages=3), skipped=log, relative="a.pdf"))
    assert [part.page for part in parts] == [1, 2, 3]
    assert [(record.path, record.reason, record.detail, record.failed) for record in log] == [
        ("a.pdf", "pages that OCR would read, beyond the first 3 of a file", "page 4", False)
    ]
    pages[0].save(tmp_path / "b.tif", save_all=True, append_images=[page.copy() for page in pages[1:]])
    document = read_file(tmp_path / "b.tif", ReadOptions(max_ocr_pages=2))
    assert [(part.page, part.text) for part in document.sections] == [(1, "read on page 1"), (2, "read on page 2")]
    assert [detail for _, detail in document.left_out] == ["page 3", "page 4"]


def test_a_page_that_cannot_be_read_costs_itself(
    tmp_path: Path, pretend: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pdf_read.read_page

    def read(path: Path, page: int) -> OcrPage:
        if page == 1:
            raise UnreadableFileError(path, "out of time")
        return whole(path, page)

    monkeypatch.setattr(pdf_read, "read_page", read)
    document = read_file(scanned_pdf(tmp_path / "a.pdf", [picture_of(WHALES)] * 2))
    assert [part.text for part in document.sections] == ["read on page 2"]
    assert "page 1 cannot be read by OCR: out of time" in document.notes


def test_what_is_left_out_without_the_extra_is_counted(tmp_path: Path, missing: None) -> None:
    scanned_pdf(tmp_path / "scan.pdf", [picture_of(WHALES)] * 2)
    mixed_pdf(tmp_path / "mixed.pdf", "Typed words.", picture_of(WHALES))
    picture_of(WHALES).save(tmp_path / "photo.png")
    log = SkipLog()
    read = [file.relative for file, _ in read_files(scan(tmp_path), log)]
    assert read == ["mixed.pdf"]
    assert log.counts == {NOT_INSTALLED: 4, NO_TEXT: 1}  # three pages and a picture; the file that is nothing else
    assert log.failed == 1
    assert 'pip install "smart-retrieval[ocr]"' in NOT_INSTALLED
    with pytest.raises(MissingExtraError, match=r"smart-retrieval\[ocr\]"):
        read_file(tmp_path / "photo.png")
    with pytest.raises(UnreadableFileError, match=r"no text that can be read \(2 × pages .* OCR"):
        read_file(tmp_path / "scan.pdf")


@pytest.mark.parametrize("options", [{"ocr": "sometimes"}, {"max_ocr_pages": 0}])
def test_bad_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(SmartError, match=next(iter(options))):
        ReadOptions(**options)


def test_parts_of_a_tall_picture_cover_it_once() -> None:
    from PIL import Image

    whole = Image.new("RGB", (100, 1234))
    tiles = list(ocr._tiles(whole))
    assert [tile.height for tile, *_ in tiles][:2] == [150, 150]
    spans = [(first, last) for _, _, first, last in tiles]
    assert spans[0][0] == 0
    assert spans[-1][1] == 1234
    assert all(one[1] == other[0] for one, other in pairwise(spans))
    assert len(list(ocr._tiles(Image.new("RGB", (100, 200))))) == 1
