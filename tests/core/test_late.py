"""Late interaction against the formula written out, and against Sentence Transformers."""

import warnings

import numpy as np
import pytest
from fixtures.ragged import batches, ragged
from fixtures.reference import naive_late
from hypothesis import given
from hypothesis import strategies as st

from smart_retrieval import SmartEmbeddings, late_scores
from smart_retrieval.core.late import document_blocks, token_shares
from smart_retrieval.errors import ScoringError

QUERIES = ragged([3, 1, 0, 5, 2], seed=1)
DOCUMENTS = ragged([4, 0, 1, 7, 0, 0, 2, 3], seed=2)
TINY_BUDGETS = (0, 1, 4, 100, 1000)


def close(found, expected, atol=1e-5):
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=atol)


def opposed():
    """A query and documents whose every similarity is negative, with lengths that padding would fill up."""
    query = SmartEmbeddings(np.ones((1, 2)), [[1.0, 0.0], [1.0, 0.0]], [0, 2])
    vectors = [[-1.0, 0.0], [-0.6, 0.8], [-0.8, 0.6], [-0.28, 0.96]]
    return query, SmartEmbeddings(np.ones((3, 2)), vectors, [0, 1, 3, 4])


# -- the formula ---------------------------------------------------------------------------------------------------


def test_by_hand():
    query = SmartEmbeddings([[1.0]], [[1.0, 0.0], [0.0, 1.0]], [0, 2])
    documents = SmartEmbeddings([[1.0]] * 2, [[1.0, 0.0], [0.6, 0.8], [-1.0, 0.0]], [0, 2, 3])
    # First document: best of (1, .6) and of (0, .8). Second: -1 and 0.
    close(late_scores(query, documents), np.array([[0.9, -0.5]]))
    close(late_scores(query, documents, weights=[3, 1]), np.array([[0.95, -0.75]]))
    close(late_scores(query, documents, weights=[0, 2]), np.array([[0.8, 0.0]]))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("weighted", [False, True])
def test_equals_the_naive_double_loop(seed, weighted):
    rng = np.random.default_rng(seed)
    queries = ragged(rng.integers(0, 5, 6), seed)
    documents = ragged(rng.integers(0, 7, 9), seed + 100)
    weights = rng.random(len(queries.token_vectors)) * rng.integers(0, 2, len(queries.token_vectors))
    weights = weights if weighted else None
    close(late_scores(queries, documents, weights=weights), naive_late(queries, documents, weights))


def test_the_best_is_the_best_even_when_all_are_negative():
    query, documents = opposed()
    scores = late_scores(query, documents)
    close(scores, np.array([[-1.0, -0.6, -0.28]]), atol=1e-7)
    close(scores, naive_late(query, documents), atol=1e-7)


@pytest.mark.parametrize("negative_only", [False, True])
def test_equals_sentence_transformers(negative_only):
    import torch
    from sentence_transformers.util.similarity import mean_maxsim

    queries, documents = opposed() if negative_only else (QUERIES, DOCUMENTS)
    as_lists = [
        [torch.tensor(np.asarray(item.token_vectors, np.float32)) for item in batch] for batch in (queries, documents)
    ]
    theirs = mean_maxsim(*as_lists).numpy()
    ours = late_scores(queries, documents)
    filled = documents.lengths > 0
    close(ours[:, filled], theirs[:, filled], atol=1e-6)
    # A document without tokens: nothing here, a sentinel of -1e9 (over the query's tokens) there.
    assert (ours[:, ~filled] == 0).all()
    assert (theirs[queries.lengths > 0][:, ~filled] < -1e8).all()


@pytest.mark.parametrize("floor", [None, -0.5, 0.5])
def test_documents_and_queries_without_tokens_score_nothing(floor):
    scores = late_scores(QUERIES, DOCUMENTS, floor=floor)
    assert (scores[:, [1, 4, 5]] == 0).all()
    assert (scores[2] == 0).all()
    assert (scores[[0, 1, 3, 4]][:, [0, 2, 3, 6, 7]] != 0).any(axis=1).all()


@pytest.mark.parametrize(("nq", "nd"), [(0, 3), (3, 0), (0, 0)])
def test_no_queries_or_no_documents(nq, nd):
    assert late_scores(ragged([2] * nq), ragged([2] * nd)).shape == (nq, nd)


def test_nothing_but_empty_items():
    assert (late_scores(ragged([0, 0]), ragged([0, 0, 0])) == 0).all()
    assert (late_scores(ragged([2]), ragged([0, 0])) == 0).all()


# -- weights -------------------------------------------------------------------------------------------------------


def test_weights_count_by_their_shares():
    rng = np.random.default_rng(0)
    weights = rng.random(len(QUERIES.token_vectors))
    plain = late_scores(QUERIES, DOCUMENTS, weights=weights)
    close(late_scores(QUERIES, DOCUMENTS, weights=(weights * 37).tolist()), plain.astype(np.float64), atol=1e-6)
    close(
        late_scores(QUERIES, DOCUMENTS, weights=np.full(len(weights), 5)),
        late_scores(QUERIES, DOCUMENTS).astype(np.float64),
        atol=1e-6,
    )
    shares = token_shares(QUERIES, weights)
    sums = [shares[start:stop].sum() for start, stop in zip(QUERIES.offsets, QUERIES.offsets[1:], strict=False)]
    np.testing.assert_allclose(sums, [1, 1, 0, 1, 1], atol=1e-6)


