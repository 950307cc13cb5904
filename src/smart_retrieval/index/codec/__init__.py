"""Token vectors in few bytes: names, fitting, coding and scoring straight from codes."""

from __future__ import annotations

from .base import Codec, QueryTables
from .factory import codec_from_arrays, codec_from_bytes, fit_codec
from .names import SUGGESTED, CodecSpec, parse_codec
from .pooling import pool_tokens

__all__ = [
    "SUGGESTED",
    "Codec",
    "CodecSpec",
    "QueryTables",
    "codec_from_arrays",
    "codec_from_bytes",
    "fit_codec",
    "parse_codec",
    "pool_tokens",
]
