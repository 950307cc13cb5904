"""Source code along its definitions, and notebooks."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fixtures.documents import outline, written
from hypothesis import given, settings
from hypothesis import strategies as st

from smart_retrieval.documents.read import read_file
from smart_retrieval.files import UnreadableFileError

PYTHON = '''\
"""What this module does."""

import os

# About rotating.
@cache
def rotate(log):
    """Rotate a log."""

    def inner(): pass
    return inner


class Pump:
    """A pump."""

    size = 3

    # How to prime it.
    async def prime(self):
        return self.size


if __name__ == "__main__":
    rotate(1)
'''


def test_python_is_split_along_its_definitions(read: Any) -> None:
    found = outline(read("a.py", PYTHON))
    assert [heading for heading, _ in found] == [
        (), ("def rotate",), ("class Pump",), ("class Pump", "def prime"), (),
    ]  # fmt: skip
    assert found[1][1].startswith("# About rotating.\n@cache\ndef rotate(log):")
    assert "inner" in found[1][1]
    assert found[3][1] == "    # How to prime it.\n    async def prime(self):\n        return self.size"
    lines = [line for line in PYTHON.split("\n") if line.strip()]
    assert [line for _, text in found for line in text.split("\n") if line.strip()] == lines


@pytest.mark.parametrize("name", ["a.py", "a.js", "a.rs"])
@pytest.mark.parametrize(
    "text", ["print 'Python 2'\n\ndef f(:", "(" * 5000, "-" * 4000 + "1", "a = 1\fb = 2", "x\n" * 3000 + "if"]
)
def test_what_is_no_python_is_text_all_the_same(read: Any, name: str, text: str) -> None:
    assert outline(read(name, text))[0][0] == ()
    assert "".join(read(name, text).sections[0].text.split()) == "".join(text.split())


def test_minified_code_is_named(tmp_path: Any) -> None:
    with pytest.raises(UnreadableFileError, match="minified"):
        read_file(written(tmp_path, "a.min.js", "var a=1;" * 5000))


@settings(max_examples=50)
@given(st.lists(st.sampled_from(["def a():", "class B:", "    def c(self):", "    pass", "# d", "", "x = 1", "@e"])))
def test_no_line_is_lost(lines: list[str]) -> None:
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        found = read_file(written(Path(folder), "a.py", "\n".join(lines)))
    kept = [line for section in found.sections for line in section.text.split("\n")]
    assert [line.strip() for line in kept if line.strip()] == [line.strip() for line in lines if line.strip()]


def notebook(*cells: dict[str, Any], **more: Any) -> str:
    return json.dumps({"nbformat": 4, "cells": cells, **more})


def test_notebooks(read: Any) -> None:
    cells = (
        {"cell_type": "markdown", "source": ["# Pumps\n", "\n", "Prime *first*.\n"]},
        {"cell_type": "code", "source": "prime()\n\nrun()", "outputs": [{"text": "secret"}]},
        {"cell_type": "markdown", "source": "## Old"},
        {"cell_type": "raw", "source": ["raw \ud800"]},
        {"cell_type": "odd"}, "no cell", {"cell_type": "code", "source": [1, None]},
    )  # fmt: skip
    found = read("a.ipynb", notebook(*cells, metadata={"kernelspec": {"language": "python"}}))
    assert outline(found) == [(("Pumps",), "Prime first.\n\nprime()\n\nrun()"), (("Pumps", "Old"), "raw \ufffd")]
    assert found.metadata == {"language": "python"}
    old = {
        "worksheets": [
            {"cells": [{"cell_type": "heading", "level": 2, "source": "A"}, {"cell_type": "code", "input": "b"}]}
        ]
    }
    assert outline(read("b.ipynb", json.dumps(old))) == [(("A",), "b")]
    with pytest.raises(UnreadableFileError, match="no text"):
        read("c.ipynb", notebook())


@pytest.mark.parametrize("text", ["\n", "{", "[]", "3", '{"a": 1}', "[" * 100_000, '{"worksheets": 5}'])
def test_what_is_no_notebook_is_named(tmp_path: Any, text: str) -> None:
    with pytest.raises(UnreadableFileError, match="not a readable notebook"):
        read_file(written(tmp_path, "a.ipynb", text))
