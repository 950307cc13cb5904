"""An empty store, and its folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fixtures import stores

from smart_retrieval.index.store.store import Store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.smart"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store.create(path, stores.manifest(), b"codec bytes") as store:
        yield store
