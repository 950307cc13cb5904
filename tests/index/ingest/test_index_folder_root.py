"""An index belongs to one folder: a second one is refused, the same one in a new place is not."""

import shutil

import pytest

from smart_retrieval.errors import IndexMismatchError
from smart_retrieval.index.smart_index import SmartIndex


@pytest.fixture
def index(tmp_path, smart):
    with SmartIndex.create(tmp_path / "docs.smart", smart("mean"), codec="float16") as opened:
        yield opened


@pytest.fixture
def docs(tmp_path):
    folder = tmp_path / "docs"
    (folder / "guide").mkdir(parents=True)
    for number, name in enumerate(["guide/a.md", "guide/b.md", "c.txt", "readme.md"]):
        (folder / name).write_text("The otter swims." + " Cold" * number)
    return folder


@pytest.fixture
def other(tmp_path):
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "readme.md").write_text("The moon is a warm sun.")
    (folder / "tax.txt").write_text("Tax is due.")
    return folder


def contents(index):
    return {document.id: document.text for document in index.get(index.store.ids())}


@pytest.mark.parametrize("sync", [False, True])
def test_a_second_folder_is_refused_and_nothing_of_the_first_is_touched(index, docs, other, sync):
    index.index_folder(docs)
    before, commit = contents(index), index.info()["commit"]
    with pytest.raises(IndexMismatchError, match=r"docs'.*other'.*index of its own"):
        index.index_folder(other, sync=sync)
    assert (contents(index), index.info()["commit"]) == (before, commit)
    assert index.index_folder(docs, sync=True).unchanged == 4


def test_another_process_knows_the_folder_too(index, docs, other, smart):
    index.index_folder(docs)
    with SmartIndex.open(index.path, smart("mean")) as again:
        assert again.store.manifest.root == str(docs.resolve())
        with pytest.raises(IndexMismatchError):
            again.index_folder(other)


def test_a_folder_that_was_moved_is_the_same(index, docs, tmp_path):
    index.index_folder(docs)
    docs.rename(tmp_path / "moved")
    (tmp_path / "moved" / "new.txt").write_text("A new warm day.")
    (tmp_path / "moved" / "c.txt").unlink()
    report = index.index_folder(tmp_path / "moved", sync=True)
    assert (report.unchanged, report.added, report.removed) == (3, 1, 1)
    docs.mkdir()
    (docs / "x.txt").write_text("Something else is here now.")
    with pytest.raises(IndexMismatchError):
        index.index_folder(docs)


def test_sync_wants_most_of_the_index_to_be_there(index, docs, tmp_path):
    index.index_folder(docs)
    part = tmp_path / "part"
    part.mkdir()
    shutil.copy(docs / "c.txt", part)
    with pytest.raises(IndexMismatchError):
        index.index_folder(part, sync=True)
    assert len(contents(index)) == 4
    assert index.index_folder(part).unchanged == 1


def test_a_part_of_the_folder_is_not_a_folder_of_its_own(index, docs):
    index.index_folder(docs)
    with pytest.raises(IndexMismatchError, match="with include for this part"):
        index.index_folder(docs / "guide")
    assert set(contents(index)) == {"guide/a.md#0", "guide/b.md#0", "c.txt#0", "readme.md#0"}
    assert index.index_folder(docs, include=["guide/"]).unchanged == 2


def test_a_single_file_of_the_folder(index, docs):
    index.index_folder(docs)
    (docs / "c.txt").write_text("Changed: the sun is cold.")
    report = index.index_folder(docs / "c.txt", sync=True)
    assert (report.updated, report.removed) == (1, 0)
    assert len(contents(index)) == 4


def test_an_emptied_index_is_free_again(index, docs, other):
    index.index_folder(docs)
    for path in list(index.store.files.all()):
        index.store.files.drop(path)
    assert index.index_folder(other).added == 2
    with pytest.raises(IndexMismatchError):
        index.index_folder(docs)


def test_recoding_in_a_process_that_opened_it_before_keeps_the_folder(index, docs, smart):
    with SmartIndex.open(index.path, smart("mean")) as older:
        older.info()
        index.index_folder(docs)
        older.store.recode(
            older.store.codec(),
            lambda vectors: (vectors.codes, vectors.offsets),
            codec_name=older.store.manifest.codec,
            code_width=older.store.manifest.code_width,
        )
    with SmartIndex.open(index.path) as again:
        assert again.store.manifest.root == str(docs.resolve())
