"""Processes that are killed, that compete, and disks that fill up: what was acknowledged stays."""

import os
import shutil
import sqlite3
import subprocess
import threading

import numpy as np
import pytest
from fixtures import stores

from smart_retrieval.errors import IndexBusyError, IndexFormatError, IndexFullError
from smart_retrieval.index.mirror.mirror import Mirror
from smart_retrieval.index.store import connections, folder
from smart_retrieval.index.store.lock import file_lock
from smart_retrieval.index.store.records import Record
from smart_retrieval.index.store.store import Store


def test_kill_9_loses_nothing_acknowledged(tmp_path):
    counts = stores.kill_rounds(tmp_path, rounds=8, longest=0.5)
    assert counts["lost"] == counts["damaged"] == 0
    assert counts["acknowledged"] > 20


def test_writers_and_readers_at_once(tmp_path):
    counts = stores.writers_and_readers(tmp_path, seconds=3)
    assert counts["lost_rows"] == counts["unexpected_rows"] == 0
    assert counts["commits"] > 20
    assert counts["commits_seen_by_readers"] > 10


def large(number: int) -> Record:
    rng = np.random.default_rng(number)
    return Record(
        id=f"large-{number}",
        anchor=np.ones(stores.ANCHOR_DIM, np.float32),
        codes=rng.integers(0, 256, (8000, stores.CODE_WIDTH), np.uint8),
        token_ids=np.zeros(8000, np.int32),
        text="large",
    )


def fill(store: Store) -> int:
    with pytest.raises(IndexFullError, match="disk is full"):
        add_one_by_one(store)
    assert store.count() > 0
    return store.count()


def add_one_by_one(store: Store) -> None:
    for number in range(1000):
        store.add([large(number)])


def add_all(store: Store, count: int) -> None:
    with store.transaction():
        for number in range(count):
            store.add([large(number)])


def test_full_disk(tmp_path):
    mount = tmp_path / "small"
    mount.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", mount], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("mounting a small disk is not permitted here")
    try:
        with Store.create(mount / "a.smart", stores.manifest()) as store:
            stored = fill(store)
            assert store.count() == stored
            assert set(store.ids()) == {f"large-{number}" for number in range(stored)}
            with Store.open(mount / "a.smart") as other:
                assert other.count() == stored
                assert other.verify().ok
                mirror = Mirror(other)  # no room beside the database: a private copy
                assert mirror.snapshot().documents == stored
                mirror.close()
            subprocess.run(["mount", "-o", "remount,size=40m", mount], check=True)
            store.add([large(2000)])
            assert store.count() == stored + 1
            assert store.verify().ok
    finally:
        subprocess.run(["umount", "-l", mount], check=True)


def test_a_disk_without_room_for_shared_memory_can_be_read(tmp_path, monkeypatch):
    with Store.create(tmp_path / "a.smart", stores.manifest()) as store:
        store.add([stores.record("a")])
    connect = connections.connect

    def full(uri, timeout):
        if uri.endswith("index.sqlite?mode=ro"):
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_SHMSIZE
            raise error
        return connect(uri, timeout)

    monkeypatch.setattr(connections, "connect", full)
    with Store.open(tmp_path / "a.smart") as store:
        assert stores.contents(store) == {"a": 0}
        assert store.verify().ok


def test_full_disk_simulated(tmp_path):
    with Store.create(tmp_path / "a.smart", stores.manifest()) as store:
        with store.reading() as connection:
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            connection.execute(f"PRAGMA max_page_count = {pages + 30}")
        stored = fill(store)
        assert store.count() == stored
        with store.reading() as connection:
            connection.execute("PRAGMA max_page_count = 1000000")
        store.add([large(2000)])
        assert store.delete(ids=["large-0"]) == 1
        assert store.verify().ok


def test_full_disk_in_the_middle_of_a_transaction_undoes_all_of_it(tmp_path):
    with Store.create(tmp_path / "a.smart", stores.manifest()) as store:
        store.add([stores.record("before")])
        with store.reading() as connection:
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            connection.execute(f"PRAGMA max_page_count = {pages + 30}")
        with pytest.raises(IndexFullError):
            add_all(store, 100)
        assert store.ids() == ["before"]
        assert store.verify().ok


def test_a_writer_that_waits_too_long_gives_up_by_name(tmp_path):
    path = tmp_path / "a.smart"
    Store.create(path, stores.manifest()).close()
    with Store.open(path, "w", timeout=0.1) as store, file_lock(path / "write.lock", 0) as held:
        assert held
        with pytest.raises(IndexBusyError, match="another process is writing"):
            store.add([stores.record("a")])
    with Store.open(path, "w", timeout=0.1) as store:
        assert store.add([stores.record("a")]).rowids == [1]


