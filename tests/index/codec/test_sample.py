"""The sample that codecs are fitted to."""

from __future__ import annotations

import numpy as np
from fixtures.codecs import corpus

from smart_retrieval.index.codec.sample import gather_sample


def test_the_sample_is_fair_bounded_and_in_order() -> None:
    documents = corpus(documents=400)
    sample = gather_sample(documents, limit=500, seed=3)
    assert len(sample.vectors) == len(sample.token_ids) == len(sample.documents) == 500
    assert (np.diff(sample.documents) >= 0).all()
    assert abs(sample.documents.mean() - 200) < 25
    assert sample.counts.sum() == len(documents.token_vectors)
    np.testing.assert_allclose(sample.vector_sums.sum(0), documents.token_vectors.sum(0), rtol=1e-3, atol=1e-3)
