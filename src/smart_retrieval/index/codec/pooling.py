"""Fewer token vectors a document: Sentence Transformers' hierarchical pooling, before any codec."""

from __future__ import annotations

import numpy as np

from ...core.vectors import unit_rows
from ...embeddings import SmartEmbeddings
from ...errors import CodecError


def pool_tokens(embeddings: SmartEmbeddings, factor: float) -> SmartEmbeddings:
    """Merge each document's similar token vectors until about 1 / ``factor`` of them are left.

    Ward clusters of the vectors, each replaced by its mean at unit length (Sentence Transformers'
    ``HierarchicalTokenPooling`` without protected tokens: the tokens kept hold no [CLS]). A cluster takes the
    vocabulary id and the role of its member nearest to the mean (the first of equals), so that codebook codes still
    have a centroid to start from; keep the ids of the document as they were for an IDF table.

    Factors of 2 to 4 are useful; 1 changes nothing. Anchors stay as they were.

    Example:
        >>> one = SmartEmbeddings(np.eye(1, 4), np.eye(4)[[0, 0, 1, 1]], [0, 4], token_ids=[7, 7, 8, 8])
        >>> pool_tokens(one, 2).token_ids.tolist()
        [7, 8]
    """
    if not np.isfinite(factor) or factor < 1:
        raise CodecError(f"token pooling: found factor {factor}, expected a number of at least 1")
    if factor == 1:
        return embeddings
    import torch
    from sentence_transformers.multi_vector_encoder.modules.token_pooling import HierarchicalTokenPooling

    pooling = HierarchicalTokenPooling(factor, num_protected_tokens=0)
    vectors, owners, lengths = [], [], []
    for start, stop in zip(embeddings.offsets[:-1].tolist(), embeddings.offsets[1:].tolist(), strict=True):
        rows = np.array(embeddings.token_vectors[start:stop], np.float32)
        pooled = pooling.pool_one(torch.from_numpy(rows)).numpy() if len(rows) > 1 else rows
        nearest = start + (unit_rows(rows) @ pooled.T).argmax(axis=0) if len(rows) else np.zeros(0, np.int64)
        order = np.argsort(nearest, kind="stable")  # in reading order, as far as clusters have one
        vectors.append(pooled[order])
        owners.append(nearest[order])
        lengths.append(len(pooled))
    chosen = np.concatenate([np.zeros(0, np.int64), *owners])
    return SmartEmbeddings(
        embeddings.anchors,
        np.concatenate([np.zeros((0, embeddings.token_dim), np.float32), *vectors]),
        np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)]),
        embeddings.token_ids[chosen],
        embeddings.roles[chosen],
        tokenizer=embeddings.tokenizer,
        report=embeddings.report,
    )
