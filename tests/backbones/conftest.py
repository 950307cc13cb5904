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
            # The older form of a family, to be asked for.
            folder = tiny_vlm(name.removesuffix("-upstream"))
            family = "lamra" if name.endswith("-upstream") else None
            pairs[name] = (SmartModel(folder, device="cpu", readout=Readout(), family=family), RECIPES[name](folder))
        return pairs[name]

    return open_pair
