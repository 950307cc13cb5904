"""Encoding into a folder: the same result, one window in memory, and no half-written folder."""

import numpy as np
import pytest
from fixtures.ragged import same
from fixtures.tiny_models import TEXTS

from smart_retrieval import SmartEmbeddings, SmartModel
from smart_retrieval.embeddings import EmbeddingsWriter
from smart_retrieval.errors import EmbeddingsError, EmptyInputError, NonFiniteError, SmartWarning
from smart_retrieval.model.batching import BatchLimits


@pytest.fixture
def small_windows(monkeypatch):
    """Windows of four texts instead of thousands."""

    def limits(**kwargs):
        return BatchLimits(**{"window_items": 4, **kwargs})

    monkeypatch.setattr("smart_retrieval.model.smart_model.BatchLimits", limits)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("name", ["prompts", "decoder"])
def test_a_streamed_encoding_is_the_one_in_memory(name, dtype, smart, tmp_path, small_windows):
    model = smart(name, dtype=dtype)
    streamed = model.encode_document(TEXTS, out=tmp_path / "emb")
    in_memory = model.encode_document(TEXTS)
    assert same(streamed, in_memory)
    assert streamed.report == in_memory.report
    assert streamed.token_strings(0) == in_memory.token_strings(0)
    assert same(SmartEmbeddings.load(tmp_path / "emb"), in_memory)
    assert [path.name for path in tmp_path.iterdir()] == ["emb"]


def test_what_comes_back_is_memory_mapped(smart, tmp_path):
    streamed = smart("mean").encode_document(TEXTS, out=str(tmp_path / "emb"))
    assert isinstance(streamed.token_vectors, np.memmap)
    assert isinstance(streamed.anchors, np.memmap)
    scores = smart("mean").similarity(streamed, streamed)
    assert scores.argmax(axis=1).tolist() == list(range(len(TEXTS)))


class CountedTexts:
    """A stream of texts that counts how far it was read, and fails at a given text."""

    def __init__(self, total, fail_at=None):
        self.total, self.fail_at, self.read = total, fail_at, 0

    def __iter__(self):
        for i in range(self.total):
            if i == self.fail_at:
                raise ConnectionError("the database went away")
            self.read += 1
            yield TEXTS[i % len(TEXTS)]


@pytest.mark.parametrize("out", [True, False])
def test_an_iterator_is_read_a_window_at_a_time(out, smart, tmp_path, small_windows, monkeypatch):
    model, texts = smart("mean"), CountedTexts(20)
    ahead = []
    original = type(model._encoder)._window

    def watching(self, window, *args):
        first, _ = window[0]
        ahead.append(texts.read - first - len(window))
        return original(self, window, *args)

    monkeypatch.setattr(type(model._encoder), "_window", watching)
    encoded = model.encode_document(texts, out=tmp_path / "emb" if out else None)
    assert len(encoded) == texts.read == 20
    assert len(ahead) == 5
    assert all(0 <= count <= 1 for count in ahead)


def test_each_window_is_written_before_the_next_is_encoded(smart, tmp_path, small_windows, monkeypatch):
    order = []
    original_append, original_window = EmbeddingsWriter.append, type(smart("mean")._encoder)._window

    def append(self, batch):
        order.append(("write", len(batch)))
        return original_append(self, batch)

    def window(self, items, *args):
        order.append(("encode", len(items)))
        return original_window(self, items, *args)

    monkeypatch.setattr(EmbeddingsWriter, "append", append)
    monkeypatch.setattr(type(smart("mean")._encoder), "_window", window)
    smart("mean").encode_document(TEXTS[:10], out=tmp_path / "emb")
    assert order == [("encode", 4), ("write", 4), ("encode", 4), ("write", 4), ("encode", 2), ("write", 2)]


@pytest.mark.parametrize("fail_at", [0, 3, 11])
def test_a_stream_that_breaks_leaves_nothing_behind(fail_at, smart, tmp_path, small_windows):
    with pytest.raises(ConnectionError):
        smart("mean").encode_document(CountedTexts(20, fail_at), out=tmp_path / "emb")
    assert list(tmp_path.iterdir()) == []


def test_a_stream_that_breaks_keeps_the_earlier_encoding(smart, tmp_path, small_windows):
    earlier = smart("mean").encode_document(TEXTS[:3])
    smart("mean").encode_document(TEXTS[:3], out=tmp_path / "emb")
    with pytest.raises(ConnectionError):
        smart("mean").encode_document(CountedTexts(20, fail_at=9), out=tmp_path / "emb")
    with pytest.raises(EmptyInputError):
        smart("mean").encode_document([*TEXTS[:9], None], out=tmp_path / "emb")
    assert same(SmartEmbeddings.load(tmp_path / "emb"), earlier)
    assert [path.name for path in tmp_path.iterdir()] == ["emb"]


def test_a_complete_encoding_replaces_the_earlier_one(smart, tmp_path):
    smart("mean").encode_document(TEXTS, out=tmp_path / "emb")
    again = smart("mean").encode_document(TEXTS[:2], out=tmp_path / "emb")
    assert len(again) == len(SmartEmbeddings.load(tmp_path / "emb")) == 2


def test_nan_leaves_nothing_behind(tiny, tmp_path, small_windows):
    import torch

    model = SmartModel(tiny("mean"), device="cpu")
    zebra = model.tokenizer.convert_tokens_to_ids("zebra")
    with torch.no_grad():
        model.backbone.transformer.auto_model.embeddings.word_embeddings.weight[zebra] = float("nan")
    with pytest.raises(NonFiniteError, match="first item 5"):
        model.encode_document(TEXTS, out=tmp_path / "emb")
    assert list(tmp_path.iterdir()) == []


def test_one_warning_of_each_kind_for_the_whole_stream(smart, tmp_path, small_windows):
    texts = (["sea"] * 3 + ["", "the " * 40]) * 3
    with pytest.warns(SmartWarning) as caught:
        streamed = smart("mean").encode_document(iter(texts), out=tmp_path / "emb")
    assert sorted(str(warning.message)[:20] for warning in caught) == ["3 of 15 documents ar", "3 of 15 documents ha"]
    assert streamed.report.to_dict() == {"items": 15, "truncated": 3, "truncated_tokens": 3 * 18, "empty": 3}
    assert SmartEmbeddings.load(tmp_path / "emb").report == streamed.report


def test_a_target_that_holds_something_else_is_refused_before_encoding(smart, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    texts = CountedTexts(3)
    for place in (tmp_path, tmp_path / "thesis.txt"):
        with pytest.raises(EmbeddingsError, match="something else"):
            smart("mean").encode_document(texts, out=place)
    assert texts.read == 0
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_an_empty_stream_leaves_nothing_behind(smart, tmp_path):
    with pytest.raises((EmptyInputError, EmbeddingsError)):
        smart("mean").encode_document(iter([]), out=tmp_path / "emb")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_stream_is_the_same_error_with_and_without_out(smart, tmp_path):
    with pytest.raises(EmptyInputError):
        smart("mean").encode_document(iter([]), out=tmp_path / "emb")
