"""Codebook codes: their error, their centroids and what the anchors add."""

from __future__ import annotations

import numpy as np
import pytest
from fixtures.codecs import DIM, corpus, error, words

from smart_retrieval.embeddings import SmartEmbeddings
from smart_retrieval.errors import CodecError
from smart_retrieval.index.codec.codebook import SCALES, CodebookCodec
from smart_retrieval.index.codec.factory import fit_codec


def test_more_bytes_and_anchors_reduce_the_error() -> None:
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


def test_context_is_zero_when_anchors_predict_nothing() -> None:
    documents = corpus()
    noise = np.random.default_rng(3).normal(size=documents.anchors.shape)
    deaf = SmartEmbeddings(noise, documents.token_vectors, documents.offsets, documents.token_ids)
    codec = fit_codec("anchored", deaf)
    assert isinstance(codec, CodebookCodec)
    assert codec.context is not None
    assert np.abs(codec.context).max() < 0.2
    assert error("anchored", deaf, deaf) < 1.1 * error("codebook", deaf, deaf)


def test_anchors_are_required_and_only_their_direction_counts() -> None:
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
