"""States on disk: equal to the backbone's, computed once, resumed after an interruption."""

import json
import warnings

import numpy as np
import pytest
import torch
from fixtures.pictures import LIMITS, picture
from fixtures.tiny_models import HIDDEN, TEXTS

from smart_retrieval import Readout, SmartModel
from smart_retrieval.core.adapter import Adapter, AdapterConfig
from smart_retrieval.errors import SmartWarning, TrainingError
from smart_retrieval.inputs import Item
from smart_retrieval.training import hidden_states
from smart_retrieval.training.hidden_states import CachedStates, LiveStates, cache_states, states_key

ITEMS = [Item(text) for text in (*TEXTS, "")]
BIG = 10**9


def model_of(path, layers=(-1, -3), **kwargs):
    return SmartModel(path, device="cpu", readout=Readout(layers), **kwargs)


@pytest.mark.parametrize("name", ["mean", "prompts", "decoder-prompts", "dense-wide"])
def test_an_adapter_over_cached_states_gives_the_models_token_vectors(name, tiny, tmp_path):
    model = model_of(tiny(name))
    torch.manual_seed(0)
    adapted = model.with_adapter(Adapter(AdapterConfig(HIDDEN, 5, 2)))
    for task in ("query", "document"):
        states = cache_states(model, ITEMS, task, tmp_path, budget=BIG)
        encoded = getattr(adapted, f"encode_{task}")([item.text for item in ITEMS])
        order = [3, 17, 0, 5]
        batch = states.batch(order)
        assert batch.lengths.tolist() == encoded.lengths[order].tolist()
        with torch.no_grad():
            vectors = torch.nn.functional.normalize(adapted.adapter(batch.states), dim=-1).numpy()
        # float16 states
        assert np.abs(vectors - encoded[order].token_vectors).max() < 5e-3
        anchors = encoded.anchors[order] / np.linalg.norm(encoded.anchors[order], axis=1, keepdims=True)
        np.testing.assert_allclose(batch.anchors.numpy(), anchors, atol=1e-6)


def test_live_and_cached_states_are_the_same(tiny, tmp_path):
    model = model_of(tiny("prompts"))
    cached, live = cache_states(model, ITEMS, "query", tmp_path, budget=BIG), LiveStates(model, ITEMS, "query")
    assert len(cached) == len(live) == len(ITEMS)
    a, b = cached.batch([4, 4, 9]), live.batch([4, 4, 9])
    assert a.lengths.tolist() == b.lengths.tolist()
    for x, y in zip(a.states, b.states, strict=True):
        assert ((x - y).abs() <= 1e-3 * y.abs().amax(dim=-1, keepdim=True)).all()


def test_pictures_are_cached_too(tiny_vlm, tmp_path):
    model = model_of(tiny_vlm("qwen3-vl-embedding"), **LIMITS)
    items = [Item("a chart", (picture(1),)), Item(images=(picture(2),)), Item("words")]
    states = cache_states(model, items, "document", tmp_path, budget=BIG)
    assert states.batch([0, 1, 2]).lengths.tolist() == model.encode_document(items).lengths.tolist()


def test_a_second_call_computes_nothing(tiny, tmp_path, monkeypatch):
    model = model_of(tiny("mean"))
    first = cache_states(model, ITEMS, "query", tmp_path, budget=BIG).batch([0, 5])
    monkeypatch.setattr(LiveStates, "windows", lambda *_: pytest.fail("computed again"))
    second = cache_states(model, ITEMS, "query", tmp_path, budget=BIG).batch([0, 5])
    assert all(torch.equal(a, b) for a, b in zip(first.states, second.states, strict=True))


