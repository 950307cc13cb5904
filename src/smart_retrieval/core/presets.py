"""Named settings of readout and scoring."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ..errors import ScoringError, one_of
from .readout import Readout
from .scoring import CALIBRATED, Scoring


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
        return replace(self, readout=readout, scoring=self.scoring if same else self.scoring.for_other_states())


PRESETS = {
    # The paper's fixed recipe: last layer, equal weights, both parts in full (arXiv 2605.24938).
    "paper": Preset("paper", Readout()),
    # One rule for every model and collection: benchmarks/results/default_selection.json and the log, 2026-11-26.
    "default": Preset(
        "default", Readout(token_filter="content"), Scoring("idf", lambda_late=CALIBRATED, floor=CALIBRATED)
    ),
}


def get_preset(name: str) -> Preset:
    """The preset of this name."""
    if name not in PRESETS:
        raise ScoringError(f"preset: {one_of(name, PRESETS)}")
    return PRESETS[name]


def default_of_0_1(readout: Readout) -> Scoring:
    """What ``default`` scored with in version 0.1, for indexes and models of that time, which name no scoring."""
    return Scoring("idf", floor=0.55 if (readout.layers, readout.mix) == ((-3, -2), "mean") else None)
