"""Named settings of readout and scoring, so that nobody has to guess."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ..errors import ScoringError, one_of
from .readout import Readout

TOKEN_WEIGHTS = ("uniform", "idf")


@dataclass(frozen=True)
class Preset:
    """One setting of everything that does not need training.

    Args:
        name: Its name.
        readout: Layers, mix and token filter.
        weights: Query-token weights: ``"uniform"``, or ``"idf"`` from the collection's documents.
        lambda_anchor: Weight of the anchors' cosine.
        lambda_late: Weight of the mean MaxSim.
        floor: Token similarities that count as none, see :func:`~smart_retrieval.core.late.late_scores`.

    Raises:
        ScoringError: The weights are unknown or the floor is not below 1.
    """

    name: str
    readout: Readout
    weights: str = "uniform"
    lambda_anchor: float = 1.0
    lambda_late: float = 1.0
    floor: float | None = None

    def __post_init__(self) -> None:
        if self.weights not in TOKEN_WEIGHTS:
            raise ScoringError(f"token weights: {one_of(self.weights, TOKEN_WEIGHTS)}")
        if self.floor is not None and not float("-inf") < self.floor < 1:
            raise ScoringError(f"floor: found {self.floor}, expected a finite number below 1")

    def reading(self, readout: Readout) -> Preset:
        """The same preset over another readout; a floor chosen for certain layers is dropped with them."""
        own = (readout.layers, readout.mix) == (self.readout.layers, self.readout.mix)
        return replace(self, readout=readout, floor=self.floor if own else None)

    def scoring(self) -> dict[str, Any]:
        """The scoring half, JSON-able."""
        return {
            "weights": self.weights,
            "lambda_anchor": self.lambda_anchor,
            "lambda_late": self.lambda_late,
            "floor": self.floor,
        }


PRESETS = {
    # The paper's fixed recipe: last layer, equal weights, both parts in full (arXiv 2605.24938).
    "paper": Preset("paper", Readout()),
    # Chosen on text with mean-pooled models; benchmarks/research_default and docs/log.md, 2026-11-23.
    "default": Preset("default", Readout((-3, -2), "mean"), weights="idf", floor=0.55),
}

# The default needs the two states below the last one to be contextual: an embedding output and three blocks at least.
_STATES_FOR_DEFAULT = 4


def get_preset(name: str) -> Preset:
    """The preset of this name.

    Raises:
        ScoringError: There is none.

    Example:
        >>> get_preset("paper").lambda_late
        1.0
    """
    if name not in PRESETS:
        raise ScoringError(f"preset: {one_of(name, PRESETS)}")
    return PRESETS[name]


def preset_for(name: str, *, pooling: str, n_states: int) -> Preset:
    """The preset of this name, as far as it has been shown to hold for a model of this kind.

    The default's layers and floor were chosen with mean-pooled text models. Where another pooling trains the states
    differently, or there are too few of them, it keeps its IDF weights and reads the last layer as the paper does.

    Args:
        name: A preset.
        pooling: The backbone's pooling, ``"mean"`` for one.
        n_states: Its hidden states, the embedding output included.

    Raises:
        ScoringError: There is no such preset.

    Example:
        >>> preset_for("default", pooling="lasttoken", n_states=25).readout.layers
        (-1,)
    """
    preset = get_preset(name)
    if preset.name == "default" and (pooling != "mean" or n_states < _STATES_FOR_DEFAULT):
        return replace(preset, readout=Readout(), floor=None)
    return preset
