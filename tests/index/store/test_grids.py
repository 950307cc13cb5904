"""Where visual tokens are among a document's: found by role, kept as runs, dropped where they cannot be told."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smart_retrieval.embeddings import Grid
from smart_retrieval.errors import IndexDamagedError
from smart_retrieval.index.store.pictures import PlacedGrid, place_grids


def test_grids_are_found_by_role_and_in_order():
    roles = [1, 2, 4, 4, 4, 4, 4, 4, 3, 3, 4, 4, 1]
    first, second = place_grids([Grid("image", 1, 2, 3), Grid("image", 1, 1, 2)], roles)
    assert first.positions().tolist() == [2, 3, 4, 5, 6, 7]
    assert second.runs == ((10, 2),)


def test_frames_with_something_between_them_are_one_grid():
    (grid,) = place_grids([Grid("video", 3, 1, 2)], [3, 5, 5, 3, 5, 5, 1, 1, 5, 5])
    assert grid.runs == ((1, 2), (4, 2), (8, 2))
    assert grid.positions().tolist() == [1, 2, 4, 5, 8, 9]


def test_what_was_cut_off_is_left_out_and_what_nobody_told_of_is_not_guessed():
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
def test_a_grid_that_cannot_be_is_damage(value):
    with pytest.raises(IndexDamagedError):
        PlacedGrid.from_list(value)
