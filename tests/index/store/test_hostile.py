"""Databases that somebody made: refused by a named error, in bounded time and memory."""

import sqlite3
from dataclasses import replace

import numpy as np
import pytest
from fixtures import crafted, stores
from fixtures.stores import CODE_WIDTH, change, record

from smart_retrieval.errors import IndexDamagedError, IndexFormatError, SmartError
from smart_retrieval.index.codec.payload import MOST_TOKENS
from smart_retrieval.index.store import connections
from smart_retrieval.index.store.anchors import pack_anchor
from smart_retrieval.index.store.pictures import Media, PlacedGrid
from smart_retrieval.index.store.schema import blob_checksum, checksum
from smart_retrieval.index.store.store import Store

ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)"


def shared(path, sql, *parameters):
    """Change a database beside the functions an index knows."""
    connection = sqlite3.connect(path / "index.sqlite")
    connection.create_function("smart_fold", 1, lambda text: text, deterministic=True)
    with connection:
        for statement in sql.split("; "):
            connection.execute(statement, parameters)
    connection.close()


@pytest.mark.parametrize(
    ("sql", "named"),
    [
        (f"DROP TABLE idf; CREATE VIEW idf AS {ENDLESS} SELECT x AS token, 1 AS df FROM c", "idf"),
        ("CREATE TRIGGER t AFTER INSERT ON documents BEGIN DELETE FROM codes WHERE 1", "t"),
        ("CREATE VIEW v AS SELECT 1", "v"),
        ("CREATE TABLE other (a)", "other"),
        ("CREATE VIRTUAL TABLE other USING fts5(a)", "other"),
        ("CREATE INDEX i ON documents (smart_fold(text))", "i"),
        ("ALTER TABLE documents ADD COLUMN x", "documents"),
        ("DROP TABLE vectors", "no table vectors"),
        ("DROP TABLE codes", "no table codes"),
    ],
)
@pytest.mark.parametrize("mode", ["r", "w"])
def test_other_tables_views_and_triggers_are_refused_on_opening(store, path, sql, named, mode):
    store.add([record("a")])
    store.close()
    if "TRIGGER" in sql:
        connection = sqlite3.connect(path / "index.sqlite")
        connection.execute(f"{sql}; END")
        connection.close()
    else:
        shared(path, sql)
    with pytest.raises(IndexDamagedError, match=named):
        Store.open(path, mode)


def test_what_an_index_may_hold_beyond_the_usual(store, path):
    store.add([record("a")])
    change(path, "ANALYZE")
    store.optimize()
    store.close()
    with Store.open(path, "w") as opened:
        assert opened.verify().ok


def test_a_query_without_an_end_is_stopped(store, monkeypatch):
    monkeypatch.setattr(connections, "STEPS", 3_000_000)
    monkeypatch.setattr(connections, "STEPS_A_PAGE", 0)
    for _ in range(2):
        with pytest.raises(IndexDamagedError, match="more steps"), store.reading() as connection:
            connection.execute(f"{ENDLESS} SELECT count(*) FROM c").fetchone()
    assert store.count() == 0


def vectors(path, n_ids, anchor, ids):
    """A row of vectors with the right checksum."""
    values = (n_ids, anchor, ids, blob_checksum(1, "a", n_ids, anchor, ids))
    change(path, "UPDATE vectors SET n_ids = ?, anchor = ?, ids = ?, checksum = ? WHERE rowid = 1", *values)


@pytest.mark.parametrize("count", [2**40, 2**62, -1])
def test_a_count_takes_no_memory(store, path, count):
    """8 bytes a token of 2^40 that nothing but a number speaks of."""
    store.add([record("a")])
    vectors(path, count, pack_anchor(record("a").anchor, "int16"), b"")
    with pytest.raises(IndexDamagedError, match=r"'a'|token ids"):
        store.read_vectors([1])
    assert not store.verify().ok
    store.delete(ids=["a"])
    assert store.verify().ok


