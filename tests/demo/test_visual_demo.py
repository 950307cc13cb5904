"""``smart demo --visual`` on a few pages."""

import pytest
from fixtures.commands import loaded, run

from smart_retrieval.demo import visual_demo


@pytest.fixture
def few_pages(monkeypatch):
    whole = visual_demo.glyph_collection
    monkeypatch.setattr(visual_demo, "glyph_collection", lambda split, pages: whole(split, 12))


def test_pages_are_indexed_once_searched_by_every_system_and_one_hit_is_explained(few_pages, tmp_path):
    page = tmp_path / "page.html"
    arguments = ("demo", "--visual", "--cache", tmp_path, "--out", page)
    first, again = (loaded(run(*arguments, "--json")) for _ in range(2))
    assert (first["queries"], first["indexed"], again["indexed"]) == (12, 12, 0)
    assert set(first["ndcg@10"]) == {"anchor", "late", "hybrid"}
    assert first["ndcg@10"] == again["ndcg@10"]
    assert all(word in page.read_text(encoding="utf-8") for word in first["query"].replace(",", "").split())
    shown = run(*arguments).stdout
    assert all(f"{value:.4f}" in shown for value in first["ndcg@10"].values())
    assert first["query"] in shown
    assert str(page) in shown
