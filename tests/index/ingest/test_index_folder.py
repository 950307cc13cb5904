"""A folder into an index: only what changed, whole files, one broken file costs nothing else."""

import json
import os
import signal
import socket
import sys
import time
from contextlib import closing

import pytest

from smart_retrieval.documents.passages import passage_body
from smart_retrieval.documents.readers.jsonl import JsonlFields
from smart_retrieval.errors import CodecError, IndexMismatchError, MediaError, MissingExtraError, SmartError
from smart_retrieval.files import content_hash
from smart_retrieval.index.ingest import reading as ingest
from smart_retrieval.index.ingest.file_reader import FileReader, token_counter
from smart_retrieval.index.ingest.folder import FileBatches
from smart_retrieval.index.smart_index import SmartIndex

OTTERS = "# Otters\n\nThe otter swims in the cold river.\n\n## Sleep\n\nOtters sleep when the day is long and warm.\n"


@pytest.fixture
def docs(tmp_path):
    folder = tmp_path / "docs"
    (folder / "guide").mkdir(parents=True)
    (folder / "guide" / "otters.md").write_text(OTTERS)
    (folder / "tax.txt").write_text("Tax is due in the long cold day.\n\n" * 12)
    (folder / "page.html").write_text("<h1>Moon</h1><p>The moon is a warm sun &lt;script&gt;.</p>")
    return folder


@pytest.fixture
def index(tmp_path, smart):
    with SmartIndex.create(tmp_path / "docs.smart", smart("mean"), codec="float16") as opened:
        yield opened


@pytest.fixture
def encoded(index, monkeypatch):
    """The texts that were encoded, batch by batch."""
    batches = []
    model = index.model
    encode = type(model).encode_document

    def record(self, items, **kwargs):
        batches.append([item.text for item in items])
        return encode(self, items, **kwargs)

    monkeypatch.setattr(type(model), "encode_document", record)
    return batches


def contents(index):
    return {document.id: document.text for document in index.get(index.store.ids())}


def sources(index):
    return sorted({document.source for document in index.get(index.store.ids())})


def test_every_passage_knows_where_it_stands_and_fits_the_model(index, docs):
    report = index.index_folder(docs, min_tokens=0)
    assert (report.seen, report.added, report.failed) == (3, 3, 0)
    assert report.truncated == 0
    assert report.passages == len(index) > 3
    count = token_counter(index.model)
    found = index.get(index.store.ids())
    assert max(count(document.text) for document in found) <= index.model.max_length
    assert all(document.id.startswith(f"{document.source}#") for document in found)
    sleep = index.get("guide/otters.md#1")[0]
    assert sleep.heading == "Otters > Sleep"
    assert sleep.text == "Otters > Sleep\nOtters sleep when the day is long and warm."
    assert passage_body(sleep.text, sleep.heading)[1] == "Otters sleep when the day is long and warm."
    assert index.info()["files"] == 3
    assert index.verify().ok


def test_small_files_share_a_forward_pass(index, tmp_path, encoded):
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(20):
        (folder / f"{number:02}.txt").write_text(f"the otter {number}")
    before = index.info()["commit"]
    index.index_folder(folder, batch=8)
    assert [len(texts) for texts in encoded] == [8, 8, 4]
    assert index.info()["commit"] - before == 3


def test_the_second_run_encodes_nothing(index, docs, encoded):
    index.index_folder(docs)
    commit, ids = index.info()["commit"], index.store.ids()
    encoded.clear()
    again = index.index_folder(docs)
    assert (again.unchanged, again.added, again.updated, again.passages) == (3, 0, 0, 0)
    assert encoded == []
    assert (index.info()["commit"], index.store.ids()) == (commit, ids)


def test_a_touched_file_is_hashed_once_and_not_encoded(index, docs, encoded, monkeypatch):
    index.index_folder(docs)
    encoded.clear()
    os.utime(docs / "tax.txt", (1, 1))
    assert index.index_folder(docs).unchanged == 3
    assert encoded == []
    monkeypatch.setattr(ingest, "content_hash", lambda path: pytest.fail("hashed again"))
    assert index.index_folder(docs).unchanged == 3