def test_a_lock_of_sqlite_itself_is_waited_for_too(tmp_path):
    with Store.create(tmp_path / "a.smart", stores.manifest(), timeout=0.1) as store:
        foreign = sqlite3.connect(tmp_path / "a.smart" / "index.sqlite", isolation_level=None)
        foreign.execute("BEGIN IMMEDIATE")
        with pytest.raises(IndexBusyError):
            store.add([stores.record("a")])
        foreign.close()
        store.add([stores.record("a")])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_reads_on_its_own_connection(tmp_path):
    with Store.create(tmp_path / "a.smart", stores.manifest()) as store:
        store.add([stores.record("a")])
        child = os.fork()
        if not child:
            code = 1
            try:
                code = 0 if store.ids() == ["a"] and store.add([stores.record("b")]).commit == 2 else 2
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        assert store.ids() == ["a", "b"]
        assert store.verify().ok


def test_read_only_folder(tmp_path):
    source = tmp_path / "a.smart"
    with Store.create(source, stores.manifest()) as store:
        store.add([stores.record(f"{number}") for number in range(20)])
    mount = tmp_path / "fixed"
    mount.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", mount], capture_output=True, check=False).returncode:
        pytest.skip("mounting is not permitted here")
    try:
        shutil.copytree(source, mount / "a.smart")
        subprocess.run(["mount", "-o", "remount,ro", mount], check=True)
        with Store.open(mount / "a.smart") as store:
            assert store.count() == 20
            assert store.verify().ok
            mirror = Mirror(store)
            stores.assert_mirrors(mirror, store)
            # Somebody with permission goes on writing: an unlocked reader starts over.
            subprocess.run(["mount", "-o", "remount,rw", mount], check=True)
            with Store.open(mount / "a.smart", "w") as other:
                other.add([stores.record("more")])
            assert store.count() == 21
            stores.assert_mirrors(mirror, store)
            mirror.close()
    finally:
        subprocess.run(["umount", "-l", mount], check=True)


def test_a_limit_of_file_size_is_named_and_loses_nothing(tmp_path):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Store.create(tmp_path / "a.smart", stores.manifest()) as store:
        store.add([stores.record("before")])
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
        try:
            with pytest.raises(IndexFullError, match="quota or a limit"):
                add_one_by_one(store)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        stored = store.count()
        store.add([large(2000)])
        assert store.count() == stored + 1
        assert "before" in store.ids()
        assert store.verify().ok


def test_a_backup_is_one_whole_commit_whatever_is_written_meanwhile(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "_PAGES_AT_ONCE", 1)
    done = threading.Event()
    with Store.create(tmp_path / "a.smart", stores.manifest()) as store:
        store.add([stores.record(f"base-{number}") for number in range(200)])

        def write():
            number = 0
            while not done.is_set():
                store.add([stores.record(f"{number}-{part}") for part in "ab"])
                if number % 3 == 2:
                    store.delete(ids=[f"{number - 2}-a", f"{number - 2}-b"])
                number += 1

        writer = threading.Thread(target=write)
        writer.start()
        meanwhile = 0
        try:
            for number in range(6):
                before = store.state().number
                store.backup(tmp_path / f"{number}.smart")
                meanwhile += store.state().number - before
        finally:
            done.set()
            writer.join()
    assert meanwhile > 0
    for number in range(6):
        with Store.open(tmp_path / f"{number}.smart", "w") as copied:
            report = copied.verify()
            assert report.ok
            assert not report.notes
            found = stores.contents(copied)
            assert len([id for id in found if id.startswith("base-")]) == 200
            assert {id.rpartition("-")[0] for id in found if id.endswith("-a")} == {
                id.rpartition("-")[0] for id in found if id.endswith("-b")
            }
            copied.add([stores.record("later")])
        assert not list((tmp_path / f"{number}.smart").glob("*.new-*"))


def test_a_backup_replaces_nothing_and_leaves_nothing_behind(tmp_path, monkeypatch):
    with Store.create(tmp_path / "a.smart", stores.manifest()) as store:
        store.add([stores.record("a")])
        for place in ("a.smart", "b.smart"):
            if place == "b.smart":
                store.backup(tmp_path / place)
            with pytest.raises(IndexFormatError, match="already"):
                store.backup(tmp_path / place)
        monkeypatch.setattr(folder, "_PAGES_AT_ONCE", "none")
        with pytest.raises(TypeError):
            store.backup(tmp_path / "c.smart")
    assert not list((tmp_path / "c.smart").iterdir())
    with Store.open(tmp_path / "b.smart") as copied:
        assert stores.contents(copied) == {"a": 0}
