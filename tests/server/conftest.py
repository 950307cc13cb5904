"""Servers over small indexes of a tiny text model, with two tenants in one of them."""

from __future__ import annotations

import pytest
from fixtures.callers import FIELD
from fixtures.tiny_models import TEXTS

from smart_retrieval.index.smart_index import SmartIndex


@pytest.fixture
def folder(tmp_path, smart):
    """An index of 17 documents: those of even number are acme's, odd ones beta's, the last both tenants'."""
    path = tmp_path / "sea.smart"
    with SmartIndex.create(path, smart("mean"), codec="float32") as index:
        metadata = [{FIELD: ("acme", "beta")[number % 2], "number": number} for number in range(len(TEXTS))]
        metadata[-1] = {FIELD: ["acme", "beta"], "number": 16}
        index.add(TEXTS, ids=[f"d{number}" for number in range(len(TEXTS))], metadata=metadata)
    return path
