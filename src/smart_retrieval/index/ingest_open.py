"""The index that a folder goes into: made if it is not there, checked against what was asked for if it is."""

from __future__ import annotations

from pathlib import Path

from ..errors import CodecError, IndexMismatchError
from .codec import parse_codec
from .folder import FILE
from .smart_index import DEFAULT_CODEC, SmartIndex

DEFAULT_MODEL = "minilm"


def open_or_create(
    path: str | Path, model: str | None = None, *, codec: str | None = None, pooling: float | None = None
) -> SmartIndex:
    """Open an index for writing; make it if there is none.

    Args:
        path: The index's folder.
        model: The model's name; ``minilm`` for a new index when None, the recorded one otherwise.
        codec: How token vectors are kept; the usual one for a new index when None.
        pooling: Token pooling factor; 1 for a new index when None.

    Raises:
        IndexMismatchError: There is an index, made with another model or pooling.
        CodecError: There is an index with another codec, or no such codec.
        IndexFormatError: There is an index of another format.
    """
    if not (Path(path) / FILE).exists():
        return SmartIndex.create(
            path, model or DEFAULT_MODEL, codec=codec or DEFAULT_CODEC, pooling=1 if pooling is None else pooling
        )
    index = SmartIndex.open(path, model)
    try:
        info = index.info()
        wanted = info["codec_wanted"]
        if codec is not None and parse_codec(codec).name != wanted:
            raise CodecError(
                f"index {str(path)!r}: found codec {wanted!r}, asked for {codec!r}; leave --codec out, or index into a "
                "new one"
            )
        if pooling is not None and pooling != info["pooling"]:
            raise IndexMismatchError(
                f"index {str(path)!r}: found pooling {info['pooling']:g}, asked for {pooling:g}; leave --pooling out, "
                "or index into a new one"
            )
    except BaseException:
        index.close()
        raise
    return index
