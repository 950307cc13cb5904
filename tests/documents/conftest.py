"""Fixtures of the tests of documents."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest
from fixtures.documents import written

from smart_retrieval.documents.read import read_file
from smart_retrieval.documents.sections import Document


@pytest.fixture
def read(tmp_path: Path) -> Callable[[str, str | bytes], Document]:
    """``read(name, content)``: what is read of a new file of this name and content."""

    def write_and_read(name: str, content: str | bytes) -> Document:
        return read_file(written(tmp_path, name, dedent(content) if isinstance(content, str) else content))

    return write_and_read
