"""A run's whole state in one safetensors file: written whole or not at all, and never unpickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import ReadoutError, TrainingError
from ...model.saving import write_tensors

FORMAT = "smart-training/1"


def save_checkpoint(
    file: Path,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    best: Mapping[str, Tensor],
    about: Mapping[str, Any],
) -> None:
    """Write weights, optimizer, the best weights so far, and what is JSON-able: position, curve, and the run's id."""
    tensors = {f"weights.{name}": tensor for name, tensor in module.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in best.items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
    metadata = {"format": FORMAT, "about": json.dumps(dict(about))}
    write_tensors(file, {name: tensor.clone() for name, tensor in tensors.items()}, metadata)


def load_checkpoint(
    file: Path, module: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Restore module and optimizer; the best weights so far, and ``about``."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            metadata = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a dict)
        about = json.loads(metadata.get("about", "null"))
    except (OSError, SafetensorError, ValueError) as error:
        raise TrainingError(f"checkpoint {str(file)!r}: cannot be read ({error}); delete it to start anew") from error
    if metadata.get("format") != FORMAT or not isinstance(about, dict):
        raise TrainingError(f"checkpoint {str(file)!r}: found format {metadata.get('format')!r}, expected {FORMAT!r}")
    parts: dict[str, dict[str, Tensor]] = {"weights": {}, "best": {}, "optimizer": {}}
    for name, tensor in tensors.items():
        kind, _, own = name.partition(".")
        parts[kind][own] = tensor
    weights, best = parts["weights"], parts["best"]
    wanted = set(module.state_dict())
    if set(weights) != wanted or set(best) != wanted:
        raise ReadoutError(f"checkpoint {str(file)!r}: found weights {sorted(weights)}, expected {sorted(wanted)}")
    module.load_state_dict(weights)
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in parts["optimizer"].items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return best, about
