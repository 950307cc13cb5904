"""Fitting a codebook: context from anchors, a centroid per id, k-means for the rest, and the residual's quantiser.

1. ``context``: ridge regression of token vectors on their documents' unit anchors, within each vocabulary id (both
   sides less the id's mean, as a fixed-effects model does); its strength is chosen on documents held out.
2. Centroid of an id: the mean of its vectors less the context, shrunk towards a prior as empirical Bayes does: the
   prior counts as much as k tokens, k = variance within ids / variance of ids' means about their priors.
3. The prior: the mean of all; or, when a table of vocabulary features is given, a ridge regression from an id's
   features to its mean, which also gives ids that the sample does not hold a centroid of their own.
4. Residuals of the sample are taken about centroids without the token itself (leave-one-out), so that the quantiser
   sees what it will see in documents added later.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ...errors import CodecError
from ...types import Array
from .codebook import MOST_CENTROIDS, CodebookCodec
from .kmeans import kmeans, nearest
from .names import CodecSpec
from .residual import VQ_DIMS, Residual, ScalarBits, VectorStages, principal_axes
from .sample import TokenSample

#: Centroids for tokens without an id: one for so many of the sample, and never more than so many.
TOKENS_PER_CLUSTER, MOST_CLUSTERS = 32, 1024

#: Centroids for ids that are met after fitting.
FALLBACK_CLUSTERS = 512


def fit_codebook(
    spec: CodecSpec, sample: TokenSample, *, vocabulary: ArrayLike | None = None, seed: int = 0
) -> CodebookCodec:
    """Fit a ``codebook`` or ``anchored`` codec.

    Args:
        spec: The parsed name.
        sample: What was gathered from documents.
        vocabulary: ``[V, E]`` features of all vocabulary ids, row i of id i; see
            :func:`~smart_retrieval.index.codec.vocabulary.vocabulary_features`. Optional.
        seed: Of k-means.

    Raises:
        CodecError: Features that are not finite or no table.
    """
    context = fit_context(sample) if spec.family == "anchored" else None
    around = np.zeros_like(sample.vectors) if context is None else sample.anchors @ context
    vectors = sample.vectors - around
    totals = sample.vector_sums if context is None else sample.vector_sums - sample.anchor_sums @ context
    features = _checked_features(vocabulary) if len(sample.ids) else None
    means = totals / np.maximum(sample.counts, 1)[:, None]
    ids, priors = _priors(sample, means, features)
    counts = np.zeros(len(ids), np.int64)
    sums = np.zeros_like(priors)
    places = np.searchsorted(ids, sample.ids[np.isin(sample.ids, ids)])
    counts[places] = sample.counts[np.isin(sample.ids, ids)]
    sums[places] = totals[np.isin(sample.ids, ids)]
    strength = _prior_strength(sample, vectors, counts, sums, ids, priors)
    centroids = (sums + strength * priors) / (counts + strength)[:, None]
    clusters = _clusters(vectors, sample.token_ids, seed)
    residual = None
    if spec.residual_bytes:
        left = _residuals(vectors, sample.token_ids, clusters, ids, centroids, counts + strength)
        residual = _fit_residual(spec, left, seed)
    table = np.concatenate([clusters, centroids]).astype(np.float16)
    return CodebookCodec(spec, table, ids, residual, context)


def fit_context(sample: TokenSample) -> Array:
    """How token vectors follow their document's anchor within one vocabulary id: ``[Da, D]`` float32.

    Zeros where held-out documents are not predicted better with it than without (few documents, for one).
    """
    targets, anchors, rows = _within_ids(sample)
    if len(rows) < 2:
        return np.zeros((sample.anchors.shape[1], sample.vectors.shape[1]), np.float32)
    held_out = (sample.documents[rows] * 2654435761 % 2**32) < 2**30  # a quarter, by a hash of the document's number
    scale = float((anchors**2).sum() / anchors.shape[1])
    best, chosen = float((targets[held_out] ** 2).sum()), None
    if held_out.any() and not held_out.all():
        gram, cross = (anchors[~held_out].T @ part[~held_out] for part in (anchors, targets))
        for strength in (0.003, 0.03, 0.3, 3.0):
            guess = np.linalg.solve(gram + strength * scale * np.eye(len(gram)), cross)
            error = float(((targets[held_out] - anchors[held_out] @ guess) ** 2).sum())
            if error < best:
                best, chosen = error, strength
    if chosen is None:
        return np.zeros((sample.anchors.shape[1], sample.vectors.shape[1]), np.float32)
    gram, cross = anchors.T @ anchors, anchors.T @ targets
    context: Array = np.linalg.solve(gram + chosen * scale * np.eye(len(gram)), cross).astype(np.float32)
    return context


def _within_ids(sample: TokenSample) -> tuple[Array, Array, Array]:
    """Sampled vectors and anchors less the means of their id over the other tokens, float64, and their rows.

    Tokens without an id are set off against the mean of all such tokens; ids seen once are left out.
    """
    bare = sample.token_ids < 0
    owners = np.searchsorted(sample.ids, sample.token_ids)
    owners[bare] = len(sample.ids)
    both = np.concatenate([sample.vectors, sample.anchors], axis=1).astype(np.float64)
    sums = np.concatenate([np.concatenate([sample.vector_sums, sample.anchor_sums], axis=1), both[bare].sum(0)[None]])
    counts = np.append(sample.counts, bare.sum())
    rows = (counts[owners] > 1).nonzero()[0]
    owners, sizes = owners[rows], counts[owners[rows]].astype(np.float64)
    centred = (both[rows] - sums[owners] / sizes[:, None]) * np.sqrt(sizes / np.maximum(sizes - 1, 1))[:, None]
    width = sample.vectors.shape[1]
    return centred[:, :width], centred[:, width:], rows


def _priors(sample: TokenSample, means: Array, features: Array | None) -> tuple[Array, Array]:
    """Ids that get a centroid, ascending, and the prior of each ``[I, D]``."""
    room = MOST_CENTROIDS - FALLBACK_CLUSTERS - MOST_CLUSTERS
    seen = sample.ids
    if len(seen) > room:
        seen = np.sort(seen[np.argsort(-sample.counts, kind="stable")[:room]])
    usual = (means * sample.counts[:, None]).sum(0) / max(int(sample.counts.sum()), 1)
    if features is None:
        return seen, np.repeat(usual[None], len(seen), axis=0)
    inside = sample.ids < len(features)
    others = np.setdiff1d(np.arange(len(features)), seen)[: room - len(seen)]
    ids = np.union1d(seen, others)
    known = features[sample.ids[inside]]
    # Every id counts alike: what is asked for is the mean of an id never seen, and frequent ids are no guide to those.
    gram = known.T @ known + np.eye(known.shape[1])
    weights = np.linalg.solve(gram, known.T @ means[inside])
    priors = np.repeat(usual[None], len(ids), axis=0)
    covered = ids < len(features)
    priors[covered] = features[ids[covered]] @ weights
    return ids, priors


def _checked_features(vocabulary: ArrayLike | None) -> Array | None:
    """Features centred and brought to mean squared length 1, with a constant; float64."""
    if vocabulary is None:
        return None
    table = np.asarray(vocabulary, np.float32)
    if table.ndim != 2 or not table.size or not np.isfinite(table).all():
        raise CodecError(f"found vocabulary features of shape {table.shape} (or not finite), expected [V, E] numbers")
    centred = table.astype(np.float64) - table.mean(axis=0, dtype=np.float64)
    spread = np.sqrt((centred**2).sum(axis=1).mean())
    return np.concatenate([centred / (spread or 1.0), np.ones((len(table), 1))], axis=1)


def _prior_strength(
    sample: TokenSample, vectors: Array, counts: Array, sums: Array, ids: Array, priors: Array
) -> float:
    """Variance within ids over variance of the ids' true means about their priors; between 1/4 and 16 tokens."""
    often = counts > 1
    if not often.any():
        return 1.0
    owners = np.searchsorted(ids, sample.token_ids)
    rows = np.isin(sample.token_ids, ids[often])
    owners = owners[rows]
    centred = vectors[rows] - sums[owners] / counts[owners][:, None]
    within = float(((centred**2).sum(axis=1) * (counts[owners] / (counts[owners] - 1))).mean()) if rows.any() else 0.0
    off = ((sums[often] / counts[often][:, None] - priors[often]) ** 2).sum(axis=1)
    between = float((off - within / counts[often]).mean())
    return float(np.clip(within / max(between, 1e-9), 0.25, 16.0))