@pytest.mark.parametrize("part", ["ids", "codes"])
def test_more_tokens_than_may_be_decoded_are_neither_taken_nor_read(store, path, part):
    """A file of 6 bytes a token would take 1,536 to decode."""
    many = np.zeros((MOST_TOKENS + 1, CODE_WIDTH), np.uint8)
    changes = {"token_ids": np.ones(len(many), np.int32)} if part == "ids" else {"codes": many}
    with pytest.raises(SmartError, match="at most 1,048,576"):
        store.add([replace(record("a"), **changes)])
    store.add([record("a")])
    table, count = ("vectors", "n_ids") if part == "ids" else ("codes", "n_tokens")
    width = 1 if part == "ids" else CODE_WIDTH
    crafted.craft(path, f"UPDATE {table} SET {count} = {len(many)}, {part} = zeroblob({len(many) * width})")
    with pytest.raises(IndexDamagedError):
        store.read_vectors([1])
    assert not store.verify().ok


@pytest.mark.parametrize(
    ("kind", "numbers"),
    [("float32", np.full(16, value, "<f4")) for value in (np.nan, np.inf, -np.inf)]
    + [("int16", np.full(17, exponent, "<i2")) for exponent in (200, 32767)],
)
def test_an_anchor_that_is_no_number(tmp_path, kind, numbers):
    with Store.create(tmp_path / "own", stores.manifest(anchors=kind)) as store:
        store.add([record("a"), record("b")])
        vectors(tmp_path / "own", 0, numbers.tobytes(), b"")
        with pytest.raises(IndexDamagedError, match="'a'"):
            store.read_vectors([1, 2])
        assert len(store.read_vectors([2]).rowids) == 1


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE vectors SET anchor = zeroblob(length(anchor) + 4) WHERE rowid = 1",
        "UPDATE vectors SET anchor = filled('0070', length(anchor) / 2) WHERE rowid = 1",
        "UPDATE codes SET n_tokens = n_tokens + 1 WHERE rowid = 1",
        "UPDATE codes SET codes = x'00' WHERE rowid = 1",
        "UPDATE documents SET metadata = '[1]' WHERE rowid = 1",
        "UPDATE documents SET metadata = nested('[', 100000) WHERE rowid = 1",
        "UPDATE documents SET page = 'x' WHERE rowid = 1",
        "UPDATE documents SET heading = x'00' WHERE rowid = 1",
        "UPDATE documents SET text = CAST(x'ff' AS TEXT) WHERE rowid = 1",
        "UPDATE media SET grids = '[1]' WHERE rowid = 1",
        "UPDATE media SET times = '[1e999]' WHERE rowid = 1",
        "UPDATE media SET kind = x'00' WHERE rowid = 1",
        "UPDATE media SET thumbnail = 'text' WHERE rowid = 1",
    ],
)
def test_verify_finds_what_no_reader_takes_though_its_checksum_is_right(store, path, sql):
    media = Media("image", 10, 10, (0.5,), (PlacedGrid("image", 1, 1, 1, ((0, 1),)),), preview=b"picture")
    store.add([replace(record("a"), media=media), record("b")])
    with crafted.opened(path):
        pass
    assert store.verify().damaged == []
    crafted.craft(path, sql)
    assert [damage.id for damage in store.verify().damaged] == ["a"]
    uses = {"vectors": lambda: store.read_vectors([1]), "media": lambda: store.get(["a"])[0].media.thumbnail()}
    uses |= {"codes": uses["vectors"], "documents": uses["media"]}
    with pytest.raises(IndexDamagedError):
        uses[sql.split()[1]]()


@pytest.mark.parametrize("anchor", [b"", b"1234", "text", 5])
def test_an_anchor_of_another_size_or_type(store, path, anchor):
    store.add([record("a")])
    stored = blob_checksum(1, "a", 0, anchor, b"") if isinstance(anchor, bytes) else 0
    change(path, "UPDATE vectors SET n_ids = 0, anchor = ?, ids = x'', checksum = ? WHERE rowid = 1", anchor, stored)
    with pytest.raises(IndexDamagedError):
        list(store.iterate())


