"""The settings that ``smart tune`` chooses among, and their names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from ...core.presets import Preset
from ...core.readout import Readout
from ...core.scoring import TOKEN_WEIGHTS, Scoring

#: Token similarities that count as none.
FLOORS = (None, 0.4, 0.55)

#: Weights of the late score beside 0, which is the anchor alone.
LAMBDAS = (0.25, 0.5, 1.0, 1.5, 2.0, 4.0)


def grid(
    layers: Sequence[int], states: int, token_filters: Sequence[str], default: Preset, paper: Preset, *, settled: bool
) -> list[Preset]:
    """Every setting that is tried, each once.

    Each layer alone, the mean of each two that follow one another, of the first and the last but one, and the last two
    pairs side by side; every one with each token filter, weighting, floor and weight of the late score. The anchor
    alone is one of them.

    Args:
        layers: Absolute, ascending: the layers that were encoded.
        states: Hidden states of the model.
        token_filters: Those that make a difference.
        default: The model's own setting; the first of the grid, so that it is kept where nothing is better.
        paper: The paper's.
        settled: Whether layers and mix are those of an adapter.

    Example:
        >>> paper = Preset("paper", Readout())
        >>> len(grid(range(7), 7, ["paper"], paper, paper, settled=False))
        577
    """
    mixed = [(default.readout.layers, default.readout.mix)]
    if not settled:
        # From the end, as settings are written: another model of the kind may have more layers.
        names = [layer - states for layer in layers]
        pairs = list(pairwise(names))
        mixed += [((layer,), "mean") for layer in reversed(names)]
        mixed += [(pair, "mean") for pair in reversed(pairs)]
        mixed += [(pair, "concat") for pair in reversed(pairs[-2:])]
        if {0, states - 2} <= set(layers) and states > 3:
            mixed.append(((-states, -2), "mean"))
    alone = replace(default, scoring=Scoring(lambda_late=0.0))
    found: dict[Any, Preset] = {}
    for setting in (default, alone, paper):
        found.setdefault(_key(setting, states), replace(setting, name=default.name))
    for chosen, mix in mixed:
        for token_filter in token_filters:
            readout = Readout(chosen, mix, token_filter)
            for weights in TOKEN_WEIGHTS:
                for floor in FLOORS:
                    for value in LAMBDAS:
                        setting = Preset(default.name, readout, Scoring(weights, 1.0, value, floor))
                        found.setdefault(_key(setting, states), setting)
    return list(found.values())


def place_of(setting: Preset, settings: Sequence[Preset], states: int) -> int:
    """Where a grid holds a setting, whatever its name."""
    return [_key(one, states) for one in settings].index(_key(setting, states))


def setting_dict(setting: Preset) -> dict[str, Any]:
    """A setting, JSON-able."""
    return {**setting.readout.to_dict(), **setting.scoring.to_dict()}


def setting_name(setting: Preset) -> str:
    """A setting in words.

    Example:
        >>> setting_name(Preset("", Readout((-3, -2)), Scoring("idf", floor=0.55)))
        'layers -3, -2 (mean), idf weights, floor 0.55, λ_late 1'
    """
    if not setting.scoring.lambda_late:
        return "the anchor alone (λ_late 0)"
    own = setting.readout
    parts = [f"layer{'s' if len(own.layers) > 1 else ''} {', '.join(map(str, own.layers))}"]
    if len(own.layers) > 1:
        parts[0] += f" ({own.mix})"
    if own.token_filter != "paper":
        parts.append(f"filter {own.token_filter}")
    parts.append(f"{setting.scoring.weights} weights")
    parts.append("no floor" if setting.scoring.floor is None else f"floor {setting.scoring.floor:g}")
    if setting.scoring.lambda_anchor != 1:
        parts.append(f"λ_anchor {setting.scoring.lambda_anchor:g}")
    parts.append(f"λ_late {setting.scoring.lambda_late:g}")
    return ", ".join(parts)


def _key(setting: Preset, states: int) -> Any:
    """What is equal for settings that score alike."""
    if not setting.scoring.lambda_late:
        return "anchor"
    own = setting.readout
    layers = own.resolve_layers(states)
    mix = own.mix if len(layers) > 1 else "mean"
    return layers, mix, own.token_filter, tuple(setting.scoring.to_dict().values())
