"""SmartEmbeddings in memory: every way of choosing items, joining, NumPy in and out."""

from itertools import pairwise

import numpy as np
import pytest
from fixtures.ragged import batches, item_lists, ragged, same
from hypothesis import given
from hypothesis import strategies as st

from smart_retrieval import SmartEmbeddings, SmartError
from smart_retrieval.errors import EmbeddingsError
from smart_retrieval.types import EncodingReport

LENGTHS = [2, 0, 3, 1, 0, 4]


@pytest.fixture
def six():
    return ragged(LENGTHS, seed=3)


class Vocabulary:
    """Spells an id as its number, and remembers that it was never asked for an id that is none."""

    def convert_ids_to_tokens(self, ids):
        assert all(i >= 0 for i in ids)
        return [f"t{i}" for i in ids]


# -- shape ---------------------------------------------------------------------------------------------------------


def test_sizes(six):
    assert len(six) == 6
    assert (six.anchor_dim, six.token_dim) == (6, 5)
    assert six.lengths.tolist() == LENGTHS
    # Anchors, token vectors, offsets, ids, roles, and the offsets of grids, of which there are none.
    assert six.nbytes == 6 * 6 * 4 + 10 * 5 * 4 + 7 * 8 + 10 * 4 + 10 * 1 + 7 * 8
    assert six.report == EncodingReport(items=6)
    assert "6 items" in repr(six)
    assert "5d float32" in repr(six)


def test_ids_and_roles_have_defaults():
    one = SmartEmbeddings([[1.0]], [[1.0], [2.0]], [0, 2])
    assert one.token_ids.tolist() == [-1, -1]
    assert one.roles.tolist() == [3, 3]
    assert (one.token_ids.dtype, one.roles.dtype, one.offsets.dtype) == (np.int32, np.uint8, np.int64)


@pytest.mark.parametrize(
    "change",
    [
        {"anchors": np.zeros(3)},
        {"anchors": np.zeros((3, 2))},
        {"token_vectors": np.zeros(4)},
        {"token_vectors": np.zeros((5, 3))},
        {"offsets": [0, 4]},
        {"offsets": [0, 2, 3]},
        {"offsets": [1, 2, 4]},
        {"offsets": [0, 5, 4]},
        {"offsets": [[0, 2, 4]]},
        {"offsets": 4},
        {"token_ids": [1, 2, 3]},
        {"roles": np.zeros((4, 1))},
    ],
    ids=lambda change: f"{next(iter(change))}-{np.shape(next(iter(change.values())))}",
)
def test_shapes_that_do_not_fit_are_refused(change):
    good = {"anchors": np.zeros((2, 2)), "token_vectors": np.zeros((4, 3)), "offsets": [0, 2, 4]}
    SmartEmbeddings(**good)
    with pytest.raises(EmbeddingsError):
        SmartEmbeddings(**(good | change))


def test_a_single_number_for_anchors_is_refused():
    with pytest.raises(EmbeddingsError):
        SmartEmbeddings(np.float32(1), np.zeros((4, 3)), [0, 4])


# -- choosing items ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", [0, 1, 5, -1, -6, np.int64(2), np.int32(-2)])
def test_one_item(six, index):
    assert item_lists(six[index]) == [item_lists(six)[index]]


@pytest.mark.parametrize("index", [6, -7, np.int64(6)])
def test_an_index_out_of_range(six, index):
    with pytest.raises(IndexError, match=str(index)):
        six[index]


@pytest.mark.parametrize("wrong", [[0, 6], [-7], np.array([99])])
def test_a_list_with_an_index_out_of_range(six, wrong):
    with pytest.raises(IndexError):
        six[wrong]


@given(batches(), st.slices(8))
def test_slices_choose_what_a_list_would(batch, chosen):
    assert item_lists(batch[chosen]) == item_lists(batch)[chosen]


@given(batches(min_items=1), st.data())
def test_lists_choose_in_their_order_with_repeats(batch, data):
    chosen = data.draw(st.lists(st.integers(-len(batch), len(batch) - 1), max_size=8))
    expected = [item_lists(batch)[i] for i in chosen]
    assert item_lists(batch[chosen]) == expected
    assert item_lists(batch[np.array(chosen, np.int32)]) == expected


@given(batches(), st.data())
def test_masks_choose_where_true(batch, data):
    mask = data.draw(st.lists(st.booleans(), min_size=len(batch), max_size=len(batch)))
    expected = [item for item, wanted in zip(item_lists(batch), mask, strict=True) if wanted]
    assert item_lists(batch[np.array(mask, bool)]) == expected


@pytest.mark.parametrize("length", [5, 7])
def test_a_mask_of_another_length_is_refused(six, length):
    with pytest.raises(IndexError, match="mask"):
        six[np.ones(length, bool)]


def test_indices_that_are_no_whole_numbers_are_refused(six):
    with pytest.raises((IndexError, TypeError, SmartError)):
        six[[1.9]]


def test_iterating_gives_every_item(six):
    assert [item_lists(item)[0] for item in six] == item_lists(six)


