"""The settings of an index: what a new one records of its model, codec and options, and the check against them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._version import __version__
from ..errors import CodecError, IndexMismatchError
from .codec.base import Codec
from .codec.names import parse_codec
from .codec_fitting import FitPolicy
from .ingest.file_reader import settle_files_as
from .model_and_codec import VISUAL_LIMITS
from .store.manifest import Manifest

if TYPE_CHECKING:
    from ..model.smart_model import SmartModel


def new_manifest(
    model: SmartModel, codec: str, pooling: float, files_as: str, *, lexical: bool
) -> tuple[Manifest, Codec]:
    """The manifest of a new index, and the codec it begins with.

    Raises:
        CodecError: There is no such codec, or no such pooling.
        UnsupportedModelError: ``files_as="pages"`` and the model takes no pictures.
    """
    kind = settle_files_as(files_as, model.modalities)
    wanted = parse_codec(codec)
    if wanted.dims > model.token_dim:
        raise CodecError(
            f"codec {codec!r}: found a residual of {wanted.dims} dimensions, expected at most the {model.token_dim} of "
            "this model's token vectors"
        )
    if not (math.isfinite(pooling) and pooling >= 1):
        raise CodecError(f"token pooling: found {pooling}, expected a number of at least 1; 1 is none")
    start = FitPolicy.start(wanted, model.token_dim)
    identity = model.identity()
    manifest = Manifest(
        model={key: value for key, value in identity.items() if key not in ("readout", "prompts")},
        codec=start.name,
        anchor_dim=model.anchor_dim,
        code_width=start.bytes_per_token,
        readout=identity["readout"],
        prompts=identity["prompts"],
        pooling=pooling,
        limits={
            "max_length": model.max_length,
            "codec": wanted.name,
            "preset": model.preset.name,
            "files_as": kind,
            "modalities": sorted(model.modalities),
        },
        lexical=lexical,
        package=__version__,
    )
    return manifest, start


def check_settings(path: Path, manifest: Manifest, codec: str | None, given: Mapping[str, float | str | None]) -> None:
    """Refuse settings of a new index that this one was not made with; None stands for a setting left out.

    Raises:
        CodecError: It has another codec.
        IndexMismatchError: Another setting differs; the message names the option of ``smart index``.
    """
    wanted = manifest.limits.get("codec", manifest.codec)
    if codec is not None and parse_codec(codec).name != wanted:
        raise CodecError(
            f"index {str(path)!r}: found codec {wanted!r}, asked for {codec!r}; leave --codec out, or index into a new "
            "one"
        )
    made_with: dict[str, Any] = {name: manifest.model.get(name) for name in VISUAL_LIMITS}
    made_with |= {"pooling": manifest.pooling, "as": manifest.limits.get("files_as", "text")}
    for name, value in given.items():
        if value is not None and value != made_with[name]:
            raise IndexMismatchError(
                f"index {str(path)!r}: found {name.replace('_', ' ')} {_shown(made_with[name])}, asked for "
                f"{_shown(value)}; leave --{name.replace('_', '-')} out, or index into a new one"
            )


def _shown(value: float | str | None) -> str:
    return "the model's own" if value is None else value if isinstance(value, str) else f"{value:g}"
