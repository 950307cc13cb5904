"""The mirror equals the database whatever happened to its files, and catches up at the cost of what changed."""

import json
import shutil
import zlib

import numpy as np
import pytest
from fixtures import stores
from fixtures.stores import assert_mirrors, record

from smart_retrieval.checksums import signed
from smart_retrieval.errors import IndexDamagedError, SmartWarning
from smart_retrieval.index.mirror.files import MirrorFiles
from smart_retrieval.index.mirror.mirror import FOLD_ROWS, Mirror
from smart_retrieval.index.store.lock import file_lock
from smart_retrieval.index.store.store import Store


@pytest.fixture
def store(tmp_path):
    with Store.create(tmp_path / "a.smart", stores.manifest()) as store:
        store.add([record(f"{number}") for number in range(30)])
        yield store


@pytest.fixture
def writes(monkeypatch):
    """Names of how the files were written: ``"new"`` or ``"append"``."""
    found = []
    write = MirrorFiles.write

    def noted(self, store, state, base=None, *arguments, **options):
        found.append("new" if base is None else "append")
        return write(self, store, state, base, *arguments, **options)

    monkeypatch.setattr(MirrorFiles, "write", noted)
    return found


def names(store):
    return sorted(path.name for path in (store.path / "derived").iterdir())


def test_an_empty_index(tmp_path):
    with Store.create(tmp_path / "a.smart", stores.manifest()) as store:
        mirror = Mirror(store)
        snapshot = mirror.snapshot()
        assert (len(snapshot), snapshot.documents, snapshot.rowids_at(np.arange(0)).tolist()) == (0, 0, [])
        assert snapshot.codes_at(np.zeros(0, np.int64))[0].shape == (0, stores.CODE_WIDTH)
        assert snapshot.positions([1, 2]).tolist() == [-1, -1]
        store.add([record("a")])
        assert_mirrors(mirror, store)
        assert_mirrors(Mirror(store), store)


def test_files_are_used_again_and_nothing_is_read_twice(store, writes):
    assert_mirrors(Mirror(store), store)
    mirror = Mirror(store)
    assert_mirrors(mirror, store)
    assert writes == ["new"]
    assert mirror.snapshot() is mirror.snapshot()
    assert mirror.verify() == []


def test_new_rows_and_deletes_are_seen_at_once(store, writes):
    mirror = Mirror(store)
    for number in range(30, 40):
        store.add([record(f"{number}")])
        store.delete(ids=[f"{number - 25}"])
        assert_mirrors(mirror, store)
    store.delete(ids=["39"])
    store.add([record("38", 1)], "replace")
    assert_mirrors(mirror, store)
    assert len(mirror.snapshot().segments) == 2
    assert_mirrors(Mirror(store), store)
    assert writes == ["new"]


def test_many_new_rows_are_appended_to_the_files(store, writes):
    mirror = Mirror(store, fold_rows=20)
    store.delete(ids=["3"])
    for start in range(100, 220, 7):
        store.add([record(f"{number}") for number in range(start, start + 7)])
        store.delete(ids=[f"{start + 2}"])
        assert_mirrors(mirror, store)
        assert_mirrors(Mirror(store, fold_rows=20), store)
    assert writes.count("new") == 1
    assert writes.count("append") >= 4
    assert mirror.verify() == []
    assert len([name for name in names(store) if ".dead-" in name]) == 1


def test_two_mirrors_share_a_folder(store):
    one, two = Mirror(store, fold_rows=10), Mirror(store, fold_rows=15)
    for start in range(100, 180, 4):
        store.add([record(f"{number}") for number in range(start, start + 4)])
        store.delete(ids=[f"{start}"])
        assert_mirrors(two, store)
        if start % 3:
            assert_mirrors(one, store)
    assert one.verify() == two.verify() == []


