"""BM25 beside the vectors: the same rows, the textbook's scores, and no way to break out of a query."""

import math
import re
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from fixtures import stores
from hypothesis import example, given, settings
from hypothesis import strategies as st

from smart_retrieval.errors import SmartError
from smart_retrieval.index.store import store as store_module
from smart_retrieval.index.store.lexical import MAX_TERMS, FullText, KeptWords, WordCounts
from smart_retrieval.index.store.manifest import Manifest
from smart_retrieval.index.store.records import Record
from smart_retrieval.index.store.store import Store

TEXTS = [
    "the cat sat on the mat",
    "a dog and a cat in one house",
    "dogs dogs dogs",
    "the quick brown fox jumps over the lazy dog near the river bank",
    "café résumé naïve",
    "foo_bar C++ 3.14 user@example.com",
    "",
    "кошка на столе",
]


def passage(id, text, **more):
    empty = np.zeros((0, stores.CODE_WIDTH), np.uint8)
    return Record(id, np.ones(stores.ANCHOR_DIM), empty, np.zeros(0, np.int32), text=text, **more)


def bm25(store, query):
    """Scores by rowid."""
    rowids, scores = store.bm25_scores(query)
    assert rowids.dtype == np.int64
    assert (np.diff(rowids) > 0).all()
    assert (scores > 0).all()
    with store.reading() as connection:
        full_text = FullText.of(Manifest.read(connection))
        kept = KeptWords(connection, (0, None))
        for _ in range(2):  # read, and kept
            again = full_text.bm25_scores(connection, query, kept)
            assert [part.tolist() for part in again] == [rowids.tolist(), scores.tolist()]
    # By what is counted here, as a part of a collection is scored.
    part = store.bm25_scores(query, store.word_counts(query))
    assert part[0].tolist() == rowids.tolist()
    np.testing.assert_allclose(part[1], scores, rtol=1e-9)
    return dict(zip(rowids.tolist(), scores.tolist(), strict=True))


@pytest.fixture
def store(tmp_path):
    with Store.create(tmp_path / "a.smart", stores.manifest()) as store:
        store.add([passage(f"{number}", text) for number, text in enumerate(TEXTS)])
        yield store


def by_hand(query, texts):
    """BM25 as SQLite documents it: k1 = 1.2, b = 0.75, idf floored above 0."""
    stem = {"dogs": "dog", "cats": "cat"}
    tokens = [[stem.get(word, word) for word in re.findall(r"\w+", text.lower())] for text in texts]
    average = sum(map(len, tokens)) / len(tokens)
    scores = {}
    for term in (stem.get(word, word) for word in query.split()):
        hits = [index for index, words in enumerate(tokens, start=1) if term in words]
        idf = max(math.log((len(texts) - len(hits) + 0.5) / (len(hits) + 0.5)), 1e-6)
        for index in hits:
            count = tokens[index - 1].count(term)
            norm = count + 1.2 * (1 - 0.75 + 0.75 * len(tokens[index - 1]) / average)
            scores[index] = scores.get(index, 0) + idf * count * 2.2 / norm
    return scores


@pytest.mark.parametrize("query", ["cat dogs river", "cat dogs cat river dogs dogs", "dog dogs dog cats"])
def test_scores_are_bm25_with_every_occurrence_in_the_query(tmp_path, query):
    texts = [*TEXTS[:4], "nothing here", "other words", "more of them"]
    with Store.create(tmp_path / "a.smart", stores.manifest()) as store:
        store.add([passage(f"{number}", text) for number, text in enumerate(texts)])
        assert bm25(store, query) == pytest.approx(by_hand(query, texts))


def test_words_are_folded_and_stemmed(store):
    for query, expected in {
        "DOG": {2, 3, 4},
        "cafe": {5},
        "cafe\u0301 re\u0301sume\u0301": {5},
        "bar": {6},
        "КОШКА": {8},
        "house fox": {2, 4},
    }.items():
        assert set(bm25(store, query)) == expected, query


def test_stop_words_count_only_where_there_is_nothing_else(store):
    assert bm25(store, "the dog on the mat") == bm25(store, "dog mat")
    assert set(bm25(store, "the")) == {1, 4}
    assert set(bm25(store, "and on the")) == {1, 2, 4}


def test_other_languages_keep_their_words(tmp_path):
    with Store.create(tmp_path / "a.smart", stores.manifest(language="other")) as store:
        store.add([passage("a", "die Logs an der Wand"), passage("b", "Log"), passage("c", "so")])
        assert set(bm25(store, "logs")) == {1}
        assert set(bm25(store, "an so log")) == {1, 2, 3}