def test_a_changed_file_replaces_its_passages_and_no_others(index, docs, encoded):
    index.index_folder(docs)
    before = contents(index)
    encoded.clear()
    (docs / "tax.txt").write_text("Bread and butter.")
    report = index.index_folder(docs)
    assert (report.updated, report.unchanged, report.passages) == (1, 2, 1)
    assert encoded == [["Bread and butter."]]
    after = contents(index)
    assert after.pop("tax.txt#0") == "Bread and butter."
    assert after == {id: text for id, text in before.items() if not id.startswith("tax.txt#")}


def test_a_file_that_became_empty_has_no_passages(index, docs):
    index.index_folder(docs)
    (docs / "tax.txt").write_text("")
    assert index.index_folder(docs).updated == 1
    assert "tax.txt" not in sources(index)
    assert index.index_folder(docs).unchanged == 3


def test_sync_removes_missing_files_only(index, docs):
    index.add(["the cold moon"], ids=["mine"], sources=["elsewhere.txt"])
    index.index_folder(docs)
    (docs / "tax.txt").unlink()
    assert index.index_folder(docs).removed == 0
    assert "tax.txt" in sources(index)
    report = index.index_folder(docs, sync=True)
    assert report.removed == 1
    assert sources(index) == ["elsewhere.txt", "guide/otters.md", "page.html"]
    assert index.info()["files"] == 2


def test_sync_does_not_empty_the_index_of_a_folder_that_is_not_mounted(index, docs, tmp_path):
    index.index_folder(docs)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SmartError, match="found no files at all"):
        index.index_folder(tmp_path / "empty", sync=True)
    assert len(sources(index)) == 3


