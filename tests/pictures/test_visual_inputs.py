"""From files to visual inputs: kinds, pages, sizes, what is counted and skipped; folders of frames; thumbnails."""

from __future__ import annotations

import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from fixtures.drawn_pdf import Drawn, drawn_pdf
from fixtures.tiny_pdf import lines, tiny_pdf
from PIL import Image

from smart_retrieval.documents.read import ReadOptions, read_files
from smart_retrieval.documents.walk import scan
from smart_retrieval.errors import MediaError, MissingExtraError, SmartError
from smart_retrieval.files import SkipLog
from smart_retrieval.pictures.sources import ImageSource, VideoSource, visual_format_of
from smart_retrieval.pictures.video import FrameFolder
from smart_retrieval.pictures.visual_inputs import read_visual_files, thumbnail, visual_inputs

pytest.importorskip("pypdfium2")
pytest.importorskip("av")

from fixtures.tiny_video import number_of, numbered, tiny_video

BOX = (((0, 0, 300, 400), (1.0, 0.0, 0.0)),)


def folder(root: Path) -> Path:
    """Files of all kinds, good and bad."""
    (root / "deep").mkdir()
    Image.new("RGB", (30, 20), "red").save(root / "a.png")
    (root / "b.pdf").write_bytes(drawn_pdf([Drawn(BOX), Drawn(damaged=True), Drawn(rotate=90)]))
    tiny_video(root / "c.mp4", 25)
    (root / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    (root / "deep" / "locked.pdf").write_bytes(tiny_pdf([lines("x")], password="x"))
    (root / "empty.mkv").write_bytes(b"")
    (root / "notes.md").write_text("# Notes\n\nwords")
    return root


def test_a_run_over_a_folder_skips_broken_files(tmp_path: Path) -> None:
    log = SkipLog()
    found = list(read_visual_files(scan(folder(tmp_path)), log, page_pixels=10_000))
    assert [(file.relative, seen.kind, seen.page) for file, seen in found] == [
        ("a.png", "image", None),
        ("b.pdf", "page", 1),
        ("b.pdf", "page", 3),
        ("c.mp4", "video", None),
    ]
    for _, seen in found[:3]:
        assert isinstance(seen.source, ImageSource)
        assert seen.source.load().size == (seen.width, seen.height)
    video = found[3][1]
    assert isinstance(video.source, VideoSource)
    assert video.times == pytest.approx((0, 1))
    assert [number_of(image) for image in video.source.frames(2).images] == [0, 24]
    assert log.counts["a damaged page"] == 1
    [page] = log.records("a damaged page")
    assert page.path == "b.pdf"
    assert page.detail.startswith("page 2: ")
    assert {record.path for record in log if record.failed} == {"b.pdf", "cut.jpg", "deep/locked.pdf", "empty.mkv"}
    assert [record.path for record in log if not record.failed] == ["notes.md"]


def test_pages_exclude_videos_and_text_reading_skips_pictures(tmp_path: Path) -> None:
    folder(tmp_path)
    log = SkipLog()
    kinds = [seen.kind for _, seen in read_visual_files(scan(tmp_path, include=["c.mp4", "a.png"]), log, as_="pages")]
    assert kinds == ["image"]
    assert log.counts["not an image, a PDF or a video"] == 1
    assert log.failed == 0
    text = SkipLog()
    assert [file.relative for file, _ in read_files(scan(tmp_path), text, ReadOptions(ocr="never"))] == ["notes.md"]
    assert text.counts["not a type that is read"] == 4


def test_one_file(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"x\.txt: not an image, a PDF or a video"):
        list(visual_inputs(tmp_path / "x.txt"))
    with pytest.raises(SmartError, match="expected one of 'auto', 'pages'"):
        list(visual_inputs(tmp_path / "x.png", as_="text"))  # type: ignore[arg-type]
    path = tmp_path / "all.pdf"
    path.write_bytes(drawn_pdf([Drawn(damaged=True)] * 3))
    with pytest.raises(MediaError, match="no page of the PDF can be read"):
        list(visual_inputs(path))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save(tmp_path / "turned.jpg", exif=exif)
    [seen] = visual_inputs(tmp_path / "turned.jpg")
    assert (seen.width, seen.height) == (20, 30)
    assert [visual_format_of(Path(name)) for name in ("a.TIFF", "a.webm", "a", "a.ts", "a.svg")] == [
        "image",
        "video",
        *[""] * 3,
    ]


def test_a_missing_extra_is_one_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_video(tmp_path / "a.mp4", 3)
    tiny_video(tmp_path / "b.mp4", 3)
    monkeypatch.setitem(sys.modules, "av", None)
    log = SkipLog()
    assert list(read_visual_files(scan(tmp_path), log)) == []
    assert list(log.counts.values()) == [2]
    with pytest.raises(MissingExtraError):
        list(visual_inputs(tmp_path / "a.mp4"))


def test_a_folder_of_frames(tmp_path: Path) -> None:
    for number in range(23):
        Image.fromarray(numbered(number)).save(tmp_path / f"frame{number}.{'png' if number % 2 else 'jpg'}")
    (tmp_path / "notes.txt").write_text("no frame")
    source = FrameFolder(tmp_path, fps=2)
    assert isinstance(source, VideoSource)
    for most in (1, 2, 8, 22):
        frames = source.frames(most)
        expected = np.linspace(0, 22, most).astype(int)
        assert [number_of(image) for image in frames.images] == list(expected)
        assert frames.times == pytest.approx(expected / 2)
    assert [number_of(image) for image in source.frames(64).images] == list(range(23))
    assert FrameFolder(tmp_path, max_pixels=2560).frames(1).images[0].size == (80, 32)


def test_folders_that_cannot_be_read_as_frames(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no such file"):
        FrameFolder(tmp_path / "none").frames(2)
    with pytest.raises(MediaError, match="a folder without frames"):
        FrameFolder(tmp_path).frames(2)
    Image.new("RGB", (8, 8)).save(tmp_path / "1.png")
    Image.new("RGB", (8, 9)).save(tmp_path / "2.png")
    with pytest.raises(MediaError, match=r"2\.png: a frame of another size"):
        FrameFolder(tmp_path).frames(2)
    for source, most in ((FrameFolder(tmp_path), 0), (FrameFolder(tmp_path, fps=0), 1)):
        with pytest.raises(MediaError, match="no frames requested"):
            source.frames(most)
    (tmp_path / "2.png").write_bytes((tmp_path / "1.png").read_bytes()[:40])
    with pytest.raises(MediaError, match=r"2\.png"):
        FrameFolder(tmp_path).frames(2)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "CMYK", "P", "I;16"])
def test_thumbnails(mode: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (900, 1600, 3), dtype=np.uint8)
    image = Image.fromarray(noise[..., 0].astype(np.uint16)) if mode == "I;16" else Image.fromarray(noise).convert(mode)
    image.info["icc_profile"] = bytes(50_000)
    data = thumbnail(image)
    small = Image.open(BytesIO(data))
    assert (small.format, small.mode, small.size) == ("JPEG", "RGB", (160, 90))
    assert len(data) < 12_000
    assert not {"icc_profile", "exif"} & set(small.info)
    assert Image.open(BytesIO(thumbnail(Image.new("RGB", (1000, 5))))).size == (160, 1)
    assert Image.open(BytesIO(thumbnail(Image.new("RGB", (20, 10)), longest=64))).size == (20, 10)


def test_importing_pictures_and_documents_imports_nothing_heavy() -> None:
    code = (
        "import sys, smart_retrieval.documents as d, smart_retrieval.pictures as p, smart_retrieval.inputs\n"
        "assert all(getattr(package, name) is not None for package in (d, p) for name in package.__all__)\n"
        "print([name for name in ('PIL', 'numpy', 'av', 'pypdfium2', 'yaml', 'torch') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
