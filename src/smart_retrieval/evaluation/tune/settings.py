"""The settings that ``smart tune`` chooses among, and their names."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise, product
from typing import Any

from ...core.presets import Preset
from ...core.readout import Readout
from ...core.scoring import CALIBRATED, TOKEN_WEIGHTS, LateWeight, Scoring

#: Token similarities up to here count as none.
FLOORS: tuple[LateWeight | None, ...] = (None, CALIBRATED)
#: Weights of the late score beside 0, which is the anchor alone.
LAMBDAS: tuple[LateWeight, ...] = (CALIBRATED, 0.25, 0.5, 1.0, 1.5, 2.0, 4.0)


def grid(
    layers: Sequence[int], states: int, token_filters: Sequence[str], default: Preset, paper: Preset, *, settled: bool
) -> list[Preset]:
    """Every setting that is tried, each once: the default first, so that it is kept where nothing is better.

    Each layer alone, the mean of each two that follow one another, of the first and the last but one, and the last two
    pairs side by side; every one with each token filter, weighting, floor and weight of the late score. The anchor
    alone and the paper's setting are among them. Of an adapter, layers and mix are `settled`.
    """
    anchor_alone = replace(default, scoring=Scoring(lambda_late=0.0))
    mixes = [(default.readout.layers, default.readout.mix), *([] if settled else _mixes(layers, states))]
    tried = (
        Preset(default.name, Readout(chosen, mix, token_filter), Scoring(weights, 1.0, lambda_late, floor))
        for (chosen, mix), token_filter, weights, floor, lambda_late in product(
            mixes, token_filters, TOKEN_WEIGHTS, FLOORS, LAMBDAS
        )
    )
    found: dict[Hashable, Preset] = {}
    for setting in (default, anchor_alone, replace(paper, name=default.name), *tried):
        found.setdefault(_key(setting, states), setting)
    return list(found.values())


def _mixes(layers: Sequence[int], states: int) -> Iterator[tuple[tuple[int, ...], str]]:
    """Layers and mix of each readout, counted from the end: another model of the kind may have more layers."""
    names = [layer - states for layer in layers]
    pairs = list(pairwise(names))
    yield from (((layer,), "mean") for layer in reversed(names))
    yield from ((pair, "mean") for pair in reversed(pairs))
    yield from ((pair, "concat") for pair in reversed(pairs[-2:]))
    if {0, states - 2} <= set(layers) and states > 3:
        yield (-states, -2), "mean"


def _key(setting: Preset, states: int) -> Hashable:
    """Equal for settings that score alike."""
    if not setting.scoring.lambda_late:
        return "anchor"
    own = setting.readout
    layers = own.resolve_layers(states)
    return layers, own.mix if len(layers) > 1 else "mean", own.token_filter, setting.scoring


def setting_dict(setting: Preset) -> dict[str, Any]:
    """A setting, JSON-able."""
    return {**setting.readout.to_dict(), **setting.scoring.to_dict()}


def setting_name(setting: Preset) -> str:
    """A setting in words: ``layers -3, -2 (mean), idf weights, floor 0.55, λ_late 1``."""
    own, scoring = setting.readout, setting.scoring
    if not scoring.lambda_late:
        return "the anchor alone (λ_late 0)"
    layers = ", ".join(map(str, own.layers))
    parts = [f"layers {layers} ({own.mix})" if len(own.layers) > 1 else f"layer {layers}"]
    if own.token_filter != "paper":
        parts.append(f"filter {own.token_filter}")
    parts += [f"{scoring.weights} weights", "no floor" if scoring.floor is None else f"floor {_shown(scoring.floor)}"]
    if scoring.lambda_anchor != 1:
        parts.append(f"λ_anchor {scoring.lambda_anchor:g}")
    return ", ".join([*parts, f"λ_late {_shown(scoring.lambda_late)}"])


def _shown(value: LateWeight) -> str:
    return value if isinstance(value, str) else f"{value:g}"
