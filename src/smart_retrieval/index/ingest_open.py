"""The index that a folder goes into: made if it is not there, checked against what was asked for if it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from ..errors import CodecError, IndexMismatchError
from .binding import VISUAL_LIMITS, load_model
from .codec import parse_codec
from .folder import FILE
from .smart_index import DEFAULT_CODEC, SmartIndex

DEFAULT_MODEL = "minilm"


def open_or_create(
    path: str | Path,
    model: str | None = None,
    *,
    codec: str | None = None,
    pooling: float | None = None,
    files_as: Literal["auto", "text", "pages"] = "auto",
    max_visual_tokens: int | None = None,
    max_frames: int | None = None,
) -> SmartIndex:
    """Open an index for writing; make it if there is none.

    Args:
        path: The index's folder.
        model: The model's name; ``minilm`` for a new index when None, the recorded one otherwise.
        codec: How token vectors are kept; the usual one for a new index when None.
        pooling: Token pooling factor; 1 for a new index when None.
        files_as: What is made of files, see :meth:`~smart_retrieval.index.smart_index.SmartIndex.create`; ``"auto"``
            leaves it to an index that is there.
        max_visual_tokens: Most visual tokens of a picture; the model's own limit for a new index when None.
        max_frames: Most frames of a video; likewise.

    Raises:
        IndexMismatchError: There is an index, made with another model, pooling, limit, or for files as something else.
        CodecError: There is an index with another codec, or no such codec.
        IndexFormatError: There is an index of another format.
    """
    if not (Path(path) / FILE).exists():
        limits = {"max_visual_tokens": max_visual_tokens, "max_frames": max_frames}
        return SmartIndex.create(
            path,
            load_model(model or DEFAULT_MODEL, options=limits),
            codec=codec or DEFAULT_CODEC,
            pooling=1 if pooling is None else pooling,
            files_as=files_as,
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
        made_with: dict[str, Any] = {name: info["model"].get(name) for name in VISUAL_LIMITS}
        made_with["pooling"] = info["pooling"]
        asked: dict[str, Any] = {"pooling": pooling, "max_visual_tokens": max_visual_tokens, "max_frames": max_frames}
        differing = [name for name, value in asked.items() if value is not None and value != made_with[name]]
        if files_as not in ("auto", info["files_as"]):
            made_with["as"], asked["as"] = info["files_as"], files_as
            differing.append("as")
        if differing:
            name, words = differing[0], differing[0].replace("_", " ")
            option = f"--{name.replace('_', '-')}"
            raise IndexMismatchError(
                f"index {str(path)!r}: found {words} {_shown(made_with[name])}, asked for {_shown(asked[name])}; leave "
                f"{option} out, or index into a new one"
            )
    except BaseException:
        index.close()
        raise
    return index


def _shown(value: float | str | None) -> str:
    return "the model's own" if value is None else value if isinstance(value, str) else f"{value:g}"
