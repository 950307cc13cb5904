"""A folder of PDFs, images and videos into an index of pages: what changed, whole files, one bad page costs itself."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fixtures.hostile_pdf import HOSTILE
from fixtures.pictures import media_folder, picture, write_pdf, write_video

from smart_retrieval.files import UnreadableFileError, content_hash
from smart_retrieval.guarded import Limits, calls
from smart_retrieval.index.ingest import reading as ingest
from smart_retrieval.index.ingest.file_reader import picture_id
from smart_retrieval.index.smart_index import SmartIndex
from smart_retrieval.pictures import pdf_pages

ALL = [
    "clip.mp4#video",
    "notes.txt#0",
    "report.pdf#page=1",
    "report.pdf#page=2",
    "report.pdf#page=3",
    "scans/one.png#image",
    "scans/two.jpg#image",
]


@pytest.fixture
def docs(tmp_path):
    return media_folder(tmp_path / "docs")


@pytest.fixture
def index(tmp_path, visual):
    with SmartIndex.create(tmp_path / "docs.smart", visual, codec="float16") as opened:
        yield opened


@pytest.fixture
def encoded(monkeypatch, visual):
    """How many items went into each call of the model."""
    batches = []
    encode = type(visual).encode_document

    def record(self, items, **kwargs):
        batches.append(len(items))
        return encode(self, items, **kwargs)

    monkeypatch.setattr(type(visual), "encode_document", record)
    return batches


@pytest.fixture
def bad_page(monkeypatch):
    """Pages that fail when they are drawn."""
    bad = set()
    draw = pdf_pages.draw_page

    def fail(path, page, *options):
        if page in bad:
            raise UnreadableFileError(path, "a damaged page", f"page {page}")
        return draw(path, page, *options)

    monkeypatch.setattr(pdf_pages, "draw_page", fail)
    return bad


def test_pages_images_and_videos_are_indexed_beside_text(index, docs):
    report = index.index_folder(docs)
    assert (report.seen, report.added, report.failed) == (5, 5, 0)
    assert (report.passages, report.pictures) == (7, 6)
    assert index.store.ids() == ALL
    assert index.info()["pictures"] == {"image": 2, "page": 3, "video": 1}
    page = index.get("report.pdf#page=2")[0]
    assert (page.source, page.page, page.text, page.heading) == ("report.pdf", 2, "", None)
    assert (page.media.kind, page.media.width < page.media.height) == ("page", True)
    assert page.media.thumbnail()[:2] == b"\xff\xd8"
    video = index.get("clip.mp4#video")[0].media
    assert len(video.times) == 6
    assert video.times[0] == 0
    assert list(video.times) == sorted(video.times)
    assert index.verify().ok
    json.dumps(report.to_dict())


def test_the_second_run_decodes_nothing(index, docs, encoded):
    index.index_folder(docs)
    commit = index.info()["commit"]
    encoded.clear()
    again = index.index_folder(docs)
    assert (again.unchanged, again.added, again.passages) == (5, 0, 0)
    assert encoded == []
    assert index.info()["commit"] == commit


def test_a_changed_file_replaces_its_pages_and_no_others(index, docs):
    index.index_folder(docs)
    rows = {document.id: document.rowid for document in index.get(index.store.ids())}
    write_pdf(docs / "report.pdf", 2)
    report = index.index_folder(docs)
    assert (report.updated, report.unchanged, report.pictures, report.passages_removed) == (1, 4, 2, 3)
    after = {document.id: document.rowid for document in index.get(index.store.ids())}
    assert sorted(after) == [id for id in ALL if id != "report.pdf#page=3"]
    assert {id for id in after if after[id] == rows[id]} == set(after) - {"report.pdf#page=1", "report.pdf#page=2"}


def test_sync_removes_pictures_of_files_that_are_gone(index, docs):
    index.index_folder(docs)
    (docs / "scans" / "one.png").unlink()
    (docs / "clip.mp4").unlink()
    assert index.index_folder(docs, sync=True).removed == 2
    assert index.store.ids() == [id for id in ALL if "one.png" not in id and "clip" not in id]
    assert index.info()["pictures"] == {"image": 1, "page": 3}


def test_one_bad_page_is_named_and_costs_only_itself(index, docs, bad_page):
    bad_page.add(2)
    report = index.index_folder(docs)
    assert (report.added, report.failed, report.pictures) == (5, 1, 5)
    (failure,) = report.failures
    assert (failure.path, failure.reason, failure.detail) == ("report.pdf", "a damaged page", "page 2")
    assert index.store.ids() == [id for id in ALL if id != "report.pdf#page=2"]
    assert index.index_folder(docs).unchanged == 5, "the rest of the file is not drawn again for it"


def test_a_file_without_readable_pages_keeps_its_documents_and_is_retried(index, docs, bad_page):
    index.index_folder(docs)
    before = index.get("report.pdf#page=1")[0].rowid
    write_pdf(docs / "report.pdf", 2)
    bad_page.update((1, 2))
    report = index.index_folder(docs)
    assert (report.updated, report.unchanged, report.failed) == (0, 4, 2)
    assert index.store.ids() == ALL
    assert index.get("report.pdf#page=1")[0].rowid == before
    bad_page.clear()
    assert index.index_folder(docs).updated == 1
    assert "report.pdf#page=3" not in index.store.ids()


@pytest.mark.parametrize("batch", [1, 16, 40, 256])
def test_bad_pages_in_files_larger_than_a_batch(tmp_path, visual, bad_page, batch):
    folder = tmp_path / "docs"
    folder.mkdir()
    write_pdf(folder / "a.pdf", 7)
    bad_page.update((1, 2, 5))
    with SmartIndex.create(tmp_path / "i.smart", visual, codec="float16") as index:
        for _ in range(2):
            report = index.index_folder(folder, batch=batch)
            assert index.store.ids() == [f"a.pdf#page={page}" for page in (3, 4, 6, 7)]
        assert report.unchanged == 1
        write_pdf(folder / "a.pdf", 8)
        assert index.index_folder(folder, batch=batch).updated == 1
        assert index.store.ids() == [f"a.pdf#page={page}" for page in (3, 4, 6, 7, 8)]
        assert index.verify().ok


def test_files_that_are_not_what_they_claim_are_named(index, docs):
    (docs / "a.png").write_bytes(b"no picture")
    (docs / "b.jpg").write_bytes((docs / "scans" / "two.jpg").read_bytes()[:900])
    (docs / "c.pdf").write_bytes(b"%PDF-1.4 no more")
    (docs / "d.mp4").write_bytes(b"\0" * 400)
    (docs / "e.gif").write_bytes(b"")
    report = index.index_folder(docs)
    assert {failure.path for failure in report.failures} == {"a.png", "b.jpg", "c.pdf", "d.mp4", "e.gif"}
    assert index.store.ids() == ALL
    assert index.index_folder(docs).failed == 5


def test_pictures_are_encoded_and_stored_a_few_at_a_time(index, tmp_path, encoded):
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(5):
        picture(number).save(folder / f"{number}.png")
    write_pdf(folder / "long.pdf", 7)
    commit = index.info()["commit"]
    index.index_folder(folder, batch=32)
    assert max(encoded) <= 3
    assert sum(encoded) == 12
    assert index.info()["commit"] - commit == len(encoded)


def test_formats_go_before_pages(index, docs):
    pytest.importorskip("pypdfium2")
    index.index_folder(docs, read_as={".pdf": "pdf", "*": "text"}, include=["*.pdf", "*.png"])
    assert [id for id in index.store.ids() if "page" in id] == []
    assert index.get("scans/one.png#image")[0].media is not None
    assert index.get("report.pdf#0")[0].media is None


def test_an_index_of_text_leaves_pictures_out(tmp_path, visual, docs):
    with SmartIndex.create(tmp_path / "t.smart", visual, codec="float16", files_as="text") as index:
        report = index.index_folder(docs, ocr="never")
        assert index.info()["pictures"] == {}
        assert {document.source for document in index.get(index.store.ids())} == {"notes.txt", "report.pdf"}
        assert report.skipped.counts["not a type that is read"] == 3
    with SmartIndex.open(tmp_path / "t.smart", visual) as again:
        assert again.index_folder(docs, ocr="never").unchanged == 2, "the mode is the index's, not the run's"


def test_a_model_without_video_leaves_videos_out(index, docs, monkeypatch):
    monkeypatch.setitem(index.store.manifest.limits, "modalities", ["text", "image"])
    report = index.index_folder(docs)
    assert (report.seen, report.failed) == (4, 0)
    assert "clip.mp4#video" not in index.store.ids()


def test_a_video_is_seen_through_the_index_limits(tmp_path, visual):
    (tmp_path / "docs").mkdir()
    write_video(tmp_path / "docs" / "long.mp4", frames=40)
    with SmartIndex.create(tmp_path / "v.smart", visual, codec="float16") as index:
        index.index_folder(tmp_path / "docs")
        media = index.get("long.mp4#video")[0].media
    assert len(media.times) == 6
    assert media.times[-1] == pytest.approx(39 / 4, abs=0.3)
    assert media.grids[0].t == 3


def test_ids_distinguish_pages_from_passages():
    assert picture_id("a b/c#d.pdf", "page", 12) == "a b/c#d.pdf#page=12"
    assert picture_id("x.png", "image", None) == "x.png#image"


RUN = """
import sys
sys.path.insert(0, sys.argv[4])
from pathlib import Path
from fixtures.hostile_pdf import HOSTILE
from fixtures.pictures import LIMITS
from smart_retrieval import SmartModel
from smart_retrieval.index.smart_index import SmartIndex
with SmartIndex.open(sys.argv[1], SmartModel(sys.argv[3], device="cpu", **LIMITS)) as index:
    index.index_folder(sys.argv[2], batch=32)
