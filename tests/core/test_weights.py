"""IDF weights: by hand, kept up to date, saved and loaded."""

import math
from unittest.mock import patch

import numpy as np
import pytest
from fixtures.ragged import batches, ragged
from hypothesis import given
from hypothesis import strategies as st

from smart_retrieval import IdfWeights, SmartEmbeddings, late_scores
from smart_retrieval.core import weights as counting
from smart_retrieval.core.roles import CONTENT_ROLES, TokenRole
from smart_retrieval.errors import EmbeddingsError


def items(*token_ids, roles=None):
    """Documents of these vocabulary ids."""
    flat = [i for ids in token_ids for i in ids]
    offsets = np.cumsum([0, *map(len, token_ids)])
    vectors = np.ones((len(flat), 1))
    return SmartEmbeddings(np.ones((len(token_ids), 1)), vectors, offsets, np.array(flat, np.int32), roles)


def content(batch):
    return np.isin(batch.roles, [int(role) for role in CONTENT_ROLES])


THREE = items([7, 7, 8], [7, 9], [7, -1])


def idf(documents, frequency):
    return max(0.0, math.log((documents + 1) / (max(frequency, 1) + 0.5)))


def test_the_formula_by_hand():
    weights = IdfWeights.fit(THREE)
    assert weights.documents == 3
    # 7 is in all three (twice in the first, which counts once), 8 and 9 in one each, 2 and 500 in none.
    found = weights.of([7, 8, 9, 2, 500])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [idf(3, 3), idf(3, 1), idf(3, 1), idf(3, 0), idf(3, 0)], rtol=1e-6)
    assert found[0] == pytest.approx(math.log(4 / 3.5), rel=1e-6)


def test_ids_never_seen_weigh_as_the_rarest_and_positions_without_an_id_weigh_one():
    weights = IdfWeights.fit(THREE)
    found = weights.of([[7, -1], [499, 8]])
    assert found.shape == (2, 2)
    assert found[0, 1] == 1
    assert found[1, 0] == found[1, 1] > found[0, 0]
    of_0_1 = IdfWeights(weights.documents, weights.frequencies, unseen=0)
    np.testing.assert_allclose(of_0_1.of([499, 8]), [math.log(4 / 0.5), math.log(4 / 1.5)], rtol=1e-6)
    assert weights.of([]).shape == (0,)


def test_no_weight_is_negative():
    everywhere = IdfWeights.fit(items(*[[1]] * 1000))
    assert 0 <= everywhere.of([1])[0] < 0.001


def test_an_empty_table_weighs_all_ids_alike():
    assert len(set(IdfWeights().of([0, 5, 900]).tolist())) == 1


def test_weights_of_queries_are_those_of_their_ids():
    weights = IdfWeights.fit(THREE)
    queries = items([7, 8], [], [-1, 9])
    assert np.array_equal(weights.weights(queries), weights.of([7, 8, -1, 9]))


def test_pieces_of_a_word_share_a_weight_between_the_heaviest_and_the_sum():
    table, text, piece = IdfWeights.fit(THREE), int(TokenRole.TEXT), int(TokenRole.CONTINUATION)
    queries = items([7, 8, 9, 9], [], [8, 9], [9, 7], roles=[text, text, piece, text, piece, piece, text, piece])
    seven, rare = table.of([7])[0], table.of([8])[0]
    word, mixed = math.sqrt(rare * 2 * rare), math.sqrt(rare * (rare + seven))
    # The third query begins with a piece: it goes on with nothing of its own, and not with the first query's last word.
    expected = [seven, word / 2, word / 2, rare, word / 2, word / 2, mixed * rare / (rare + seven)]
    expected.append(mixed * seven / (rare + seven))
    np.testing.assert_allclose(table.weights(queries), expected, rtol=1e-6)
    of_0_1 = IdfWeights(table.documents, table.frequencies, unseen=0)
    assert np.array_equal(of_0_1.weights(queries), of_0_1.of(queries.token_ids))


@given(batches(), st.data())
def test_a_word_weighs_no_less_than_its_heaviest_piece_and_no_more_than_all(batch, data):
    roles = data.draw(
        st.lists(st.sampled_from([3, 7, 9]), min_size=len(batch.token_ids), max_size=len(batch.token_ids))
    )
    queries = SmartEmbeddings(batch.anchors, batch.token_vectors, batch.offsets, batch.token_ids, np.array(roles))
    table = IdfWeights.fit(batch)
    found = table.weights(queries).astype(np.float64)
    alone = table.of(queries.token_ids) * content(queries)
    together = [table.weights(query) for query in queries]
    assert np.array_equal(found.astype(np.float32), np.concatenate([np.zeros(0, np.float32), *together]))
    for start, stop in zip(queries.offsets[:-1], queries.offsets[1:], strict=True):
        marks = np.flatnonzero(queries.roles[start:stop] != 9)
        for a, b in zip(sorted({0, *marks.tolist()}), [*sorted({0, *marks.tolist()})[1:], stop - start], strict=True):
            own, whole = alone[start + a : start + b], found[start + a : start + b].sum()
            assert own.max(initial=0) - 1e-5 <= whole <= own.sum() + 1e-5


