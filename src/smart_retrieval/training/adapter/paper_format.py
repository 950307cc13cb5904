"""Read the adapter format of the paper's authors (``adapter.pt``)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.adapter import Adapter, AdapterConfig
from ...core.readout import Readout
from ...errors import ReadoutError
from ...model.saving import load_weights

if TYPE_CHECKING:
    from torch import Tensor

# Where the authors' own loader looks in a folder, in its order.
_PLACES = ("", "best_adapter", "last_1/best_adapter", "last_1/epoch_2", "last_1/epoch_1")
_KEYS = {
    "token_projection_module", "adapter_type", "use_last_n_layers", "selected_layers", "anchor_dim", "hidden_size",
    "default_instruction",
}  # fmt: skip
_WEIGHTS = {
    "proj.0.weight": "norm.weight",
    "proj.0.bias": "norm.bias",
    "proj.1.weight": "projection.weight",
    "layer_weight_vectors": "layer_vector",
}


@dataclass(frozen=True)
class OfficialAdapter:
    """An adapter of the paper's authors, and what its file says about it.

    Args:
        adapter: The adapter.
        readout: Which layers it reads; the token filter is the paper's.
        anchor_dim: Width of the anchor it was trained beside, where the file says so.
        instruction: The instruction it was trained with, where the file says so.
    """

    adapter: Adapter
    readout: Readout
    anchor_dim: int | None
    instruction: str | None


def read_official(path: str | Path) -> OfficialAdapter:
    """Read an ``adapter.pt`` of the paper's authors without running anything that is in it.

    ``selected_layers`` count transformer blocks from 0, as the authors' training does; the state behind block k is our
    layer k + 1. (Their evaluation reads the state before it.)

    Args:
        path: The file, or a folder of theirs that holds it.

    Returns:
        The adapter, with the readout it was trained on.

    Raises:
        ReadoutError: It is missing, not of this format, or holds a key that is not accounted for.

    Example:
        >>> found = read_official("last_1/best_adapter/adapter.pt")  # doctest: +SKIP
        >>> model = SmartModel("org/model", readout=found.readout).with_adapter(found.adapter)  # doctest: +SKIP
    """
    import torch

    file = _find(Path(path))
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a file of another kind provokes in the reader
        raise _error(file, f"cannot be read as weights alone ({' '.join(str(error).split())[:200]})") from error
    if not isinstance(found, dict) or "token_projection_module" not in found:
        raise _error(file, "found no token_projection_module, expected the paper's adapter.pt")
    if unknown := sorted(str(key) for key in set(found) - _KEYS):
        raise _error(file, f"found unknown keys {unknown}, expected some of {sorted(_KEYS)}")
    if found.get("adapter_type", "token_projection") != "token_projection":
        raise _error(file, f"found type {found['adapter_type']!r}, expected 'token_projection'")
    weights = _weights(found["token_projection_module"], file)
    layers = _layers(found, file)
    width, hidden = weights["projection.weight"].shape
    if found.get("hidden_size", hidden) != hidden:
        raise _error(file, f"found hidden_size {found['hidden_size']!r} beside weights for {hidden}")
    adapter = Adapter(AdapterConfig(int(hidden), int(width), len(layers)))
    if "layer_vector" in weights and adapter.layer_vector is None:
        raise _error(file, "found layer_weight_vectors beside one layer, expected several layers")
    load_weights(adapter, weights, str(file))
    instruction = found.get("default_instruction")
    return OfficialAdapter(
        adapter.eval(),
        Readout(layers),
        _whole(found.get("anchor_dim"), "anchor_dim", file),
        instruction if isinstance(instruction, str) and instruction else None,
    )


def _error(file: Path, problem: str) -> ReadoutError:
    return ReadoutError(f"adapter {str(file)!r}: {problem}")


def _find(path: Path) -> Path:
    if path.is_file():
        return path
    for place in _PLACES:
        if (path / place / "adapter.pt").is_file():
            return path / place / "adapter.pt"
    raise _error(path, f"found no adapter.pt there, nor in {', '.join(_PLACES[1:])}")


def _weights(module: Any, file: Path) -> dict[str, Tensor]:
    import torch

    if not isinstance(module, dict) or not all(isinstance(value, torch.Tensor) for value in module.values()):
        raise _error(file, "found no state dict under token_projection_module")
    if unknown := sorted(set(module) - set(_WEIGHTS)):
        raise _error(file, f"found unknown weights {unknown}, expected {sorted(_WEIGHTS)}")
    weights = {_WEIGHTS[name]: tensor for name, tensor in module.items()}
    if "projection.weight" not in weights or weights["projection.weight"].ndim != 2:
        raise _error(file, "found no matrix proj.1.weight")
    if "layer_vector" in weights:
        # [1, H]: one vector for all layers.
        weights["layer_vector"] = weights["layer_vector"].reshape(-1)
    return weights


def _layers(found: dict[str, Any], file: Path) -> tuple[int, ...]:
    selected = found.get("selected_layers")
    if selected:
        chosen = [_whole(layer, "selected_layers", file) for layer in selected]
        return tuple(layer + 1 if layer >= 0 else layer for layer in chosen if layer is not None)
    last = _whole(found.get("use_last_n_layers"), "use_last_n_layers", file) or 1
    return tuple(range(-last, 0))


def _whole(value: Any, name: str, file: Path) -> int | None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise _error(file, f"found {value!r} as {name}, expected a whole number")
    return value
