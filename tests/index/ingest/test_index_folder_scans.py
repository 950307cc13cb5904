"""Scans and pictures in an index of text: read by OCR, or counted and named where that cannot be done."""

import pytest
from fixtures.commands import loaded, run
from fixtures.scans import (
    PUMP,
    WHALES,
    mail_with,
    mixed_pdf,
    picture_of,
    png_of,
    pretend_ocr,
    scanned_pdf,
    show_with,
    without_ocr,
)

from smart_retrieval.documents.read import NO_TEXT
from smart_retrieval.documents.readers.ocr import NOT_INSTALLED, READ_BY_OCR
from smart_retrieval.errors import SmartError
from smart_retrieval.index.smart_index import SmartIndex
from smart_retrieval.pictures.contained import SMALL

pytest.importorskip("pypdfium2")


@pytest.fixture
def docs(tmp_path):
    folder = tmp_path / "docs"
    folder.mkdir()
    scanned_pdf(folder / "scan.pdf", [picture_of(WHALES, (300, 200))] * 2)
    mixed_pdf(folder / "mixed.pdf", "The otter swims.", picture_of(WHALES, (300, 200)))
    picture_of(WHALES, (300, 200)).save(folder / "shot.png")
    return folder


@pytest.fixture
def index(tmp_path, smart):
    with SmartIndex.create(tmp_path / "i.smart", smart("mean"), codec="float16") as opened:
        yield opened


def test_scans_and_pictures_become_passages(index, docs, monkeypatch):
    asked = pretend_ocr(monkeypatch)
    report = index.index_folder(docs, max_ocr_pages=1)
    assert (report.seen, report.added, report.failed) == (3, 3, 0)
    assert sorted(asked) == [1, 1, 2]
    found = {document.id: (document.page, document.text) for document in index.get(index.store.ids())}
    assert found["shot.png#0"] == (None, "read on page 1")
    assert found["scan.pdf#0"] == (1, "read on page 1")
    assert "read on page 2" in found["mixed.pdf#0"][1]
    (kind,) = [kind for kind in report.to_dict()["notes"]["kinds"] if kind["note"] == READ_BY_OCR]
    assert kind["count"] == 3
    assert {"path": "scan.pdf", "detail": "1 of 2 pages"} in kind["files"]
    assert report.skipped.counts == {"pages that OCR would read, beyond the first 1 of a file": 1}
    assert index.index_folder(docs).unchanged == 3
    assert len(asked) == 3


def test_without_the_extra_pages_are_counted_and_pictures_read_later(index, docs, monkeypatch):
    with monkeypatch.context() as patch:
        without_ocr(patch)
        report = index.index_folder(docs)
        assert (report.seen, report.added, report.failed) == (2, 1, 1)
        assert report.skipped.counts == {NOT_INSTALLED: 4, NO_TEXT: 1}
        (entry,) = [entry for entry in report.reasons() if entry["reason"] == NOT_INSTALLED]
        assert (entry["count"], entry["failed"]) == (4, False)
    pretend_ocr(monkeypatch)
    report = index.index_folder(docs)
    assert (report.added, report.unchanged, report.failed) == (2, 1, 0)


def test_never_leaves_them_out(index, docs, monkeypatch):
    asked = pretend_ocr(monkeypatch)
    report = index.index_folder(docs, ocr="never")
    assert asked == []
    assert report.skipped.counts == {"not a type that is read": 1, NO_TEXT: 1}
    with pytest.raises(SmartError, match="ocr: found 'often'"):
        index.index_folder(docs, ocr="often")


def test_an_index_of_pictures_takes_them_as_they_are(tmp_path, visual, docs, monkeypatch):
    asked = pretend_ocr(monkeypatch)
    with SmartIndex.create(tmp_path / "v.smart", visual, codec="float16") as index:
        report = index.index_folder(docs, ocr="always")
        assert (asked, report.pictures) == ([], 6)


def test_the_command_says_what_was_read(tmp_path, docs, smart, monkeypatch):
    SmartIndex.create(tmp_path / "i.smart", smart("mean"), codec="float16").close()
    pretend_ocr(monkeypatch)
    model = str(smart("mean").backbone.name)
    result = run("index", docs, "--index", tmp_path / "i.smart", "--model", model, "--ocr", "always", "--json")
    kinds = {kind["note"]: kind["count"] for kind in loaded(result)["notes"]["kinds"]}
    assert kinds[READ_BY_OCR] == 3
    result = run("index", docs, "--index", tmp_path / "i.smart", "--model", model, "--ocr", "now")
    assert result.exit_code != 0
    assert "ocr: found 'now', expected" in result.output + str(result.exception)


def test_pictures_within_files_are_read_or_counted(index, tmp_path, monkeypatch):
    pytest.importorskip("pptx")
    folder = tmp_path / "office"
    folder.mkdir()
    whale = png_of(picture_of(WHALES))
    show_with(folder / "show.pptx", [None, whale])
    mail_with(folder / "a.eml", "See it.", {"one.png": whale, "two.png": png_of(picture_of(PUMP))})
    with monkeypatch.context() as patch:
        without_ocr(patch)
        report = index.index_folder(folder)
        assert (report.added, report.skipped.counts) == (2, {NOT_INSTALLED: 3})
    pretend_ocr(monkeypatch)
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes() + b"\n")
    report = index.index_folder(folder, max_ocr_pages=1)
    assert report.skipped.counts == {"pictures within a file, beyond its first 1": 1}
    documents = index.get(index.store.ids())
    found = [(one.source, one.page, one.text.partition("\n")[2], one.heading) for one in documents]
    # The model is so small that its passages have no room for the whole heading.
    assert ("show.pptx", 2, "read on page 1", "Picture image1.png") in found
    assert ("a.eml", None, "read on page 1", "Picture one.png") in found


def test_an_index_of_pictures_takes_those_within_files(tmp_path, visual, monkeypatch):
    asked, folder = pretend_ocr(monkeypatch), tmp_path / "office"
    folder.mkdir()
    whale = png_of(picture_of(WHALES))
    mail_with(folder / "a.eml", "See it.", {"one.png": whale, "icon.png": png_of(picture_of((), (9, 9)))})
    mail_with(folder / "b.eml", "", {"two.png": whale})
    with SmartIndex.create(tmp_path / "v.smart", visual, codec="float16") as index:
        report = index.index_folder(folder)
        assert (report.added, report.pictures, report.skipped.counts) == (2, 2, {SMALL: 1})
        (document,) = index.get("a.eml#image=2/one.png")
        assert (document.source, document.media.width, document.media.height) == ("a.eml", 760, 400)
        assert index.index_folder(folder).unchanged == 2
        shown = index.explain("whale", "a.eml#image=2/one.png").to_html(root=folder)
        assert "cannot be shown" not in shown
    assert asked == []
