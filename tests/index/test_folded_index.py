"""Texts in compatibility forms (full-width, ligatures, Arabic presentation forms) in an index, found and explained."""

import unicodedata
from dataclasses import replace

import numpy as np
import pytest

from smart_retrieval import SmartIndex
from smart_retrieval.errors import IndexMismatchError, SmartError
from smart_retrieval.index.store.store import Store
from smart_retrieval.index.text.folding import fold

FULL = {ord(character): ord(character) + 0xFEE0 for character in map(chr, range(0x21, 0x7F))}
PLAIN = "the office reflects on efficient workflows"
LIGATURES = PLAIN.replace("ffi", "ﬃ").replace("fl", "ﬂ")
ARABIC = "مرحبا بالعالم"
PRESENTED = "ﻣﺮﺣﺒﺎ ﺑﺎﻟﻌﺎﻟﻢ"
PAIRS = {"full width": (PLAIN.translate(FULL), PLAIN), "ligatures": (LIGATURES, PLAIN), "Arabic": (PRESENTED, ARABIC)}
UNRELATED = ["Oak logs burn slowly in an open fire.", "Otters sleep afloat.", "Taxes are due in April.", "شجرة البلوط"]


@pytest.fixture
def index(minilm, tmp_path):
    with SmartIndex.create(tmp_path / "forms.smart", minilm) as index:
        index.add(UNRELATED)
        yield index


@pytest.mark.parametrize("options", [{}, {"lexical_weight": 2.0}], ids=str)
@pytest.mark.parametrize(("form", "plain"), PAIRS.values(), ids=list(PAIRS))
def test_forms_and_plain_text_are_one(index, form, plain, options):
    assert unicodedata.normalize("NFKC", form) == plain != form
    for stored, asked in ((form, plain), (plain, form), (form, form)):
        index.upsert([stored], ids=["exact"])
        hit, other, *_ = index.search(asked, **options)
        assert hit.id == "exact"
        assert hit.text == stored, "as it was given"
        assert hit.anchor == pytest.approx(1, abs=1e-4)
        assert other.anchor < 0.6
    assert index.verify().ok


def test_the_model_itself_sees_the_text_as_it_is(minilm):
    form, plain = PAIRS["full width"]
    first, second = minilm.encode_query([form, plain], show_progress=False).anchors
    assert not np.allclose(first, second)


def test_an_explanation_shades_the_stored_text(index):
    index.add([f"Ａn {LIGATURES}, ｏｎｅ ㎏"], ids=["exact"])
    why = index.explain("the ofﬁce and one kg", "exact")
    assert why.text == f"Ａn {LIGATURES}, ｏｎｅ ㎏"
    assert why.query == "the ofﬁce and one kg"
    matched = {token.query_token: why.text[slice(*token.span)] for token in why.tokens if token.span}
    assert (matched["office"], matched["one"], matched["kg"]) == ("oﬃce", "ｏｎｅ", "㎏")
    shaded = {why.text[word.start : word.stop] for word in why.shaded_words()}
    assert {"oﬃce", "ｏｎｅ"} <= shaded


def test_passages_of_files_fit_as_the_model_sees_them(index, minilm, tmp_path):
    (tmp_path / "docs").mkdir()
    # One unknown token each as they are written, and several as they are read.
    text = " ".join("ｒｅｃｏｎｓｉｄｅｒａｔｉｏｎｓ" for _ in range(200))
    (tmp_path / "docs" / "wide.txt").write_text(text, encoding="utf-8")
    report = index.index_folder(tmp_path / "docs")
    assert report.truncated == 0
    assert report.passages > 1
    words = [
        word for hit in index.search("reconsiderations", 20, where="source = 'wide.txt'") for word in hit.text.split()
    ]
    assert len(words) == 200


def test_fitting_again_encodes_what_was_encoded(index):
    index.add([PAIRS["full width"][0]], ids=["exact"])
    before = index.search(PLAIN, 1)[0]
    index.optimize(refit=True)
    after = index.search(PLAIN, 1)[0]
    assert (after.id, after.text) == ("exact", PAIRS["full width"][0])
    assert after.late == pytest.approx(before.late, abs=0.05)


def test_an_index_without_folding_keeps_to_it(minilm, tmp_path):
    with SmartIndex.create(tmp_path / "new.smart", minilm) as new:
        manifest, codec = new.store.manifest, new.store.codec()
    assert manifest.folding
    old = replace(manifest, folding=False, language="english", uuid="old")
    with SmartIndex(Store.create(tmp_path / "old.smart", old, codec), minilm) as index:
        index.add([PLAIN.translate(FULL), *UNRELATED])
        assert index.search(PLAIN.translate(FULL), 1)[0].anchor == pytest.approx(1, abs=1e-4)
        assert index.search(PLAIN, 1)[0].anchor < 0.9
        assert index.verify().ok


def test_the_language_is_a_setting_of_a_new_index(minilm, tmp_path):
    path = tmp_path / "a.smart"
    with pytest.raises(SmartError, match=r"language: found 'german', expected one of 'auto', 'english', 'other'"):
        SmartIndex.create(path, minilm, language="german")
    with SmartIndex.open_or_create(path, minilm, language="other") as index:
        assert index.info()["language"] == "other"
        index.add(["The logs of the server are rotated at night."] * 30, ids=[f"{n}" for n in range(30)])
        assert index.info()["language"] == "other", "not found out where it is given"
        assert index.search("log", lexical_weight=1.0)[0].lexical == 0
    with SmartIndex.open_or_create(path, minilm) as index:
        assert index.info()["language"] == "other"
    with pytest.raises(IndexMismatchError, match="found language other, asked for english; leave --language out"):
        SmartIndex.open_or_create(path, minilm, language="english")


def test_fold_is_what_the_database_folds_with(index):
    with index.store.reading() as connection:
        for form, plain in PAIRS.values():
            assert (
                connection.execute("SELECT smart_fold(CAST(? AS BLOB))", (form,)).fetchone()[0] == fold(form) == plain
            )
