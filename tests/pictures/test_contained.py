"""Pictures within Office documents, books and e-mail: found once each, named by their place, bounded."""

from __future__ import annotations

import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
from fixtures.scans import PUMP, WHALES, mail_with, picture_of, png_of, show_with

from smart_retrieval.files import UnreadableFileError
from smart_retrieval.pictures import contained
from smart_retrieval.pictures.contained import ContainedPicture, contained_id, contained_pictures, load_again

WHALE, ICON = png_of(picture_of(WHALES)), png_of(picture_of((), (32, 32)))


def zipped(path: Path, parts: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return path


def test_parts_of_an_archive_are_found_once_and_what_is_left_out_is_said(tmp_path: Path) -> None:
    parts = {
        "word/document.xml": b"<w/>",
        "word/media/image1.png": WHALE,
        "word/media/image2.PNG": WHALE,  # the same again
        "word/media/image3.png": ICON,
        "word/media/image4.jpg": b"broken",
        "word/media/image5.emf": b"\x01",
        "docProps/thumbnail.jpeg": WHALE,
    }
    found, left_out = contained_pictures(zipped(tmp_path / "a.docx", parts))
    assert [(one.name, one.slide) for one in found] == [("word/media/image1.png", None)]
    assert left_out == [
        (contained.SMALL, "word/media/image3.png"),
        ("pictures within files: not a picture of a known format", "word/media/image4.jpg"),
        (contained.OTHER_FORMAT, "word/media/image5.emf"),
    ]
    unchecked, _ = contained_pictures(tmp_path / "a.docx", checked=False)
    assert len(unchecked) == 3
    assert found[0].load().size == (760, 400)
    again = load_again(tmp_path / "a.docx", contained_id("a.docx", "word/media/image1.png"))
    assert again.tobytes() == picture_of(WHALES).tobytes()


def test_a_slide_is_named(tmp_path: Path) -> None:
    pytest.importorskip("pptx")
    found, left_out = contained_pictures(show_with(tmp_path / "s.pptx", [None, WHALE, png_of(picture_of(PUMP)), WHALE]))
    assert ([one.slide for one in found], left_out) == ([2, 3], [])


def test_attachments_are_found(tmp_path: Path) -> None:
    path = mail_with(tmp_path / "a.eml", "See it.", {"whale.png": WHALE, "wh ale.png": png_of(picture_of(PUMP))})
    found, _ = contained_pictures(path)
    assert [one.name for one in found] == ["2/whale.png", "3/wh ale.png"]
    assert found[1].load().tobytes() == picture_of(PUMP).tobytes()
    (tmp_path / "empty.eml").write_bytes(b"")
    assert contained_pictures(tmp_path / "empty.eml") == ([], [])


def test_what_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zipped(tmp_path / "a.epub", {"a/b.png": WHALE})
    with pytest.raises(UnreadableFileError, match="no such picture in it"):
        ContainedPicture(path, "a/c.png").load()
    monkeypatch.setattr(contained, "MAX_IMAGE_BYTES", 100)
    assert contained_pictures(path)[1] == [("pictures within files: larger than the limit of 100 bytes", "a/b.png")]
    data = path.read_bytes()
    for cut in (10, len(data) // 2, len(data) - 5):
        path.write_bytes(data[:cut])
        with pytest.raises(UnreadableFileError, match="not a readable archive"):
            contained_pictures(path)


def test_flipped_bytes_are_named_errors_or_other_pictures(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.epub", {"a/b.png": ICON, "ppt/slides/_rels/slide1.xml.rels": b'Target="../media/a"'})
    data = path.read_bytes()
    for place in range(0, len(data), 3):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :])
        with suppress(UnreadableFileError):
            contained_pictures(path)
