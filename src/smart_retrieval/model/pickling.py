"""What a model is in a pickle: its name and arguments. Whoever opens the pickle loads the weights again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from ..backbones.checkpoints import LoadOptions
from ..errors import SmartError
from ..files import settled
from .options import ModelOptions

# Readout and compute are part of the state, and a hub's token stays out of pickles.
_LEFT_OUT = frozenset({"readout", "compute", "token", "trust_remote_code"})


def pickled_options(options: LoadOptions, preset: str, dtype: str, backbone: str | Path | None) -> ModelOptions:
    """The arguments of a model, the same from any working directory."""
    given = {**vars(options), "preset": preset, "dtype": dtype, "backbone": backbone}
    if options.cache_folder is not None:
        given["cache_folder"] = str(settled(options.cache_folder))
    kept = ModelOptions.__annotations__.keys() - _LEFT_OUT
    return cast("ModelOptions", {name: value for name, value in given.items() if name in kept})


def loaded_again(
    kind: Callable[..., Any], name: str, options: ModelOptions, weights: str, state: tuple[Any, ...]
) -> Any:
    """A pickled model, loaded by its name."""
    readout, preset, calibration, adapter, anchor_layer, compute = state
    model = kind(name, compute=compute, **options)
    if (found := model.backbone.fingerprint) != weights:
        raise SmartError(
            f"model {name!r}: found weights {found}, expected {weights}, those of the model that was pickled: it was "
            "replaced since, or is another one on this machine"
        )
    if anchor_layer is not None:
        model = model.with_anchor_of(*([anchor_layer] if isinstance(anchor_layer, int) else anchor_layer))
    if readout != model.readout or adapter is not model.adapter:
        model = model.with_adapter(adapter, readout)
    model.preset, model._calibration = preset, calibration
    return model
