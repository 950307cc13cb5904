"""What needs a Ray cluster: run by ``make test-cluster``, in an environment of its own."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from fixtures.tiny_models import TinyModels

from smart_retrieval.cluster.ray_runs import RayRunner

WORDS = ["logs", "oak", "rotate", "night", "burn", "slow", "file", "tree", "wood", "disk", "error", "cloud", "rain"]


@pytest.fixture(scope="session")
def texts():
    """``texts(count)``: short texts."""

    def make(count):
        rng = np.random.default_rng(0)
        return [" ".join(rng.choice(WORDS, rng.integers(2, 5))) for _ in range(count)]

    return make


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """Folder of a tiny model."""
    return str(TinyModels(tmp_path_factory.mktemp("tiny-models"))("mean"))


@pytest.fixture(scope="session")
def runner():
    """Ray on this machine, for all tests: it takes seconds to start."""
    # Its workers import what these tests hand them.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    with RayRunner(workers=1) as opened:
        yield opened
