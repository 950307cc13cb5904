"""Filters by columns choose what SQL chooses, whatever was added and deleted, and whatever happened to their files."""

import json
import sqlite3
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from fixtures import stores
from fixtures.stores import record
from hypothesis import given, settings
from hypothesis import strategies as st

from smart_retrieval.checksums import signed, unsigned
from smart_retrieval.errors import FilterError, IndexDamagedError, SmartWarning
from smart_retrieval.index.mirror import column_files, columns, filters
from smart_retrieval.index.mirror.column_files import ranges
from smart_retrieval.index.mirror.columns import Column, composed, like, literal
from smart_retrieval.index.mirror.mirror import Mirror
from smart_retrieval.index.store.lock import file_lock
from smart_retrieval.index.store.store import Store
from smart_retrieval.index.store.where import Exists, Field

WHERES = (
    "year > 2003 and lang = 'de'",
    "tags = 't3' or not year in (2001, 2002)",
    "author.name like 'A%' and title contains 'no 1'",
    "source = '1.txt' or id in ('7', '300')",
    "nothing is null and tags is not null",
    "nothing exists or page >= 2",
    "parts.name = 'p3' and parts.size > 2",
)


def parts(number):
    return [{"name": f"p{number % 5}", "size": number % 4}, {"name": f"p{number % 7}"}, "p3"]


def metadata(number):
    tags = [f"t{number % 5}", f"t{number % 7}", None, ["t3"]][: number % 5]
    return {"year": 2000 + number % 9, "lang": "de" if number % 3 else "en", "tags": tags, "title": f"no {number}"} | (
        {"author": {"name": f"a{number % 4}"}} if number % 2 else {"parts": parts(number)}
    )


def records(start, stop):
    return [replace(record(f"{number}", **metadata(number)), page=number % 4 or None) for number in range(start, stop)]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(filters, "COLUMN_ROWS", 20)
    monkeypatch.setattr(column_files, "PART_ROWS", 60)
    monkeypatch.setattr(columns, "SEARCHED_FROM", 3)


@pytest.fixture
def store(tmp_path):
    with Store.create(tmp_path / "a.smart", stores.manifest()) as store:
        store.add(records(0, 100))
        yield store


@pytest.fixture
def made(monkeypatch):
    """How many rows were read for columns, in order."""
    found, make = [], column_files.make

    def noted(connection, rowids):
        found.append(len(rowids))
        return make(connection, rowids)

    monkeypatch.setattr(column_files, "make", noted)
    return found


def agrees(mirror, store, wheres=WHERES):
    with store.reading():
        snapshot = mirror.snapshot()
        for where in wheres:
            selection = mirror.select(snapshot, where)
            assert selection.rowids.tolist() == store.select(where).tolist(), where
            assert selection.count == len(selection.positions)
            assert (np.diff(selection.positions) > 0).all()


def columns_of(store):
    return unsigned(json.loads((store.path / "derived" / "stamp.json").read_text()))["columns"]


def test_columns_are_made_once_and_serve_what_is_added_and_deleted(store, made):
    mirror = Mirror(store, fold_rows=30)
    assert made == []
    agrees(mirror, store)
    assert made == [60, 40]
    store.add(records(100, 120))
    store.delete(ids=["3", "50", "110"])
    store.add([record("7", 1, year=2008, lang="de")], on_duplicate="replace")
    agrees(mirror, store)
    agrees(Mirror(store), store)
    assert made == [60, 40]


def test_folded_rows_get_columns_and_small_ranges_become_one(store, made):
    mirror = Mirror(store, fold_rows=10)
    agrees(mirror, store)
    other = Mirror(store, fold_rows=10)
    for start in (100, 125, 150):
        store.add(records(start, start + 25))
        agrees(mirror, store)
        agrees(other, store)
    assert made == [60, 40, 60, 5, 30, 55]
    assert [(one["start"], one["rows"]) for one in columns_of(store)] == [(0, 60), (60, 60), (120, 55)]
    on_disk = {path.name for path in (store.path / "derived").glob(f"*{column_files.SUFFIX}")}
    assert on_disk == {one["file"] for one in columns_of(store)}
    del made[:]
    agrees(Mirror(store), store)
    assert made == []
    assert mirror.verify() == []


