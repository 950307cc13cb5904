"""Late and hybrid scores, and the weights of query tokens. Knows arrays, not models."""

from __future__ import annotations

from .hybrid import anchor_scores, hybrid_scores
from .late import QueryWeights, late_scores
from .presets import PRESETS, Preset, get_preset, preset_for
from .weights import IdfWeights

__all__ = [
    "PRESETS",
    "IdfWeights",
    "Preset",
    "QueryWeights",
    "anchor_scores",
    "get_preset",
    "hybrid_scores",
    "late_scores",
    "preset_for",
]
