"""Token pooling."""

from __future__ import annotations

import numpy as np
import pytest
from fixtures.codecs import corpus

from smart_retrieval.embeddings import SmartEmbeddings
from smart_retrieval.errors import CodecError
from smart_retrieval.index.codec.pooling import pool_tokens


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
