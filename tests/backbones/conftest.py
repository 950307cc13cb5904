"""Fixtures of the visual families."""

import pytest
from reference_recipes import RECIPES

from smart_retrieval import Readout, SmartModel


@pytest.fixture(scope="session")
def opened(tiny_vlm):
    """``opened(name)``: the library's model and the reference, over one checkpoint."""
    pairs = {}

    def open_pair(name):
        if name not in pairs:
            folder = tiny_vlm(name)
            pairs[name] = (SmartModel(folder, device="cpu", readout=Readout()), RECIPES[name](folder))
        return pairs[name]

    return open_pair
