"""verify finds every flipped byte and every sum that is off; damaged rows are named and can be deleted."""

import json
import re
import sqlite3

import numpy as np
import pytest
from fixtures import stores
from fixtures.stores import change, record

from smart_retrieval.errors import IndexDamagedError, SmartError
from smart_retrieval.index.store.pages import sums_path
from smart_retrieval.index.store.records import FileEntry
from smart_retrieval.index.store.store import Store


def flip(path, table, column, rowid, at, bit=0):
    """Flip one bit of a stored value, keeping its type."""
    connection = sqlite3.connect(path / "index.sqlite")
    value, type_ = connection.execute(
        f"SELECT CAST({column} AS BLOB), typeof({column}) FROM {table} WHERE rowid = ?", (rowid,)
    ).fetchone()
    changed = bytearray(value)
    changed[at % len(changed)] ^= 1 << bit
    cast = {"text": "CAST(? AS TEXT)", "integer": "CAST(CAST(? AS TEXT) AS INTEGER)"}.get(type_, "?")
    with connection:
        connection.execute(f"UPDATE {table} SET {column} = {cast} WHERE rowid = ?", (bytes(changed), rowid))
    connection.close()


@pytest.mark.parametrize(
    ("table", "column", "part"),
    [
        ("vectors", "anchor", "vectors"),
        ("vectors", "ids", "vectors"),
        ("vectors", "n_ids", "vectors"),
        ("vectors", "checksum", "vectors"),
        ("codes", "codes", "codes"),
        ("codes", "n_tokens", "codes"),
        ("documents", "text", "document"),
        ("documents", "metadata", "document"),
        ("documents", "source", "document"),
        ("documents", "id", "document"),
        ("documents", "added", "document"),
    ],
)
def test_verify_finds_a_flipped_bit_in_every_column(store, path, table, column, part):
    store.add([record(letter * 9) for letter in "aHz0~"])  # ids that no flipped bit turns into each other
    store.close()
    rng = np.random.default_rng(0)
    whole = (path / "index.sqlite").read_bytes()
    for _ in range(4):
        at, bit = int(rng.integers(1000)), int(rng.integers(3))
        flip(path, table, column, 3, at, bit)
        with Store.open(path) as opened:
            report = opened.verify()
            assert not report.ok
            assert (3, part) in {(damage.rowid, damage.part) for damage in report.damaged}
            assert {damage.rowid for damage in report.damaged} == {3}
        (path / "index.sqlite").write_bytes(whole)
    with Store.open(path) as opened:
        assert opened.verify().ok


def test_every_byte_of_a_blob_matters(store, path):
    store.add([record("a")])
    store.close()
    for table, column in (("codes", "codes"), ("vectors", "anchor"), ("documents", "text")):
        size = len(record("a").codes) * stores.CODE_WIDTH if table == "codes" else 40
        for at in range(0, size, 7):
            flip(path, table, column, 1, at, bit=7)
            with Store.open(path) as opened:
                assert not opened.verify().ok, (table, at)
            flip(path, table, column, 1, at, bit=7)


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("UPDATE idf SET df = df + 1 WHERE token = (SELECT min(token) FROM idf)", "IDF table is wrong for 1"),
        ("DELETE FROM idf", "IDF table"),
        ("UPDATE state SET documents = 9", "counts 9"),
        ("UPDATE state SET tokens = 9", "counts 9"),
        ("UPDATE manifest SET value = '\"other\"' WHERE key = 'codec'", "'codec' does not match"),
        ("UPDATE codec SET data = x'00'", "codec 1 does not match"),
        ("UPDATE files SET size = 11", "files .* does not match"),
        ("DELETE FROM codes WHERE rowid = 2", "rows in codes"),
        ("UPDATE documents SET text = CAST(text AS BLOB) WHERE rowid = 2", None),
        ("UPDATE tombstones SET rowid = 1", "deleted rows"),
        ("UPDATE commits SET number = 77 WHERE number = 1", "log of commits"),
        ("INSERT INTO codes VALUES (99, 0, x'', 0)", "belongs to no document"),
        ("DELETE FROM lexical_data WHERE id > 10", "full-text"),
    ],
)
def test_verify_finds_sums_that_are_wrong(store, path, sql, message):
    with store.transaction():
        store.add([record("a"), record("b"), record("c")])
        store.delete(ids=["c"])
        store.files.put(FileEntry("a.txt", 10, 5, "00"))
    assert store.verify().ok
    change(path, sql)
    report = store.verify()
    assert not report.ok
    if message is not None:
        assert any(re.search(message, problem) for problem in report.problems), report


def test_verify_finds_flipped_bytes_of_the_file(store, path):
    """Any byte of the file itself: found, unless it lies in free space that holds nothing."""
    store.add([record(f"{number}") for number in range(50)])
    store.close()
    file = path / "index.sqlite"
    whole = file.read_bytes()
    rng = np.random.default_rng(1)
    codes = record("25").codes.tobytes()
    spots = [whole.index(codes) + int(at) for at in rng.integers(0, len(codes), 5)]
    spots += [whole.index(b"document 30 version") + 3, whole.index(b'{"version"') + 2, whole.index(b"anchor_dim") + 1]
    for spot in spots:
        changed = bytearray(whole)
        changed[spot] ^= 0x10
        file.write_bytes(changed)
        try:
            with Store.open(path) as opened:
                assert not opened.verify().ok
        except IndexDamagedError:
            pass  # so early that it cannot even be opened
    file.write_bytes(whole)