def test_sync_keeps_folders_that_could_not_be_read(index, docs, monkeypatch):
    index.index_folder(docs)
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("guide"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    report = index.index_folder(docs, sync=True)
    assert (report.removed, report.failed) == (0, 1)
    assert "guide/otters.md" in sources(index)


def test_broken_files_are_named_and_the_rest_is_indexed(index, docs):
    (docs / "broken.pdf").write_bytes(b"%PDF-1.4 and no more")
    (docs / "noise.txt").write_bytes(b"\x00\x01" * 100)
    (docs / "clip.mp4").write_bytes(b"none")
    (docs / "talk.mp3").write_bytes(b"none")
    report = index.index_folder(docs)
    assert (report.seen, report.added, report.failed) == (5, 3, 2)
    failed = {entry["files"][0]["path"]: entry["reason"] for entry in report.reasons() if entry["failed"]}
    assert failed == {"broken.pdf": "not a readable PDF", "noise.txt": "binary, not text"}
    assert report.skipped.counts["not a type that is read"] == 1
    assert [record.path for record in report.skipped.records("the model reads no sound")] == ["talk.mp3"]
    json.dumps(report.to_dict())


def test_what_was_indexed_of_a_file_stays_when_it_breaks(index, docs):
    index.index_folder(docs)
    before = contents(index)
    (docs / "tax.txt").write_bytes(b"\x00" * 50)
    report = index.index_folder(docs)
    assert (report.failed, report.updated) == (1, 0)
    assert contents(index) == before


def test_a_file_that_breaks_after_some_batches_is_removed(index, docs, monkeypatch):
    documents = FileReader.documents

    def breaking(self, file, notes, skipped):
        for number, document in enumerate(documents(self, file, notes, skipped)):
            if file.relative == "tax.txt" and number == 5:
                raise MediaError("cannot read on")
            yield document

    index.index_folder(docs)
    (docs / "tax.txt").write_text("The sea is cold.\n\n" * 40)
    monkeypatch.setattr(FileReader, "documents", breaking)
    report = index.index_folder(docs, batch=2)
    assert report.failed == 1
    assert "tax.txt" not in sources(index)
    monkeypatch.undo()
    assert index.index_folder(docs).added == 1


def test_a_missing_extra_is_one_reason_for_all_its_files(index, docs, monkeypatch):
    from smart_retrieval.documents import read as readers

    def missing(path, options):
        raise MissingExtraError('run  pip install "smart-retrieval[pdf]"')

    monkeypatch.setattr(readers, "READERS", {**readers.READERS, "pdf": missing})
    for name in "ab":
        (docs / f"{name}.pdf").write_bytes(b"%PDF-1.4")
    reasons = [entry for entry in index.index_folder(docs).reasons() if entry["failed"]]
    assert [entry["count"] for entry in reasons] == [2]
    assert "smart-retrieval[pdf]" in reasons[0]["reason"]


@pytest.mark.parametrize("stop_at", [1, 2, 3, 4])
def test_an_interrupted_run_resumes_and_repairs(index, docs, monkeypatch, stop_at, tmp_path, smart):
    """Stopped in any commit, no file is marked whole that is not; the next run ends where an undisturbed one does."""
    from smart_retrieval.index.store.store import FileRegistry, Store

    add, calls = Store.add, []

    def dying(self, *arguments, **options):
        calls.append(1)
        if len(calls) == stop_at:
            raise KeyboardInterrupt
        return add(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "add", dying)
        with pytest.raises(KeyboardInterrupt):
            index.index_folder(docs, batch=2)
    whole = FileRegistry(index.store).all()
    resumed = index.index_folder(docs, batch=2)
    assert resumed.unchanged == len(whole)
    with SmartIndex.create(tmp_path / "again.smart", smart("mean"), codec="float16") as fresh:
        fresh.index_folder(docs)
        assert contents(index) == contents(fresh)
    assert index.verify().ok


def test_kill_9_in_the_middle(tmp_path, smart):
    """A process of its own, killed between two commits of one large file."""
    folder, path = tmp_path / "docs", tmp_path / "i.smart"
    folder.mkdir()
    (folder / "a.txt").write_text("a small otter")
    (folder / "b.txt").write_text("\n\n".join(f"the otter number {n} swims in the cold river" for n in range(60)))
    SmartIndex.create(path, smart("mean"), codec="float16").close()
    child = os.fork()
    if not child:
        signal.alarm(30)
        store, stored = FileBatches._store, []

        def dying(self, batch):
            store(self, batch)
            stored.append(1)
            if len(stored) == 2:
                os.kill(os.getpid(), signal.SIGKILL)

        FileBatches._store = dying
        try:
            SmartIndex.open(path, smart("mean")).index_folder(folder, batch=4)
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    with SmartIndex.open(path, smart("mean")) as index:
        assert len(index) == 9
        assert list(index.store.files.all()) == ["a.txt"], "the file of the commits that are missing is not whole"
        report = index.index_folder(folder)
        assert (report.unchanged, report.added) == (1, 1)
        assert report.passages_removed == 8
        assert report.passages + 1 == len(index) == len(set(index.store.ids())) > 20
        assert index.verify().ok


def test_sync_removes_leftovers_of_a_killed_run(index, docs):
    index.index_folder(docs)
    with index.store.transaction() as handle:
        handle.connection.execute("DELETE FROM files WHERE path = 'tax.txt'")
        handle.dirty = True
    (docs / "tax.txt").unlink()
    index.index_folder(docs, sync=True)
    assert "tax.txt" not in sources(index)


def test_filters_and_the_index_within_the_folder(docs, smart):
    (docs / ".hidden").mkdir()
    (docs / ".hidden" / "a.md").write_text("moon")
    with SmartIndex.create(docs / "inside.smart", smart("mean"), codec="float16") as index:
        report = index.index_folder(docs, include=["*.md", "*.html"], exclude=["page*"], read_as={"*": "text"})
        assert sources(index) == ["guide/otters.md"]
        assert report.failed == 0
        index.index_folder(docs, hidden=True, read_as={"*": "text"})
        assert ".hidden/a.md" in sources(index)
        assert not any("inside.smart" in source for source in sources(index))


def test_unknown_types_are_read_as_the_given_format(index, docs):
    (docs / "a.conf").write_text("the warm sun")
    (docs / "Makefile").write_text("the cold moon")
    index.index_folder(docs, read_as={".conf": "text"})
    assert "a.conf" in sources(index)
    assert "Makefile" not in sources(index)
    index.index_folder(docs, read_as={"*": "text"})
    assert "Makefile" in sources(index)


def test_records_of_json_lines_become_passages_with_metadata(index, docs):
    lines = [{"key": f"r{n}", "head": "Sea", "body": "the otter", "year": 2020 + n} for n in range(3)]
    (docs / "r.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\nno json\n")
    fields = JsonlFields(("body",), "head", "key")
    report = index.index_folder(docs, jsonl=fields)
    assert [document.id for document in index.get(index.store.ids("year > 2020"))] == ["r.jsonl#r1", "r.jsonl#r2"]
    assert index.get("r.jsonl#r1")[0].heading == "Sea"
    assert report.n_notes == 2
    assert report.notes[0][0] == "r.jsonl"


def test_a_file_with_content_and_no_text_is_named_each_time_and_its_old_passages_go(index, docs):
    page = docs / "page.html"
    page.write_text("<p>the warm otter</p>")
    index.index_folder(docs)
    assert "page.html" in sources(index)
    page.write_text("<title>App</title><div id=root></div><script>start()</script>")
    (docs / "empty.txt").write_text(" \n")
    for _ in range(2):
        report = index.index_folder(docs)
        assert [(record.path, record.reason) for record in report.failures] == [
            ("page.html", "holds no text that can be read")
        ]
        assert "page.html" not in sources(index)
    page.write_text("<p>the otter again</p>")
    assert (index.index_folder(docs).failed, "page.html" in sources(index)) == (0, True)


def test_guessed_and_damaged_text_is_counted_by_files(index, docs):
    russian = "Сегодня мы собрались, чтобы обсудить важный вопрос о будущем нашего города."
    for name in ("a.txt", "b.md"):
        (docs / name).write_bytes(russian.encode("cp1251"))
    (docs / "c.txt").write_bytes("Größe und Güte und Höhe".encode() + b"\xff")
    report = index.index_folder(docs)
    named = [{"path": "a.txt", "detail": "cp1251"}, {"path": "b.md", "detail": "cp1251"}]
    assert report.to_dict()["notes"]["kinds"] == [
        {"note": "encoding guessed", "count": 2, "files": named},
        {"note": "damaged characters", "count": 1, "files": [{"path": "c.txt", "detail": "1 in utf-8"}]},
    ]
    (docs / "d.txt").write_bytes("Привет".encode("koi8-r"))
    assert index.index_folder(docs, encoding="koi8-r").notes == []
    assert [hit.text for hit in index.get(index.store.ids("source = 'd.txt'"))] == ["Привет"]
    with pytest.raises(SmartError, match="found 'klingon'"):
        index.index_folder(docs, encoding="klingon")


def test_limits_that_the_model_does_not_have_are_refused(index, docs):
    with pytest.raises(SmartError, match="at most the model's"):
        index.index_folder(docs, max_tokens=10_000)
    with pytest.raises(SmartError, match="overlap"):
        index.index_folder(docs, max_tokens=20, overlap=15)
    with pytest.raises(MediaError):
        index.index_folder(docs / "nowhere")


def test_tokens_are_counted_with_prompt_and_special_tokens(smart):
    model = smart("prompts")
    count = token_counter(model)
    for text in ("", "the otter", "warmest zebras float"):
        prompt = model.backbone.prompt_for("document", None, None)
        assert count(text) == model.backbone.token_count(text, prompt=prompt, task="document")


def test_an_index_is_made_once_and_then_opened(tmp_path, tiny):
    path, model = tmp_path / "i.smart", str(tiny("mean"))
    SmartIndex.open_or_create(path, model, codec="int8", token_pooling=2).close()
    with SmartIndex.open_or_create(path) as index:
        assert index.info()["codec_wanted"] == "int8"
    with pytest.raises(CodecError, match="leave --codec out"):
        SmartIndex.open_or_create(path, codec="float16")
    with pytest.raises(IndexMismatchError, match="pooling"):
        SmartIndex.open_or_create(path, token_pooling=3)
    with pytest.raises(IndexMismatchError):
        SmartIndex.open_or_create(path, str(tiny("prompts")))


def test_a_loaded_model_opens_or_creates_too(tmp_path, smart):
    path, model = tmp_path / "i.smart", smart("mean")
    with SmartIndex.open_or_create(path, model, codec="float16") as index:
        assert index.model is model
        index.add(["the otter"], ids=["a"])
    with SmartIndex.open_or_create(path, model) as index:
        assert index.model is model
        assert len(index) == 1
    with pytest.raises(IndexMismatchError):
        SmartIndex.open_or_create(path, smart("prompts"))
    with pytest.raises(SmartError, match="max_frames: found a model loaded with None, expected 3"):
        SmartIndex.open_or_create(tmp_path / "other.smart", model, max_frames=3)
    assert not (tmp_path / "other.smart").exists()


def test_the_bar_ends_where_the_bytes_do(index, docs, monkeypatch):
    from contextlib import contextmanager

    shown = {}

    @contextmanager
    def bar(description, total, show=None):
        shown.update(total=total, done=0)

        def advance(count):
            shown["done"] += count

        yield advance

    monkeypatch.setattr("smart_retrieval.index.ingest.folder.progress", bar)
    (docs / "long.txt").write_text("the otter swims in the river\n\n" * 300)
    (docs / "bad.txt").write_bytes(b"\x00" * 5000)
    index.index_folder(docs, batch=4)
    assert shown["done"] == shown["total"] > 10


def test_a_run_is_quick_where_nothing_changed(index, tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(300):
        (folder / f"{number}.txt").write_text("the otter")
    index.index_folder(folder)
    start = time.perf_counter()
    assert index.index_folder(folder).unchanged == 300
    assert time.perf_counter() - start < 1.0


def test_files_too_large_are_not_hashed(index, docs, monkeypatch):
    for name in ("large.txt", "large.pdf"):
        with (docs / name).open("wb") as file:
            file.truncate(65 * 2**20)
    (docs / "records.jsonl").write_text('{"text": "a record"}\n')
    hashed = []
    monkeypatch.setattr(ingest, "content_hash", lambda path: hashed.append(path.name) or content_hash(path))
    report = index.index_folder(docs)
    assert sorted(found.path for found in report.failures) == ["large.pdf", "large.txt"]
    assert {found.reason for found in report.failures} == {"larger than the limit of 67,108,864 bytes"}
    assert sorted(hashed) == ["otters.md", "page.html", "records.jsonl", "tax.txt"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc and /sys are Linux's")
def test_what_is_no_file_of_a_disk_neither_hangs_nor_is_read(index, docs):
    os.mkfifo(docs / "pipe.md")
    with closing(socket.socket(socket.AF_UNIX)) as listening:
        listening.bind(str(docs / "socket.md"))
    targets = {"zero.md": "/dev/zero", "messages.md": "/proc/kmsg", "status.md": "/proc/self/status", "system": "/sys"}
    for name, target in {**targets, "processes": "/proc", "memory.pdf": "/proc/self/mem"}.items():
        (docs / name).symlink_to(target)
    report = index.index_folder(docs)
    assert report.added == 3
    assert {found.path: found.reason for found in report.skipped} == {
        **dict.fromkeys(("pipe.md", "socket.md", "zero.md"), "not a regular file"),
        **dict.fromkeys(
            ("messages.md", "status.md", "memory.pdf", "system/", "processes/"),
            "of the system (as under /proc), not of a disk",
        ),
    }
    for root in ("/proc", "/proc/self/status", "/sys/kernel"):
        with pytest.raises(MediaError, match="of the system"):
            index.index_folder(root)
