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
    """Write weights, optimizer, best weights so far, and what is JSON-able.

    Args:
        file: Where to.
        module: What is trained.
        optimizer: Its optimizer.
        best: The best weights so far, by name.
        about: Position, curve, and what run this is.
    """
    tensors = {f"weights.{name}": tensor for name, tensor in module.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in best.items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
    metadata = {"format": FORMAT, "about": json.dumps(dict(about))}
    write_tensors(file, {name: tensor.clone() for name, tensor in tensors.items()}, metadata)


def load_checkpoint(
    file: Path, module: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Put a run's state back.

    Args:
        file: What :func:`save_checkpoint` wrote.
        module: Of the same shape.
        optimizer: Over the same parameters.

    Returns:
        The best weights so far, and ``about``.

    Raises:
        TrainingError: The file is damaged or of another format.
        ReadoutError: Its weights are not those of the module.
    """
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
    weights = _part(tensors, "weights.")
    best = _part(tensors, "best.")
    wanted = set(module.state_dict())
    if set(weights) != wanted or set(best) != wanted:
        raise ReadoutError(f"checkpoint {str(file)!r}: found weights {sorted(weights)}, expected {sorted(wanted)}")
    module.load_state_dict(weights)
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _part(tensors, "optimizer.").items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return best, about


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
