"""All 78 tasks on disk, written once."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures.mmeb_layouts import Layout


@pytest.fixture(scope="session")
def mmeb_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data root with all tasks; read-only."""
    return Layout(tmp_path_factory.mktemp("mmeb")).write()
