"""Of the mirror's own tests."""

import pytest

from smart_retrieval.index.mirror import mirror


@pytest.fixture(autouse=True)
def mapped(monkeypatch):
    """No index is so small that it has no files."""
    monkeypatch.setattr(mirror, "SMALL_DOCUMENTS", -1)
