"""Passages: nothing lost, nothing repeated, nothing too long, in few calls of the tokenizer."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smart_retrieval.documents.passages import Passage, split
from smart_retrieval.documents.sections import Section
from smart_retrieval.documents.spans import sentence_spans


def words(text: str) -> int:
    return len(text.split())


def bert_like(text: str) -> int:
    """Two special tokens; a long word is several, punctuation is one each."""
    return 2 + sum(1 + (len(part) - 1) // 4 for part in re.findall(r"\w+|[^\w\s]", text))


def byte_like(text: str) -> int:
    """Not additive: line breaks and double spaces cost, a character may cost several."""
    return 1 + (len(text.encode()) + 2) // 3 + text.count("\n")


COUNTERS = [words, bert_like, byte_like]

word = st.text(alphabet="ab,é漢。.!?\u0301", min_size=1, max_size=8) | st.just("verylongword" * 12)
paragraph = st.lists(word, min_size=1, max_size=25).map(" ".join) | st.lists(word, min_size=1, max_size=9).map(
    "\n".join
)
section = st.builds(
    Section,
    text=st.lists(paragraph, min_size=1, max_size=4).map("\n\n".join),
    heading=st.lists(st.sampled_from(["A", "Long heading of some words", "C"]), max_size=3).map(tuple),
    page=st.none() | st.integers(1, 9),
)


def squeezed(text: str) -> str:
    return "".join(text.split())


@pytest.mark.parametrize("count", COUNTERS)
@given(sections=st.lists(section, max_size=6), max_tokens=st.integers(6, 60))
def test_nothing_lost_repeated_or_too_long(
    count: Callable[[str], int], sections: list[Section], max_tokens: int
) -> None:
    passages = list(split(sections, max_tokens=max_tokens, count_tokens=count, source="a.md"))
    assert squeezed("".join(part.text for part in passages)) == squeezed("".join(part.text for part in sections))
    assert [part.order for part in passages] == list(range(len(passages)))
    assert [part.id for part in passages] == [f"a.md#{number}" for number in range(len(passages))]
    assert all(count(part.text_for_encoding) <= max_tokens for part in passages)
    assert all(part.text.strip() for part in passages)
    assert {part.heading for part in passages} == {part.heading for part in sections}


@given(sections=st.lists(section, max_size=5), max_tokens=st.integers(12, 60))
def test_words_that_fit_stay_whole(sections: list[Section], max_tokens: int) -> None:
    passages = split(sections, max_tokens=max_tokens, count_tokens=words, prefix_heading=False)
    found = [word for passage in passages for word in passage.text.split()]
    expected = [word for part in sections for word in part.text.split()]
    # Chinese and Japanese sentences may be parted without a space between them.
    if not any("。" in word for word in expected):
        assert found == expected
    assert squeezed("".join(found)) == squeezed("".join(expected))


@pytest.mark.parametrize("count", COUNTERS)
@given(sections=st.lists(section, max_size=6), overlap=st.integers(0, 8), min_tokens=st.integers(0, 24))
def test_overlap_and_joining_keep_the_limit_and_the_words(
    count: Callable[[str], int], sections: list[Section], overlap: int, min_tokens: int
) -> None:
    options = {"max_tokens": 24, "overlap": overlap, "min_tokens": min_tokens}
    passages = list(split(sections, count_tokens=count, **options))
    assert passages == list(split(sections, count_tokens=count, **options)), "the same again"
    assert all(count(part.text_for_encoding) <= 24 for part in passages)
    text = squeezed("".join(part.text for part in passages))
    rest = iter(text)  # the words are there, in order, others between them
    assert all(character in rest for part in sections for character in squeezed(part.text))


def test_paragraphs_are_joined_and_kept_whole_where_they_fit() -> None:
    text = "one two three\n\nfour five\n\nsix seven eight nine\n\nten"
    passages = list(split([Section(text)], max_tokens=5, count_tokens=words))
    assert [part.text for part in passages] == ["one two three\n\nfour five", "six seven eight nine\n\nten"]


def test_long_paragraphs_are_cut_at_sentences_then_lines_then_words() -> None:
    def cut(text: str, limit: int) -> list[str]:
        return [part.text for part in split([Section(text)], max_tokens=limit, count_tokens=words)]

    assert cut("One two three. Four five! Six?", 4) == ["One two three.", "Four five! Six?"]
    assert cut("def a():\n    b = 1 + 2\n    return b", 6) == ["def a():", "    b = 1 + 2", "    return b"]
    assert cut("a b c d e f g", 4) == ["a b c d", "e f g"]
    characters = [part.text for part in split([Section("漢" * 10)], max_tokens=4, count_tokens=len)]
    assert "".join(characters) == "漢" * 10
    assert max(map(len, characters)) <= 4
    marked = [part.text for part in split([Section("e\u0301" * 9)], max_tokens=4, count_tokens=len)]
    assert not any(part.startswith("\u0301") for part in marked)


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        (
            "Dr. Who e.g. A. Turing vs. it. Then (so.) “Yes.” End",
            ["Dr. Who e.g. A. Turing vs. it.", "Then (so.)", "“Yes.”", "End"],
        ),
        ("漢字。かな！「引用。」終", ["漢字。", "かな！", "「引用。」", "終"]),
        ("Version 3.11 is 2.5 MB...\nNext", ["Version 3.11 is 2.5 MB...", "Next"]),
    ],
)
def test_sentences(text: str, sentences: list[str]) -> None:
    assert [text[start:end] for start, end in sentence_spans(text, 0, len(text))] == sentences


def test_headings_go_before_the_text_and_count() -> None:
    section = Section("a b c d e f", ("Guide", "Logs"))
    passages = list(split([section], max_tokens=6, count_tokens=words))
    assert [part.text_for_encoding for part in passages] == ["Guide > Logs\na b c", "Guide > Logs\nd e f"]
    plain = list(split([section], max_tokens=6, count_tokens=words, prefix_heading=False))
    assert [part.text_for_encoding for part in plain] == ["a b c d e f"]
    deep = Section("text", ("One very long outer heading", "Inner one"))
    assert next(split([deep], max_tokens=6, count_tokens=words)).prefix == "Inner one"
    endless = Section("text", ("word " * 50,))
    passage = next(split([endless], max_tokens=6, count_tokens=words))
    assert (passage.prefix, passage.heading) == ("word word", endless.heading)


def test_pages_are_those_of_the_first_character() -> None:
    sections = [Section("a b", ("H",), 1), Section("c d", ("H",), 2), Section("e f g", ("H",), 3)]
    passages = list(split(sections, max_tokens=4, count_tokens=words, prefix_heading=False))
    assert [(part.page, part.text) for part in passages] == [(1, "a b\n\nc d"), (3, "e f g")]


def test_records_are_never_joined_and_named_by_their_ids() -> None:
    sections = [
        Section("a b c", (), None, "x#1", {"n": 1}),
        Section("d e f g h", (), None, "y", {"n": 2, "lang": "en"}),
        Section("i", (), None, "z", {"n": 3}),
    ]
    options = {"max_tokens": 4, "source": "a.jsonl", "metadata": {"lang": "de"}}
    passages = list(split(sections, count_tokens=words, min_tokens=3, **options))
    assert [part.id for part in passages] == ["a.jsonl#x%231", "a.jsonl#y", "a.jsonl#y#1", "a.jsonl#z"]
    assert [part.metadata for part in passages[:2]] == [{"lang": "de", "n": 1}, {"lang": "en", "n": 2}]
    assert [part.order for part in passages] == [0, 1, 2, 3]


def test_short_sections_are_joined_under_their_parent() -> None:
    sections = [
        Section("intro", ("Guide",), 1),
        Section("a b", ("Guide", "One"), 1),
        Section("c d", ("Guide", "Two"), 2),
        Section("long " * 9, ("Guide", "Three"), 3),
        Section("e", ("Other", "One"), 4),
    ]
    passages = list(split(sections, max_tokens=20, min_tokens=6, count_tokens=words))
    assert [(part.heading, part.text.strip(), part.page) for part in passages] == [
        (("Guide",), "intro\n\nOne\na b\n\nTwo\nc d", 1),
        (("Guide", "Three"), ("long " * 9).strip(), 3),
        (("Other", "One"), "e", 4),
    ]


def test_a_short_end_is_filled_up_from_the_passage_before() -> None:
    text = "\n\n".join(["a b", "c d", "e f", "g h", "i"])
    passages = list(split([Section(text)], max_tokens=8, min_tokens=3, count_tokens=words))
    assert [part.text.split() for part in passages] == [list("abcdef"), list("ghi")]


def test_overlap_repeats_the_end_of_the_passage_before() -> None:
    text = "One two three. Four five. Six seven eight. Nine ten."
    passages = list(split([Section(text)], max_tokens=6, overlap=2, count_tokens=words))
    assert [part.text for part in passages] == [
        "One two three. Four five.",
        "Four five. Six seven eight.",
        "Nine ten.",
    ] or all(words(part.text) <= 6 for part in passages)
    assert "Four five. Six" in " | ".join(part.text for part in passages)
    unpunctuated = list(split([Section("a b c d e f g h i")], max_tokens=6, overlap=2, count_tokens=words))
    assert all(one.text.split()[-1] in two.text.split() for one, two in pairwise(unpunctuated))


@pytest.mark.parametrize(
    "options",
    [
        {"max_tokens": 2},
        {"max_tokens": 9, "overlap": 4},
        {"max_tokens": 9, "min_tokens": 10},
        {"max_tokens": 9, "overlap": -1},
    ],
)
def test_contradicting_limits(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="found "):
        split([], count_tokens=bert_like, **options)


class Counter:
    """Counts its calls and the characters it sees."""

    def __init__(self) -> None:
        self.calls = self.characters = 0

    def __call__(self, text: str) -> int:
        self.calls += 1
        self.characters += len(text)
        return bert_like(text)


@pytest.mark.parametrize(
    "text",
    [
        "\n\n".join(["A paragraph of seven words, no more."] * 3000),
        "A sentence of seven words, no more. " * 3000,
        "word " * 30_000,
        "x" * 150_000,
        "\n".join(["line"] * 20_000),
    ],
)
def test_the_tokenizer_is_called_in_proportion_to_the_pieces(text: str) -> None:
    count = Counter()
    passages = sum(1 for _ in split([Section(text, ("H",))], max_tokens=128, count_tokens=count))
    assert count.calls <= 3 * (text.count("\n\n") + 1) + 14 * passages + 20
    assert count.characters <= 6 * len(text)


def test_endless_sections_are_streamed() -> None:
    def endless() -> object:
        number = 0
        while True:
            number += 1
            yield Section("some text", (str(number),))

    passages = split(endless(), max_tokens=20, count_tokens=words, min_tokens=5)  # type: ignore[arg-type]
    first: Passage = next(passages)
    assert first.text
