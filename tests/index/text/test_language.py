"""English is told from other languages by its stop words, and a query is never left without words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smart_retrieval.index.text.language import ENOUGH_TEXTS, ENOUGH_WORDS, STOP_WORDS, language_of, without_stop_words


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Effect of the angle of attack on the lift of a wing", "english"),
        ("Der Einfluss des Anstellwinkels auf den Auftrieb war so in der Tat nicht zu sehen", "other"),
        ("Het effect van de invalshoek op de lift van een vleugel is in de praktijk zo klein", "other"),
        ("L'effet de l'angle d'incidence sur la portance d'une aile, que l'on a vu", "other"),
        ("翼の揚力に対する迎え角の影響 について", "other"),
        ("blue steel bottle large pack", "other"),
    ],
)
def test_language(text, language):
    assert language_of([text] * 200) == language


def test_few_words_do_not_tell():
    assert language_of([]) == "auto"
    assert language_of(["the"] * (ENOUGH_WORDS - 1)) == "auto"
    assert language_of(["the"] * ENOUGH_WORDS) == "english"
    assert language_of(["", "1 2 3"] * 10) == "auto"
    assert language_of(["1 2 3"] * ENOUGH_TEXTS) == "other", "there will be none later, either"


def test_only_the_first_texts_are_read():
    def texts():
        yield from ["the logs"] * ENOUGH_TEXTS
        raise AssertionError("one too many")

    assert language_of(texts()) == "english"


@given(st.dictionaries(st.one_of(st.sampled_from(sorted(STOP_WORDS)), st.text(max_size=3)), st.integers(1, 5)))
def test_a_query_keeps_some_words(words):
    kept = without_stop_words(words)
    assert bool(kept) == bool(words)
    assert kept.items() <= words.items()
    assert set(kept) == set(words) if set(words) <= STOP_WORDS else not STOP_WORDS & set(kept)


@pytest.mark.parametrize("query", ["to be or not to be", "the who", "what is it"])
def test_queries_of_stop_words_alone(query):
    words = dict.fromkeys(query.split(), 1)
    assert without_stop_words(words) == words