"""


def test_a_killed_run_goes_on_where_it_was(tmp_path, visual):
    folder = tmp_path / "docs"
    folder.mkdir()
    write_pdf(folder / "a.pdf", 60)
    write_pdf(folder / "b.pdf", 2)
    path = tmp_path / "k.smart"
    SmartIndex.create(path, visual, codec="float16").close()
    arguments = [
        sys.executable,
        "-c",
        RUN,
        str(path),
        str(folder),
        visual.backbone.name,
        str(Path(__file__).parents[2]),
    ]
    process = subprocess.Popen(arguments, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    with SmartIndex.open(path, visual) as index:
        while len(index) < 6:
            assert process.poll() is None, "the run ended by itself"
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        left = len(index)
        assert left < 62
        assert index.info()["files"] == 0, "no file is whole"
        report = index.index_folder(folder)
        assert (report.added, report.passages_removed) == (2, left)
        assert len(index) == 62
        assert index.index_folder(folder).unchanged == 2
        assert index.verify().ok


def test_a_page_that_kills_the_pdf_engine_costs_itself(index, docs, monkeypatch):
    call = calls._GUARD.call
    monkeypatch.setattr(calls._GUARD, "call", lambda f, limits, *rest: call(f, Limits(memory=100 * 2**20), *rest))
    (docs / "a.pdf").write_bytes(HOSTILE["loop"]())
    for _ in range(2):
        report = index.index_folder(docs)
        assert report.failed == 1
        assert [(found.path, found.reason) for found in report.failures] == [
            ("a.pdf", "its reader ran out of memory (possibly hostile)")
        ]
        assert index.store.ids() == ALL


def test_an_image_too_large_is_not_hashed(index, docs, monkeypatch):
    with (docs / "large.png").open("wb") as file:
        file.truncate(300 * 2**20)
    hashed = []
    monkeypatch.setattr(ingest, "content_hash", lambda path: hashed.append(path.name) or content_hash(path))
    report = index.index_folder(docs)
    assert [found.reason for found in report.failures] == ["larger than the limit of 268,435,456 bytes"]
    assert len(hashed) == 5
