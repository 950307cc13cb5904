"""PDF pages as pictures: what is drawn, how large, what is refused, and that documents are opened once and closed."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from fixtures.drawn_pdf import Drawn, drawn_pdf
from fixtures.hostile_pdf import HOSTILE
from fixtures.tiny_pdf import lines, tiny_pdf
from hypothesis import given
from hypothesis import strategies as st

from smart_retrieval.documents.read import read_file, read_files
from smart_retrieval.documents.walk import scan
from smart_retrieval.errors import MediaError, MissingExtraError
from smart_retrieval.files import SkipLog
from smart_retrieval.guarded import Limits, calls
from smart_retrieval.pictures import pdf_drawing
from smart_retrieval.pictures.pdf_pages import PAGE_PIXELS, PdfPageImage, PdfPages, close_documents, page_scale
from smart_retrieval.pictures.sources import ImageSource

pypdfium2 = pytest.importorskip("pypdfium2")

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
#: Red in the lower left quarter, green in the upper right.
QUARTERS = (((0, 0, 300, 400), (1, 0, 0)), ((300, 400, 300, 400), (0, 1, 0)))


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Draws in this process, so that a test can look on."""
    monkeypatch.setattr(calls, "_on_step", lambda: None)
    monkeypatch.setattr(pdf_drawing, "_OPEN", opened := pdf_drawing._OpenPdfs())
    yield
    for path in list(opened._open):
        opened.close(path)


def write(folder: Path, data: bytes, name: str = "a.pdf") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def corners(image: Any) -> list[tuple[int, ...]]:
    """Upper left, upper right, lower left, lower right."""
    width, height = image.size
    return [image.getpixel((x, y)) for y in (9, height - 10) for x in (9, width - 10)]


def open_files() -> set[str]:
    return {
        os.readlink(f"/proc/self/fd/{name}")
        for name in os.listdir("/proc/self/fd")
        if os.path.exists(f"/proc/self/fd/{name}")
    }


def test_a_page_is_drawn_on_white_at_the_size_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path, drawn_pdf([Drawn(QUARTERS), Drawn()]))
    with PdfPages(path) as pages:
        assert len(pages) == 2
        assert pages.size(1) == (600, 800)
        image = pages.render(1)
        assert corners(image) == [WHITE, GREEN, RED, WHITE]
        assert image.mode == "RGB"
        assert 0.99 * PAGE_PIXELS < image.width * image.height <= PAGE_PIXELS
        assert image.width / image.height == pytest.approx(0.75, abs=0.002)
        for pixels in (1, 50, 10_000, 480_000):
            small = pages.render(1, max_pixels=pixels)
            assert small.width * small.height <= pixels
            assert small.size == pages.pixels(1, max_pixels=pixels)
        assert np.asarray(pages.render(2)).min() == 255


@given(st.floats(0.1, 20_000), st.floats(1, 200), st.booleans(), st.integers(1, 5_000_000))
def test_scale_never_exceeds_the_bound(short: float, ratio: float, upright: bool, pixels: int) -> None:
    width, height = (short, short * ratio) if upright else (short * ratio, short)
    scale = page_scale(width, height, pixels)
    size = int(np.ceil(width * scale)), int(np.ceil(height * scale))
    assert 1 <= size[0] * size[1] <= pixels
    assert scale <= 4


def test_crop_box_and_rotation(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        drawn_pdf([Drawn(QUARTERS, rotate=90), Drawn(QUARTERS, crop_box="0 0 300 400"), Drawn(QUARTERS, rotate=180)]),
    )
    with PdfPages(path) as pages:
        assert pages.size(1) == (800, 600)
        assert corners(pages.render(1)) == [RED, WHITE, WHITE, GREEN]
        assert pages.size(2) == (300, 400)
        assert corners(pages.render(2)) == [RED] * 4
        assert corners(pages.render(3)) == [WHITE, RED, GREEN, WHITE]


def test_annotations_and_form_fields_are_drawn(tmp_path: Path) -> None:
    page = Drawn(annotation=((0, 0, 300, 400), (0, 0, 1)), field=((300, 400, 300, 400), (1, 0, 0)))
    path = write(tmp_path, drawn_pdf([page]))
    with PdfPages(path) as pages:
        found = corners(pages.render(1))
        assert found[2] == BLUE
        # PDFium lays a tint over form fields that can be filled in.
        assert found[1][0] > 150
        assert found[1] != WHITE
        assert found[0] == found[3] == WHITE


@pytest.mark.parametrize("box", ["0 0 14400 14400", "0 0 200000 100000", "0 0 9 9", "-300 -400 300 400"])
def test_absurd_sizes_are_bounded(tmp_path: Path, box: str) -> None:
    with PdfPages(write(tmp_path, drawn_pdf([Drawn(media_box=box)]))) as pages:
        image = pages.render(1)
        assert image.width * image.height <= PAGE_PIXELS
        assert image.size != (9 * 400, 9 * 400)
    if box == "0 0 9 9":
        assert image.size == (36, 36)


