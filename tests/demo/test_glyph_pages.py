"""Glyph pages: the same on every call, apart between splits, judged truthfully, in words the tokenizer knows."""

from __future__ import annotations

import importlib.resources
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smart_retrieval.demo.glyph_pages import (
    COLOURS,
    SHAPES,
    STYLES,
    GlyphPage,
    binding_task,
    glyph_collection,
    glyph_page,
    held,
    judgments,
)
from smart_retrieval.errors import SmartError
from smart_retrieval.evaluation.metrics import per_query_metrics, rank


@pytest.mark.parametrize("style", sorted(STYLES))
def test_a_page_is_a_function_of_its_seed_split_and_number(style: str) -> None:
    page, again = (glyph_page("test", 7, style=style) for _ in range(2))
    assert page == again
    assert np.array_equal(page.pixels(), again.pixels())
    others = [
        glyph_page("test", 8, style=style),
        glyph_page("train", 7, style=style),
        glyph_page("test", 7, seed=1, style=style),
    ]
    assert all(other.objects != page.objects and (other.pixels() != page.pixels()).any() for other in others)


@pytest.mark.parametrize("style", sorted(STYLES))
def test_pixels_have_the_declared_size_in_whole_visual_tokens(style: str) -> None:
    look, pixels = STYLES[style], glyph_page("train", 0, style=style).pixels()
    assert pixels.shape == (*look.size, 3)
    assert pixels.dtype == np.uint8
    assert all(side % 32 == 0 for side in (*look.size, *look.cell))
    assert np.array_equal(np.asarray(glyph_page("train", 0, style=style).image()), pixels)


def test_a_longer_collection_begins_with_the_shorter_one() -> None:
    short, long = glyph_collection("validation", 5), glyph_collection("validation", 9)
    assert long.pages[:5] == short.pages
    assert long.queries[:5] == short.queries


def test_splits_share_no_page() -> None:
    pages = {split: {page.objects for page in glyph_collection(split, 400).pages} for split in ("train", "test")}
    assert not pages["train"] & pages["test"]
    assert len(pages["train"]) == 400


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 40), style=st.sampled_from(sorted(STYLES)))
def test_judgments_equal_a_naive_check(seed: int, count: int, style: str) -> None:
    collection = glyph_collection("test", count, seed=seed, style=style)
    for query in collection.queries:
        named = query.text.split(", ")
        expected = {page.id: 1 for page in collection.pages if all(kind in page.objects for kind in named)}
        assert collection.qrels[query.id] == expected
        assert query.id.removeprefix("q-") in expected


def test_marks_agree_with_the_judgments() -> None:
    collection = glyph_collection("test", 120)
    named = held([query.objects for query in collection.queries]).astype(int)
    absent = 1 - held([page.objects for page in collection.pages]).astype(int)
    relevant = named @ absent.T == 0
    for row, query in zip(relevant, collection.queries, strict=True):
        assert {collection.pages[place].id for place in np.flatnonzero(row)} == set(collection.qrels[query.id])


def test_a_query_that_no_page_answers_has_no_judgment() -> None:
    collection = glyph_collection("test", 3)
    assert judgments(collection.queries, [])[collection.queries[0].id] == {}


def test_all_kinds_appear_equally_often_and_no_page_holds_one_twice() -> None:
    pages = glyph_collection("train", 1500).pages
    assert all(len(set(page.objects)) == len(page.objects) for page in pages)
    counts = held([page.objects for page in pages]).sum(0)
    expected = 1500 * 20 / len(STYLES["shapes"].kinds)
    assert len(counts) == len(COLOURS) * len(SHAPES)
    assert np.abs(counts - expected).max() < 5 * math.sqrt(expected)


def test_random_and_perfect_scores_reach_the_ndcg_of_the_docstring() -> None:
    collection = glyph_collection("test", 1000)
    ids = [page.id for page in collection.pages]
    named = held([query.objects for query in collection.queries]).astype(float)
    oracle = named @ held([page.objects for page in collection.pages]).T.astype(float)
    chance = np.random.default_rng(0).random(oracle.shape)

    def ndcg(scores: np.ndarray) -> float:
        ranking = dict(zip((query.id for query in collection.queries), rank(scores, ids, 10), strict=True))
        return float(per_query_metrics(collection.qrels, ranking)["ndcg@10"].mean())

    assert ndcg(oracle) == pytest.approx(1.0)
    assert 0.03 < ndcg(chance) < 0.07


def test_kinds_are_distinguishable_by_their_pixels() -> None:
    """The mean drawing of a kind is nearer to its own drawings than to those of any other kind of its colour."""
    look = STYLES["shapes"]
    kinds = [kind for kind in look.kinds if kind.startswith("blue ")]
    drawn: dict[str, list[np.ndarray]] = {kind: [] for kind in kinds}
    for number in range(12 * len(kinds)):
        kind = kinds[number % len(kinds)]
        page = GlyphPage("x", (kind,), (9, number))
        drawn[kind].append(page.pixels()[:32, :32].astype(float))
    means = np.stack([np.mean(drawn[kind], 0) for kind in kinds])
    hits = [
        int(np.argmin(((means - one) ** 2).sum((1, 2, 3))) == place)
        for place, kind in enumerate(kinds)
        for one in drawn[kind]
    ]
    assert np.mean(hits) > 0.5  # chance is 1/12; position and size still vary


def test_unknown_splits_and_styles_are_refused() -> None:
    with pytest.raises(SmartError, match="split"):
        glyph_page("dev", 0)
    with pytest.raises(SmartError, match="style"):
        glyph_page("test", 0, style="letters")


def test_the_shipped_tokenizer_knows_every_word_as_one_token() -> None:
    from transformers import AutoTokenizer

    folder = importlib.resources.files("smart_retrieval.demo") / "glyph"
    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    for style in STYLES.values():
        for kind in style.kinds:
            first, second = kind.split(" ")
            assert tokenizer.tokenize(f"{kind}, {kind}") == [first, f"Ġ{second}", ",", f"Ġ{first}", f"Ġ{second}"]


def test_pages_of_a_pair_differ_in_combinations_alone() -> None:
    task = binding_task(40, 1000)
    assert (len(task.pages), len(task.queries), len(task.answers)) == (80, 1000, 1000)
    assert Counter(task.answers).most_common()[0][1] - Counter(task.answers).most_common()[-1][1] <= 1
    for place, page in enumerate(task.pages):
        twin = task.pages[task.twin(place)]
        assert not set(page.objects) & set(twin.objects)
        for word in (0, 1):
            own, other = ([kind.split(" ")[word] for kind in one.objects] for one in (page, twin))
            assert sorted(own) == sorted(other)
    for query, answer in zip(task.queries, task.answers, strict=True):
        holders = [place for place, page in enumerate(task.pages) if set(query.split(", ")) <= set(page.objects)]
        assert holders == [answer]
    assert binding_task(40, 1000) == task
    assert binding_task(2, 5, seed=1).queries != binding_task(2, 5).queries
    assert (task.pages[0].pixels() != task.pages[1].pixels()).any()


@pytest.mark.parametrize(("pairs", "queries"), [(0, 5), (5, 0)])
def test_a_binding_task_of_nothing(pairs: int, queries: int) -> None:
    with pytest.raises(SmartError, match="expected at least 1"):
        binding_task(pairs, queries)


def test_too_many_pages_to_tell_apart() -> None:
    with pytest.raises(SmartError, match="expected fewer"):
        binding_task(3000, 10)
