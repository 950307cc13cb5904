"""Plain codes: every dimension kept, as floats, as bytes, or as a few bits after a rotation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...errors import CodecError
from ...types import Array
from .base import Codec
from .kernels import Lookup, best_from_tables, best_from_vectors, int8_as_float32
from .names import CodecSpec
from .quantize import ScalarBits, principal_axes
from .sample import TokenSample

#: Above this many bytes a token, decoding blocks and multiplying beats look-ups.
_MOST_LOOKUPS = 64


class FloatCodec(Codec):
    """``float32``: exact. ``float16``: half the bytes, relative error at most 2^-11 a value. Little-endian bytes."""

    families = ("float32", "float16")

    def __init__(self, spec: CodecSpec, token_dim: int) -> None:
        super().__init__(spec, token_dim)
        self._dtype = np.dtype("<f4" if spec.family == "float32" else "<f2")

    def _encode(self, vectors: Array, ids: Array, anchors: Array | None) -> Array:
        if self._dtype.itemsize == 2 and len(vectors) and np.abs(vectors).max() > 65504:
            raise CodecError("found a value beyond 65504, which float16 cannot hold; use codec float32")
        return vectors.astype(self._dtype).view(np.uint8).reshape(len(vectors), self.bytes_per_token)

    def _decode(self, codes: Array, anchors: Array | None = None) -> Array:
        return np.ascontiguousarray(codes).view(self._dtype).astype(np.float32)

    def _prepare(self, queries: Array) -> Array:
        return queries

    def _best(
        self, tiles: Sequence[Array], codes: Array, starts: Array, stops: Array, anchors: Array | None
    ) -> list[Array]:
        return best_from_vectors(self._decode, tiles, codes, starts, stops)

    def to_arrays(self) -> dict[str, Array]:
        """Nothing is fitted."""
        return {}

    @classmethod
    def from_arrays(cls, spec: CodecSpec, token_dim: int, arrays: dict[str, Array]) -> FloatCodec:
        """See :meth:`Codec.from_arrays`."""
        return cls(spec, token_dim)


class Int8Codec(Codec):
    """``int8``: a byte a dimension, ``round(value / scale)`` with one scale for all.

    One scale suffices because all vectors have unit length. It is the sample's largest absolute value and a twentieth
    over 127; the error of a value is at most scale / 2 unless the value lies beyond, where it is clipped.
    """

    families = ("int8",)

    def __init__(self, spec: CodecSpec, token_dim: int, scale: float) -> None:
        super().__init__(spec, token_dim)
        self.scale = np.float32(scale)
        if not np.isfinite(self.scale) or self.scale <= 0:
            raise CodecError(f"codec 'int8': found a scale of {scale}, expected a positive number")

    @classmethod
    def fit(cls, spec: CodecSpec, sample: TokenSample) -> Int8Codec:
        """The scale of a sample."""
        largest = float(np.abs(sample.vectors).max())
        return cls(spec, sample.vectors.shape[1], (largest * 1.05 or 1.0) / 127)

    def _encode(self, vectors: Array, ids: Array, anchors: Array | None) -> Array:
        return np.clip(np.rint(vectors / self.scale), -127, 127).astype(np.int8).view(np.uint8)

    def _decode(self, codes: Array, anchors: Array | None) -> Array:
        return int8_as_float32(codes) * self.scale

    def _prepare(self, queries: Array) -> Array:
        return queries * self.scale

    def _best(
        self, tiles: Sequence[Array], codes: Array, starts: Array, stops: Array, anchors: Array | None
    ) -> list[Array]:
        return best_from_vectors(int8_as_float32, tiles, codes, starts, stops)

    def to_arrays(self) -> dict[str, Array]:
        """``scale``."""
        return {"scale": np.array([self.scale], np.float32)}

    @classmethod
    def from_arrays(cls, spec: CodecSpec, token_dim: int, arrays: dict[str, Array]) -> Int8Codec:
        """See :meth:`Codec.from_arrays`."""
        if arrays.keys() != {"scale"} or arrays["scale"].shape != (1,):
            raise CodecError(f"codec {spec.name!r}: found arrays {sorted(arrays)}, expected one scale")
        return cls(spec, token_dim, float(arrays["scale"][0]))


class BitsCodec(Codec):
    """``bits4``, ``bits2``, ``bits1``: all D dimensions after subtracting the mean and a PCA, so many bits each.

    A PCA rather than a random rotation because its coordinates are uncorrelated and each gets levels of its own
    (Lloyd): the levels follow the spread of each direction, which a random rotation would make equal.
    """

    families = ("bits",)

    def __init__(self, spec: CodecSpec, mean: Array, quantiser: ScalarBits) -> None:
        super().__init__(spec, len(mean))
        self.mean, self.quantiser = np.asarray(mean, np.float32), quantiser
        if quantiser.bits != spec.bits or quantiser.basis.shape != (len(mean), len(mean)):
            raise CodecError(
                f"codec {spec.name!r}: found a basis of shape {quantiser.basis.shape}, {quantiser.bits} bits"
            )

    @classmethod
    def fit(cls, spec: CodecSpec, sample: TokenSample) -> BitsCodec:
        """Mean, rotation and levels of a sample."""
        mean = sample.vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
        centred = sample.vectors - mean
        return cls(spec, mean, ScalarBits.fit(centred, principal_axes(centred, len(mean)), spec.bits))

    def _encode(self, vectors: Array, ids: Array, anchors: Array | None) -> Array:
        return self.quantiser.encode((vectors - self.mean) @ self.quantiser.basis)

    def _decode(self, codes: Array, anchors: Array | None) -> Array:
        values: Array = self.quantiser.decode(codes) @ self.quantiser.basis.T + self.mean
        return values

    def _prepare(self, queries: Array) -> Any:
        rotated = queries @ self.quantiser.basis
        if self.bytes_per_token > _MOST_LOOKUPS:
            return rotated, queries @ self.mean
        tables = self.quantiser.tables(rotated)
        tables[0] += queries @ self.mean
        return Lookup(tables)

    def _best(
        self, tiles: Sequence[Any], codes: Array, starts: Array, stops: Array, anchors: Array | None
    ) -> list[Array]:
        if self.bytes_per_token <= _MOST_LOOKUPS:
            return [best_from_tables(tile, codes, starts, stops) for tile in tiles]
        found = best_from_vectors(self.quantiser.decode, [rotated for rotated, _ in tiles], codes, starts, stops)
        return [best + constant for best, (_, constant) in zip(found, tiles, strict=True)]

    def to_arrays(self) -> dict[str, Array]:
        """``mean``, ``basis`` and ``levels``."""
        return {"mean": self.mean, **self.quantiser.to_arrays()}

    @classmethod
    def from_arrays(cls, spec: CodecSpec, token_dim: int, arrays: dict[str, Array]) -> BitsCodec:
        """See :meth:`Codec.from_arrays`."""
        if arrays.keys() != {"mean", "basis", "levels"} or arrays["mean"].shape != (token_dim,):
            raise CodecError(f"codec {spec.name!r}: found arrays {sorted(arrays)}, expected mean, basis and levels")
        return cls(spec, arrays["mean"], ScalarBits(arrays["basis"], arrays["levels"]))
