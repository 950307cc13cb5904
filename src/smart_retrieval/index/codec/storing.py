"""A codec as bytes: safetensors with a format tag and a checksum; no pickle anywhere."""

from __future__ import annotations

import json
import zlib
from typing import Any

import numpy as np

from ...errors import CodecError
from ...types import Array
from .base import Codec
from .codebook import CodebookCodec
from .names import parse_codec
from .plain import BitsCodec, FloatCodec, Int8Codec

FORMAT = "smart-codec/1"

_CLASSES: dict[str, type[Codec]] = {
    family: one for one in (FloatCodec, Int8Codec, BitsCodec, CodebookCodec) for family in one.families
}


def codec_to_bytes(codec: Codec) -> bytes:
    """A fitted codec as bytes; equal codecs give equal bytes.

    Example:
        >>> from smart_retrieval.index.codec import fit_codec
        >>> from smart_retrieval.embeddings import SmartEmbeddings
        >>> codec = fit_codec("float32", SmartEmbeddings(np.eye(1, 4), np.eye(1, 4), [0, 1]))
        >>> codec_from_bytes(codec_to_bytes(codec))
        FloatCodec('float32', 4d -> 16 bytes a token)
    """
    from safetensors.numpy import save

    arrays = {name: np.ascontiguousarray(array) for name, array in sorted(codec.to_arrays().items())}
    about = {"format": FORMAT, "name": codec.name, "token_dim": str(codec.token_dim)}
    # safetensors writes metadata in no fixed order; one entry is always in order.
    text = json.dumps({**about, "crc32": _checksum(about, arrays)}, sort_keys=True)
    return save(arrays, {"codec": text})


def codec_from_bytes(data: bytes) -> Codec:
    """Read what :func:`codec_to_bytes` wrote.

    Raises:
        CodecError: The bytes are cut off, damaged, or something else.
    """
    from safetensors.numpy import load

    try:
        size = int.from_bytes(data[:8], "little")
        about = json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["codec"])
        arrays = {name: np.asarray(array) for name, array in load(bytes(data)).items()}
        found, crc = about.get("format"), about.pop("crc32")
        width = int(about["token_dim"])
    except Exception as error:  # whatever damaged bytes provoke in the readers
        raise CodecError(f"codec: cannot be read ({type(error).__name__}: {error}); its bytes are damaged") from error
    if found != FORMAT:
        raise CodecError(f"codec: found format {found!r}, expected {FORMAT!r}: written by another version")
    if crc != _checksum(about, arrays):
        raise CodecError("codec: found a checksum that does not match; its bytes are damaged")
    return codec_from_arrays(str(about["name"]), width, arrays)


def codec_from_arrays(name: str, token_dim: int, arrays: dict[str, Array]) -> Codec:
    """A codec from its name, its width and the arrays of :meth:`Codec.to_arrays`.

    Raises:
        CodecError: There is no such codec, or the arrays do not fit it.
    """
    return _CLASSES[parse_codec(name).family].from_arrays(name, token_dim, arrays)


def _checksum(about: dict[str, Any], arrays: dict[str, Array]) -> int:
    crc = zlib.crc32(json.dumps(about, sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        crc = zlib.crc32(f"{name} {array.dtype.str} {array.shape}".encode(), crc)
        crc = zlib.crc32(np.ascontiguousarray(array).data.cast("B") if array.size else b"", crc)
    return crc
