"""BM25 beside the vectors: the same rows, the textbook's scores, and no way to break out of a query."""

import math
import re

import numpy as np
import pytest
from fixtures import stores
from hypothesis import example, given, settings
from hypothesis import strategies as st

from smart_retrieval.errors import SmartError
from smart_retrieval.index.store.lexical import MAX_TERMS, match_query
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


@pytest.fixture
def store(tmp_path):
    with Store.create(tmp_path / "a.smart", stores.manifest()) as store:
        store.add([passage(f"{number}", text) for number, text in enumerate(TEXTS)])
        yield store


def by_hand(query, texts):
    """BM25 as SQLite documents it: k1 = 1.2, b = 0.75, idf floored above 0."""
    stem = {"dogs": "dog"}
    tokens = [[stem.get(word, word) for word in re.findall(r"\w+", text.lower())] for text in texts]
    average = sum(map(len, tokens)) / len(tokens)
    scores = {}
    for term in dict.fromkeys(stem.get(word, word) for word in query.split()):
        hits = [index for index, words in enumerate(tokens) if term in words]
        idf = max(math.log((len(texts) - len(hits) + 0.5) / (len(hits) + 0.5)), 1e-6)
        for index in hits:
            count = tokens[index].count(term)
            norm = count + 1.2 * (1 - 0.75 + 0.75 * len(tokens[index]) / average)
            scores[index] = scores.get(index, 0) + idf * count * 2.2 / norm
    return scores


def test_scores_are_bm25(tmp_path):
    texts = [*TEXTS[:4], "nothing here", "other words", "more of them"]
    with Store.create(tmp_path / "a.smart", stores.manifest()) as store:
        store.add([passage(f"{number}", text) for number, text in enumerate(texts)])
        rowids, scores = store.bm25_scores("cat dogs river", 10)
    expected = by_hand("cat dogs river", texts)
    assert dict(zip((rowids - 1).tolist(), scores.tolist(), strict=True)) == pytest.approx(expected)
    assert rowids.dtype == np.int64
    assert (np.diff(scores) <= 0).all()
    assert (scores > 0).all()


def test_words_are_folded_and_stemmed(store):
    for query, expected in {
        "DOG": {2, 3, 4},
        "cafe": {5},
        "cafe\u0301 re\u0301sume\u0301": {5},
        "bar": {6},
        "КОШКА": {8},
        "house fox": {2, 4},
    }.items():
        assert set(store.bm25_scores(query, 10)[0].tolist()) == expected, query


def test_limit_filter_and_ties(store):
    assert len(store.bm25_scores("dog cat", 2)[0]) == 2
    assert store.bm25_scores("dog cat", 10, rowids=[1, 3])[0].tolist() in ([1, 3], [3, 1])
    assert store.bm25_scores("dog cat", 10, rowids=np.array([8]))[0].tolist() == []
    assert store.bm25_scores("dog cat", 10, rowids=[])[0].tolist() == []
    assert store.bm25_scores("dog", 0)[0].tolist() == []
    store.add([passage(f"same-{number}", "identical zebra") for number in range(5)])
    assert store.bm25_scores("zebra", 3)[0].tolist() == [9, 10, 11]
    everything = dict(zip(*map(np.ndarray.tolist, store.bm25_scores("dog cat", 10)), strict=True))
    some = dict(zip(*map(np.ndarray.tolist, store.bm25_scores("dog cat", 10, rowids=[1, 2])), strict=True))
    assert some == {row: everything[row] for row in (1, 2)}, "a filter changes no score"


def test_the_full_text_index_follows_add_replace_and_delete(store):
    store.delete(ids=["2"])
    assert set(store.bm25_scores("dogs", 10)[0].tolist()) == {2, 4}
    store.add([passage("1", "only birds now")], "replace")
    assert set(store.bm25_scores("dogs", 10)[0].tolist()) == {4}
    assert store.bm25_scores("birds", 10)[0].tolist() == [9]
    with pytest.raises(ZeroDivisionError), store.transaction():
        raise ZeroDivisionError(store.add([passage("x", "birds")]))
    assert store.bm25_scores("birds", 10)[0].tolist() == [9]
    assert store.verify().ok
    store.optimize()
    assert store.bm25_scores("birds", 10)[0].tolist() == [9]
    assert store.verify().ok


def test_the_full_text_index_is_optional(tmp_path):
    with Store.create(tmp_path / "a.smart", stores.manifest(lexical=False)) as store:
        store.add([passage("a", "text")])
        store.delete(ids=["a"])
        assert store.verify().ok
        store.optimize()
        with pytest.raises(SmartError, match="lexical=False"):
            store.bm25_scores("text", 1)


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
    rowids, scores = store.bm25_scores(query, 10)
    assert len(rowids) == len(scores)
    assert re.fullmatch(r'("[^"\s]+"( OR "[^"\s]+")*)?', match_query(query))


@settings(max_examples=200)
@given(query=st.text(max_size=40))
def test_any_text_is_a_query(store, query):
    store.bm25_scores(query, 3)


@settings(max_examples=100)
@example(text="0\U0001d800")  # a symbol younger than FTS5's table of characters
@example(text="dog\U0001f600cat 1\u2603")
@given(text=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20))
def test_every_passage_with_a_word_is_found_by_its_own_text(store, text):
    added = store.add([passage("own", text)], "replace")
    if any(character.isascii() and character.isalnum() for character in text):
        assert added.rowids[0] in store.bm25_scores(text, 100)[0].tolist()


def test_very_long_queries(store):
    query = " ".join(f"word{number}" for number in range(5000)) + " dog"
    assert match_query(query).count(" OR ") == MAX_TERMS - 1
    assert store.bm25_scores(query, 10)[0].tolist() == []
    assert store.bm25_scores("dog " + query, 10)[0].size == 3