ENGLISH = "The logs of the server are rotated at night, and so are those of the proxy that it runs behind."
GERMAN = "Die Logdateien des Servers werden nachts rotiert, ebenso jene des Proxys, hinter dem er läuft, und an"


@pytest.mark.parametrize(("text", "language"), [(ENGLISH, "english"), (GERMAN, "other")])
def test_the_language_is_found_once_there_is_enough_text(tmp_path, text, language):
    with Store.create(tmp_path / "a.smart", stores.manifest(language="auto", folding=True)) as store:
        with Store.open(tmp_path / "a.smart") as reader:
            store.add([passage("picture", ""), passage("first", text + " Proxys ﬁne")])
            assert store.info()["language"] == "auto"
            assert set(bm25(reader, "proxy")) == {2}, "taken for English until then"
            store.add([passage(f"{number}", text) for number in range(20)])
            assert store.info()["language"] == language
            assert 2 in bm25(reader, "proxys an"), "what was there is indexed again"
            assert set(bm25(reader, "fine")) == {2}
            stemmed = language == "english"
            assert (2 in bm25(reader, "logs")) == stemmed
            assert bool(bm25(reader, "an proxyz")) == (not stemmed), "a stop word in English only"
        store.delete(ids=["first", "3"])
        assert store.verify().ok
        store.optimize()
        assert store.verify().ok
        store.add([passage("more", ENGLISH * 20)])
        assert store.info()["language"] == language, "it stays as it was found"


def test_a_language_that_was_undone_is_not_noted(tmp_path):
    with Store.create(tmp_path / "a.smart", stores.manifest(language="auto")) as store:
        with pytest.raises(ZeroDivisionError), store.transaction():
            raise ZeroDivisionError(store.add([passage("x", GERMAN * 20)]))
        assert store.info()["language"] == "auto"
        store.add([passage("x", ENGLISH * 20)])
        assert store.info()["language"] == "english"
        assert bm25(store, "log")


FORMS = {
    "ｆｕｌｌ ｗｉｄｔｈ": "full width",
    "the oﬃce ﬂoor": "office floor",
    "ﻣﺮﺣﺒﺎ": "مرحبا",
    "ｶﾞﾗｽ": "ガラス",
    "⽇本": "日本",
    "𝐛𝐨𝐥𝐝": "bold",
}


@pytest.mark.parametrize(("form", "plain"), FORMS.items())
def test_compatibility_forms_are_found_both_ways(tmp_path, form, plain):
    with Store.create(tmp_path / "a.smart", stores.manifest(folding=True)) as store:
        store.add([passage("form", form), passage("plain", plain), passage("none", "zebra"), passage("other", "ab")])
        assert set(bm25(store, form)) == set(bm25(store, plain)) == {1, 2}
        assert [document.text for document in store.get(["form", "plain"])] == [form, plain]
        assert store.verify().ok
        store.add([passage("form", "otter")], "replace")
        assert set(bm25(store, form)) == {2}
        assert store.verify().ok
        store.delete(ids=["plain"])
        assert not bm25(store, plain)
        assert store.verify().ok


def test_a_damaged_row_among_folded_ones_is_deleted(tmp_path):
    with Store.create(tmp_path / "a.smart", stores.manifest(folding=True)) as store:
        store.add([passage("a", "ﬁne"), passage("b", "ﬁne otter")])
        with store.transaction() as handle:
            handle.connection.execute("UPDATE documents SET text = CAST(x'ff41' AS TEXT) WHERE id = 'a'")
        assert not store.verify().ok
        store.delete(ids=["a"])
        assert store.verify().ok
        assert set(bm25(store, "fine")) == {2}


def test_the_full_text_index_follows_add_replace_and_delete(store):
    store.delete(ids=["2"])
    assert set(bm25(store, "dogs")) == {2, 4}
    store.add([passage("1", "only birds now")], "replace")
    assert set(bm25(store, "dogs")) == {4}
    assert list(bm25(store, "birds")) == [9]
    with pytest.raises(ZeroDivisionError), store.transaction():
        raise ZeroDivisionError(store.add([passage("x", "birds")]))
    assert list(bm25(store, "birds")) == [9]
    assert store.verify().ok
    store.optimize()
    assert list(bm25(store, "birds")) == [9]
    assert store.verify().ok


def test_the_full_text_index_is_optional(tmp_path):
    with Store.create(tmp_path / "a.smart", stores.manifest(lexical=False)) as store:
        store.add([passage("a", "text")])
        store.delete(ids=["a"])
        assert store.verify().ok
        store.optimize()
        with pytest.raises(SmartError, match="lexical=False"):
            store.bm25_scores("text")


