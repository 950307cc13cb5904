"""Codebook codes: a centroid per vocabulary id, what the anchor tells, and a few bytes of residual.

A contextual token vector is mostly its vocabulary id: with MiniLM the id's mean vector holds 54-62 % of the energy. A
further quarter of it is the document's topic, which the anchor tells, and the index holds the anchor anyway. So

    x ~ (centroid[number] + unit(anchor) @ context + residual) * scale

with ``context`` only in the ``anchored`` family, and ``scale`` (the reconstruction brought to unit length) only with
``+norm``. In a product with a query token the anchor's term is one number a document, so it costs nothing a token.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...errors import CodecError
from ...types import Array
from .base import Codec, make_spec
from .kernels import (
    Lookup,
    best_from_tables,
    centroid_numbers,
    exact_products,
    gathered_halves,
    used_centroids,
)
from .kmeans import nearest
from .names import CodecSpec
from .residual import Residual, residual_from_arrays

MOST_CENTROIDS = 65536

#: The length byte: 256 factors from 1/2 to 4 in equal ratios, so that a factor is off by at most 0.41 %.
SCALES: Array = (2.0 ** np.linspace(-1, 2, 256)).astype(np.float32)


@dataclass(frozen=True)
class CodebookTile:
    """What is computed once for up to 64 query tokens.

    Attributes:
        queries: ``[P, D]`` float32, padded with zeros to a multiple of 8 query tokens.
        tables: ``[G, 256, P]`` float32.
        context: ``[Da, P]`` float32, or None.
    """

    queries: Array
    tables: Array
    context: Array | None


class CodebookCodec(Codec):
    """``codebook...`` and ``anchored...``.

    Args:
        spec: The parsed name.
        centroids: ``[K, D]`` float16, K <= 65,536: first those of k-means, then one for each of ``ids``.
        ids: ``[I]`` int64 vocabulary ids, ascending, I < K or I = K when all tokens to come have one of these ids.
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
        self._slots = np.full(int(self.ids.max(initial=-1)) + 1, -1, np.int64)
        self._slots[self.ids] = self.clusters + np.arange(len(self.ids))

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
        numbers = self.centroid_of(left, ids)
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

    def centroid_of(self, vectors: Array, ids: Array) -> Array:
        """Number of the centroid of each token, ``[T]`` int64: its id's, else the nearest of those from k-means.

        Args:
            vectors: ``[T, D]`` float32, less what the anchor tells.
            ids: ``[T]`` int64 vocabulary ids, -1 where there is none.
        """
        numbers = np.full(len(ids), -1, np.int64)
        known = (ids >= 0) & (ids < len(self._slots))
        numbers[known] = self._slots[ids[known]]
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
        if len(numbers) and numbers.max() >= len(self.centroids):
            raise CodecError(
                f"codec {self.name!r}: found centroid {numbers.max()} in a code, expected below {len(self.centroids)}: "
                "the codes are damaged or another codec's"
            )
        values = self.centroids[numbers].astype(np.float32)
        if self.residual is not None:
            values += self.residual.decode(codes[:, 2 : 2 + self.residual.groups]) @ self.residual.basis.T
        if self.context is not None and anchors is not None:
            values += anchors @ self.context
        return values

    def _prepare(self, queries: Array) -> CodebookTile:
        padded = np.zeros((-(-len(queries) // 8) * 8, self.token_dim), np.float32)
        padded[: len(queries)] = queries
        if self.residual is None:
            tables = np.zeros((0, 256, len(padded)), np.float32)
        else:
            tables = np.ascontiguousarray(self.residual.tables(padded @ self.residual.basis))
        return CodebookTile(padded, tables, None if self.context is None else self.context @ padded.T)

    def _best(self, tile: CodebookTile, codes: Array, starts: Array, stops: Array, anchors: Array | None) -> Array:
        used = used_centroids(codes, starts, stops).nonzero()[0]
        if len(used) and used[-1] >= len(self.centroids):
            raise CodecError(
                f"codec {self.name!r}: found centroid {used[-1]} in a code, expected below {len(self.centroids)}: "
                "the codes are damaged or another codec's"
            )
        slots = np.zeros(MOST_CENTROIDS, np.int32)
        slots[used] = np.arange(len(used))
        lookup = Lookup(
            tile.tables,
            shift=None if tile.context is None or anchors is None else exact_products(anchors, tile.context),
            centroids=self._products(used, tile.queries),
            slots=slots,
            scales=SCALES if self.spec.norm else None,
        )
        return best_from_tables(lookup, codes, starts, stops)

    def _products(self, used: Array, queries: Array) -> Array:
        """Products of the centroids in use with the query tokens, ``[len(used), P]``, in blocks that stay in cache."""
        products = np.empty((len(used), len(queries)), np.float32)
        transposed = np.ascontiguousarray(queries.T)
        for start in range(0, len(used), 512):
            part = slice(start, start + 512)
            np.matmul(gathered_halves(self.centroids, used[part]), transposed, out=products[part])
        return products

    def to_arrays(self) -> dict[str, Array]:
        """``centroids``, ``ids``, and the residual's and the context's arrays."""
        arrays: dict[str, Array] = {"centroids": self.centroids, "ids": self.ids.astype(np.int32)}
        if self.residual is not None:
            arrays |= self.residual.to_arrays()
        if self.context is not None:
            arrays["context"] = self.context
        return arrays

    @classmethod
    def from_arrays(cls, name: str, token_dim: int, arrays: dict[str, Array]) -> CodebookCodec:
        """See :meth:`Codec.from_arrays`."""
        spec = make_spec(name, cls.families)
        missing = [part for part in ("centroids", "ids") if part not in arrays]
        if missing or arrays["centroids"].ndim != 2 or arrays["centroids"].shape[1] != token_dim:
            raise CodecError(f"codec {name!r}: found arrays {sorted(arrays)}, expected centroids of width {token_dim}")
        return cls(spec, arrays["centroids"], arrays["ids"], residual_from_arrays(arrays), arrays.get("context"))
