"""What holds for every codec: widths, errors, scores equal to decode() times queries, bytes and back."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smart_retrieval.embeddings import SmartEmbeddings
from smart_retrieval.errors import CodecError
from smart_retrieval.index.codec import kernels
from smart_retrieval.index.codec.base import Codec
from smart_retrieval.index.codec.factory import fit_codec
from smart_retrieval.index.codec.names import SUGGESTED, parse_codec

NAMES = (*SUGGESTED, "codebook+16x2", "codebook+8x4", "codebook+2vq", "anchored+norm", "anchored+16x4+norm")
DIM = 72


def corpus(seed: int = 0, documents: int = 60, dim: int = DIM) -> SmartEmbeddings:
    """Token vectors that lean on their id and on their document; every ninth token has no id, two items are empty."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 14, documents)
    lengths[[3, documents - 1]] = 0
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = rng.integers(0, 25, offsets[-1])
    words = np.random.default_rng(99).normal(size=(64, dim))
    topics = rng.normal(size=(documents, dim))
    vectors = words[ids] + np.repeat(topics, lengths, axis=0) * 0.6 + rng.normal(size=(offsets[-1], dim)) * 0.4
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids[::9] = -1
    return SmartEmbeddings(topics.astype(np.float32), vectors.astype(np.float32), offsets, ids)


FITTED: dict[str, Codec] = {}


def fitted(name: str) -> Codec:
    if name not in FITTED:
        FITTED[name] = fit_codec(name, corpus())
    return FITTED[name]


def token_anchors(documents: SmartEmbeddings) -> np.ndarray:
    return np.repeat(documents.anchors, documents.lengths, axis=0)


def expected_best(queries: np.ndarray, vectors: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
    best = np.full((len(queries), len(starts)), -np.inf, np.float32)
    for n, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        if stop > start:
            best[:, n] = (queries @ vectors[start:stop].T).max(axis=1)
    return best


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("float32", 1536),
        ("float16", 768),
        ("int8", 384),
        ("bits4", 192),
        ("bits2", 96),
        ("bits1", 48),
        ("codebook", 2),
        ("codebook+32x1", 6),
        ("codebook+64x1", 10),
        ("codebook+16x2", 6),
        ("codebook+4vq", 6),
        ("anchored", 2),
        ("anchored+3vq+norm", 6),
        ("anchored+7vq+norm", 10),
    ],
)
def test_bytes_a_token_are_in_the_name(name: str, expected: int) -> None:
    assert parse_codec(name).bytes_per_token(384) == expected
    assert parse_codec(name).name == name


@pytest.mark.parametrize(
    "name", ["", "pq8", "bits3", "codebook+0x1", "codebook+12x1", "codebook+32x3", "codebook+vq", 7]
)
def test_unknown_name_lists_what_exists(name: str) -> None:
    with pytest.raises(CodecError, match=r"codebook|multiple"):
        parse_codec(name)


@pytest.mark.parametrize("name", NAMES)
def test_codes_have_the_stated_width_and_scores_are_those_of_decode(name: str) -> None:
    codec, documents = fitted(name), corpus(1)
    codes = codec.encode_documents(documents)
    assert codes.dtype == np.uint8
    assert codes.shape == (len(documents.token_vectors), codec.bytes_per_token)
    decoded = codec.decode(codes, token_anchors(documents))
    assert decoded.dtype == np.float32
    assert decoded.shape == documents.token_vectors.shape
    for count in (1, 7, 70):
        queries = np.random.default_rng(count).normal(size=(count, DIM)).astype(np.float32)
        best = codec.best_similarities(codec.prepare(queries), codes, documents.offsets, anchors=documents.anchors)
        expected = expected_best(queries, decoded, documents.offsets[:-1], documents.offsets[1:])
        assert best.shape == (count, len(documents))
        # Products are of numbers in steps of 1 / 32767 of the longest query token.
        off = 1e-4 * float(np.linalg.norm(queries, axis=1).max())
        np.testing.assert_allclose(best, expected, rtol=2e-4, atol=off)
        assert np.isneginf(best[:, documents.lengths == 0]).all()