@pytest.mark.parametrize("id", [10**12, b"bytes", 1.5])
def test_an_id_of_another_type(store, path, id):
    store.add([record("a")])
    change(path, "UPDATE documents SET id = ? WHERE rowid = 1", id)
    for use in (lambda: store.get(rowids=[1]), lambda: store.read_vectors([1])):
        with pytest.raises(IndexDamagedError):
            use()
    assert not store.verify().ok


@pytest.mark.parametrize("metadata", ["[1]", "NaN", "{", "[" * 5000, "3"])
def test_metadata_that_is_no_object(store, path, metadata):
    store.add([record("a")])
    with store.reading() as connection:
        columns = "rowid, id, added, source, page, heading, metadata, text"
        row = list(connection.execute(f"SELECT {columns} FROM documents").fetchone())
    row[6] = metadata
    change(path, "UPDATE documents SET metadata = ?, checksum = ?", metadata, checksum(*row))
    with pytest.raises(IndexDamagedError, match="'a'"):
        store.get(["a"])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("anchor_dim", "1000000000000"),
        ("anchor_dim", '"16"'),
        ("anchors", '"float16"'),
        ("code_width", "0"),
        ("code_width", "true"),
        ("model", "[]"),
        ("scoring", '"x"'),
        ("pooling", "NaN"),
        ("pooling", "1e999"),
        ("pooling", "1" + 30 * "0"),
        ("pooling", "1" + 400 * "0"),
        ("language", '"klingon"'),
        ("lexical", "1"),
        ("limits", "[" * 5000),
        ("codec", "7"),
    ],
)
def test_a_manifest_of_other_types(store, path, key, value):
    store.close()
    change(path, "UPDATE manifest SET value = ?, checksum = ? WHERE key = ?", value, checksum(key, value), key)
    with pytest.raises(IndexDamagedError, match=key):
        Store.open(path)


@pytest.mark.parametrize(
    "sql", ["UPDATE idf SET token = token + 1000000000000", "UPDATE idf SET df = 'x'", "UPDATE idf SET df = -1"]
)
def test_an_idf_table_that_would_take_memory_or_is_none(store, path, sql):
    store.add([record("a")])
    change(path, sql)
    with pytest.raises(IndexDamagedError):
        store.idf()


@pytest.mark.parametrize(
    "sql", ["DELETE FROM state", "UPDATE state SET documents = -1", "UPDATE state SET number = 'x'"]
)
def test_a_state_that_is_missing_or_of_other_types(store, path, sql):
    change(path, sql)
    with pytest.raises(IndexDamagedError, match="sums up"):
        store.count()
    store.close()
    with pytest.raises(SmartError):
        Store.open(path)


@pytest.mark.parametrize("token", ["x'ff'", "'x'", "1.5", "9e999"])
def test_a_commit_of_another_type_can_be_copied(store, path, tmp_path, token):
    store.add([record("a")])
    change(path, f"UPDATE OR IGNORE commits SET token = {token}")
    store.backup(tmp_path / "b.smart")
    with Store.open(tmp_path / "b.smart") as copied:
        assert copied.ids() == ["a"]
        assert copied.verify().notes == ["the full-text index was not checked: that needs mode='w'"]


def test_a_count_that_grows_past_what_the_database_holds(store, path):
    store.add([record("a")])
    change(path, "UPDATE codes SET n_tokens = -9223372036854775807")
    with pytest.raises(IndexDamagedError, match="out of range"):
        store.delete(ids=["a"])
    assert store.ids() == ["a"]


def test_a_link_in_place_of_the_write_ahead_log(store, path, tmp_path):
    store.close()
    (tmp_path / "victim").write_text("mine")
    (path / "index.sqlite-wal").symlink_to(tmp_path / "victim")
    with pytest.raises(IndexFormatError, match="link"):
        Store.open(path, "w")
    assert (tmp_path / "victim").read_text() == "mine"