@pytest.mark.parametrize("role", TokenRole)
def test_only_content_is_weighed(role):
    table = IdfWeights.fit(items([7, 8], [7], roles=[int(role), 3, int(role)]))
    # Whatever could be matched is counted.
    np.testing.assert_allclose(table.of([7, 8]), [idf(2, 2), idf(2, 1)], rtol=1e-6)
    found = table.weights(items([8], [-1], [8], roles=[int(role), int(role), 3]))
    np.testing.assert_allclose(found, [*([idf(2, 1), 1] if role in CONTENT_ROLES else [0, 0]), idf(2, 1)], rtol=1e-6)


def test_late_scores_take_the_table_as_it_is():
    documents, queries = ragged([3, 4, 2], seed=1, ids=5), ragged([2, 3], seed=2, ids=5)
    weights = IdfWeights.fit(documents)
    by_hand = weights.of(queries.token_ids) * content(queries)
    assert len(set(by_hand.tolist())) > 1
    with_table = late_scores(queries, documents, weights=weights)
    assert np.array_equal(with_table, late_scores(queries, documents, weights=by_hand))
    assert not np.array_equal(with_table, late_scores(queries, documents))


@given(batches(), batches())
def test_adding_equals_fitting_on_both_and_removing_takes_it_back(first, second):
    both = IdfWeights.fit(SmartEmbeddings.concatenate([first, second]))
    grown = IdfWeights.fit(first)
    grown.add(second)
    ids = np.arange(-1, 40)
    assert grown.documents == both.documents
    assert np.array_equal(grown.of(ids), both.of(ids))
    grown.remove(first)
    rest = IdfWeights.fit(second)
    assert grown.documents == rest.documents
    assert np.array_equal(grown.of(ids), rest.of(ids))


@given(batches(max_items=8))
def test_frequencies_count_each_document_once(batch):
    weights = IdfWeights.fit(batch)
    sets = [set(item.token_ids.tolist()) for item in batch]
    counts = [sum(i in ids for ids in sets) for i in range(40)]
    np.testing.assert_allclose(weights.of(range(40)), [idf(len(batch), count) for count in counts], rtol=1e-5)


@pytest.mark.parametrize("more", [items([7], [7], [7], [7]), items([3]), items([8], [8]), items([7, 900])])
def test_removing_what_was_never_added_is_refused_and_changes_nothing(more):
    weights = IdfWeights.fit(THREE)
    before = weights.of(range(1000))
    with pytest.raises(EmbeddingsError, match="added before"):
        weights.remove(more)
    assert weights.documents == 3
    assert np.array_equal(weights.of(range(1000)), before)


def test_the_frequencies_given_are_copied():
    counts = np.array([3, 1])
    weights = IdfWeights(3, counts)
    weights.add(items([0]))
    assert counts.tolist() == [3, 1]


@given(st.one_of(batches(), st.just(items())))
def test_save_and_load(tmp_path_factory, batch):
    path = tmp_path_factory.getbasetemp() / "idf.safetensors"
    weights = IdfWeights.fit(batch)
    assert weights.save(path) == path
    loaded = IdfWeights.load(path)
    assert loaded.documents == weights.documents
    assert np.array_equal(loaded.of(range(-1, 40)), weights.of(range(-1, 40)))
    loaded.add(batch)
    assert loaded.documents == 2 * len(batch)


def test_saving_leaves_one_file(tmp_path):
    IdfWeights.fit(THREE).save(str(tmp_path / "idf.safetensors"))
    assert [path.name for path in tmp_path.iterdir()] == ["idf.safetensors"]


@pytest.mark.parametrize("keep", [0, 5, 30, -1])
def test_a_truncated_file_is_refused(tmp_path, keep):
    path = IdfWeights.fit(THREE).save(tmp_path / "idf.safetensors")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(EmbeddingsError, match=r"idf\.safetensors.*cannot be read"):
        IdfWeights.load(path)


def test_foreign_and_missing_files_are_refused(tmp_path):
    with pytest.raises(EmbeddingsError, match="cannot be read"):
        IdfWeights.load(tmp_path / "gone.safetensors")
    other = ragged([2]).save(tmp_path / "emb.safetensors")
    with pytest.raises(EmbeddingsError, match="smart-embeddings/1"):
        IdfWeights.load(other)
    with pytest.raises(EmbeddingsError):
        IdfWeights.load(tmp_path)


@given(batches(max_items=9), st.integers(1, 8))
def test_counting_in_parts_gives_the_same(documents, at_once):
    whole = IdfWeights.fit(documents)
    with patch.object(counting, "_TOKENS_AT_ONCE", at_once):
        parts = IdfWeights.fit(documents)
        parts.add(documents)
        parts.remove(documents)
    assert (parts.documents, parts.frequencies.tolist()) == (whole.documents, whole.frequencies.tolist())