@pytest.mark.parametrize("name", NAMES)
def test_some_documents_in_any_order_score_as_among_all(name: str, tmp_path: object) -> None:
    codec, documents = fitted(name), corpus(1)
    codes = codec.encode_documents(documents)
    tables = codec.prepare(np.random.default_rng(5).normal(size=(9, DIM)))
    whole = codec.best_similarities(tables, codes, documents.offsets, anchors=documents.anchors)
    chosen = np.array([17, 3, 5, 5, 40, 0])
    starts, stops = documents.offsets[chosen], documents.offsets[chosen + 1]
    some = codec.best_similarities(tables, codes, starts, stops, anchors=documents.anchors[chosen])
    np.testing.assert_allclose(some, whole[:, chosen], rtol=1e-5, atol=1e-6)
    again = codec.best_similarities(tables, codes, starts, stops, anchors=documents.anchors[chosen])
    assert (again == some).all()


@pytest.mark.parametrize(
    "name", ["bits1", "codebook", "codebook+32x1", "anchored+7vq+norm", "anchored+3vq", "anchored+3vq+norm"]
)
def test_compiled_kernel_gives_the_bits_of_the_reference(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    assert kernels.load_kernels() is kernels.compiled_kernels() is not None
    codec, documents = fitted(name), corpus(1)
    codes = codec.encode_documents(documents)
    codes.flags.writeable = False
    tables = codec.prepare(np.random.default_rng(5).normal(size=(33, DIM)))
    fast = codec.best_similarities(tables, codes, documents.offsets, anchors=documents.anchors)
    monkeypatch.setattr(kernels, "compiled_kernels", lambda: None)
    monkeypatch.setattr(kernels, "BLOCK_ROWS", 7)
    slow = codec.best_similarities(tables, codes, documents.offsets, anchors=documents.anchors)
    assert (fast == slow).all()


@pytest.mark.parametrize("name", ["float32", "int8", "bits4"])
def test_dense_scores_without_numba(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kernels.load_kernels()
    codec, documents = fitted(name), corpus(1)
    codes = codec.encode_documents(documents)
    tables = codec.prepare(np.random.default_rng(5).normal(size=(33, DIM)))
    fast = codec.best_similarities(tables, codes, documents.offsets)
    monkeypatch.setattr(kernels, "compiled_kernels", lambda: None)
    np.testing.assert_allclose(codec.best_similarities(tables, codes, documents.offsets), fast, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_several_queries_score_as_each_alone(name: str, compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if compiled and kernels.load_kernels() is None:
        pytest.skip("Numba is not installed")
    kernel = kernels.compiled_kernels() if compiled else None
    monkeypatch.setattr(kernels, "compiled_kernels", lambda: kernel)
    codec, documents = fitted(name), corpus(1)
    codes = codec.encode_documents(documents)
    lengths = [1, 12, 0, 70, 5, 64, 3, 130, 9]
    offsets, tokens = np.cumsum([0, *lengths]), np.random.default_rng(5).normal(size=(sum(lengths), DIM))
    together = codec.best_similarities(
        codec.prepare(tokens, offsets), codes, documents.offsets, anchors=documents.anchors
    )
    assert together.shape == (sum(lengths), len(documents))
    for start, stop in pairwise(offsets):
        tables = codec.prepare(tokens[start:stop])
        alone = codec.best_similarities(tables, codes, documents.offsets, anchors=documents.anchors)
        assert (alone == together[start:stop]).all()


@pytest.mark.parametrize("name", ["float32", "float16", "int8", "bits4"])
def test_dense_scores_of_a_document_do_not_depend_on_the_others(name: str) -> None:
    codec, documents = fitted(name), corpus(1)
    codes = codec.encode_documents(documents)
    tables = codec.prepare(np.random.default_rng(5).normal(size=(13, DIM)))
    together = codec.best_similarities(tables, codes, documents.offsets)
    for number, (start, stop) in enumerate(zip(documents.offsets, documents.offsets[1:], strict=False)):
        assert (codec.best_similarities(tables, codes, [start], [stop])[:, 0] == together[:, number]).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_codec_read_from_bytes_gives_the_same_codes(name: str) -> None:
    codec, documents = fitted(name), corpus(1)
    data = codec.to_bytes()
    same = Codec.from_bytes(data)
    assert same.name == codec.name
    assert same.to_bytes() == data
    assert (same.encode_documents(documents) == codec.encode_documents(documents)).all()
    assert same.anchor_dim == codec.anchor_dim


@pytest.mark.parametrize("name", ["float16", "int8", "bits2", "anchored+3vq+norm"])
def test_damaged_bytes_are_a_named_error(name: str) -> None:
    data = fitted(name).to_bytes()
    for broken in (b"", data[:7], data[:50], data[:-1], data + b"x"):
        with pytest.raises(CodecError):
            Codec.from_bytes(broken)
    for place in range(0, len(data), max(1, len(data) // 37)):
        flipped = bytearray(data)
        flipped[place] ^= 1
        with pytest.raises(CodecError):
            Codec.from_bytes(bytes(flipped))


def test_arrays_that_do_not_fit_are_refused() -> None:
    for name in ("int8", "bits1", "codebook", "codebook+32x1", "anchored"):
        with pytest.raises(CodecError):
            Codec.of_arrays(name, DIM, {})
    arrays = fitted("codebook+32x1").to_arrays()
    for name, width in (("codebook", DIM), ("codebook+64x1", DIM), ("anchored+32x1", DIM), ("codebook+32x1", DIM + 1)):
        with pytest.raises(CodecError):
            Codec.of_arrays(name, width, arrays)


@pytest.mark.parametrize("name", NAMES)
def test_fitting_twice_gives_the_same_bytes(name: str) -> None:
    assert fit_codec(name, corpus()).to_bytes() == fitted(name).to_bytes()


@pytest.mark.parametrize("name", ["int8", "bits1", "codebook+32x1", "anchored+3vq+norm"])
def test_streaming_gives_the_same_codec(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from smart_retrieval.index.codec import sample

    monkeypatch.setattr(sample, "_BLOCK", 64)
    documents = corpus()
    whole = fit_codec(name, documents).to_bytes()
    pieces = (documents[start : start + 7] for start in range(0, len(documents), 7))
    assert fit_codec(name, pieces).to_bytes() == whole


@pytest.mark.parametrize("name", NAMES)
def test_a_code_does_not_depend_on_the_other_tokens(name: str) -> None:
    codec, documents = fitted(name), corpus(1)
    together = codec.encode_documents(documents)
    apart = np.concatenate([codec.encode_documents(one) for one in documents])
    # Matrix products of other shapes may round the last bit differently, and so tip a value on a threshold.
    assert (together != apart).any(axis=1).mean() < 0.01


@pytest.mark.parametrize("name", ["float16", "int8", "bits1", "codebook+32x1", "anchored+3vq+norm"])
def test_wrong_input_is_a_named_error(name: str) -> None:
    codec, documents = fitted(name), corpus(1)
    good, anchor = documents[0].token_vectors, documents.anchors[0]
    for bad in (good[:, :-1], good[0], np.full_like(good, np.nan), np.full_like(good, np.inf), [["a"] * DIM]):
        with pytest.raises(CodecError):
            codec.encode(bad, None, anchor)
    for ids in ([1], np.full(len(good), 0.5), [[1]]):
        if np.shape(ids) != (len(good),) or np.asarray(ids).dtype.kind == "f":
            with pytest.raises(CodecError):
                codec.encode(good, ids, anchor)
    codes = codec.encode(good, None, anchor)
    for bad in (codes[:, :-1], codes[0], codes.astype(np.int16), codes.astype(np.float32)):
        with pytest.raises(CodecError):
            codec.decode(bad, anchor)
    tables = codec.prepare(good)
    for starts, stops in (([0, len(codes) + 1], None), ([-1], [1]), ([2], [1]), ([0, 1], [1]), ([[0]], [[1]])):
        with pytest.raises(CodecError):
            codec.best_similarities(tables, codes, starts, stops, anchors=anchor[None])
    with pytest.raises(CodecError):
        codec.prepare(good[:, :-1])
    with pytest.raises(CodecError):
        codec.prepare(np.full_like(good, np.nan))


def test_empty_input() -> None:
    for name in NAMES:
        codec = fitted(name)
        nothing = codec.encode(np.zeros((0, DIM)), [], np.zeros((0, DIM)))
        assert nothing.shape == (0, codec.bytes_per_token)
        assert codec.decode(nothing, np.zeros((0, DIM))).shape == (0, DIM)
        tables = codec.prepare(np.ones((3, DIM)))
        assert codec.best_similarities(tables, nothing, [0], anchors=np.zeros((0, DIM))).shape == (3, 0)
        assert np.isneginf(codec.best_similarities(tables, nothing, [0, 0], anchors=np.zeros((1, DIM)))).all()
        assert codec.best_similarities(
            codec.prepare(np.ones((0, DIM))), nothing, [0, 0], anchors=np.ones((1, DIM))
        ).shape == (
            0,
            1,
        )


def test_fitting_needs_tokens_of_one_width() -> None:
    empty = SmartEmbeddings(np.ones((1, 4)), np.ones((0, 4)), [0, 0])
    with pytest.raises(CodecError, match="no token vectors"):
        fit_codec("codebook", empty)
    with pytest.raises(CodecError, match="widths"):
        fit_codec("int8", [corpus(), corpus(dim=24)])
    with pytest.raises(CodecError, match="NaN"):
        fit_codec("int8", SmartEmbeddings(np.ones((1, 4)), np.full((1, 4), np.nan), [0, 1]))
    with pytest.raises(CodecError, match="no documents"):
        fit_codec("float32", [])


@pytest.mark.parametrize("name", NAMES)
def test_one_token_is_enough_to_fit(name: str) -> None:
    if "16x4" in name or "64x1" in name:
        name = "codebook+8x1"
    rng = np.random.default_rng(0)
    vector = rng.normal(size=(1, 16)).astype(np.float32)
    one = SmartEmbeddings(vector, vector / np.linalg.norm(vector), [0, 1], token_ids=[3])
    if parse_codec(name).dims > 16:
        with pytest.raises(CodecError, match="at most"):
            fit_codec(name, one)
        return
    codec = fit_codec(name, one)
    assert np.isfinite(codec.decode(codec.encode_documents(one), one.anchors)).all()


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 9), min_size=1, max_size=12),
    name=st.sampled_from(["float32", "int8", "bits1", "codebook+32x1", "anchored+3vq+norm"]),
    seed=st.integers(0, 2**16),
)
def test_any_ragged_batch_scores_as_its_decoded_vectors(lengths: list[int], name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    vectors = rng.normal(size=(offsets[-1], DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    anchors = rng.normal(size=(len(lengths), DIM)).astype(np.float32)
    documents = SmartEmbeddings(anchors, vectors, offsets, rng.integers(-1, 400, len(vectors)))
    codec = fitted(name)
    codes = codec.encode_documents(documents)
    queries = rng.normal(size=(5, DIM)).astype(np.float32)
    best = codec.best_similarities(codec.prepare(queries), codes, offsets, anchors=anchors)
    decoded = codec.decode(codes, token_anchors(documents))
    off = 1e-4 * float(np.linalg.norm(queries, axis=1).max())  # as above
    np.testing.assert_allclose(best, expected_best(queries, decoded, offsets[:-1], offsets[1:]), rtol=3e-4, atol=off)
