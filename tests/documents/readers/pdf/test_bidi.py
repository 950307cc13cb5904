"""From the order in which characters stand on a line to the order in which they are read."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from smart_retrieval.documents.readers.pdf.bidi import is_right_to_left, reading_order, words_in_reading_order
from smart_retrieval.documents.readers.pdf.runs import Box


def read(line: str) -> str:
    return "".join(line[index] for index, _ in reading_order(line))


def test_numbers_and_latin_words_keep_their_direction() -> None:
    assert read("םיפוקע 12.50 ריחמה") == "המחיר 12.50 עקופים"
    assert read("ךמסמ PDF 2024 ףוס") == "סוף PDF 2024 מסמך"
    assert read("plain text") == "plain text"
    assert read("") == ""
    assert read("the words ב א in it") == "the words א ב in it"


def test_most_letters_decide() -> None:
    assert is_right_to_left("שלום a")
    assert not is_right_to_left("hello ש")
    assert not is_right_to_left("123")


def test_marks_stay_with_their_letters() -> None:
    # shin with a dot, lamed: a mark has the box of a letter or a little of it
    line = [("\u05e9", Box(20, 0, 28, 12)), ("\u05c1", Box(26, 10, 27, 12)), ("\u05dc", Box(10, 0, 18, 12))]
    assert [word for word, _ in words_in_reading_order(line)] == ["\u05e9\u05c1\u05dc"]
    assert words_in_reading_order([]) == []
    assert words_in_reading_order([("\u05c1", Box(0, 0, 1, 1))]) == []


def test_words_have_the_boxes_of_their_letters() -> None:
    line = [("ב", Box(0, 0, 8, 12)), ("א", Box(8, 0, 16, 12)), ("ג", Box(30, 1, 38, 13))]
    assert words_in_reading_order(line) == [("ג", Box(30, 1, 38, 13)), ("אב", Box(0, 0, 16, 12))]


@given(st.text(alphabet="אבגabc 12.(),-", max_size=30))
def test_every_character_is_read_once(line: str) -> None:
    assert sorted(index for index, _ in reading_order(line)) == list(range(len(line)))


@given(st.text(alphabet="אבגדה ", max_size=30))
def test_right_to_left_alone_is_turned_round(line: str) -> None:
    if line.strip():
        assert read(line).strip() == line[::-1].strip()