def _clusters(vectors: Array, ids: Array, seed: int) -> Array:
    """Centroids of tokens without an id, and of tokens with an id as if they had none; ``[C, D]`` float32, C >= 1."""
    found = []
    for rows, most in ((vectors[ids < 0], MOST_CLUSTERS), (vectors[ids >= 0], FALLBACK_CLUSTERS)):
        if len(rows):
            # Evenly spaced rows of a sample that is in the documents' order: a fair part of it.
            part = rows[:: -(-len(rows) // (most * TOKENS_PER_CLUSTER))]
            found.append(kmeans(part, min(most, -(-len(part) // TOKENS_PER_CLUSTER)), seed=seed))
    return np.concatenate(found)


def _residuals(
    vectors: Array, token_ids: Array, clusters: Array, ids: Array, centroids: Array, weights: Array
) -> Array:
    """Sampled vectors less their centroid as it would be without them, ``[n, D]`` float32."""
    left = np.empty_like(vectors)
    known = np.isin(token_ids, ids)
    left[~known] = vectors[~known] - clusters[nearest(vectors[~known], clusters)]
    owners = np.searchsorted(ids, token_ids[known])
    # c = (s + x) / w and c' = s / (w - 1), so x - c' = (x - c) * w / (w - 1)
    share = weights[owners] / np.maximum(weights[owners] - 1, 1e-3)
    left[known] = (vectors[known] - centroids[owners]) * np.minimum(share, 8.0)[:, None]
    return left


def _fit_residual(spec: CodecSpec, left: Array, seed: int) -> Residual:
    if spec.stages:
        axes = principal_axes(left, min(VQ_DIMS, left.shape[1]))
        return VectorStages.fit(left, axes, spec.stages, seed)
    if spec.dims > left.shape[1]:
        raise CodecError(
            f"codec {spec.name!r}: found {spec.dims} residual dimensions, expected at most {left.shape[1]}"
        )
    return ScalarBits.fit(left, principal_axes(left, spec.dims), spec.bits)
