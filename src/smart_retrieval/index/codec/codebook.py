"""Codebook codes: a centroid per vocabulary id, a part predicted from the anchor, and a few bytes of residual.

A contextual token vector is mostly its vocabulary id: with MiniLM the id's mean vector holds 54-62 % of the energy. A
further quarter of it is the document's topic, which its anchor predicts, and the index holds the anchor anyway. So

    x ~ (centroid[number] + unit(anchor) @ context + residual) * scale

with ``context`` only in the ``anchored`` family, and ``scale`` (the reconstruction brought to unit length) only with
``+norm``. In a product with a query token the anchor's term is one number a document, so it costs nothing a token.

Fitting:

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

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from ...errors import CodecError
from ...types import Array
from .base import QUERY_TILE, Codec, together
from .kernels import (
    Lookup,
    best_from_tables,
    centroid_numbers,
    exact_products,
    used_centroids,
)
from .names import CodecSpec
from .quantize import (
    VQ_DIMS,
    Residual,
    ScalarBits,
    VectorStages,
    kmeans,
    nearest,
    principal_axes,
    residual_from_arrays,
)
from .sample import TokenSample
from .tables import IN_INDEX, Precision, compact, compact_by_use, expanded

MOST_CENTROIDS = 65536

_BLOCK = 4096

#: Centroids for tokens without an id: one for so many of the sample, and never more than so many.
TOKENS_PER_CLUSTER, MOST_CLUSTERS = 32, 1024

#: Centroids for ids that are met after fitting.
FALLBACK_CLUSTERS = 512

#: The length byte: 256 factors from 1/2 to 4 in equal ratios, so that a factor is off by at most 0.41 %.
SCALES: Array = (2.0 ** np.linspace(-1, 2, 256)).astype(np.float32)


@dataclass(frozen=True)
class CodebookTile:
    """What is computed once for up to 64 query tokens, padded with zeros to a multiple of 8."""

    count: int  # of query tokens
    queries: Array  # [D, P] float32
    tables: Array  # [G, 256, P] float32
    context: Array | None  # [Da, P] float32

    @classmethod
    def joined(cls, tiles: Sequence[CodebookTile]) -> CodebookTile:
        """Several as one: the wider a tile, the less of the time goes into finding each code's rows in the tables."""
        if len(tiles) == 1:
            return tiles[0]
        count = sum(tile.count for tile in tiles)

        def side_by_side(*arrays: Array) -> Array:
            parts = [array[..., : tile.count] for array, tile in zip(arrays, tiles, strict=True)]
            return np.concatenate([*parts, np.zeros((*parts[0].shape[:-1], -count % 8), np.float32)], axis=-1)

        contexts = [tile.context for tile in tiles if tile.context is not None]
        return cls(
            count,
            side_by_side(*(tile.queries for tile in tiles)),
            side_by_side(*(tile.tables for tile in tiles)),
            side_by_side(*contexts) if contexts else None,
        )