def test_while_another_process_writes_the_files_the_rows_stay_in_memory(store, writes):
    mirror = Mirror(store, fold_rows=5)
    with file_lock(store.path / "derived" / "lock", 0):
        store.add([record(f"x{number}") for number in range(20)])
        assert_mirrors(mirror, store)
        assert writes == ["new"]
    store.add([record("y")])
    assert_mirrors(mirror, store)
    assert writes == ["new", "append"]


def spoil_missing(folder):
    shutil.rmtree(folder)


def spoil_stamp_missing(folder):
    (folder / "stamp.json").unlink()


def spoil_stamp_flipped(folder):
    content = bytearray((folder / "stamp.json").read_bytes())
    content[content.index(b'"rows"') + 9] ^= 1
    (folder / "stamp.json").write_bytes(content)


def spoil_stamp_garbage(folder):
    (folder / "stamp.json").write_text("[]")


def spoil_truncated(name):
    def spoil(folder):
        (path,) = folder.glob(f"*.{name}.*")
        path.write_bytes(path.read_bytes()[:-1])

    return spoil


def spoil_flipped(name):
    def spoil(folder):
        (path,) = folder.glob(f"*.{name}*")
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 4
        path.write_bytes(content)

    return spoil


def spoil_file_missing(folder):
    next(folder.glob("*.codes.u8")).unlink()


@pytest.mark.parametrize(
    "spoil",
    [
        spoil_missing,
        spoil_stamp_missing,
        spoil_stamp_flipped,
        spoil_stamp_garbage,
        spoil_file_missing,
        *[spoil_truncated(name) for name in ("anchors", "codes", "offsets", "rowids")],
        *[spoil_flipped(name) for name in ("offsets", "rowids", "dead-")],
    ],
)
def test_files_that_are_missing_or_damaged_are_written_anew(store, writes, spoil):
    mirror = Mirror(store, fold_rows=5)
    store.delete(ids=["4"])
    store.add([record(f"x{number}") for number in range(9)])
    mirror.snapshot()
    spoil(store.path / "derived")
    del writes[:]
    again = Mirror(store)
    assert_mirrors(again, store)
    assert writes == ["new"]
    assert again.verify() == []
    assert len(names(store)) == 7, names(store)


@pytest.mark.parametrize("name", ["anchors", "codes", "offsets", "rowids", "dead-"])
@pytest.mark.parametrize("large", [0, 1 << 40])
def test_a_flipped_byte_is_found_and_said_and_never_used(store, monkeypatch, name, large):
    """Whether files are read at each opening or noted as read."""
    monkeypatch.setattr("smart_retrieval.index.mirror.files.LARGE_BYTES", large)
    mirror = Mirror(store, fold_rows=5)
    store.delete(ids=["4"])
    store.add([record(f"x{number}") for number in range(9)])
    mirror.snapshot()
    assert mirror.verify() == []
    spoil_flipped(name)(store.path / "derived")
    (problem,) = mirror.verify()
    assert name in problem
    with pytest.warns(SmartWarning, match=f"{name}.* does not match its checksum; it is written anew"):
        again = Mirror(store)
    assert_mirrors(again, store)
    assert again.verify() == []


def test_large_files_are_read_once_for_all_processes(store, monkeypatch):
    read = []
    monkeypatch.setattr("smart_retrieval.index.mirror.files.LARGE_BYTES", 0)
    monkeypatch.setattr("smart_retrieval.index.mirror.files.known_checksum", lambda path, size: read.append(path.name))
    Mirror(store)  # which has just written them
    Mirror(store)
    assert read == []
    (store.path / "derived" / "checked.json").write_text("{")
    monkeypatch.undo()
    monkeypatch.setattr("smart_retrieval.index.mirror.files.LARGE_BYTES", 0)
    Mirror(store)
    assert len(json.loads((store.path / "derived" / "checked.json").read_text())) == 5