def test_a_strip_is_refused_and_the_others_drawn(tmp_path: Path) -> None:
    path = write(tmp_path, drawn_pdf([Drawn(media_box="0 0 1 800"), Drawn(QUARTERS)]))
    with PdfPages(path) as pages:
        for call in (pages.size, pages.render):
            with pytest.raises(MediaError, match=r"a\.pdf: a page of an implausible size \(page 1: 1 x 800 points\)"):
                call(1)
        assert corners(pages.render(2))[2] == RED


def test_a_damaged_page_does_not_affect_the_others(tmp_path: Path) -> None:
    path = write(
        tmp_path, drawn_pdf([Drawn(QUARTERS), Drawn(damaged=True), Drawn(QUARTERS), Drawn(damaged_content=True)])
    )
    with PdfPages(path) as pages:
        for call in (pages.size, pages.render, pages.pixels):
            with pytest.raises(MediaError, match=r"a\.pdf: a damaged page \(page 2: "):
                call(2)
        assert corners(pages.render(1)) == corners(pages.render(3)) == [WHITE, GREEN, RED, WHITE]
        assert np.asarray(pages.render(4)).min() == 255
        for page in (0, 5, -1):
            with pytest.raises(MediaError, match="no such page"):
                pages.render(page)
    with pytest.raises(MediaError, match="closed"):
        pages.render(1)
    with pytest.raises(MediaError, match="page 2"):
        PdfPageImage(path, 2).load()
    assert PdfPageImage(path, 3).load().size == (1161, 1548)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"no pdf", "not a readable PDF"),
        (tiny_pdf([]), "without pages"),
        (drawn_pdf([Drawn(QUARTERS)] * 5)[:-200], "not a readable PDF"),
        (drawn_pdf([Drawn(QUARTERS)] * 5)[:500], "not a readable PDF"),
        (tiny_pdf([lines("secret")], password="x"), "encrypted, needs a password"),
    ],
)
def test_unreadable_files(tmp_path: Path, data: bytes, message: str) -> None:
    path = write(tmp_path, data)
    with pytest.raises(MediaError, match=rf"a\.pdf: .*{message}"):
        PdfPages(path)
    with pytest.raises(MediaError, match=message):
        PdfPageImage(path, 1).load()
    with pytest.raises(MediaError, match="no such file"):
        PdfPages(tmp_path / "none.pdf")


@pytest.mark.usefixtures("here")
def test_a_file_that_is_refused_is_closed(tmp_path: Path) -> None:
    path = write(tmp_path, b"no pdf")
    with pytest.raises(MediaError):
        PdfPages(path)
    assert str(path) not in open_files()


def test_encrypted_with_an_empty_password_opens(tmp_path: Path) -> None:
    with PdfPages(write(tmp_path, tiny_pdf([lines("open")], password=""))) as pages:
        assert np.asarray(pages.render(1)).min() < 100


@pytest.mark.usefixtures("here")
def test_a_document_is_parsed_once_and_closed_at_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    original = pypdfium2.PdfDocument

    def counting(*args: Any) -> Any:
        opened.append(args)
        return original(*args)

    monkeypatch.setattr(pypdfium2, "PdfDocument", counting)
    path = write(tmp_path, drawn_pdf([Drawn(QUARTERS)] * 30))
    for page in range(1, 31):
        source = PdfPageImage(path, page, max_pixels=2_000)
        assert isinstance(source, ImageSource)
        source.load()
        assert (str(path) in open_files()) == (page < 30)
    assert len(opened) == 1
    # Pages of a few documents by turns, as a shuffled batch asks for them.
    others = [write(tmp_path, drawn_pdf([Drawn(QUARTERS)] * 9), f"{name}.pdf") for name in range(6)]
    opened.clear()
    for page in range(1, 9):
        for other in others[:4]:
            PdfPageImage(other, page, max_pixels=2_000).load()
    assert len(opened) == 4
    for other in others:
        PdfPageImage(other, 1, max_pixels=2_000).load()
    assert len(open_files() & {str(other) for other in others}) == 4
    with PdfPages(others[-1]) as pages:
        pages.size(1)
        assert str(others[-1]) in open_files()
    assert str(others[-1]) not in open_files()


def test_what_the_child_keeps_open_is_closed(tmp_path: Path) -> None:
    path = write(tmp_path, drawn_pdf([Drawn(QUARTERS)] * 2))
    PdfPageImage(path, 1).load()
    open_in = [
        child for child in psutil.Process().children() if str(path) in {file.path for file in child.open_files()}
    ]
    assert len(open_in) == 1
    assert str(path) not in open_files()
    close_documents()
    assert not open_in[0].is_running()
    assert PdfPageImage(path, 1).load().mode == "RGB"