class CodebookCodec(Codec):
    """``codebook...`` and ``anchored...``.

    Args:
        spec: The parsed name.
        centroids: ``[K, D]`` float16, K <= 65,536: first those of k-means, then one for each of ``ids``.
        ids: ``[I]`` int64 vocabulary ids, ascending, I < K.
        residual: The residual's quantiser, or None.
        context: ``[Da, D]`` float32, or None.
    """

    families = ("codebook", "anchored")
    shares_products = True

    def __init__(
        self, spec: CodecSpec, centroids: Array, ids: Array, residual: Residual | None, context: Array | None
    ) -> None:
        super().__init__(spec, centroids.shape[1], None if context is None else len(context))
        self.centroids, self.ids = np.asarray(centroids, np.float16), np.asarray(ids, np.int64)
        self.residual = residual
        self.context = None if context is None else np.asarray(context, np.float32)
        self.clusters = len(self.centroids) - len(self.ids)
        self._check()

    @classmethod
    def fit(
        cls,
        spec: CodecSpec,
        sample: TokenSample,
        vocabulary: ArrayLike | None,
        seed: int,
        precision: Precision = IN_INDEX,
    ) -> CodebookCodec:
        """A codec for a sample; see :func:`~smart_retrieval.index.codec.factory.fit_codec`."""
        kept: dict[str, Array] = {}

        # Tables as they will be read back, so that what is fitted next makes up for what is lost.
        context = None
        if spec.family == "anchored":
            kept |= compact("context", _fit_context(sample))
            context = expanded(kept)["context"]
        vectors = sample.vectors if context is None else sample.vectors - sample.anchors @ context
        totals = sample.vector_sums if context is None else sample.vector_sums - sample.anchor_sums @ context
        means = totals / np.maximum(sample.counts, 1)[:, None]
        ids, priors = _priors(sample, means, _checked_features(vocabulary) if len(sample.ids) else None)
        counts = np.zeros(len(ids), np.int64)
        sums = np.zeros_like(priors)
        places = np.searchsorted(ids, sample.ids[np.isin(sample.ids, ids)])
        counts[places] = sample.counts[np.isin(sample.ids, ids)]
        sums[places] = totals[np.isin(sample.ids, ids)]
        strength = _prior_strength(sample, vectors, counts, sums, ids, priors)
        centroids = (sums + strength * priors) / (counts + strength)[:, None]
        clusters = _clusters(vectors, sample.token_ids, seed)
        uses = np.concatenate([np.full(len(clusters), counts.max(initial=0) + 1), counts])
        kept |= compact_by_use("centroids", np.concatenate([clusters, centroids]), uses, precision)
        table = expanded(kept)["centroids"].astype(np.float16)
        clusters, centroids = table[: len(clusters)].astype(np.float32), table[len(clusters) :].astype(np.float32)
        residual = None
        if spec.residual_bytes:
            left = _residuals(vectors, sample.token_ids, clusters, ids, centroids, counts + strength)
            for name, array in _fit_residual(spec, left, seed).to_arrays().items():
                kept |= compact(name, array) if name in ("basis", "stages") else {name: array}
            residual = residual_from_arrays(expanded(kept))
        codec = cls(spec, table, ids, residual, context)
        codec.compact = {**kept, "ids": ids.astype(np.int32)}
        return codec

    def _check(self) -> None:
        groups = 0 if self.residual is None else self.residual.groups
        problems = {
            "centroids": not 0 < len(self.centroids) <= MOST_CENTROIDS or not np.isfinite(self.centroids).all(),
            "ids": self.clusters < 1 or (np.diff(self.ids) <= 0).any() or (self.ids < 0).any(),
            "residual": groups != self.spec.residual_bytes
            or (self.residual is not None and len(self.residual.basis) != self.token_dim),
            "context": (self.context is None) != (self.spec.family == "codebook")
            or (self.context is not None and self.context.shape[1:] != (self.token_dim,)),
        }
        wrong = [name for name, is_wrong in problems.items() if is_wrong]
        if wrong:
            raise CodecError(f"codec {self.name!r}: found {', '.join(wrong)} that do not fit this codec; fit it again")

    def _encode(self, vectors: Array, ids: Array, anchors: Array | None) -> Array:
        left = vectors if self.context is None or anchors is None else vectors - anchors @ self.context
        numbers = self._centroid_numbers(left, ids)
        left = left - self.centroids[numbers].astype(np.float32)
        codes = np.empty((len(vectors), self.bytes_per_token), np.uint8)
        codes[:, 0], codes[:, 1] = numbers & 255, numbers >> 8
        if self.residual is not None:
            codes[:, 2 : 2 + self.residual.groups] = self.residual.encode(left @ self.residual.basis)
        if self.spec.norm:
            length = np.linalg.norm(self._unscaled(codes, anchors), axis=1)
            # log2 of 1 / length, from -1 to 2, over 255 steps
            steps = np.rint((1 - np.log2(np.maximum(length, 1e-3))) * 85)
            codes[:, -1] = np.clip(steps, 0, 255).astype(np.uint8)
        return codes

    def _centroid_numbers(self, vectors: Array, ids: Array) -> Array:
        """Number of the centroid of each token, ``[T]`` int64: its id's, else the nearest of those from k-means."""
        numbers = np.full(len(ids), -1, np.int64)
        if len(self.ids):
            # Searched, not looked up: a table as long as the largest id may be of any size.
            places = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
            known = self.ids[places] == ids
            numbers[known] = self.clusters + places[known]
        other = numbers < 0
        if other.any():
            numbers[other] = nearest(vectors[other], self.centroids[: self.clusters].astype(np.float32))
        return numbers

    def _decode(self, codes: Array, anchors: Array | None) -> Array:
        values = self._unscaled(codes, anchors)
        if self.spec.norm:
            values *= SCALES[codes[:, -1]][:, None]
        return values

    def _unscaled(self, codes: Array, anchors: Array | None) -> Array:
        numbers = centroid_numbers(codes)
        self._check_number(int(numbers.max(initial=0)))
        values = self.centroids[numbers].astype(np.float32)
        if self.residual is not None:
            values += self.residual.decode(codes[:, 2 : 2 + self.residual.groups]) @ self.residual.basis.T
        if self.context is not None and anchors is not None:
            values += anchors @ self.context
        return values

    def _check_number(self, largest: int) -> None:
        if largest >= len(self.centroids):
            raise CodecError(
                f"codec {self.name!r}: found centroid {largest} in a code, expected below {len(self.centroids)}: "
                "the codes are damaged or another codec's"
            )

    def _prepare(self, queries: Array) -> CodebookTile:
        padded = np.zeros((-(-len(queries) // 8) * 8, self.token_dim), np.float32)
        padded[: len(queries)] = queries
        tables = np.zeros((0, 256, len(padded)), np.float32)
        if self.residual is not None:
            tables = self.residual.tables(padded @ self.residual.basis)
        context = None if self.context is None else self.context @ padded.T
        return CodebookTile(len(queries), np.ascontiguousarray(padded.T), tables, context)

    def _best(
        self, tiles: Sequence[CodebookTile], codes: Array, starts: Array, stops: Array, anchors: Array | None
    ) -> Iterator[Array]:
        used = used_centroids(codes, starts, stops)
        self._check_number(int(used.max(initial=0)))
        slots = np.zeros(len(self.centroids), np.int32)
        slots[used] = np.arange(len(used))
        groups = [tiles[part] for part in together([tile.count for tile in tiles], QUERY_TILE)]
        wide = [CodebookTile.joined(group) for group in groups]
        centroids = exact_products(self.centroids, [tile.queries for tile in wide], used, self.longest)
        contexts = [tile.context for tile in wide if tile.context is not None]
        shifts = exact_products(anchors, contexts) if contexts and anchors is not None else [None] * len(wide)
        for group, tile, own, shift in zip(groups, wide, centroids, shifts, strict=True):
            scales = SCALES if self.spec.norm else None
            lookup = Lookup(tile.tables, shift=shift, centroids=own, slots=slots, scales=scales)
            best, start = best_from_tables(lookup, codes, starts, stops), 0
            for one in group:
                yield best[:, start : start + one.count]
                start += one.count

    @cached_property
    def longest(self) -> float:
        """No centroid is longer; rounded up, so that it is the same however it is added up."""
        squared = 0.0
        for row in range(0, len(self.centroids), _BLOCK):
            block = self.centroids[row : row + _BLOCK].astype(np.float32)
            squared = max(squared, float(np.einsum("nd,nd->n", block, block).max()))
        return math.ceil(16 * math.sqrt(squared) + 1e-3) / 16

    def to_arrays(self) -> dict[str, Array]:
        """``centroids``, ``ids``, and the residual's and the context's arrays."""
        arrays: dict[str, Array] = {"centroids": self.centroids, "ids": self.ids.astype(np.int32)}
        if self.residual is not None:
            arrays |= self.residual.to_arrays()
        if self.context is not None:
            arrays["context"] = self.context
        return arrays

    @classmethod
    def from_arrays(cls, spec: CodecSpec, token_dim: int, arrays: dict[str, Array]) -> CodebookCodec:
        """See :meth:`Codec.from_arrays`."""
        shape = arrays["centroids"].shape if {"centroids", "ids"} <= arrays.keys() else ()
        if len(shape) != 2 or shape[1] != token_dim:
            raise CodecError(
                f"codec {spec.name!r}: found arrays {sorted(arrays)}, expected centroids of width {token_dim}"
            )
        return cls(spec, arrays["centroids"], arrays["ids"], residual_from_arrays(arrays), arrays.get("context"))


def _fit_context(sample: TokenSample) -> Array:
    """How token vectors follow their document's anchor within one vocabulary id: ``[Da, D]`` float32.

    Zeros where held-out documents are not predicted better with it than without (few documents, for one).
    """
    width, anchors = sample.vectors.shape[1], sample.anchors.shape[1]
    # Of the other documents and of those held out: products of anchors with anchors, and with vectors.
    grams, crosses = np.zeros((2, anchors, anchors)), np.zeros((2, anchors, width))
    energy = 0.0
    for targets, sources, held_out in _within_ids(sample):
        for place, rows in enumerate((~held_out, held_out)):
            grams[place] += sources[rows].T @ sources[rows]
            crosses[place] += sources[rows].T @ targets[rows]
        energy += float((targets[held_out] ** 2).sum())
    scale = float(np.trace(grams.sum(0))) / anchors
    best, chosen = energy, None
    if grams[0].any() and grams[1].any():
        for strength in (0.003, 0.03, 0.3, 3.0):
            guess = np.linalg.solve(grams[0] + strength * scale * np.eye(anchors), crosses[0])
            # |T - A G|^2 of the rows held out, from their products
            error = energy + float((guess * (grams[1] @ guess - 2 * crosses[1])).sum())
            if error < best:
                best, chosen = error, strength
    if chosen is None:
        return np.zeros((anchors, width), np.float32)
    context: Array = np.linalg.solve(grams.sum(0) + chosen * scale * np.eye(anchors), crosses.sum(0))
    return context.astype(np.float32)


def _within_ids(sample: TokenSample) -> Iterator[tuple[Array, Array, Array]]:
    """Sampled vectors and anchors less the means of their id over the other tokens, float64, and which are held out.

    Tokens without an id are set off against the mean of all such tokens; ids seen once are left out. A block at a time:
    a whole sample in float64 would take more memory than anything else that an index does.
    """
    bare = sample.token_ids < 0
    owners = np.searchsorted(sample.ids, sample.token_ids)
    owners[bare] = len(sample.ids)
    counts = np.append(sample.counts, bare.sum())
    rows = (counts[owners] > 1).nonzero()[0]
    width = sample.vectors.shape[1]
    for start in range(0, len(rows), _BLOCK):
        part = rows[start : start + _BLOCK]
        owner, sizes = owners[part], counts[owners[part]].astype(np.float64)
        centred = np.concatenate([sample.vectors[part], sample.anchors[part]], axis=1).astype(np.float64)
        known = owner < len(sample.ids)
        sums = np.empty_like(centred)
        sums[known, :width], sums[known, width:] = (
            table[owner[known]] for table in (sample.vector_sums, sample.anchor_sums)
        )
        sums[~known] = [*sample.vectors[bare].sum(0, np.float64), *sample.anchors[bare].sum(0, np.float64)]
        centred -= sums / sizes[:, None]
        centred *= np.sqrt(sizes / np.maximum(sizes - 1, 1))[:, None]
        # A quarter of the documents, by a hash of their numbers.
        yield centred[:, :width], centred[:, width:], (sample.documents[part] * 2654435761 % 2**32) < 2**30


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
    # Every id counts alike: what is wanted is the mean of an id never seen, and frequent ids are no guide to those.
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
    features = np.ones((len(table), table.shape[1] + 1))
    centred = features[:, :-1]
    centred[:] = table
    centred -= table.mean(axis=0, dtype=np.float64)
    centred /= np.sqrt(np.einsum("ij,ij->i", centred, centred).mean()) or 1.0
    return features


def _prior_strength(
    sample: TokenSample, vectors: Array, counts: Array, sums: Array, ids: Array, priors: Array
) -> float:
    """Variance within ids over variance of the ids' true means about their priors; between 1/4 and 16 tokens."""
    often = counts > 1
    if not often.any():
        return 1.0
    owners = np.searchsorted(ids, sample.token_ids)
    rows = np.isin(sample.token_ids, ids[often]).nonzero()[0]
    squares = 0.0
    for start in range(0, len(rows), _BLOCK):
        part = rows[start : start + _BLOCK]
        known, sizes = owners[part], counts[owners[part]]
        centred = vectors[part] - sums[known] / sizes[:, None]
        squares += float(((centred**2).sum(axis=1) * (sizes / (sizes - 1))).sum())
    within = squares / max(len(rows), 1)
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
    # c = (s + x) / w and c' = s / (w - 1), so x - c' = (x - c) * w / (w - 1)
    rows = known.nonzero()[0]
    for start in range(0, len(rows), _BLOCK):
        part = rows[start : start + _BLOCK]
        owners = np.searchsorted(ids, token_ids[part])
        share = weights[owners] / np.maximum(weights[owners] - 1, 1e-3)
        left[part] = (vectors[part] - centroids[owners]) * np.minimum(share, 8.0)[:, None]
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
