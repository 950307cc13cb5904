"""What several test files of the index share."""

import pytest
from fixtures.pictures import visual_model


@pytest.fixture(scope="session")
def visual(tmp_path_factory):
    """A tiny model that takes text, images and video. Read-only."""
    return visual_model(tmp_path_factory.mktemp("visual"))
