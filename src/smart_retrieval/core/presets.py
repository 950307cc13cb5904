"""Named settings of readout and scoring."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ..errors import ScoringError, one_of
from .readout import Readout
from .scoring import Scoring


@dataclass(frozen=True)
class Preset:
    """One setting of everything that does not need training.

    Args:
        name: Its name.
        readout: Layers, mix and token filter.
        scoring: Lambdas, query-token weights and floor.
    """

    name: str
    readout: Readout
    scoring: Scoring = field(default_factory=Scoring)

    def reading(self, readout: Readout) -> Preset:
        """The same preset over another readout; a floor chosen for certain layers is dropped with them."""
        same = (readout.layers, readout.mix) == (self.readout.layers, self.readout.mix)
        return replace(self, readout=readout, scoring=self.scoring if same else self.scoring.override(floor=None))


PRESETS = {
    # The paper's fixed recipe: last layer, equal weights, both parts in full (arXiv 2605.24938).
    "paper": Preset("paper", Readout()),
    # Chosen on text with mean-pooled models; benchmarks/research/default_preset and the log, 2026-11-23.
    "default": Preset("default", Readout((-3, -2), "mean"), Scoring("idf", floor=0.55)),
}

# The default needs the two states below the last one to be contextual: an embedding output and three blocks at least.
_STATES_FOR_DEFAULT = 4


def get_preset(name: str) -> Preset:
    """The preset of this name."""
    if name not in PRESETS:
        raise ScoringError(f"preset: {one_of(name, PRESETS)}")
    return PRESETS[name]


def preset_for(name: str, *, pooling: str, n_states: int) -> Preset:
    """The preset of this name, as far as it has been shown to hold for a model of this kind.

    The default's layers and floor were chosen with mean-pooled text models. Where another pooling trains the states
    differently, or there are too few of them, it keeps its IDF weights and reads the last layer as the paper does.
    """
    preset = get_preset(name)
    if preset.name == "default" and (pooling != "mean" or n_states < _STATES_FOR_DEFAULT):
        return preset.reading(Readout())
    return preset
