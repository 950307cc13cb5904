"""Codec names: one string says everything that decides a code's width."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ...errors import CodecError

PLAIN = ("float32", "float16", "int8", "bits4", "bits2", "bits1")

#: What the library suggests, from most to fewest bytes; every name of the grammar works.
SUGGESTED = (*PLAIN, "anchored+7vq+norm", "anchored+3vq+norm", "anchored", "codebook+64x1", "codebook+32x1", "codebook")

_CODEBOOK = re.compile(
    r"(?P<family>codebook|anchored)(\+(?P<dims>[1-9]\d{0,3})x(?P<bits>[124])|\+(?P<stages>[1-9]\d?)vq)?(?P<norm>\+norm)?"
)


@dataclass(frozen=True)
class CodecSpec:
    """A codec name, taken apart."""

    name: str
    family: str  # float32, float16, int8, bits, codebook or anchored
    bits: int = 0  # a dimension, of ``bits*`` and of an ``RxB`` residual
    dims: int = 0  # R of an ``RxB`` residual
    stages: int = 0  # (= bytes) N of an ``Nvq`` residual
    norm: bool = False  # whether one byte holds the length of the reconstruction

    @property
    def residual_bytes(self) -> int:
        """Bytes of the residual of a codebook code."""
        return self.stages + self.dims * self.bits // 8

    def bytes_per_token(self, token_dim: int) -> int:
        """Bytes of one coded token vector of ``token_dim`` dimensions."""
        if self.family in ("codebook", "anchored"):
            return 2 + self.residual_bytes + self.norm
        if self.family == "bits":
            return -(-token_dim * self.bits // 8)
        return token_dim * {"float32": 4, "float16": 2, "int8": 1}[self.family]


def parse_codec(name: str) -> CodecSpec:
    """Take a codec name apart.

    ``float32``, ``float16``, ``int8``, ``bits4``, ``bits2``, ``bits1``: every dimension with so many bits (``bits*``
    after a rotation). ``codebook`` and ``anchored``: a 2-byte centroid, optionally followed by a residual, ``+RxB`` (R
    dimensions of B bits) or ``+Nvq`` (N bytes of residual vector quantisation), and by ``+norm`` (a byte for the
    length). ``anchored`` predicts part of each vector from its document's anchor, which the index holds anyway.

    Example:
        >>> parse_codec("anchored+3vq+norm").bytes_per_token(384)
        6
    """
    if name in PLAIN:
        return CodecSpec(name, "bits", bits=int(name[-1])) if name.startswith("bits") else CodecSpec(name, name)
    match = _CODEBOOK.fullmatch(name) if isinstance(name, str) else None
    if match is None:
        raise CodecError(
            f"codec: found {name!r}, expected one of {', '.join(PLAIN)}, or codebook / anchored followed by nothing, "
            f"by +RxB or +Nvq, and by +norm: {', '.join(SUGGESTED[len(PLAIN) :])} for example"
        )
    dims, bits, stages = (int(match[part] or 0) for part in ("dims", "bits", "stages"))
    if dims * bits % 8:
        raise CodecError(f"codec {name!r}: found {dims} x {bits} bits, expected a multiple of 8 bits")
    return CodecSpec(name, match["family"], bits, dims, stages, match["norm"] is not None)
