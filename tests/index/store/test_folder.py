"""An index is made whole or not at all, and what is none is refused by name."""

import errno
import os
import sqlite3

import pytest
from fixtures import stores
from fixtures.stores import change, record

from smart_retrieval.errors import IndexFormatError, IndexMismatchError, IndexReadOnlyError, SmartError
from smart_retrieval.index.smart_index import SmartIndex
from smart_retrieval.index.store.folder import check_place
from smart_retrieval.index.store.manifest import Manifest
from smart_retrieval.index.store.store import Store


def test_create_refuses_an_index_that_is_there(store, path):
    with pytest.raises(IndexFormatError, match="already"):
        Store.create(path, stores.manifest())
    assert sorted(file.name for file in path.iterdir() if not file.name.startswith("index.sqlite-")) == ["index.sqlite"]


def test_other_files_are_refused(tmp_path):
    with pytest.raises(IndexFormatError, match="no index"):
        Store.open(tmp_path)
    with pytest.raises(IndexFormatError, match="no index"):
        Store.open(tmp_path / "missing")
    file = tmp_path / "index.sqlite"
    file.write_bytes(b"")
    with pytest.raises(IndexFormatError, match="something else"):
        Store.open(tmp_path)
    file.write_bytes(b"no database at all" * 100)
    with pytest.raises(IndexFormatError, match="no SQLite"):
        Store.open(tmp_path, "w")
    file.unlink()
    foreign = sqlite3.connect(file)
    foreign.execute("CREATE TABLE state (a)")
    foreign.close()
    with pytest.raises(IndexFormatError, match="something else"):
        Store.open(tmp_path)
    with pytest.raises(SmartError, match="'r', 'w'"):
        Store.open(tmp_path, "a")  # type: ignore[arg-type]


def test_a_folder_that_one_may_not_look_into(store, path, monkeypatch):
    stat = os.stat

    def refused(file, **options):
        if str(file).startswith(f"{path}{os.sep}"):
            raise PermissionError(errno.EACCES, "Permission denied", str(file))
        return stat(file, **options)

    monkeypatch.setattr(os, "stat", refused)
    for attempt in (Store.open, lambda path: Store.create(path, stores.manifest())):
        with pytest.raises(IndexReadOnlyError, match="check the folder's permissions"):
            attempt(path)


@pytest.mark.parametrize(("version", "todo"), [(3, "upgrade"), (0, "index the documents again")])
def test_another_format(store, path, version, todo):
    store.close()
    change(path, f"PRAGMA user_version = {version}")
    with pytest.raises(IndexFormatError, match=f"found format {version}, .* reads formats 1 and 2; {todo}"):
        Store.open(path)


def test_another_model_codec_or_readout_is_refused(store, path):
    found = Store.open(path).manifest
    found.require(model={"name": "tiny"}, codec="test", readout={}, pooling=None)
    with pytest.raises(IndexMismatchError, match=r"model.name is 'tiny', not 'other'; its codec is 'test', not 'int8'"):
        found.require(model={"name": "other"}, codec="int8")
    made = Manifest(model={"a": 1}, codec="c", anchor_dim=1, code_width=1, prompts={"query": ("a", "b")})
    made.require(prompts={"query": ["a", "b"]})


def test_info(store, path):
    store.add([record("a"), record("b")])
    found = store.info()
    assert (found["documents"], found["commit"], found["codec"], found["files"]) == (2, 1, "test", 0)
    assert found["tokens"] == sum(len(record(id).codes) for id in "ab")
    assert found["bytes"]["database"] > 0
    assert found["updated"] >= found["created"]


def test_a_place_for_no_index_is_said_before_a_model_is_loaded(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "a" / "b.smart"):
        for make in (SmartIndex.create, SmartIndex.open_or_create):
            with pytest.raises(SmartError, match=r"found a file at .*file', expected a folder"):
                make(path, "no/such/model")
    check_place(tmp_path / "a" / "b.smart")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(SmartError, match="no permission to write"):
        check_place(tmp_path / "a" / "b.smart")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