def test_files_with_right_checksums_that_are_not_the_databases(store):
    """As somebody might hand them over."""
    mirror = Mirror(store)
    folder = store.path / "derived"
    (codes,) = folder.glob("*.codes.*")
    content = bytearray(codes.read_bytes())
    content[7] ^= 1
    codes.write_bytes(content)
    stamp = json.loads((folder / "stamp.json").read_text())
    stamp["checksums"]["codes"] = zlib.crc32(content)
    (folder / "stamp.json").write_text(json.dumps(signed({k: v for k, v in stamp.items() if k != "checksum"})))
    assert mirror.verify() == ["the derived files do not hold what the database holds"]


@pytest.mark.parametrize(("array", "value"), [("offsets", 2**40), ("offsets", -5), ("rowids", 1)])
def test_numbers_that_would_read_beyond_an_array_are_refused_whatever_their_checksum(store, array, value):
    Mirror(store)
    folder = store.path / "derived"
    (path,) = folder.glob(f"*.{array}.*")
    numbers = np.fromfile(path, "<i8")
    numbers[5] = value
    path.write_bytes(numbers.tobytes())
    stamp = json.loads((folder / "stamp.json").read_text())
    stamp["checksums"][array] = zlib.crc32(numbers.tobytes())
    (folder / "stamp.json").write_text(json.dumps(signed({k: v for k, v in stamp.items() if k != "checksum"})))
    with pytest.warns(SmartWarning, match="do not ascend"):
        assert_mirrors(Mirror(store), store)


def test_bytes_beyond_the_stamp_are_overwritten(store):
    mirror = Mirror(store, fold_rows=5)
    for path in (store.path / "derived").glob("g*"):
        with path.open("ab") as file:  # what a run leaves that died before its stamp
            file.write(b"\xff" * 1000)
    if dead := list((store.path / "derived").glob("*.dead-*")):
        dead[0].write_bytes(b"")
    store.add([record(f"x{number}") for number in range(9)])
    assert_mirrors(mirror, store)
    assert mirror.verify() == []
    assert_mirrors(Mirror(store), store)


def test_files_of_another_codec_index_or_history_are_not_used(store, tmp_path, writes):
    mirror = Mirror(store)
    saved = tmp_path / "saved"
    store.optimize()
    shutil.copy(store.path / "index.sqlite", saved)
    store.recode(b"", stores.flipped, codec_name="other", code_width=stores.CODE_WIDTH)
    assert_mirrors(mirror, store)
    assert writes == ["new", "new"]
    store.add([record("only here")])
    Mirror(store).rebuild()
    store.close()
    # The copy is restored and goes another way for as many commits.
    shutil.copy(saved, store.path / "index.sqlite")
    with Store.open(store.path, "w") as restored:
        restored.add([record("only there")])
        restored.recode(b"", stores.flipped, codec_name="other", code_width=stores.CODE_WIDTH)
        assert_mirrors(Mirror(restored), restored)


def test_the_same_commit_number_of_another_history_is_not_used(store, tmp_path, writes):
    store.optimize()
    saved = shutil.copy(store.path / "index.sqlite", tmp_path / "saved")
    store.add([record("here")])
    Mirror(store)
    store.close()
    shutil.copy(saved, store.path / "index.sqlite")
    with Store.open(store.path, "w") as restored:
        restored.add([record("there")])
        mirror = Mirror(restored)
        assert writes == ["new", "new"]
        assert_mirrors(mirror, restored)


def test_optimize_leaves_the_files_valid_and_rebuild_drops_deleted_rows(store, writes):
    mirror = Mirror(store)
    store.delete(where="id like '1%'")
    store.optimize()
    assert_mirrors(mirror, store)
    assert_mirrors(Mirror(store), store)
    assert writes == ["new"]
    assert len(mirror.snapshot()) == 30
    mirror.rebuild()
    assert len(mirror.snapshot()) == mirror.snapshot().documents == store.count()


def test_files_are_written_anew_when_the_log_of_deletes_is_gone(store, writes, monkeypatch):
    monkeypatch.setattr("smart_retrieval.index.store.maintenance.KEPT_COMMITS", 0)
    mirror = Mirror(store)
    store.delete(ids=["1"])
    store.add([record("x")])
    store.optimize()
    assert_mirrors(mirror, store)
    assert writes == ["new", "new"]


