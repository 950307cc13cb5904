"""Compatibility forms are replaced, everything else stays, and every part of the result is found in the text."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smart_retrieval.index.text.folding import fold, fold_item, stored_spans
from smart_retrieval.inputs import Item

FORMS = st.sampled_from("ﬁﬃﷺﻣﺎｆＷ１ｶﾞ㎏⽇豈שׁ𝐛﹐\ufe74")
TEXTS = st.text(st.one_of(FORMS, st.characters(codec="utf-8")), max_size=30)


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("ＡＢＣ　１２％", "ABC　12%"),
        ("eﬃcient ﬂow", "efficient flow"),
        ("ﻣﺮﺣﺒﺎ ﻻ", "مرحبا لا"),
        ("ｶﾞﾊﾟｱ", "ガパア"),
        ("5㎏", "5kg"),
        ("⽇本", "日本"),
        ("𝒞𝟙", "C1"),
    ],
)
def test_forms(text, folded):
    assert fold(text) == folded


@pytest.mark.parametrize("text", ["", "plain", "x² ½ ™ ① Ⅳ ℃", "Straße Çe ſ", "日本 가", "e\u0301", "\ufeffa"])
def test_what_is_no_mere_form_stays(text):
    assert fold(text) == text


@given(TEXTS)
def test_folding_twice_is_folding_once_and_nfkc_sees_no_difference(text):
    folded = fold(text)
    assert fold(folded) == folded
    table = unicodedata.ucd_3_2_0
    assert table.normalize("NFKC", folded) == table.normalize("NFKC", text)


@given(TEXTS, st.data())
def test_spans_lead_back_to_the_text(text, data):
    folded = fold(text)
    start = data.draw(st.integers(0, len(folded)))
    stop = data.draw(st.integers(start, len(folded)))
    ((first, last),) = stored_spans(text, [(start, stop)])
    assert 0 <= first <= last <= len(text)
    assert folded[start:stop] in fold(text[first:last]) if stop > start else True
    assert stored_spans(text, [(0, len(folded)), None]) == [(0, len(text)), None]


def test_only_the_text_of_an_item_is_folded():
    item = Item("ﬁne", instruction="ﬁnd")
    assert fold_item(item) == Item("fine", instruction="ﬁnd")
    plain = Item("fine")
    assert fold_item(plain) is plain
