"""How near the plain codes come, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
from fixtures.codecs import DIM, corpus, error

from smart_retrieval.embeddings import SmartEmbeddings
from smart_retrieval.errors import CodecError
from smart_retrieval.index.codec.factory import fit_codec


def test_errors_of_plain_codes() -> None:
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


def test_int8_clips_values_beyond_the_sample() -> None:
    codec = fit_codec("int8", SmartEmbeddings(np.ones((1, 2)), [[0.1, 0.1]], [0, 1]))
    assert codec.decode(codec.encode([[1.0, -1.0]])).ravel() == pytest.approx([0.105, -0.105])


def test_float16_refuses_values_beyond_its_range() -> None:
    with pytest.raises(CodecError, match="float32"):
        fit_codec("float16", corpus()).encode(np.full((1, DIM), 1e6))
