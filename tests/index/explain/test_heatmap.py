"""Maps are the similarities they are made of, put where their tokens are; their sums are late scores."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smart_retrieval import SmartEmbeddings
from smart_retrieval.core.late import late_scores
from smart_retrieval.embeddings import Grid
from smart_retrieval.index.explain.heatmap import (
    best_frames,
    frame_of_step,
    grid_maps,
    intensities,
    place_in_grid,
    value_scale,
)
from smart_retrieval.index.store.pictures import PlacedGrid, place_grids


def example(floor=None, seed=0, t=3, h=2, w=4, words=5):
    rng = np.random.default_rng(seed)
    roles = np.array([1, 1] + ([5] * (h * w) + [3]) * t)
    similarities = rng.uniform(-0.3, 0.9, (words, len(roles))).astype(np.float32)
    shares = rng.dirichlet(np.ones(words)).astype(np.float32)
    grids = place_grids([Grid("video", t, h, w)], roles)
    return similarities, shares, grids, grid_maps(similarities, shares, grids, floor=floor)


def test_seconds_of_sound_score_what_they_would_score_alone():
    rng = np.random.default_rng(3)
    query, sound = (rng.normal(size=(count, 8)).astype(np.float32) for count in (4, 60))
    query, sound = (values / np.linalg.norm(values, axis=1, keepdims=True) for values in (query, sound))
    (grid,) = place_grids([Grid("audio", 1, 1, 60)], [8] * 60)
    (one,) = grid_maps(query @ sound.T, np.full(4, 0.25), [grid])
    asked = SmartEmbeddings(np.ones((1, 2)), query, [0, 4])
    seconds = SmartEmbeddings(np.ones((3, 2)), sound, [0, 25, 50, 60])
    assert one.frames == pytest.approx(late_scores(asked, seconds)[0], abs=1e-6)
    assert one.whole.shape == (1, 1, 60)


def test_every_cell_is_its_tokens_similarity():
    similarities, _, (grid,), (one,) = example()
    assert one.rows.shape == (5, 3, 2, 4)
    for word in range(5):
        for frame in range(3):
            for y in range(2):
                for x in range(4):
                    position = 2 + frame * 9 + y * 4 + x
                    assert one.rows[word, frame, y, x] == similarities[word, position]
                    assert place_in_grid(grid, position) == (frame, y, x)
    assert place_in_grid(grid, 0) is None
    assert place_in_grid(grid, 10) is None, "what stands between two frames"


@pytest.mark.parametrize("floor", [None, 0.3])
def test_a_frame_scores_what_it_would_score_alone(floor):
    rng = np.random.default_rng(1)
    query = rng.normal(size=(4, 8)).astype(np.float32)
    query /= np.linalg.norm(query, axis=1, keepdims=True)
    patches = rng.normal(size=(12, 8)).astype(np.float32)
    patches /= np.linalg.norm(patches, axis=1, keepdims=True)
    weights = np.array([1, 2, 3, 0.5])
    (one,) = grid_maps(
        query @ patches.T, weights / weights.sum(), [PlacedGrid("video", 3, 2, 2, ((0, 12),))], floor=floor
    )
    asked = SmartEmbeddings(np.ones((1, 2)), query, [0, 4])
    frames = SmartEmbeddings(np.ones((3, 2)), patches, [0, 4, 8, 12])
    assert one.frames == pytest.approx(late_scores(asked, frames, weights=weights, floor=floor)[0], abs=1e-6)
    cells = SmartEmbeddings(np.ones((12, 2)), patches, range(13))
    alone = late_scores(asked, cells, weights=weights, floor=floor)[0]
    assert one.whole.ravel() == pytest.approx(alone, abs=1e-6)


@given(st.integers(0, 1000), st.one_of(st.none(), st.floats(-0.5, 0.9)))
def test_the_whole_is_the_sum_of_its_words_and_no_frame_beats_its_best_words(seed, floor):
    similarities, shares, _, (one,) = example(floor, seed)
    lifted = similarities if floor is None else np.maximum(0, (similarities - floor) / (1 - floor))
    positions = one.grid.positions()
    assert one.whole.ravel() == pytest.approx((shares[:, None] * lifted[:, positions]).sum(0), abs=1e-4)
    assert (one.frames >= one.whole.reshape(3, -1).max(1) - 1e-5).all()


def test_words_shown_together_are_their_weighted_mean():
    similarities, shares, grids, (one,) = example()
    (two,) = grid_maps(similarities, shares, grids, rows=[[0], [1, 2, 3], [4]])
    assert np.array_equal(two.rows[[0, 2]], one.rows[[0, 4]])
    expected = np.average(one.rows[1:4], axis=0, weights=shares[1:4])
    assert two.rows[1] == pytest.approx(expected, abs=1e-6)
    assert np.array_equal(two.whole, one.whole)
    (equal,) = grid_maps(similarities, np.zeros(5, np.float32), grids, rows=[range(5)])
    assert equal.rows[0] == pytest.approx(one.rows.mean(0), abs=1e-6)


def test_one_scale_for_all_words_and_all_pictures():
    _, _, _, (one,) = example()
    _, _, _, (two,) = example(seed=5)
    low, high = value_scale([one.rows, two.rows])
    assert low == pytest.approx(min(one.rows.min(), two.rows.min()))
    assert high == pytest.approx(max(one.rows.max(), two.rows.max()))
    assert value_scale([one.whole]) == (pytest.approx(one.whole.min()), pytest.approx(one.whole.max()))
    shown = intensities(one.rows, (low, high))
    assert shown.min() >= 0
    assert shown.max() <= 1
    assert np.array_equal(np.argsort(shown.ravel(), kind="stable"), np.argsort(one.rows.ravel(), kind="stable"))


def test_nothing_to_show_is_no_error():
    assert grid_maps(np.zeros((2, 3)), np.ones(2) / 2, []) == ()
    assert value_scale([]) == value_scale([np.zeros((0, 2))]) == (0, 1)
    (one,) = grid_maps(np.zeros((0, 4)), np.zeros(0), [PlacedGrid("image", 1, 2, 2, ((0, 4),))])
    assert one.rows.shape == (0, 1, 2, 2)
    assert one.frames.tolist() == [0]
    assert intensities(np.full(3, 0.5), (0.5, 0.5)).tolist() == [0, 0, 0]


def test_intensities_are_clipped_to_the_scale():
    assert intensities(np.float32([0.1, 0.2, 0.5, 0.9]), (0.2, 0.8)).round(1).tolist() == pytest.approx([0, 0, 0.5, 1])


def test_best_frames_and_the_frames_a_step_stands_for():
    assert best_frames(np.array([0.3, 0.1, 0.3]), 2) == [0, 2]
    assert best_frames(np.array([0.1, 0.4, 0.4, 0.2]), 2) == [1, 2]
    assert best_frames(np.zeros(0), 3) == []
    assert [frame_of_step(step, 3, 5) for step in range(3)] == [0, 2, 4]
    assert [frame_of_step(step, 4, 7) for step in range(4)] == [0, 2, 4, 6]
    assert [frame_of_step(step, 3, 3) for step in range(3)] == [0, 1, 2]
    assert frame_of_step(5, 6, 4) == 3, "a last frame that was repeated"
    assert frame_of_step(0, 1, 0) == 0
