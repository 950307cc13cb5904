"""What ties an index to the model it was made with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .._version import __version__
from ..core.readout import Readout
from ..errors import CodecError
from .codec.base import Codec
from .codec.names import parse_codec
from .ingest.codec_fit import FitPolicy
from .ingest.pictures import settle_files_as
from .store.manifest import Manifest

if TYPE_CHECKING:
    from ..model.smart_model import SmartModel


# Limits of what a model sees of a picture or a video; part of its identity, since other limits give other vectors.
VISUAL_LIMITS = ("max_visual_tokens", "max_frames")


def load_model(
    model: SmartModel | str,
    readout: Readout | None = None,
    preset: str = "default",
    options: Mapping[str, Any] | None = None,
) -> SmartModel:
    """The model, loaded if it is given by name; read and scored as the index was made if that is given.

    Args:
        model: It, or its name.
        readout: The index's readout.
        preset: The index's preset.
        options: A model's identity, or some of it: how one loaded by name is told apart from others of its name
            (``family``, ``max_visual_tokens``, ``max_frames``, and ``pooling`` where a user has to choose it).

    Raises:
        SmartError: It cannot be loaded.
    """
    from ..model.smart_model import SmartModel

    if not isinstance(model, str):
        return model
    given = options or {}
    own = ("family", *VISUAL_LIMITS, *(("pooling",) if given.get("family") == "bare-vlm" else ()))
    loaded = SmartModel(model, preset=preset, **{name: given[name] for name in own if given.get(name) is not None})
    return loaded if readout is None or loaded.readout == readout else loaded.with_readout(readout)


def new_manifest(
    model: SmartModel, *, codec: str, pooling: float, lexical: bool, files_as: str = "auto"
) -> tuple[Manifest, Codec]:
    """The manifest of a new index, and the codec it begins with.

    Raises:
        CodecError: There is no such codec.
        UnsupportedModelError: ``files_as="pages"`` and the model takes no pictures.
    """
    modalities = model.modalities
    kind = settle_files_as(files_as, modalities)
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
            "modalities": sorted(modalities),
        },
        lexical=lexical,
        package=__version__,
    )
    return manifest, start


def check_model(manifest: Manifest, model: SmartModel) -> SmartModel:
    """The model, if it is the one the index was made with.

    Raises:
        IndexMismatchError: It is not; the message names every difference.
    """
    identity = model.identity()
    found = {key: identity[key] for key in ("fingerprint", "pooling", "max_length")}
    found |= {key: identity.get(key) for key in VISUAL_LIMITS if key in identity or key in manifest.model}
    # Of both sides' prompts: one that only the index knows makes a difference, too.
    prompts = {name: identity["prompts"].get(name) for name in {*identity["prompts"], *manifest.prompts}}
    manifest.require(model=found, readout=identity["readout"], prompts=prompts)
    return model