def test_weights_from_an_object():
    class ByPosition:
        def weights(self, queries):
            return np.arange(len(queries.token_vectors)) + 1.0

    explicit = np.arange(len(QUERIES.token_vectors)) + 1.0
    assert np.array_equal(
        late_scores(QUERIES, DOCUMENTS, weights=ByPosition()), late_scores(QUERIES, DOCUMENTS, weights=explicit)
    )


@pytest.mark.parametrize("floor", [None, -0.5, 0.5])
def test_a_query_of_zero_weights_scores_nothing(floor):
    weights = np.ones(len(QUERIES.token_vectors))
    weights[QUERIES.offsets[3] : QUERIES.offsets[4]] = 0
    found = late_scores(QUERIES, DOCUMENTS, weights=weights, floor=floor)
    expected = late_scores(QUERIES, DOCUMENTS, floor=floor)
    expected[3] = 0
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("floor", [None, 0.5])
def test_nothing_empty_raises_a_numpy_warning(floor):
    weights = np.ones(len(QUERIES.token_vectors))
    weights[0] = 0
    weights[QUERIES.offsets[3] :] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = late_scores(QUERIES, DOCUMENTS, weights=weights, floor=floor)
    assert np.isfinite(scores).all()
    close(scores, naive_late(QUERIES, DOCUMENTS, weights, floor))


@pytest.mark.parametrize(
    "wrong",
    [[1.0], np.ones((11, 1)), np.ones(12), 3.0, [-1.0] + [1.0] * 10, [np.nan] + [1.0] * 10, [np.inf] + [1.0] * 10],
    ids=["short", "two-dimensional", "long", "single", "negative", "nan", "infinite"],
)
def test_invalid_weights_are_refused(wrong):
    assert len(QUERIES.token_vectors) == 11
    with pytest.raises(ScoringError, match="weights"):
        late_scores(QUERIES, DOCUMENTS, weights=wrong)


@pytest.mark.parametrize("wrong", ["idf", [[1.0], [1.0, 2.0]], ["a"] * 11], ids=["a name", "ragged", "strings"])
def test_weights_that_are_not_numbers_are_a_named_error(wrong):
    # weights="idf" is what a reader of Preset.weights types first.
    with pytest.raises(ScoringError):
        late_scores(QUERIES, DOCUMENTS, weights=wrong)


def test_widths_must_agree():
    with pytest.raises(ScoringError, match=r"5 dimensions.*7 in the documents"):
        late_scores(QUERIES, ragged([2], token_dim=7))


# -- the floor -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("floor", [-1.0, 0.0, 0.3, 0.55, 0.99])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_floor_equals_the_naive_double_loop(floor, weighted):
    weights = np.random.default_rng(1).random(len(QUERIES.token_vectors)) if weighted else None
    found = late_scores(QUERIES, DOCUMENTS, weights=weights, floor=floor)
    close(found, naive_late(QUERIES, DOCUMENTS, weights, floor), atol=1e-4)
    assert (found >= 0).all()


def test_a_floor_by_hand():
    query = SmartEmbeddings([[1.0]], [[1.0, 0.0], [0.0, 1.0]], [0, 2])
    documents = SmartEmbeddings([[1.0]] * 2, [[1.0, 0.0], [0.6, 0.8], [-1.0, 0.0]], [0, 2, 3])
    # (1 - .5) / .5 = 1 and (.8 - .5) / .5 = .6; nothing of -1 and 0 is left.
    close(late_scores(query, documents, floor=0.5), np.array([[0.8, 0.0]]))


def test_a_floor_below_every_similarity_keeps_the_order():
    plain, lifted = late_scores(QUERIES, DOCUMENTS), late_scores(QUERIES, DOCUMENTS, floor=-1.5)
    filled = np.outer(QUERIES.lengths > 0, DOCUMENTS.lengths > 0)
    np.testing.assert_allclose(lifted[filled], (plain[filled] + 1.5) / 2.5, atol=1e-6)


@pytest.mark.parametrize("floor", [1, 1.5, float("nan"), float("inf")])
def test_floors_of_one_and_more_are_refused(floor):
    with pytest.raises(ScoringError, match="floor"):
        late_scores(QUERIES, DOCUMENTS, floor=floor)


def test_an_infinitely_low_floor_gives_no_nan():
    try:
        scores = late_scores(QUERIES, DOCUMENTS, floor=float("-inf"))
    except ScoringError:
        return
    assert not np.isnan(scores).any()


# -- memory and dtypes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", TINY_BUDGETS)
def test_a_small_budget_changes_nothing(memory):
    weights = np.random.default_rng(1).random(len(QUERIES.token_vectors))
    close(
        late_scores(QUERIES, DOCUMENTS, weights=weights, memory=memory),
        late_scores(QUERIES, DOCUMENTS, weights=weights).astype(np.float64),
        atol=1e-6,
    )


