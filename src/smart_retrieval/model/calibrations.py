"""The calibrations that come with the packaged models, made by ``benchmarks/model_calibrations.py``."""

from __future__ import annotations

import importlib.resources
import json
from functools import cache
from typing import Any

from ..backbones.backbone import Backbone
from ..core.calibration import Calibration
from ..core.readout import Readout


def packaged_calibration(backbone: Backbone, readout: Readout) -> Calibration | None:
    """The calibration of a packaged model under a readout; None of any other."""
    for entry in _packaged():
        if entry["readout"] == readout.to_dict() and entry["fingerprint"] == backbone.fingerprint:
            return Calibration.from_dict(entry["calibration"])
    return None


@cache
def _packaged() -> list[dict[str, Any]]:
    file = importlib.resources.files("smart_retrieval.model") / "calibrations.json"
    found: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
    return found
