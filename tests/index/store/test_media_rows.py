"""Pictures beside documents: whole or not at all, checked, gone with their document, unknown to older indexes."""

import sqlite3
from dataclasses import replace
from io import BytesIO

import pytest
from fixtures import stores
from fixtures.pictures import picture
from fixtures.stores import record

from smart_retrieval.errors import IndexDamagedError, SmartError
from smart_retrieval.index.store import pictures as media_rows
from smart_retrieval.index.store.pictures import Media, PlacedGrid
from smart_retrieval.index.store.store import Store


def thumbnail(seed=0):
    buffer = BytesIO()
    picture(seed).save(buffer, "PNG")
    return buffer.getvalue()


GRID = PlacedGrid("video", 2, 1, 3, ((1, 3), (5, 3)))
VIDEO = Media("video", 160, 128, (0.0, 0.5, 1.25), (GRID,), preview=thumbnail())


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.smart"


@pytest.fixture
def store(path):
    with Store.create(path, stores.manifest(), b"codec bytes") as store:
        yield store


def pictured(id, media=VIDEO):
    return replace(record(id), media=media)


def has_table(path):
    with sqlite3.connect(path / "index.sqlite") as connection:
        found = media_rows.exists(connection)
    connection.close()
    return found


def test_what_goes_in_comes_out(store, path):
    store.add([record("text"), pictured("video"), pictured("page", Media("page", preview=thumbnail(1)))])
    for opened in (store, Store.open(path)):
        text, video, page = opened.get(["text", "video", "page"])
        assert text.media is None
        assert (video.media.kind, video.media.width, video.media.height) == ("video", 160, 128)
        assert video.media.times == VIDEO.times
        assert video.media.grids == (GRID,)
        assert video.media.preview == b"", "read only when it is asked for"
        assert video.media.thumbnail() == thumbnail()
        assert page.media.thumbnail() == thumbnail(1)
        assert (page.media.width, page.media.times, page.media.grids) == (None, (), ())
        assert opened.info()["pictures"] == {"page": 1, "video": 1}
    opened.close()
    assert store.verify().ok


def test_without_pictures_there_is_no_table(store, path):
    store.add([record("a")])
    assert not has_table(path)
    assert store.info()["pictures"] == {}
    assert store.thumbnail(1) == b""
    assert store.verify().ok


def test_an_index_made_before_pictures_could_be_stored_takes_them(store, path):
    # Made by the tables of schema.py, which know of no pictures, with a manifest that does not either.
    store.add([record("old")])
    store.close()
    assert not has_table(path)
    with Store.open(path, "w") as again:
        again.add([pictured("new")])
        assert [document.media is not None for document in again.get(["old", "new"])] == [False, True]
        assert stores.contents(again) == {"old": 0, "new": 0}
        assert again.verify().ok


def test_pictures_go_with_their_documents(store, path):
    store.add([pictured(f"{number}") for number in range(4)])
    (kept,) = store.get(["3"])
    store.delete(ids=["0", "1"])
    store.add([pictured("2", Media("image", preview=b"x"))], on_duplicate="replace")
    store.delete(ids=["3"])
    assert store.info()["pictures"] == {"image": 1}
    assert store.get(["2"])[0].media.thumbnail() == b"x"
    assert kept.media.thumbnail() == b"", "its document is gone"
    assert store.verify().ok


def test_a_batch_that_fails_leaves_no_picture(store, path):
    store.add([record("a")])
    with pytest.raises(SmartError):
        store.add([pictured("b"), pictured("a")])
    assert not has_table(path)
    with pytest.raises(SmartError), store.transaction():
        store.delete(ids=[store.add([pictured("b")]) and "nobody"])
    assert not has_table(path)


@pytest.mark.parametrize("column", ["kind", "width", "times", "grids", "thumbnail", "checksum", "thumbnail_checksum"])
def test_verify_finds_a_changed_byte(store, path, column):
    store.add([pictured("a"), pictured("b")])
    changed = {
        "kind": "'image'",
        "width": "width + 1",
        "times": "'[0.0]'",
        "grids": "CAST(x'ff' AS TEXT)",
        "thumbnail": "x'00'",
        "checksum": "checksum + 1",
        "thumbnail_checksum": "thumbnail_checksum + 1",
    }[column]
    connection = sqlite3.connect(path / "index.sqlite")
    with connection:
        connection.execute(f"UPDATE media SET {column} = {changed} WHERE rowid = 2")
    connection.close()
    report = store.verify()
    assert [(damage.rowid, damage.id, damage.part) for damage in report.damaged] == [(2, "b", "media")]
    store.get(["a"])
    with pytest.raises(IndexDamagedError):
        store.get(["b"])[0].media.thumbnail()
    store.delete(ids=["b"])
    assert store.verify().ok


def test_a_row_in_the_wrong_place_is_found(store, path):
    store.add([pictured("a"), record("b")])
    connection = sqlite3.connect(path / "index.sqlite")
    with connection:
        connection.execute("UPDATE media SET rowid = 2")
    connection.close()
    assert [damage.part for damage in store.verify().damaged] == ["media"]


def test_new_codes_and_a_smaller_file_leave_pictures_alone(store):
    store.add([pictured(f"{number}") for number in range(6)])
    store.delete(ids=["1"])
    store.recode(b"codec", stores.flipped, codec_name="test", code_width=stores.CODE_WIDTH)
    store.optimize()
    assert {document.media.thumbnail() for document in store.get(store.ids())} == {thumbnail()}
    assert store.verify().ok


def test_a_closed_store_has_no_thumbnails_to_give(store):
    store.add([pictured("a")])
    (document,) = store.get(["a"])
    store.close()
    with pytest.raises(SmartError, match="closed"):
        document.media.thumbnail()


def test_as_json():
    found = VIDEO.to_dict(thumbnail=True)
    assert found["kind"] == "video"
    assert found["times"] == [0.0, 0.5, 1.25]
    assert found["thumbnail"].startswith("iVBOR")
    assert "thumbnail" not in VIDEO.to_dict()
    assert Media("page").to_dict(thumbnail=True)["thumbnail"] is None
