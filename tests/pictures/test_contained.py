"""Pictures within Office documents, books and e-mail: found once each, named by their place, bounded."""

from __future__ import annotations

import json
import time
import zipfile
from base64 import b64encode, encodebytes
from contextlib import suppress
from email.message import EmailMessage
from pathlib import Path, PurePosixPath
from urllib.parse import quote

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
    unchecked, _ = contained_pictures(tmp_path / "a.docx", checked=lambda: False)
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


def test_pictures_of_a_mailbox_are_those_of_its_messages(tmp_path: Path) -> None:
    pump = png_of(picture_of(PUMP))
    ends = [mail_with(tmp_path / "m.eml", "See it.", one).read_bytes() for one in ({"a.png": WHALE}, {"b.png": pump})]
    path = tmp_path / "a.mbox"
    path.write_bytes(b"".join(b"From a@b\n" + end + b"\n" for end in ends))
    found, left_out = contained_pictures(path)
    assert [(one.name, one.record) for one in found] == [("1/2/a.png", "1"), ("2/2/b.png", "2")]
    assert left_out == []
    assert load_again(path, contained_id("a.mbox", "2/2/b.png")).tobytes() == picture_of(PUMP).tobytes()


def test_pictures_in_base64_are_found_in_texts_of_every_kind(tmp_path: Path) -> None:
    code = b64encode(WHALE).decode()
    wrapped = encodebytes(WHALE).decode()
    cells = [
        {"cell_type": "code", "outputs": [{"data": {"image/png": wrapped, "text/plain": "<Figure>"}}]},
        {"cell_type": "code", "outputs": [{"data": {"image/png": wrapped.splitlines(keepends=True)}}]},
        {"cell_type": "markdown", "attachments": {"a.png": {"image/png": code}}},
    ]
    mail = EmailMessage()
    mail["From"] = "ann@example.org"
    mail.set_content(f"<p>See <img src='data:image/png;base64,{code}'></p>", "html", cte="quoted-printable")
    texts: dict[str, str | bytes] = {
        "a.html": f"<img alt=x src=data:image/png;charset=utf-8;base64,{quote(code, safe='')} width=3><p>Text",
        "b.md": f"Text\n\n[one]: data:image/png;base64,{wrapped}\n\nMore words",
        "c.html": f'<img src="DATA:image/png;base64,{code}">'.encode("utf-16"),
        **{f"{number}.ipynb": json.dumps({"cells": [cell]}) for number, cell in enumerate(cells)},
        "d.eml": bytes(mail),
    }
    for name, text in texts.items():
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        found, left_out = contained_pictures(tmp_path / name)
        assert ([PurePosixPath(one.name).name for one in found], left_out) == (["1.png"], []), name
        assert found[0].load().tobytes() == picture_of(WHALES).tobytes()
    (tmp_path / "twice.md").write_text(
        2 * f"![](data:image/png;base64,{code}) ![](data:image/svg+xml;base64,{code[:80]})"
    )
    found, left_out = contained_pictures(tmp_path / "twice.md")
    assert [one.name for one in found] == ["data/1.png"]
    assert left_out == [(contained.OTHER_FORMAT, "data/2.svg"), (contained.OTHER_FORMAT, "data/4.svg")]
    (tmp_path / "bad.md").write_text(f"![](data:image/png;base64,{code[:41]})")
    assert contained_pictures(tmp_path / "bad.md")[1][0][0].startswith("pictures within files: ")
    path = zipped(tmp_path / "e.epub", {"a/b.xhtml": f'<img src="data:image/png;base64,{code}"/>'.encode()})
    assert contained_pictures(path)[0][0].load().size == (760, 400)


@pytest.mark.parametrize(
    "text", ["data:image/png;base64," * 90_000, '"image/png": [ ' * 90_000, "data:image/png;base64," + "A" * 2**21]
)
def test_hostile_text_takes_bounded_time(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.md").write_text(text)
    began = time.process_time()
    contained_pictures(tmp_path / "a.md")
    assert time.process_time() - began < 5
