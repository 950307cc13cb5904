"""Rendering templates: values are escaped, missing ones refused."""

import sys

import jinja2
import pytest

from smart_retrieval.templates import render


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "pages_of_a_test" / "templates"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("")
    (folder / "page.html.j2").write_text("{% if text %}\n  <p>{{ text }}</p>\n{% endif %}\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield folder.parent.name
    sys.modules.pop(folder.parent.name, None)


def test_values_are_escaped_and_blocks_leave_no_lines(package):
    assert render(package, "page.html.j2", text="<a & b>") == "  <p>&lt;a &amp; b&gt;</p>\n"


def test_values_cannot_reorder_what_stands_around_them(package):
    text = "a\u202ecba\u2066\x1b[2J\x00\x9b\n\tב\u200f می\u200cخ"
    assert render(package, "page.html.j2", text=text) == "  <p>acba[2J\n\tב\u200f می\u200cخ</p>\n"
    assert render(package, "page.html.j2", text=5) == "  <p>5</p>\n"


def test_missing_values_are_refused(package):
    with pytest.raises(jinja2.UndefinedError, match="text"):
        render(package, "page.html.j2")
