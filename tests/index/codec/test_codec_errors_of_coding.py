"""How near each codec comes, and what its parts promise."""

from __future__ import annotations

import numpy as np
import pytest

from smart_retrieval.embeddings import SmartEmbeddings
from smart_retrieval.errors import CodecError
from smart_retrieval.index.codec.codebook import SCALES, CodebookCodec
from smart_retrieval.index.codec.factory import fit_codec
from smart_retrieval.index.codec.kernels import gathered_halves, row_blocks, widened
from smart_retrieval.index.codec.pooling import pool_tokens
from smart_retrieval.index.codec.quantize import ScalarBits, VectorStages, kmeans, nearest, principal_axes
from smart_retrieval.index.codec.sample import gather_sample

DIM = 48


def corpus(seed: int = 0, documents: int = 80, vocabulary: int = 40) -> SmartEmbeddings:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(4, 20, documents)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = rng.integers(0, vocabulary, offsets[-1])
    topics = rng.normal(size=(documents, DIM))
    vectors = words()[ids] + np.repeat(topics, lengths, axis=0) * 0.6 + rng.normal(size=(len(ids), DIM)) * 0.3
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return SmartEmbeddings(topics.astype(np.float32), vectors.astype(np.float32), offsets, ids)


def words() -> np.ndarray:
    return np.random.default_rng(77).normal(size=(60, DIM))


def error(name: str, documents: SmartEmbeddings, fit: SmartEmbeddings, **options: object) -> float:
    codec = fit_codec(name, fit, **options)
    decoded = codec.decode(codec.encode_documents(documents), np.repeat(documents.anchors, documents.lengths, axis=0))
    return float(((decoded - documents.token_vectors) ** 2).sum(axis=1).mean())


def test_plain_codes_come_as_near_as_they_say() -> None:
    documents = corpus(1)
    vectors = documents.token_vectors
    exact = fit_codec("float32", documents)
    assert (exact.decode(exact.encode_documents(documents)) == vectors).all()
    half = fit_codec("float16", documents)
    np.testing.assert_allclose(half.decode(half.encode_documents(documents)), vectors, rtol=2**-11, atol=1e-7)
    byte = fit_codec("int8", documents)
    assert np.abs(byte.decode(byte.encode_documents(documents)) - vectors).max() <= byte.scale * 0.5001
    errors = [error(name, documents, documents) for name in ("bits4", "bits2", "bits1")]
    assert errors[0] < 0.02 < errors[1] < 0.15 < errors[2] < 0.4


def test_int8_clips_what_the_sample_did_not_hold() -> None:
    codec = fit_codec("int8", SmartEmbeddings(np.ones((1, 2)), [[0.1, 0.1]], [0, 1]))
    assert codec.decode(codec.encode([[1.0, -1.0]])).ravel() == pytest.approx([0.105, -0.105])


def test_float16_refuses_what_it_cannot_hold() -> None:
    with pytest.raises(CodecError, match="float32"):
        fit_codec("float16", corpus()).encode(np.full((1, DIM), 1e6))


def test_more_bytes_bring_less_error_and_anchors_help() -> None:
    fit, documents = corpus(0, 200), corpus(1)
    for residuals in (("", "+16x1", "+32x1", "+32x2"), ("", "+1vq", "+2vq", "+8vq")):
        ladder = [error("codebook" + residual, documents, fit) for residual in residuals]
        assert ladder == sorted(ladder, reverse=True)
    assert error("anchored", documents, fit) < 0.75 * ladder[0]
    assert error("anchored+3vq+norm", documents, fit) < error("anchored", documents, fit)


def test_reconstruction_with_a_length_byte_has_unit_length() -> None:
    documents = corpus(1)
    codec = fit_codec("anchored+3vq+norm", documents)
    decoded = codec.decode(codec.encode_documents(documents), np.repeat(documents.anchors, documents.lengths, axis=0))
    np.testing.assert_allclose(np.linalg.norm(decoded, axis=1), 1, atol=0.005)
    assert SCALES[85] == pytest.approx(1.0)


def test_codes_hold_the_number_of_the_ids_centroid() -> None:
    documents = corpus()
    codec = fit_codec("codebook", documents)
    assert isinstance(codec, CodebookCodec)
    codes = codec.encode(documents.token_vectors, documents.token_ids)
    numbers = codes.copy().view("<u2").ravel()
    assert (codec.ids[numbers - codec.clusters] == documents.token_ids).all()