def grown(path):
    """An index with free pages and pages half empty, closed."""
    with Store.open(path, "w") as store:
        store.add([record(f"{number}") for number in range(120)])
        store.delete(where="id like '1%'")
        store.add([record(f"x{number}") for number in range(30)])
        store.files.put(FileEntry("a.txt", 10, 5, "00"))


def flips_not_found(path, places):
    """Places of flipped bits that neither opening nor verify finds."""
    file = path / "index.sqlite"
    whole, missed = file.read_bytes(), []
    for place in places:
        changed = bytearray(whole)
        changed[place] ^= 1 << place % 8
        file.write_bytes(changed)
        try:
            with Store.open(path) as opened:
                if opened.verify().ok:
                    missed.append(place)
        except SmartError:
            pass
    file.write_bytes(whole)
    return missed


def test_verify_finds_every_flipped_bit_of_the_file(store, path):
    """Of the header, of free pages and of bytes that hold nothing, too."""
    store.close()
    grown(path)
    rng = np.random.default_rng(3)
    size = (path / "index.sqlite").stat().st_size
    places = [*rng.integers(0, 100, 20).tolist(), 24, 25, 26, 27, 60, 68, 92, 96, *rng.integers(100, size, 40).tolist()]
    assert flips_not_found(path, places) == []
    with Store.open(path, "w") as opened:
        assert opened.verify().ok
        assert opened.verify().notes == []


def test_verify_finds_a_flipped_bit_of_the_last_commits_own_row(store, path):
    """The checksums of pages belong to a commit, and so to this row."""
    store.close()
    grown(path)
    with Store.open(path) as opened, opened.reading() as connection:
        token = connection.execute("SELECT max(number), token FROM commits").fetchone()[1]
    file = (path / "index.sqlite").read_bytes()
    places = [at.start() + byte for at in re.finditer(re.escape(token.to_bytes(8, "big")), file) for byte in range(8)]
    assert len(places) == 8
    assert flips_not_found(path, places) == []


def test_pages_keep_their_checksums_over_commits_and_optimize(store, path):
    for number in range(4):
        store.add([record(f"{number}")])
        store.close()
        assert json.loads(sums_path(path / "index.sqlite").read_bytes().split(b"\n")[0])["commit"][0] == number + 1
        store = Store.open(path, "w")
        report = store.verify()
        assert report.ok
        assert report.notes == []
    with Store.open(path, "w") as other:  # while another holds the write-ahead log
        other.add([record("b")])
    assert store.verify().ok
    store.optimize()
    assert store.verify().ok
    assert store.verify().notes == []
    store.close()


def test_checksums_of_pages_that_are_damaged_missing_or_of_another_commit(store, path):
    store.add([record("a")])
    store.close()
    file = path / "index.sqlite"
    sums = sums_path(file)
    saved, whole = file.read_bytes(), sums.read_bytes()
    sums.write_bytes(whole[:-1] + b"!")
    with Store.open(path) as opened:
        assert any("-pages is damaged" in problem for problem in opened.verify().problems)
    sums.unlink()
    with Store.open(path, "w") as opened:
        report = opened.verify()
        assert report.ok
        assert any("no checksums yet" in note for note in report.notes)
        opened.add([record("b")])
    with Store.open(path, "w") as opened:
        assert opened.verify().notes == []
    file.write_bytes(saved)  # a copy that was put back
    with Store.open(path, "w") as opened:
        report = opened.verify()
        assert report.ok
        assert any("of another commit" in note for note in report.notes)
        opened.add([record("c")])
    with Store.open(path, "w") as opened:
        assert opened.verify().ok
        assert opened.verify().notes == []


def test_damaged_rows_are_an_error_when_read_and_can_be_deleted(store, path):
    store.add([record("a"), record("b"), record("c")])
    flip(path, "vectors", "ids", 2, 1)
    flip(path, "documents", "text", 2, 3)
    with pytest.raises(IndexDamagedError, match="'b'"):
        store.read_vectors([1, 2])
    with pytest.raises(IndexDamagedError, match="'b'"):
        store.get(["b"])
    assert len(store.read_vectors([1, 3]).rowids) == 2
    store.delete(ids=["b"])
    assert store.verify().ok
    assert store.bm25_scores("document")[0].tolist() == [1, 3]


def test_invalid_utf8_is_a_named_error(store, path):
    store.add([record("a")])
    flip(path, "documents", "text", 1, 3, bit=7)
    with pytest.raises(IndexDamagedError):
        store.get(["a"])
    flip(path, "codec", "data", 1, 3)
    with pytest.raises(IndexDamagedError, match="codec"):
        store.codec()
