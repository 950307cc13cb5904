"""The settings of an index: what a new one records of its model, codec and options, and the check against them."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from .._version import __version__
from ..backbones.checkpoints import COMPUTES, as_recorded
from ..errors import CodecError, IndexMismatchError, SmartError, UnsupportedModelError, one_of
from .codec.base import Codec
from .codec.names import parse_codec
from .codec_fitting import FitPolicy
from .encoder import LIMITS, load_model
from .store.anchors import anchors_beside
from .store.manifest import Manifest
from .text.language import LANGUAGES, Language

if TYPE_CHECKING:
    from ..model.smart_model import SmartModel

#: A fitted codec or its file, or the name of one to be fitted.
GivenCodec: TypeAlias = "str | Path | Codec"
FILES_AS = ("auto", "text", "pages")


def new_manifest(
    model: SmartModel, codec: GivenCodec, token_pooling: float, files_as: str, *, lexical: bool, language: Language
) -> tuple[Manifest, Codec]:
    """The manifest of a new index, and the codec it begins with."""
    kind = settle_files_as(files_as, model.modalities)
    given = codec_of(codec)
    wanted = given.spec if isinstance(given, Codec) else parse_codec(given)
    if isinstance(given, Codec) and (given.token_dim, given.anchor_dim or model.anchor_dim) != (
        model.token_dim,
        model.anchor_dim,
    ):
        raise CodecError(
            f"codec {given.name!r}: found one of {given.token_dim} (token) and {given.anchor_dim} (anchor) dimensions, "
            f"expected {model.token_dim} and {model.anchor_dim}: one that was fitted to this model's vectors"
        )
    if wanted.dims > model.token_dim:
        raise CodecError(
            f"codec {codec!r}: found a residual of {wanted.dims} dimensions, expected at most the {model.token_dim} of "
            "this model's token vectors"
        )
    if not (math.isfinite(token_pooling) and token_pooling >= 1):
        raise CodecError(f"token pooling: found {token_pooling}, expected a number of at least 1; 1 is none")
    if language not in LANGUAGES:
        raise SmartError(f"language: {one_of(language, LANGUAGES)}")
    start = given if isinstance(given, Codec) else FitPolicy.start(wanted, model, token_pooling)
    identity = model.identity()
    manifest = Manifest(
        model={key: value for key, value in identity.items() if key not in ("readout", "prompts")},
        codec=start.name,
        anchor_dim=model.anchor_dim,
        code_width=start.bytes_per_token,
        anchors=anchors_beside(wanted.family),
        readout=identity["readout"],
        prompts=identity["prompts"],
        pooling=token_pooling,
        limits={
            "max_length": model.max_length,
            "codec": wanted.name,
            **({"codec_hash": given.hash} if isinstance(given, Codec) else {}),
            "preset": model.preset.name,
            "files_as": kind,
            "modalities": sorted(model.modalities),
            **({} if (states := model.backbone.states_sample()) is None else {"states": states}),
        },
        scoring=model.preset.scoring.to_dict(),
        model_calibration=model.calibration.to_dict() if model.calibration is not None else {},
        lexical=lexical,
        language=language,
        folding=True,
        package=__version__,
    )
    return manifest, start


def codec_of(codec: GivenCodec) -> Codec | str:
    """A fitted codec, read from its file if need be; or the name of one that the index is to fit itself."""
    if not isinstance(codec, str):
        return codec if isinstance(codec, Codec) else Codec.load(codec)
    return Codec.load(codec) if "/" in codec or Path(codec).is_file() else codec


def model_within(model: SmartModel | str, limits: Mapping[str, Any], compute: str | None = None) -> SmartModel:
    """The model for a new index: loaded by its name with these limits, or one that was loaded with them."""
    if compute is not None and compute not in COMPUTES:
        raise SmartError(f"compute: {one_of(compute, COMPUTES)}")
    smart = load_model(model, limits) if isinstance(model, str) else model
    # Of a name it is what it was asked for, whatever that is called of the model.
    for name, value in () if isinstance(model, str) else limits.items():
        if value not in (None, own := getattr(smart if name == "device" else smart.backbone, name)):
            raise SmartError(f"{name}: found a model loaded with {own}, expected {value}")
    return smart if compute is None else smart.with_compute(compute)


def settle_files_as(asked: str, modalities: Collection[str]) -> str:
    """``"text"`` or ``"pages"``; ``"auto"`` means pages if the model takes pictures.

    Example:
        >>> settle_files_as("auto", {"text", "image"}), settle_files_as("auto", {"text"})
        ('pages', 'text')
    """
    if asked not in FILES_AS:
        raise SmartError(f"files as: {one_of(asked, FILES_AS)}")
    if asked == "pages" and "image" not in modalities:
        raise UnsupportedModelError(
            f"files as pages: found a model that takes {', '.join(sorted(modalities))}, expected one that takes "
            "images; choose another model, or text"
        )
    return asked if asked != "auto" else "pages" if "image" in modalities else "text"


def check_settings(
    path: Path, manifest: Manifest, codec: GivenCodec | None, given: Mapping[str, float | str | None]
) -> None:
    """Refuse settings that this index was not made with, None and "auto" standing for a setting left out.

    The messages name the options of ``smart index``.
    """
    wanted = manifest.limits.get("codec", manifest.codec)
    asked = "" if codec is None else codec_of(codec)
    if isinstance(asked, Codec):
        wanted, asked = f"{wanted} {manifest.limits.get('codec_hash', 'of its own')}", f"{asked.name} {asked.hash}"
    elif asked:
        asked = parse_codec(asked).name
    if asked not in ("", wanted):
        raise CodecError(
            f"index {str(path)!r}: found codec {wanted!r}, asked for {asked!r}; leave --codec out, or index into a new "
            "one"
        )
    made_with: dict[str, Any] = {name: manifest.model.get(name) for name in LIMITS}
    made_with["video_budget"] = made_with["video_budget"] or "usual"  # as before there was a choice
    made_with |= {"family": as_recorded(manifest.model)["family"], "max_length": manifest.model.get("max_length")}
    made_with |= {"pooling": manifest.model.get("pooling"), "token_pooling": manifest.pooling}
    made_with |= {"as": manifest.limits.get("files_as", "text")}
    made_with |= {"language": manifest.language, "compute": manifest.model.get("compute", "float32")}
    for name, value in given.items():
        if value not in (None, "auto", made_with[name]):
            raise IndexMismatchError(
                f"index {str(path)!r}: found {name.replace('_', ' ')} {_shown(made_with[name])}, asked for "
                f"{_shown(value)}; leave --{name.replace('_', '-')} out, or index into a new one"
            )


def _shown(value: float | str | None) -> str:
    return "the model's own" if value is None else value if isinstance(value, str) else f"{value:g}"
