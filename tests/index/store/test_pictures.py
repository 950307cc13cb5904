"""Pictures beside documents: stored, checked and deleted with them; where their tokens are."""

import sqlite3
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from fixtures import stores
from fixtures.pictures import picture
from fixtures.stores import record
from hypothesis import given
from hypothesis import strategies as st

from smart_retrieval.embeddings import Grid
from smart_retrieval.errors import IndexDamagedError, SmartError
from smart_retrieval.index.store import pictures
from smart_retrieval.index.store.pictures import Media, PlacedGrid, place_grids
from smart_retrieval.index.store.store import Store


def thumbnail(seed=0):
    buffer = BytesIO()
    picture(seed).save(buffer, "PNG")
    return buffer.getvalue()


GRID = PlacedGrid("video", 2, 1, 3, ((1, 3), (5, 3)))
VIDEO = Media("video", 160, 128, (0.0, 0.5, 1.25), (GRID,), preview=thumbnail())


def pictured(id, media=VIDEO):
    return replace(record(id), media=media)


def has_table(path):
    with sqlite3.connect(path / "index.sqlite") as connection:
        found = pictures.exists(connection)
    connection.close()
    return found


def test_round_trip(store, path):
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


def test_an_index_without_the_table_takes_pictures(store, path):
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


def test_recoding_and_compacting_keep_pictures(store):
    store.add([pictured(f"{number}") for number in range(6)])
    store.delete(ids=["1"])
    store.recode(b"codec", stores.flipped, codec_name="test", code_width=stores.CODE_WIDTH)
    store.optimize()
    assert {document.media.thumbnail() for document in store.get(store.ids())} == {thumbnail()}
    assert store.verify().ok


def test_thumbnails_of_a_closed_store_are_an_error(store):
    store.add([pictured("a")])
    (document,) = store.get(["a"])
    store.close()
    with pytest.raises(SmartError, match="closed"):
        document.media.thumbnail()


def test_media_as_json():
    found = VIDEO.to_dict(thumbnail=True)
    assert found["kind"] == "video"
    assert found["times"] == [0.0, 0.5, 1.25]
    assert found["thumbnail"].startswith("iVBOR")
    assert "thumbnail" not in VIDEO.to_dict()
    assert Media("page").to_dict(thumbnail=True)["thumbnail"] is None


# -- grids -------------------------------------------------------------------------------------------------------------


def test_grids_are_found_by_role_and_in_order():
    roles = [1, 2, 4, 4, 4, 4, 4, 4, 3, 3, 4, 4, 1]
    first, second = place_grids([Grid("image", 1, 2, 3), Grid("image", 1, 1, 2)], roles)
    assert first.positions().tolist() == [2, 3, 4, 5, 6, 7]
    assert second.runs == ((10, 2),)


def test_frames_separated_by_text_are_one_grid():
    (grid,) = place_grids([Grid("video", 3, 1, 2)], [3, 5, 5, 3, 5, 5, 1, 1, 5, 5])
    assert grid.runs == ((1, 2), (4, 2), (8, 2))
    assert grid.positions().tolist() == [1, 2, 4, 5, 8, 9]


def test_truncated_and_unaccounted_grids_are_left_out():
    (placed,) = place_grids([Grid("image", 1, 1, 2), Grid("image", 1, 1, 9)], [4, 4, 4])
    assert len(placed.positions()) == 2
    assert place_grids([Grid("image", 1, 1, 2)], [4, 4, 4]) == ()
    assert place_grids([], [3, 3]) == ()


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4)), max_size=3), st.data())
def test_positions_are_the_visual_ones_in_order(sizes, data):
    grids = [Grid("video" if t > 1 else "image", t, h, w) for t, h, w in sizes]
    visual = sum(grid.tokens for grid in grids)
    roles = [4] * visual + [3] * data.draw(st.integers(0, 9))
    roles = np.array(data.draw(st.permutations(roles)))
    placed = place_grids(grids, roles)
    found = np.concatenate([np.zeros(0, np.int64), *(grid.positions() for grid in placed)])
    assert found.tolist() == np.flatnonzero(roles == 4).tolist()
    assert [PlacedGrid.from_list(grid.to_list()) for grid in placed] == list(placed)


@pytest.mark.parametrize(
    "value", [None, [], ["image", 1, 1, 2, [[0, 3]]], ["image", 0, 1, 2, []], ["image", 1, 1, "x", []]]
)
def test_an_impossible_grid_is_damage(value):
    with pytest.raises(IndexDamagedError):
        PlacedGrid.from_list(value)