@pytest.mark.usefixtures("here")
def test_reopening_frees_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    original = pypdfium2.PdfDocument
    monkeypatch.setattr(pypdfium2, "PdfDocument", lambda *args: opened.append(args) or original(*args))
    drawn = [Drawn(QUARTERS, rotate=180 * (page % 2)) for page in range(20)]
    path = write(tmp_path, drawn_pdf(drawn))
    monkeypatch.setattr(pdf_drawing, "_REOPEN_BYTES", 1)
    with PdfPages(path) as pages:
        for page in range(1, 21):
            assert corners(pages.render(page, max_pixels=5_000)) == (
                [WHITE, GREEN, RED, WHITE] if page % 2 else [WHITE, RED, GREEN, WHITE]
            )
    assert len(opened) == 5
    monkeypatch.setattr(pdf_drawing, "_REOPEN_BYTES", 2**30)
    monkeypatch.setattr(pdf_drawing, "_REOPEN_PAGES", 2)
    with PdfPages(path) as pages:
        assert [pages.render(page, max_pixels=100).mode for page in (1, 2, 3, 4, 5)] == ["RGB"] * 5
        path.write_bytes(b"gone")
        with pytest.raises(MediaError):
            _ = [pages.render(page, max_pixels=100) for page in (1, 2, 3, 4)]


def test_a_changed_file_is_reopened(tmp_path: Path) -> None:
    path = write(tmp_path, drawn_pdf([Drawn(QUARTERS)] * 2))
    assert corners(PdfPageImage(path, 1).load())[2] == RED
    path.unlink()
    write(tmp_path, drawn_pdf([Drawn(), Drawn(), Drawn()]))
    assert corners(PdfPageImage(path, 1).load())[2] == WHITE
    path.unlink()
    with pytest.raises(MediaError, match="no such file"):
        PdfPageImage(path, 1).load()


def test_names_that_are_not_unicode(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff\xfe.pdf")
    path.write_bytes(drawn_pdf([Drawn(QUARTERS)]))
    assert PdfPageImage(path, 1).load().mode == "RGB"


def test_threads_share_the_child_with_the_text_reader(tmp_path: Path) -> None:
    path = write(tmp_path, drawn_pdf([Drawn(QUARTERS)] * 20))
    text = write(tmp_path, tiny_pdf([lines("some text", "more text")] * 5), "text.pdf")
    problems: list[object] = []

    def work(offset: int) -> None:
        try:
            for page in range(1, 20):
                image = PdfPageImage(path, (page + offset) % 19 + 1, max_pixels=5_000).load()
                assert image.getpixel((5, image.height - 6)) == RED
                assert len(read_file(text).sections) == 5
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(offset,)) for offset in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


def test_a_forked_process_opens_its_own(tmp_path: Path) -> None:
    path = write(tmp_path, drawn_pdf([Drawn(QUARTERS)] * 5))
    PdfPageImage(path, 1).load()
    child = os.fork()
    if child == 0:
        good = corners(PdfPageImage(path, 2).load())[2] == RED
        os._exit(0 if good else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert corners(PdfPageImage(path, 3).load())[2] == RED


@pytest.mark.parametrize(("module", "extra"), [("pypdfium2", "pdf"), ("PIL.Image", "image")])
def test_missing_packages_name_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"smart-retrieval\[{extra}\]"):
        PdfPages(write(tmp_path, drawn_pdf([Drawn()])))


@pytest.mark.parametrize("name", ["loop", "double"])
def test_a_hostile_file_costs_itself_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    call = calls._GUARD.call

    def in_100_mib(function: Any, limits: Limits, *rest: Any) -> Any:
        return call(function, replace(limits, memory=100 * 2**20), *rest)

    monkeypatch.setattr(calls._GUARD, "call", in_100_mib)
    good, bad = write(tmp_path, tiny_pdf([lines("words")])), write(tmp_path, HOSTILE[name](), "b.pdf")
    assert bad.stat().st_size < 2_500
    for use in (read_file, lambda path: PdfPageImage(path, 1).load()):
        with pytest.raises(MediaError, match=r"b\.pdf: its reader ran out of memory \(possibly hostile\)"):
            use(bad)
        assert read_file(good).sections[0].text == "words"
    log = SkipLog()
    assert [file.relative for file, _ in read_files(scan(tmp_path), log)] == ["a.pdf"]
    assert (log.failed, list(log.counts)) == (1, ["its reader ran out of memory (possibly hostile)"])
    log = SkipLog()
    assert [file.relative for file, _ in read_files(scan(tmp_path), log)] == ["a.pdf"]
    assert [record.detail for record in log] == ["3 times; it is not tried again"]
