"""Read the adapter format of the paper's authors (``adapter.pt``)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.adapter import KIND_ALIASES, KINDS, Adapter, AdapterConfig
from ...core.readout import Readout
from ...errors import ReadoutError
from ...model.saving import load_weights

if TYPE_CHECKING:
    from torch import Tensor

# Where the authors' own loader looks in a folder, in its order.
_PLACES = ("", "best_adapter", "last_1/best_adapter", "last_1/epoch_2", "last_1/epoch_1")
_KEYS = {
    "token_projection_module", "adapter_type", "use_last_n_layers", "selected_layers", "anchor_dim", "hidden_size",
    "default_instruction", "residual_dim", "projection_type", "projection_mlp_hidden_dim", "projection_mlp_dropout",
    "self_attn_num_heads", "self_attn_num_layers", "self_attn_dropout",
}  # fmt: skip
_WEIGHTS = {
    r"proj\.0\.(weight|bias)": r"norm.\1",
    r"proj\.1\.weight": "projection.weight",
    r"layer_weight_vectors": "layer_vector",
    r"self_attn_layers\.(\d+\..+)": r"attention.\1",
    r"self_attn_norms\.(\d+\..+)": r"attention_norms.\1",
}
_MLP_WEIGHTS = _WEIGHTS | {r"proj\.1\.weight": "hidden.weight", r"proj\.4\.weight": "projection.weight"}


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
    except Exception as error:  # whatever a file of another kind provokes in the reader, with advice to load it anyway
        raise _error(
            file, f"cannot be read as weights alone ({type(error).__name__}), expected an adapter.pt"
        ) from error
    if not isinstance(found, dict) or "token_projection_module" not in found:
        raise _error(file, "found no token_projection_module, expected the paper's adapter.pt")
    if unknown := sorted(str(key) for key in set(found) - _KEYS):
        raise _error(file, f"found unknown keys {unknown}, expected some of {sorted(_KEYS)}")
    kind = _kind(found, file)
    weights = _weights(found["token_projection_module"], _MLP_WEIGHTS if kind == "mlp" else _WEIGHTS, file)
    layers = _layers(found, file)
    width = len(weights["projection.weight"])
    inner, hidden = weights.get("hidden.weight", weights["projection.weight"]).shape
    sizes = {"hidden_size": hidden, "residual_dim": width, "projection_mlp_hidden_dim": inner}
    for name, size in sizes.items():
        # Files of the other kinds may say how large an MLP they do not hold would be.
        if (name != "projection_mlp_hidden_dim" or kind == "mlp") and found.get(name, size) != size:
            raise _error(file, f"found {name} {found[name]!r} beside weights for {size}")
    heads = _whole(found.get("self_attn_num_heads"), "self_attn_num_heads", file) or 8
    blocks = len({name.split(".")[1] for name in weights if name.startswith("attention.")})
    config = AdapterConfig(
        hidden, width, len(layers), kind=kind, inner=inner if kind == "mlp" else 4096, heads=heads, blocks=blocks or 1
    )
    adapter = Adapter(config)
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


def _kind(found: dict[str, Any], file: Path) -> str:
    """Which of our kinds the file holds: its type, and the type of its projection."""
    named, projection = (
        str(found.get(key, usual)).lower().strip()
        for key, usual in (("adapter_type", "token_projection"), ("projection_type", "linear"))
    )
    kind = KIND_ALIASES.get(named, named)
    if kind not in KINDS or projection not in ("linear", "mlp"):
        raise _error(file, f"found type {named!r} with projection {projection!r}, expected one of {', '.join(KINDS)}")
    if kind == "self-attention" and projection == "mlp":
        raise _error(file, "found self-attention over an MLP, expected it over a linear projection")
    return "mlp" if projection == "mlp" else kind


def _weights(module: Any, names: dict[str, str], file: Path) -> dict[str, Tensor]:
    import torch

    if not isinstance(module, dict) or not all(isinstance(value, torch.Tensor) for value in module.values()):
        raise _error(file, "found no state dict under token_projection_module")
    weights: dict[str, Tensor] = {}
    for name, tensor in module.items():
        new = next((re.sub(old, new, name) for old, new in names.items() if re.fullmatch(old, name)), None)
        if new is None:
            raise _error(file, f"found unknown weights {name!r}, expected {', '.join(names)}")
        weights[new] = tensor
    for new in ("hidden.weight", "projection.weight"):
        old = next((name for name, own in names.items() if own == new), None)
        if old is not None and (new not in weights or weights[new].ndim != 2):
            raise _error(file, f"found no matrix {old.replace(chr(92), '')}")
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