def test_the_budget_bounds_the_similarity_block(monkeypatch):
    from smart_retrieval.core import late

    largest = []
    original = late.best_of_rows

    def watched(block, rows, offsets, *how):
        largest.append((len(block) * len(rows) * 4, len(offsets) - 1))
        return original(block, rows, offsets, *how)

    monkeypatch.setattr(late, "best_of_rows", watched)
    queries, documents = ragged([4] * 10, seed=1), ragged([5] * 40, seed=2)
    late_scores(queries, documents, memory=4 * 40 * 30)
    assert len(largest) > 1
    assert all(size <= 4 * 40 * 30 for size, _ in largest)
    assert sum(count for _, count in largest) == 40


def test_many_queries_are_scored_in_blocks():
    queries = ragged(np.random.default_rng(0).integers(0, 12, 90), seed=4)
    assert len(queries.token_vectors) > 256
    one_by_one = np.vstack([late_scores(query, DOCUMENTS) for query in queries])
    close(late_scores(queries, DOCUMENTS), one_by_one.astype(np.float64), atol=1e-6)


def test_a_single_query_longer_than_a_block():
    query, documents = ragged([300, 2], seed=5), ragged([3, 0, 2], seed=6)
    close(late_scores(query, documents), naive_late(query, documents))


def test_float16_documents_are_scored_in_float32():
    half = DOCUMENTS.astype("float16")
    scores = late_scores(QUERIES, half)
    close(scores, late_scores(QUERIES, half.astype("float32")).astype(np.float64), atol=0)
    close(scores, late_scores(QUERIES, DOCUMENTS).astype(np.float64), atol=2e-3)


def test_memory_mapped_documents_score_the_same(tmp_path):
    mapped = SmartEmbeddings.load(DOCUMENTS.save(tmp_path / "emb"), mmap=True)
    assert np.array_equal(late_scores(QUERIES, mapped), late_scores(QUERIES, DOCUMENTS))


@given(st.lists(st.integers(0, 9), max_size=20), st.integers(1, 30))
def test_document_blocks_cover_every_item_within_the_limit(lengths, rows):
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    blocks = list(document_blocks(offsets, rows))
    assert [i for block in blocks for i in range(block.start, block.stop)] == list(range(len(lengths)))
    for block in blocks:
        assert block.stop > block.start
        assert offsets[block.stop] - offsets[block.start] <= rows or block.stop == block.start + 1


# -- properties ----------------------------------------------------------------------------------------------------


@given(batches(max_items=4), batches(), st.randoms(use_true_random=False))
def test_documents_in_another_order_score_the_same(queries, documents, random):
    order = list(range(len(documents)))
    random.shuffle(order)
    shuffled = late_scores(queries, documents[order])
    close(shuffled, late_scores(queries, documents)[:, order].astype(np.float64), atol=1e-6)


@given(batches(max_items=4), batches(min_items=1), st.integers(0, 2**16), st.data())
def test_one_more_token_never_lowers_a_document(queries, documents, seed, data):
    more = ragged([1], seed)
    place = data.draw(st.integers(0, len(documents) - 1))
    vectors = np.insert(documents.token_vectors, documents.offsets[place + 1], more.token_vectors[0], axis=0)
    offsets = documents.offsets + (np.arange(len(documents) + 1) > place)
    longer = SmartEmbeddings(documents.anchors, vectors, offsets)
    before, after = late_scores(queries, documents), late_scores(queries, longer)
    if documents.lengths[place]:  # no token at all is worth more than one that is opposed to the query
        assert (after[:, place] >= before[:, place] - 1e-6).all()
    others = np.arange(len(documents)) != place
    close(after[:, others], before[:, others].astype(np.float64), atol=1e-6)


@given(batches(max_items=4), batches())
def test_repeating_every_token_changes_nothing(queries, documents):
    def doubled(batch):
        rows = [np.tile(item.token_vectors, (2, 1)) for item in batch]
        return SmartEmbeddings(
            batch.anchors, np.concatenate([np.zeros((0, batch.token_dim), np.float32), *rows]), batch.offsets * 2
        )

    plain = late_scores(queries, documents).astype(np.float64)
    close(late_scores(queries, doubled(documents)), plain, atol=1e-6)
    close(late_scores(doubled(queries), documents), plain, atol=1e-6)


@given(batches(max_items=4), batches(), st.data())
def test_scores_of_unit_vectors_stay_between_minus_one_and_one(queries, documents, data):
    total = len(queries.token_vectors)
    weights = data.draw(st.lists(st.floats(0, 1e6), min_size=total, max_size=total))
    scores = late_scores(queries, documents, weights=weights)
    assert (np.abs(scores) <= 1 + 1e-5).all()
    assert (scores[:, documents.lengths == 0] == 0).all()


@given(batches(min_items=1))
def test_a_text_matches_itself_fully(batch):
    scores = late_scores(batch, batch)
    own = np.diag(scores)[batch.lengths > 0]
    np.testing.assert_allclose(own, 1, atol=1e-5)
