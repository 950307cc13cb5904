"""Hits as a notebook shows them."""

from fixtures.pages import read_page

from smart_retrieval.index.search.hits import Hit, Hits

HOSTILE = "<script>alert('x')</script> & \u202e{{id}} "


def test_the_table_of_a_notebook_escapes_and_shortens():
    found = Hits((Hit("<b>", 1.25, 0.75, 0.5, text=HOSTILE + "word " * 200), Hit("b", 1, 1, 0, text="short")), 2, 2)
    shown = found._repr_html_()
    reader = read_page(shown)
    assert "script" not in reader.tags
    assert "b" not in reader.tags
    assert "\u202e" not in shown
    assert "{{id}}" in reader.text
    assert "1.250" in reader.text
    assert "short" in reader.text
    assert len(shown) < 1500


def test_no_hits_are_an_empty_table():
    assert "<tbody>" in Hits((), 0, 0)._repr_html_()
