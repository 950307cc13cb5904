"""The explanation as a page: nothing loaded, everything escaped, shades that add up."""

import re

import pytest
from fixtures.pages import read_page

from smart_retrieval.index.explain.explanation import Explanation
from smart_retrieval.index.explain.score import ExplainedToken

HOSTILE = "Rotate <script>alert('x')</script> logs & \"quote\" {{id}} </div>."


def token(query, span, contribution, weight=0.5, answer="x"):
    return ExplainedToken(query, answer, 0, span, 0.9, weight, contribution)


def explanation(text=HOSTILE, tokens=None, **changes):
    tokens = tokens or (token("<b>", (0, 6), 0.3), token("logs", (35, 37), 0.1), token("the", None, 0.05))
    values = {
        "query": "<img src=x onerror=alert(1)>",
        "id": "a.md#0<i>",
        "score": 1.25,
        "anchor": 0.8,
        "late": 0.45,
        "lambda_anchor": 1.0,
        "lambda_late": 1.0,
        "floor": 0.5,
        "tokens": tokens,
        "text": text,
        "source": "a<u>.md",
        "page": 3,
        "heading": "Logs > Rotation",
    }
    return Explanation(**{**values, **changes})


def test_everything_is_escaped_and_nothing_is_loaded():
    page = explanation().to_html()
    reader = read_page(page)
    assert reader.links == []
    assert reader.tags.count("script") == 1
    assert not {"img", "i", "u", "link", "iframe"} & set(reader.tags)
    assert HOSTILE in reader.text, "the passage reads as it was, {{id}} included"
    assert "http" not in page.replace("http-equiv", "")


def test_a_notebook_shows_the_page_in_a_frame_of_its_own():
    (frame,) = read_page(explanation()._repr_html_()).tags
    assert frame == "iframe"


def test_text_in_another_direction_stays_in_its_place():
    odd = "\u202e<script>\u2067\x1b[1m\u05d0\u05d1"
    page = explanation(
        odd, (token(odd, (0, 3), 0.3, answer=odd),), query=odd, id=odd, source=odd, heading=odd
    ).to_html()
    assert not set("\u202e\u2067\x1b") & set(page)
    shown = "&lt;script&gt;[1m\u05d0\u05d1"
    assert f'<h1 dir="auto">{shown}</h1>' in page
    assert page.count(f"<bdi>{shown}</bdi>") == 4  # id, source, heading, the best match
    assert f'<bdi class="t">{shown}</bdi>' in page
    assert '<div class="passage" dir="auto">' in page


def test_the_header_says_how_the_score_came_about():
    text = " ".join(read_page(explanation(lambda_late=2.0, score=1.7).to_html()).text.split())
    assert "1.7000 = 1 × 0.8000 anchor + 2 × 0.4500 late" in text
    assert "a<u>.md › page 3 › Logs › Rotation" in text


def test_tokens_and_words_point_at_each_other():
    page = explanation().to_html()
    rows = re.findall(r'<tr data-q="(\d+)"', page)
    marks = re.findall(r'<mark data-q="([\d ]+)" style="--s:([\d.]+)"[^>]*>([^<]*)</mark>', page)
    assert rows == ["0", "1", "2"]
    assert [(q, word) for q, _, word in marks] == [("0", "Rotate"), ("1", "logs")]
    assert float(marks[0][1]) == 1.0
    assert float(marks[1][1]) == pytest.approx(1 / 3, abs=1e-3)


def test_pieces_of_one_word_are_one_word():
    tokens = (token("log", (3, 6), 0.2), token("rot", (6, 9), 0.1), token("a", (0, 2), 0))
    found = explanation("He logrotated twice.", tokens).shaded_words()
    assert [(word.start, word.stop, word.tokens) for word in found] == [(3, 13, (0, 1))]
    assert found[0].contribution == pytest.approx(0.3)


def test_overlapping_spans_are_shaded_once():
    words = explanation("ab cd ef", (token("x", (0, 5), 0.2), token("y", (3, 8), 0.1))).shaded_words()
    assert [(word.start, word.stop) for word in words] == [(0, 8)]


def test_pooled_tokens_and_empty_texts_make_a_page():
    page = explanation("", (token("a", None, 0.0, 0.0, ""),), query=None, page=None, heading=None).to_html()
    assert "Token positions are not known" in read_page(page).text


def test_contributions_of_a_real_explanation_add_up(smart, tmp_path):
    from smart_retrieval.index.smart_index import SmartIndex

    text = "the otter swims in the cold river <script>"
    with SmartIndex.create(tmp_path / "a.smart", smart("mean"), codec="float32") as index:
        index.add([text, "tax is due"], ids=["a", "b"])
        found = index.explain("an otter in the river", "a")
        hit = next(hit for hit in index.search("an otter in the river") if hit.id == "a")
    assert sum(t.contribution for t in found.tokens) == pytest.approx(found.late) == pytest.approx(hit.late, abs=1e-5)
    words = found.shaded_words()
    positive = sum(t.contribution for t in found.tokens if t.span is not None and t.contribution > 0)
    assert sum(word.contribution for word in words) == pytest.approx(positive)
    assert sorted(position for word in words for position in word.tokens) == [
        position for position, t in enumerate(found.tokens) if t.span is not None and t.contribution > 0
    ]
    assert text in read_page(found.to_html()).text