def test_rows_are_read_a_few_times_whatever_the_number_of_folds(monkeypatch):
    monkeypatch.setattr(column_files, "PART_ROWS", 250_000)
    covered, read = [], 0
    for rows in range(20_000, 2_000_001, 20_000):
        kept, fresh = ranges(covered, rows)
        read += sum(size for _, size in fresh)
        covered = [*covered[:kept], *fresh]
        assert [start for start, _ in covered] == [0, *np.cumsum([size for _, size in covered])[:-1]]
    assert sum(size for _, size in covered) == 2_000_000
    assert len(covered) < 16
    assert read < 5 * 2_000_000


def test_a_damaged_file_is_made_again(store, made):
    agrees(Mirror(store), store)
    path = next((store.path / "derived").glob(f"*{column_files.SUFFIX}"))
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    mirror = Mirror(store)
    assert any("checksum" in problem for problem in mirror.verify())
    del made[:]
    agrees(mirror, store)
    assert sum(made) >= 40
    assert mirror.verify() == []


@pytest.mark.parametrize("what", ["columns of other rows", "does not contain tensor"])
def test_a_file_of_other_numbers_or_names_is_not_used(store, what):
    agrees(Mirror(store), store)
    found = columns_of(store)
    for one in found:
        path = store.path / "derived" / one["file"]
        data = path.read_bytes()
        size = int.from_bytes(data[:8], "little")
        (first, last) = json.loads(data[8 : 8 + size])["0.rows"]["data_offsets"]
        wrong = data[: 8 + size + first] + b"\xff" * (last - first) + data[8 + size + last :]
        path.write_bytes(wrong if "rows" in what else data.replace(b'"0.rows"', b'"0.raws"'))
        one["checksum"] = column_files.file_checksum(path)
    stamp = store.path / "derived" / "stamp.json"
    stamp.write_text(json.dumps(signed({**unsigned(json.loads(stamp.read_text())), "columns": found})))
    with pytest.warns(SmartWarning, match=f"{what}.*; filters read the database"):
        agrees(Mirror(store), store)


def test_files_of_0_1_0_have_no_columns(store, made):
    agrees(Mirror(store), store)
    stamp = store.path / "derived" / "stamp.json"
    body = unsigned(json.loads(stamp.read_text()))
    del body["columns"]
    stamp.write_text(json.dumps(signed(body)))
    agrees(Mirror(store), store)
    assert made == [60, 40] * 2
    assert len(columns_of(store)) == 2


def test_columns_of_before_lists_of_objects_were_looked_into_are_made_again(store, made):
    agrees(Mirror(store), store)
    stamp = store.path / "derived" / "stamp.json"
    body = unsigned(json.loads(stamp.read_text()))
    for one in body["columns"]:
        del one["format"]
    stamp.write_text(json.dumps(signed(body)))
    agrees(Mirror(store), store)
    assert made == [60, 40] * 2
    on_disk = {path.name for path in (store.path / "derived").glob(f"*{column_files.SUFFIX}")}
    assert on_disk == {one["file"] for one in columns_of(store)}


def test_while_another_process_writes_sql_answers(store, made):
    mirror = Mirror(store)
    with file_lock(store.path / "derived" / "lock", 0) as held:
        assert held
        agrees(mirror, store)
    assert made == []
    agrees(mirror, store)
    assert made == [60, 40]


def test_where_nothing_can_be_written_they_are_kept_in_memory(store, made, monkeypatch):
    mirror = Mirror(store)

    def refused(*_):
        raise PermissionError(13, "refused")

    monkeypatch.setattr(filters, "file_lock", refused)
    agrees(mirror, store)
    agrees(mirror, store)
    assert made == [60, 40]
    assert columns_of(store) == []


