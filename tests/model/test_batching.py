"""Windows cover a stream in order; batches are a partition of a window; limits hold."""

from itertools import pairwise

import pytest
from fixtures.tiny_models import TEXTS
from hypothesis import given
from hypothesis import strategies as st

from smart_retrieval.backbones.backbone import estimated_tokens
from smart_retrieval.inputs import Item
from smart_retrieval.model.batching import BatchLimits, length_sorted_batches, windows

texts = st.lists(st.integers(0, 200).map(lambda n: "x" * n), max_size=60)
max_lengths = st.one_of(st.none(), st.integers(1, 64))
limits = st.builds(
    BatchLimits,
    batch_size=st.integers(1, 9),
    batch_tokens=st.integers(1, 300),
    window_tokens=st.integers(1, 400),
    window_items=st.integers(1, 20),
)


def sized(max_length):
    """The estimate a text backbone makes."""
    return lambda text: estimated_tokens(text, max_length)


@given(texts, max_lengths, limits)
def test_windows_cover_the_texts_in_order_within_their_limits(texts, max_length, limits):
    # Numbered, so that two equal texts cannot be confused.
    numbered = [f"{i}{text}" for i, text in enumerate(texts)]
    cut = list(windows(iter(numbered), sized(max_length), limits))
    assert [text for window in cut for text in window] == numbered
    for window in cut:
        assert 1 <= len(window) <= limits.window_items
        tokens = sum(estimated_tokens(text, max_length) for text in window)
        assert tokens <= limits.window_tokens or len(window) == 1


@given(texts, max_lengths, limits)
def test_a_window_is_closed_only_when_the_next_text_would_break_a_limit(texts, max_length, limits):
    cut = list(windows(texts, sized(max_length), limits))
    for window, following in pairwise(cut):
        tokens = sum(estimated_tokens(text, max_length) for text in [*window, following[0]])
        assert tokens > limits.window_tokens or len(window) == limits.window_items


@given(texts, max_lengths, limits)
def test_batches_are_a_partition_within_their_limits(texts, max_length, limits):
    batches = list(length_sorted_batches([sized(max_length)(text) for text in texts], limits))
    assert sorted(index for batch in batches for index in batch) == list(range(len(texts)))
    for batch in batches:
        assert 1 <= len(batch) <= limits.batch_size
        widest = max(estimated_tokens(texts[index], max_length) for index in batch)
        assert widest * len(batch) <= limits.batch_tokens or len(batch) == 1


@given(texts, max_lengths, limits)
def test_batches_come_longest_first(texts, max_length, limits):
    order = [
        index for batch in length_sorted_batches([sized(max_length)(text) for text in texts], limits) for index in batch
    ]
    lengths = [estimated_tokens(texts[index], max_length) for index in order]
    assert lengths == sorted(lengths, reverse=True)


def test_windows_read_at_most_one_text_ahead():
    read = 0

    def stream():
        nonlocal read
        for _ in range(100):
            read += 1
            yield "four"

    cut = windows(stream(), sized(None), BatchLimits(window_items=10))
    handed = 0
    for window in cut:
        handed += len(window)
        assert read <= handed + 1
        if handed == 30:
            break
    assert read <= 31


@pytest.mark.parametrize(
    ("text", "max_length", "expected"), [("", None, 2), ("", 1, 1), ("x" * 9, None, 5), ("x" * 900, 24, 24)]
)
def test_estimates(text, max_length, expected):
    assert estimated_tokens(text, max_length) == expected


@pytest.mark.parametrize("name", ["mean", "prompts", "decoder", "limited"])
def test_texts_are_counted_as_they_will_be_tokenized(name, smart):
    backbone = smart("mean" if name == "limited" else name, **({"max_length": 6} if name == "limited" else {})).backbone
    prompt = backbone.prompt_for("query", None, None)
    items = [Item(text) for text in [*TEXTS, "a b c d e f g h", "", "x" * 10_000]]
    features = backbone.preprocess(items, prompt=prompt, task="query")
    counted = backbone.token_lengths(items, prompt=prompt, task="query")
    assert counted[:-1] == features["attention_mask"].sum(dim=1).tolist()[:-1]
    assert counted[-1] >= 6


def test_texts_of_as_many_tokens_go_together_whatever_their_characters(smart, monkeypatch):
    model, widths = smart("mean"), []
    preprocess = model.backbone.preprocess

    def watched(items, **options):
        features = preprocess(items, **options)
        widths.append(features["input_ids"].shape[1])
        return features

    monkeypatch.setattr(model.backbone, "preprocess", watched)
    short, long = "a" + " " * 60, " ".join("abcdefgh")
    model.encode_document([short, long, short, long], batch_size=2)
    assert len(widths) == 2
    assert widths[0] > widths[1]
