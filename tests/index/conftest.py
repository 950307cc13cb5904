"""What several test files of the index share."""

import pytest
from fixtures.indexes import Indexes
from fixtures.pictures import visual_model


@pytest.fixture(scope="session")
def visual(tmp_path_factory):
    """A tiny model that takes text, images and video. Read-only."""
    return visual_model(tmp_path_factory.mktemp("visual"))


@pytest.fixture
def make(tmp_path, smart):
    """``make(documents, **options)``: a new index of a tiny text model."""
    made = Indexes(tmp_path, smart("mean"))
    yield made
    made.close()