def test_mostly_deleted_files_are_written_anew_on_opening(store, writes, monkeypatch):
    monkeypatch.setattr(Mirror, "_wasteful", lambda self, stamp, dead: len(dead) > stamp.rows // 2)
    store.delete(where="id like '1%' or id like '2%'")
    store.add([record(f"x{number}") for number in range(9)])
    Mirror(store, fold_rows=2)
    store.delete(where="id exists")
    store.add([record(f"y{number}") for number in range(9)])
    Mirror(store, fold_rows=2).snapshot()
    Mirror(store, fold_rows=2)
    assert writes[-1] == "new"
    assert_mirrors(Mirror(store), store)


def test_a_folder_that_cannot_be_written_to(store, monkeypatch):
    def refuse(self, *arguments, **options):
        if self.folder == store.path / "derived":
            raise PermissionError(13, "refused")
        return write(self, *arguments, **options)

    write = MirrorFiles.write
    monkeypatch.setattr(MirrorFiles, "write", refuse)
    mirror = Mirror(store, fold_rows=3)
    assert_mirrors(mirror, store)
    private = mirror._files.folder
    assert private != store.path / "derived"
    store.add([record(f"x{number}") for number in range(9)])
    assert_mirrors(mirror, store)
    mirror.close()
    assert not private.exists()


def test_valid_files_that_cannot_be_appended_to(store, monkeypatch):
    Mirror(store)

    def refuse(self, *arguments, **options):
        if self.folder == store.path / "derived":
            raise PermissionError(13, "refused")
        return write(self, *arguments, **options)

    write = MirrorFiles.write
    monkeypatch.setattr(MirrorFiles, "write", refuse)
    store.add([record(f"x{number}") for number in range(9)])
    mirror = Mirror(store, fold_rows=3)
    assert_mirrors(mirror, store)
    assert mirror._private is None, "a few rows are kept in memory"
    store.add([record(f"y{number}") for number in range(20)])
    assert_mirrors(mirror, store)
    assert mirror._private is not None, "many are not"
    mirror.close()


def test_a_damaged_row_is_an_error_and_not_mirrored(store):
    import sqlite3

    connection = sqlite3.connect(store.path / "index.sqlite")
    with connection:
        connection.execute("UPDATE codes SET codes = zeroblob(length(codes)) WHERE rowid = 7")
    connection.close()
    with pytest.raises(IndexDamagedError, match="'6'"):
        Mirror(store)
    store.delete(ids=["6"])
    assert_mirrors(Mirror(store), store)


def test_the_stamp_says_what_it_mirrors(store):
    Mirror(store)
    stamp = json.loads((store.path / "derived" / "stamp.json").read_text())
    assert (stamp["uuid"], stamp["commit"], stamp["rows"]) == (store.manifest.uuid, 1, 30)
    assert FOLD_ROWS == 20_000


def test_a_link_or_a_name_elsewhere_is_not_followed(store, tmp_path):
    """An appending writer would change the file it leads to."""
    mirror = Mirror(store, fold_rows=5)
    folder = store.path / "derived"
    (codes,) = folder.glob("*.codes.*")
    victim = tmp_path / "victim"
    codes.rename(victim)
    before = victim.read_bytes()
    codes.symlink_to(victim)
    store.add([record(f"x{number}") for number in range(9)])
    with pytest.warns(SmartWarning, match="is a link"):
        mirror = Mirror(store, fold_rows=5)
    assert_mirrors(mirror, store)
    assert victim.read_bytes() == before
    stamp = json.loads((folder / "stamp.json").read_text())
    body = {key: value for key, value in stamp.items() if key != "checksum"}
    (folder / "stamp.json").write_text(json.dumps(signed(body | {"name": "../../victim"})))
    with pytest.warns(SmartWarning, match=r"stamp\.json is damaged"):
        assert_mirrors(Mirror(store), store)