def test_documents_that_another_program_wrote_are_left_to_sql(store):
    odd = ['{"year": 2004, "lang":"de"}', '{"lang":"en","lang":"de","year":2007}', '{"year":2.0040e3,"lang":"de"}']
    with closing(sqlite3.connect(store.path / "index.sqlite")) as connection:
        for number, text in enumerate(odd):
            connection.execute("UPDATE documents SET metadata = ? WHERE rowid = ?", (text, 10 * number + 5))
        connection.commit()
    mirror = Mirror(store)
    agrees(mirror, store)
    with store.reading():
        chosen = mirror.select(mirror.snapshot(), WHERES[0]).rowids
    assert {5, 25} <= set(chosen.tolist())
    with closing(sqlite3.connect(store.path / "index.sqlite")) as connection:
        connection.execute("UPDATE documents SET metadata = '{\"year\":' WHERE rowid = 70")
        connection.commit()
    mirror = Mirror(store)
    mirror.rebuild()
    with store.reading(), pytest.raises(IndexDamagedError, match="JSON"):
        mirror.select(mirror.snapshot(), WHERES[0])


def test_more_keys_than_columns(store, monkeypatch):
    monkeypatch.setattr(column_files, "MOST_COLUMNS", 5)
    agrees(Mirror(store), store)


def test_an_expression_and_what_is_none(store):
    mirror = Mirror(store)
    with store.reading():
        snapshot = mirror.snapshot()
        assert mirror.select(snapshot, Exists(Field(("author", "name")))).count == 50
        for wrong in ("year >", 3):
            with pytest.raises(FilterError):
                mirror.select(snapshot, wrong)


def test_an_older_snapshot_of_another_thread(store):
    mirror = Mirror(store, fold_rows=10)
    with store.reading():
        before = mirror.snapshot()
        expected = mirror.select(before, WHERES[0]).positions.tolist()
    store.add(records(100, 150))
    agrees(mirror, store)
    # As a thread would whose transaction began before: SQL answers for no row that it does not know.
    found = mirror.select(before, WHERES[0]).positions
    assert found[found < 100].tolist() == expected


def test_rebuild_makes_the_columns_so_that_no_filter_waits_for_them(store, made):
    mirror = Mirror(store)
    store.delete(ids=["5"])
    mirror.rebuild()
    assert sum(made) == 99
    assert sum(one["rows"] for one in columns_of(store)) == 99
    agrees(mirror, store)
    agrees(Mirror(store), store)
    assert sum(made) == 99


NO_ROWS = np.zeros(0, np.int32)


@given(st.sets(st.text("abA%_é\n", max_size=5), max_size=12), st.text("abA%_é\n", max_size=4))
@settings(max_examples=200, deadline=None)
def test_texts_searched_together_pass_as_each_alone(texts: set[str], asked: str) -> None:
    ordered = sorted({composed(text) for text in texts})
    values = tuple(np.frombuffer(json.dumps(part).encode(), np.uint8) for part in ([], ordered))
    column = Column(values, *[NO_ROWS] * 5)
    tests = [(lambda text: asked in text, asked), (like(asked), literal(asked))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "SEARCHED_FROM", 1)
        for test, part in tests:
            assert column.testing(test, part)[column.first_text :].tolist() == [bool(test(text)) for text in ordered]


def test_a_part_that_most_texts_hold_is_not_searched_for() -> None:
    texts = [f"title {number}" for number in range(100)]
    values = tuple(np.frombuffer(json.dumps(part).encode(), np.uint8) for part in ([], sorted(texts)))
    column = Column(values, *[NO_ROWS] * 5)
    assert column.testing(like("Title%"), literal("Title%")).sum() == 100
    assert column.testing(like("%E 9_"), literal("%E 9_")).sum() == 10
    assert literal(r"_a\%b\_c%\\") == "a%b_c"