@pytest.mark.parametrize(
    "query",
    [
        '"',
        '" OR "',
        "NEAR(a b, 5)",
        "text: dog",
        "dog*",
        "-dog",
        "^dog",
        "a AND NOT b",
        "{text}: x",
        "'",
        "(",
        "\0",
        "",
        "…",
    ],
)
def test_fts5_syntax_is_just_text(store, query):
    assert set(bm25(store, query)) <= set(range(1, 9))
    assert all(re.fullmatch(r'[^"\s]+', word) for word in FullText().query_words(query))


@settings(max_examples=200)
@given(query=st.text(max_size=40))
def test_any_text_is_a_query(store, query):
    bm25(store, query)


@settings(max_examples=100)
@example(text="0\U0001d800")  # a symbol younger than FTS5's table of characters
@example(text="dog\U0001f600cat 1\u2603")
@given(text=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20))
def test_every_passage_with_a_word_is_found_by_its_own_text(store, text):
    added = store.add([passage("own", text)], "replace")
    if any(character.isascii() and character.isalnum() for character in text):
        assert added.rowids[0] in bm25(store, text)


@settings(max_examples=50)
@example(texts=["a-b c", "a-b a-b", "b a"], query="a-b a-b c", stores_of=2)
@given(
    texts=st.lists(st.text("ab-. ", max_size=12), min_size=2, max_size=9),
    query=st.text("ab-. ", min_size=1, max_size=9),
    stores_of=st.integers(2, 3),
)
def test_parts_of_a_collection_score_as_the_whole_does(texts, query, stores_of):
    with TemporaryDirectory() as name, ExitStack() as stack:
        made = [
            stack.enter_context(Store.create(Path(name) / f"{number}.smart", stores.manifest()))
            for number in range(stores_of + 1)
        ]
        whole, parts = made[0], made[1:]
        whole.add([passage(f"{number}", text) for number, text in enumerate(texts)])
        for number, text in enumerate(texts):
            parts[number % stores_of].add([passage(f"{number}", text)])
        counts = WordCounts.sum([part.word_counts(query) for part in parts])
        assert counts == whole.word_counts(query)
        found = {}
        for part in parts:
            rowids, scores = part.bm25_scores(query, counts)
            found |= dict(zip(part.ids_of(rowids), scores.tolist(), strict=True))
        rowids, scores = whole.bm25_scores(query)
        assert found == pytest.approx(dict(zip(whole.ids_of(rowids), scores.tolist(), strict=True)), rel=1e-9)


def test_very_long_queries(store):
    query = " ".join(f"word{number}" for number in range(5000)) + " dog"
    assert len(FullText().query_words(query)) == MAX_TERMS
    assert not bm25(store, query)
    assert len(bm25(store, "dog " + query)) == 3


def test_what_is_kept_of_words_is_of_one_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "KEEP_FROM", 3)
    asked = []
    scores = KeptWords.bm25_scores

    def noted(self, connection, tokenizer, groups, counts=None):
        if counts is None:
            asked.append(self)
        return scores(self, connection, tokenizer, groups, counts)

    monkeypatch.setattr(KeptWords, "bm25_scores", noted)
    with Store.create(tmp_path / "a.smart", stores.manifest()) as store:
        store.add([passage("short", "valve valve"), passage("long", "valve " + "pump " * 20_000)])
        assert set(bm25(store, "valve")) == {1, 2}
        assert len(set(asked)) == 1  # the helper's own
        store.add([passage("none", "")])
        del asked[:]
        first, again, third = (store.bm25_scores("valve pump pump") for _ in range(3))
        assert first[1].tolist() == again[1].tolist() == third[1].tolist()
        assert len(asked) == 2  # by FTS5 alone at first, until that has cost as much
        assert asked[0] is asked[1]
        with Store.open(store.path, "w") as other:
            other.delete(ids=["short"])
            other.add([passage("new", "a valve"), passage("more", "of pumps")])
        assert set(bm25(store, "valve")) == {2, 4}
        assert set(bm25(store, "pump")) == {2, 5}


def test_a_full_text_index_that_contradicts_itself_is_left_to_fts5(store):
    with store.transaction() as handle:
        handle.connection.execute("DELETE FROM lexical_docsize WHERE id = 3")
        handle.dirty = True
    with store.reading() as connection:
        assert KeptWords(connection, (0, None)).bm25_scores(connection, FullText().tokenizer, [(1, ["dogs"])]) is None
        # Of a word that FTS5 takes apart, it is asked, too.
        assert KeptWords(connection, (0, None)).bm25_scores(connection, FullText().tokenizer, [(1, ["a-b"])]) is None
