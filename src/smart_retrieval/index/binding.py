"""What ties an index to the model it was made with."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .. import __version__
from ..errors import CodecError
from ..readout.config import Readout
from .codec import Codec, parse_codec
from .fitting import FitPolicy
from .manifest import Manifest

if TYPE_CHECKING:
    from ..model import SmartModel


def load_model(model: SmartModel | str, readout: Readout | None = None, preset: str = "default") -> SmartModel:
    """The model, loaded if it is given by name; read and scored as the index was made if that is given.

    Raises:
        SmartError: It cannot be loaded.
    """
    from ..model import SmartModel

    if not isinstance(model, str):
        return model
    loaded = SmartModel(model, preset=preset)
    return loaded if readout is None or loaded.readout == readout else loaded.with_readout(readout)


def new_manifest(model: SmartModel, *, codec: str, pooling: float, lexical: bool) -> tuple[Manifest, Codec]:
    """The manifest of a new index, and the codec it begins with.

    Raises:
        CodecError: There is no such codec.
    """
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
        limits={"max_length": model.max_length, "codec": wanted.name, "preset": model.preset.name},
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
    # Of both sides' prompts: one that only the index knows makes a difference, too.
    prompts = {name: identity["prompts"].get(name) for name in {*identity["prompts"], *manifest.prompts}}
    manifest.require(model=found, readout=identity["readout"], prompts=prompts)
    return model