def test_an_interrupted_computation_resumes(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(hidden_states, "_LIMITS", hidden_states.BatchLimits(2, 200, 60, 3))
    model = model_of(tiny("mean"))
    whole = cache_states(model, ITEMS, "query", tmp_path / "whole", budget=BIG)
    original = LiveStates.windows

    def dying(self, items, advance=lambda _: None):
        for number, window in enumerate(original(self, items, advance)):
            if number == 2:
                raise KeyboardInterrupt
            yield window

    root = tmp_path / "cut"
    monkeypatch.setattr(LiveStates, "windows", dying)
    with pytest.raises(KeyboardInterrupt):
        cache_states(model, ITEMS, "query", root, budget=BIG)
    (folder,) = (root / "states").iterdir()
    with pytest.raises(TrainingError, match="unfinished"):
        CachedStates(folder)
    done = json.loads((folder / "progress.json").read_text())["items"]
    assert 0 < done < len(ITEMS)
    # What a kill left half written behind the last window that counts.
    with (folder / "states.f16").open("ab") as file:
        file.write(b"torn")
    asked = []

    def counting(self, items, advance=lambda _: None):
        asked.extend(items)
        return original(self, items, advance)

    monkeypatch.setattr(LiveStates, "windows", counting)
    resumed = cache_states(model, ITEMS, "query", root, budget=BIG)
    assert asked == list(range(done, len(ITEMS)))
    everything = range(len(ITEMS))
    for a, b in zip(resumed.batch(everything).states, whole.batch(everything).states, strict=True):
        torch.testing.assert_close(a, b, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("name", ["states.f16", "scales.f32", "anchors.f32", "lengths.i64", "progress.json"])
def test_a_flipped_bit_is_found_and_everything_computed_again(tiny, tmp_path, name):
    model = model_of(tiny("mean"))
    first = cache_states(model, ITEMS, "query", tmp_path, budget=BIG).batch([0, 5])
    (folder,) = (tmp_path / "states").iterdir()
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SmartWarning)
        with pytest.raises(TrainingError):
            CachedStates(folder)
    with pytest.warns(SmartWarning, match="damaged.*compute them again"):
        second = cache_states(model, ITEMS, "query", tmp_path, budget=BIG).batch([0, 5])
    assert all(torch.equal(a, b) for a, b in zip(first.states, second.states, strict=True))


@pytest.mark.parametrize("complete", [True, False])
def test_a_cache_without_checksums_is_used(tiny, tmp_path, monkeypatch, complete):
    """As version 0.1.0 left it, whole or interrupted."""
    model = model_of(tiny("mean"))
    first = cache_states(model, ITEMS, "query", tmp_path, budget=BIG).batch([0, 5])
    (folder,) = (tmp_path / "states").iterdir()
    about = json.loads((folder / "progress.json").read_text())
    del about["checksum"], about["checksums"]
    (folder / "progress.json").write_text(json.dumps(about | {"complete": complete}))
    second = cache_states(model, ITEMS, "query", tmp_path, budget=BIG).batch([0, 5])
    assert all(torch.equal(a, b) for a, b in zip(first.states, second.states, strict=True))


def test_states_over_the_budget_are_not_kept(tiny, tmp_path):
    assert cache_states(model_of(tiny("mean")), ITEMS, "query", tmp_path, budget=500) is None
    assert not list((tmp_path / "states").iterdir())


def test_everything_that_shapes_states_is_in_the_key(tiny):
    model = model_of(tiny("mean"))
    keys = {
        states_key(model, ITEMS, "query"),
        states_key(model, ITEMS[1:], "query"),
        states_key(model, [Item("other"), *ITEMS[1:]], "query"),
        states_key(model, ITEMS, "document"),
        states_key(model_of(tiny("mean"), (-1,)), ITEMS, "query"),
        states_key(model_of(tiny("mean"), prompts={"query": "see: "}), ITEMS, "query"),
        states_key(model_of(tiny("mean"), max_length=8), ITEMS, "query"),
        states_key(model_of(tiny("cls-normalized")), ITEMS, "query"),
    }
    assert len(keys) == 8
    assert states_key(model.with_readout(Readout((-1, -3), mix="concat")), ITEMS, "query") in keys