def test_ids_met_later_and_tokens_without_an_id_take_the_nearest_cluster() -> None:
    codec, later = fit_codec("codebook", corpus()), corpus(1)
    assert isinstance(codec, CodebookCodec)
    for ids in (
        np.full(len(later.token_ids), 50),
        np.full(len(later.token_ids), -1),
        np.full(len(later.token_ids), 10**9),
    ):
        numbers = codec.encode(later.token_vectors, ids).view("<u2").ravel()
        clusters = codec.centroids[: codec.clusters].astype(np.float32)
        expected = ((later.token_vectors[:, None] - clusters) ** 2).sum(axis=2).argmin(axis=1)
        assert (numbers == expected).all()


def test_images_have_clusters_of_their_own() -> None:
    documents = corpus(documents=200)
    bare = SmartEmbeddings(documents.anchors, documents.token_vectors, documents.offsets)
    codec = fit_codec("codebook", bare)
    assert isinstance(codec, CodebookCodec)
    assert len(codec.ids) == 0
    assert codec.clusters == -(-len(documents.token_vectors) // 32)


def test_vocabulary_features_give_unseen_ids_a_centroid() -> None:
    fit, later = corpus(0, 300), corpus(1, vocabulary=60)
    unseen = later.token_ids >= 40
    only = SmartEmbeddings(later.anchors[:1], later.token_vectors[unseen], [0, unseen.sum()], later.token_ids[unseen])
    features = words() @ np.random.default_rng(5).normal(size=(DIM, 8)) / 8
    assert error("codebook", only, fit, vocabulary=features) < error("codebook", only, fit)
    codec = fit_codec("codebook", fit, vocabulary=features)
    assert isinstance(codec, CodebookCodec)
    assert codec.ids.tolist() == list(range(60))
    for bad in (features[0], np.full_like(features, np.nan), features[:0]):
        with pytest.raises(CodecError, match="features"):
            fit_codec("codebook", fit, vocabulary=bad)


def test_context_is_nothing_when_anchors_tell_nothing() -> None:
    documents = corpus()
    noise = np.random.default_rng(3).normal(size=documents.anchors.shape)
    deaf = SmartEmbeddings(noise, documents.token_vectors, documents.offsets, documents.token_ids)
    codec = fit_codec("anchored", deaf)
    assert isinstance(codec, CodebookCodec)
    assert codec.context is not None
    assert np.abs(codec.context).max() < 0.2
    assert error("anchored", deaf, deaf) < 1.1 * error("codebook", deaf, deaf)


def test_anchors_are_asked_for_and_only_their_direction_counts() -> None:
    documents = corpus()
    codec = fit_codec("anchored+2vq", documents)
    one = documents[0]
    with pytest.raises(CodecError, match="anchors"):
        codec.encode(one.token_vectors, one.token_ids)
    codes = codec.encode(one.token_vectors, one.token_ids, one.anchors[0])
    rows = np.repeat(one.anchors * 8, len(codes), axis=0)
    assert (codec.encode(one.token_vectors, one.token_ids, rows) == codes).all()
    for bad in (one.anchors[0, :-1], rows[:-1], rows * np.nan):
        with pytest.raises(CodecError, match="anchors"):
            codec.decode(codes, bad)
    with pytest.raises(CodecError, match="anchors"):
        codec.best_similarities(codec.prepare(one.token_vectors), codes, [0, len(codes)])


def test_a_code_beyond_the_codebook_is_damage() -> None:
    documents = corpus()
    codec = fit_codec("codebook", documents)
    bad = np.full((1, 2), 255, np.uint8)
    with pytest.raises(CodecError, match="damaged"):
        codec.decode(bad)
    with pytest.raises(CodecError, match="damaged"):
        codec.best_similarities(codec.prepare(documents.token_vectors[:1]), bad, [0, 1])


def test_scalar_levels_are_conditional_means() -> None:
    rng = np.random.default_rng(0)
    sample = rng.normal(size=(4000, 8)).astype(np.float32)
    quantiser = ScalarBits.fit(sample, np.eye(8, dtype=np.float32), 1)
    values = sample[:, 0]
    cut = quantiser.levels[0].mean()
    assert quantiser.levels[0] == pytest.approx([values[values <= cut].mean(), values[values > cut].mean()], abs=1e-4)
    for bits in (1, 2, 4):
        quantiser = ScalarBits.fit(sample, np.eye(8, dtype=np.float32), bits)
        codes = quantiser.encode(sample)
        back = quantiser.decode(codes)
        assert codes.shape == (4000, bits)
        assert np.array_equal(quantiser.encode(back), codes)
        tables = quantiser.tables(np.ones((1, 8), np.float32))
        sums = sum(tables[group, codes[:, group], 0] for group in range(quantiser.groups))
        np.testing.assert_allclose(sums, back.sum(axis=1), rtol=1e-4, atol=1e-5)


def test_stages_come_nearer_one_by_one() -> None:
    sample = np.random.default_rng(0).normal(size=(2000, 8)).astype(np.float32)
    quantiser = VectorStages.fit(sample, np.eye(8, dtype=np.float32), 3, 0)
    codes = quantiser.encode(sample)
    errors = []
    for count in (1, 2, 3):
        short = VectorStages(quantiser.basis, quantiser.stages[:count])
        errors.append(float(((short.decode(codes[:, :count]) - sample) ** 2).sum()))
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


def test_axes_are_orthonormal_and_signed() -> None:
    sample = np.random.default_rng(0).normal(size=(100, 6)) * [3, 1, 1, 1, 1, 0.1]
    axes = principal_axes(sample, 4)
    np.testing.assert_allclose(axes.T @ axes, np.eye(4), atol=1e-6)
    assert abs(axes[0, 0]) > 0.9
    assert (axes[np.abs(axes).argmax(axis=0), np.arange(4)] > 0).all()


def test_kmeans_survives_equal_points_and_few_of_them() -> None:
    same = np.ones((10, 3), np.float32)
    assert (kmeans(same, 4) == 1).all()
    assert len(kmeans(same[:2], 4)) == 2
    points = np.random.default_rng(0).normal(size=(500, 3)).astype(np.float32)
    found = kmeans(points, 20)
    assert (found == kmeans(points, 20)).all()
    assert len(np.unique(nearest(points, found))) == 20


def test_the_sample_is_fair_bounded_and_in_order() -> None:
    documents = corpus(documents=400)
    sample = gather_sample(documents, limit=500, seed=3)
    assert len(sample.vectors) == len(sample.token_ids) == len(sample.documents) == 500
    assert (np.diff(sample.documents) >= 0).all()
    assert abs(sample.documents.mean() - 200) < 25
    assert sample.counts.sum() == len(documents.token_vectors)
    np.testing.assert_allclose(sample.vector_sums.sum(0), documents.token_vectors.sum(0), rtol=1e-3, atol=1e-3)


def test_row_blocks_cover_every_row_once() -> None:
    starts, stops = np.array([5, 0, 40, 7, 9]), np.array([9, 5, 75, 7, 12])
    seen: list[tuple[int, int]] = []
    for documents, rows, offsets in row_blocks(starts, stops, 10):
        numbers = np.arange(100)[rows]
        assert len(numbers) <= 10
        owners = np.repeat(documents, np.diff(offsets, append=len(numbers)))
        seen += zip(owners.tolist(), numbers.tolist(), strict=True)
    assert seen == [(n, row) for n in range(5) for row in range(starts[n], stops[n])]


def test_pooling_leaves_fewer_unit_vectors_of_the_same_documents() -> None:
    pytest.importorskip("sentence_transformers")
    documents = corpus(documents=10)
    assert pool_tokens(documents, 1) is documents
    pooled = pool_tokens(documents, 2)
    assert len(pooled) == 10
    assert (pooled.lengths <= documents.lengths // 2 + 1).all()
    assert (pooled.lengths > 0).all()
    np.testing.assert_allclose(np.linalg.norm(pooled.token_vectors, axis=1), 1, atol=1e-5)
    for number in range(10):
        assert set(pooled[number].token_ids.tolist()) <= set(documents[number].token_ids.tolist())
    empty = SmartEmbeddings(np.ones((2, 4)), np.eye(1, 4), [0, 0, 1], token_ids=[9])
    assert pool_tokens(empty, 3).token_ids.tolist() == [9]
    for factor in (0, 0.5, float("nan")):
        with pytest.raises(CodecError, match="factor"):
            pool_tokens(documents, factor)


def test_compiled_conversions_are_exact() -> None:
    halves = np.arange(65536, dtype=np.uint16).view(np.float16)
    halves = np.where(np.isfinite(halves), halves, 0)[:, None]
    rows = np.arange(65536)[::-1]
    assert (gathered_halves(halves, rows) == halves[rows].astype(np.float32)).all()
    numbers = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert (widened(numbers) == numbers.view(np.int8)).all()