def test_a_slice_of_step_one_copies_nothing(six):
    part = six[2:5]
    assert np.shares_memory(part.token_vectors, six.token_vectors)
    assert np.shares_memory(part.anchors, six.anchors)
    assert not np.shares_memory(six[[2, 3]].token_vectors, six.token_vectors)


def test_choosing_keeps_dtype_and_tokenizer(six):
    half = six.astype("float16")
    half.tokenizer = Vocabulary()
    for key in (1, slice(0, 3), slice(None, None, 2), [3, 0]):
        assert half[key].token_vectors.dtype == np.float16
        assert half[key].tokenizer is half.tokenizer


def test_empty_batches_work(six):
    none = six[0:0]
    assert len(none) == 0
    assert (none.anchor_dim, none.token_dim) == (6, 5)
    assert none.offsets.tolist() == [0]
    assert len(none[:]) == len(none[[]]) == len(none[::-1]) == len(list(none)) == 0
    with pytest.raises(IndexError):
        none[0]


# -- joining -------------------------------------------------------------------------------------------------------


@given(st.lists(batches(), min_size=1, max_size=4))
def test_concatenating_joins_the_items(parts):
    before = [item_lists(part) for part in parts]
    joined = SmartEmbeddings.concatenate(parts)
    assert item_lists(joined) == [item for items in before for item in items]
    assert joined.report.items == len(joined)
    assert [item_lists(part) for part in parts] == before  # the parts stay as they were, and stay in the list


@given(batches(min_items=1))
def test_cutting_into_items_and_joining_gives_the_batch_back(batch):
    assert same(SmartEmbeddings.concatenate(list(batch)), batch)


@given(batches(), st.data())
def test_cutting_anywhere_and_joining_gives_the_batch_back(batch, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(batch)), max_size=3)))
    bounds = [0, *cuts, len(batch)]
    parts = [batch[start:stop] for start, stop in pairwise(bounds)]
    assert same(SmartEmbeddings.concatenate(parts), batch)


def test_concatenating_adds_the_reports_up():
    left = ragged([1])
    right = ragged([2, 1])
    left.report = EncodingReport(items=1, truncated=1, truncated_tokens=7, empty=0)
    right.report = EncodingReport(items=2, truncated=1, truncated_tokens=2, empty=1)
    assert SmartEmbeddings.concatenate([left, right]).report == EncodingReport(3, 2, 9, 1)
    assert left.report.to_dict() == {"items": 1, "truncated": 1, "truncated_tokens": 7, "empty": 0}


def test_concatenating_float16_and_float32_loses_nothing():
    wide, narrow = ragged([2]), ragged([3]).astype("float16")
    joined = SmartEmbeddings.concatenate([narrow, wide])
    assert joined.token_vectors.dtype == np.float32
    assert np.array_equal(joined.token_vectors[3:], wide.token_vectors)


@pytest.mark.parametrize(
    "parts", [[], [ragged([1]), ragged([1], token_dim=4)], [ragged([1]), ragged([1], anchor_dim=4)]]
)
def test_batches_that_do_not_fit_together_are_refused(parts):
    with pytest.raises(EmbeddingsError):
        SmartEmbeddings.concatenate(parts)


# -- NumPy, dtypes, strings ----------------------------------------------------------------------------------------


@given(batches())
def test_numpy_round_trip(batch):
    assert same(SmartEmbeddings.from_numpy(batch.to_numpy()), batch)


def test_from_numpy_needs_the_three_arrays_and_no_others(six):
    arrays = six.to_numpy()
    bare = SmartEmbeddings.from_numpy({name: arrays[name] for name in ("anchors", "token_vectors", "offsets")})
    assert np.array_equal(bare.token_vectors, six.token_vectors)
    assert set(bare.token_ids.tolist()) == {-1}
    with pytest.raises(EmbeddingsError, match=r"missing.*offsets"):
        SmartEmbeddings.from_numpy({name: arrays[name] for name in ("anchors", "token_vectors")})
    with pytest.raises(EmbeddingsError, match=r"unknown.*grids"):
        SmartEmbeddings.from_numpy({**arrays, "grids": np.zeros(3)})


def test_astype_changes_the_token_vectors_only(six):
    half = six.astype("float16")
    assert half.token_vectors.dtype == np.float16
    assert np.array_equal(half.anchors, six.anchors)
    assert half.anchors.dtype == np.float32
    assert np.array_equal(half.token_vectors, six.token_vectors.astype(np.float16))
    assert np.array_equal(half.offsets, six.offsets)
    assert half.report == six.report


def test_token_strings_leave_positions_without_an_id_empty():
    batch = SmartEmbeddings(np.eye(3), np.eye(4), [0, 3, 3, 4], token_ids=[5, -1, 7, -1], tokenizer=Vocabulary())
    assert batch.token_strings(0) == ["t5", "", "t7"]
    assert batch.token_strings(1) == []
    assert batch.token_strings(-1) == [""]


def test_token_strings_need_a_tokenizer(six):
    with pytest.raises(EmbeddingsError, match="tokenizer"):
        six.token_strings(0)
    assert len(six[2:].token_strings(0, tokenizer=Vocabulary())) == 3
