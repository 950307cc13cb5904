"""What a model computes in: bfloat16 where it is asked for, or where the processor is faster with it."""

import pickle

import numpy as np
import pytest
import torch
from fixtures.tiny_models import SUPPORTED, TEXTS
from fixtures.tiny_towers import save_towers

from smart_retrieval import Readout, SmartModel
from smart_retrieval.backbones import compute
from smart_retrieval.backbones.compute import Compute
from smart_retrieval.errors import ReadoutError, UnsupportedModelError


@pytest.fixture
def units(monkeypatch):
    """``units(speedup)``: a processor with bfloat16 units that are so much faster; with none where it is None."""

    def pretend(speedup):
        monkeypatch.setattr(compute, "bfloat16_units", lambda: speedup is not None)
        times = iter(np.cumsum([0.0, *([speedup or 1, 0, 1, 0] * 9)]))
        monkeypatch.setattr(compute.time, "thread_time", lambda: next(times))

    return pretend


@pytest.mark.parametrize("name", SUPPORTED)
def test_bfloat16_gives_nearly_the_same_in_float32_arrays(name, smart):
    model = smart(name)
    half = model.with_compute("bfloat16")
    texts = TEXTS[:6]
    exact, found = model.encode_document(texts), half.encode_document(texts)
    assert (found.anchors.dtype, found.token_vectors.dtype) == (np.float32, np.float32)
    assert np.array_equal(found.token_ids, exact.token_ids)
    assert np.abs(found.token_vectors - exact.token_vectors).max() < 0.05
    # It was computed in something else, and what stands behind the transformer was not.
    assert not np.array_equal(found.token_vectors, exact.token_vectors)
    np.testing.assert_allclose(np.linalg.norm(found.token_vectors, axis=1), 1, atol=1e-6)
    if "normalized" in name:
        np.testing.assert_allclose(np.linalg.norm(found.anchors, axis=1), 1, atol=1e-6)
    assert (model.compute, half.compute) == ("float32", "bfloat16")


def test_float32_stays_bit_for_bit_beside_it(tiny):
    before = SmartModel(tiny("dense-narrow"), device="cpu").encode_document(TEXTS)
    model = SmartModel(tiny("dense-narrow"), device="cpu", compute="float32")
    model.with_compute("bfloat16").encode_document(TEXTS)
    after = model.encode_document(TEXTS)
    assert np.array_equal(before.anchors, after.anchors)
    assert np.array_equal(before.token_vectors, after.token_vectors)
    weights = {weight.dtype for weight in model.backbone.model.parameters()}
    assert weights == {torch.float32}


@pytest.mark.parametrize("readout", [Readout(), Readout((0, -2), "concat"), Readout((-1, -2), token_filter="content")])
def test_it_goes_with_every_readout(readout, tiny):
    model = SmartModel(tiny("mean"), device="cpu")
    half = model.with_compute("bfloat16").with_readout(readout)
    exact = model.with_readout(readout).encode_document(TEXTS[:4])
    found = half.encode_document(TEXTS[:4])
    assert half.compute == "bfloat16"
    assert 0 < np.abs(found.token_vectors - exact.token_vectors).max() < 0.05


def test_anchors_of_another_layer(tiny):
    model = SmartModel(tiny("mean"), device="cpu", readout=Readout()).with_anchor_of(1)
    exact, found = model.encode_document(TEXTS[:4]), model.with_compute("bfloat16").encode_document(TEXTS[:4])
    assert 0 < np.abs(found.anchors - exact.anchors).max() < 0.05 * np.abs(exact.anchors).max()


def test_adapters_read_what_it_computes(tiny):
    from smart_retrieval.core.adapter import Adapter, AdapterConfig

    torch.manual_seed(0)
    model = SmartModel(tiny("mean"), device="cpu", readout=Readout())
    model = model.with_adapter(Adapter(AdapterConfig(model.state_dim, 8, 1)))
    half = model.with_compute("bfloat16")
    assert half.adapter is model.adapter
    exact, found = model.encode_document(TEXTS[:4]), half.encode_document(TEXTS[:4])
    assert 0 < np.abs(found.token_vectors - exact.token_vectors).max() < 0.1


def test_weights_that_change_are_taken_along(tiny):
    model = SmartModel(tiny("mean"), device="cpu", readout=Readout(), compute="bfloat16")
    before = model.encode_document(TEXTS[0])
    half = model.backbone._half
    model.encode_document(TEXTS[0])
    assert model.backbone._half is half  # made once
    with torch.no_grad():
        for weight in model.backbone.model.parameters():
            weight.mul_(1.1)
    assert not np.allclose(model.encode_document(TEXTS[0]).anchors, before.anchors, atol=1e-3)


def test_rotary_frequencies_stay_in_float32(tiny):
    model = SmartModel(tiny("decoder"), device="cpu", compute="bfloat16")
    transformer = model.backbone._half[1][0]
    assert {weight.dtype for weight in transformer.parameters()} == {torch.bfloat16}
    buffers = {name: buffer.dtype for name, buffer in transformer.named_buffers() if "inv_freq" in name}
    assert set(buffers.values()) == {torch.float32}


@pytest.mark.parametrize("name", ["gme", "lamra", "vlm2vec-v2", "jina-v4-merged", "lamra-qwen3", "qwen3-vl-embedding"])
def test_vision_language_models_take_it_where_asked(name, tiny_vlm, units):
    from PIL import Image

    units(3)
    model = SmartModel(tiny_vlm(name), device="cpu", readout=Readout())
    items = ["a cold river", Image.new("RGB", (64, 64), "teal")]
    exact = model.encode_document(items)
    found = model.with_compute("bfloat16").encode_document(items)
    cosines = (found.token_vectors * exact.token_vectors).sum(axis=1)
    assert cosines.min() > 0.98
    assert found.token_vectors.dtype == np.float32
    auto = model.with_compute("auto").computing
    assert (auto.name, auto.reason) == ("float32", "its quality in bfloat16 was measured on text models alone")


@pytest.mark.parametrize("architecture", ["clip", "siglip"])
def test_towers_take_it_where_asked(architecture, tmp_path):
    from PIL import Image

    save_towers(tmp_path / architecture, architecture)
    model = SmartModel(tmp_path / architecture, device="cpu", readout=Readout())
    items = ["cold river", Image.new("RGB", (32, 32), "teal")]
    exact, found = model.encode_document(items), model.with_compute("bfloat16").encode_document(items)
    assert found.anchors.dtype == np.float32
    assert (found.token_vectors * exact.token_vectors).sum(axis=1).min() > 0.98


# -- auto ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("speedup", "name", "reason"),
    [
        (2.5, "bfloat16", "bfloat16 is 2.5 x as fast as float32 here"),
        (1.1, "float32", "bfloat16 is 1.1 x as fast as float32 here"),
        (0.4, "float32", "bfloat16 is 0.4 x as fast as float32 here"),
        (None, "float32", "this processor reports no bfloat16 units"),
    ],
)
def test_auto_takes_it_where_it_is_faster(speedup, name, reason, smart, units):
    units(speedup)
    threads = torch.get_num_threads()
    auto = smart("mean").with_compute("auto")
    assert auto.computing == Compute(name, "auto", reason)
    assert auto.identity().get("compute") == (name if name == "bfloat16" else None)
    assert torch.get_num_threads() == threads


def test_auto_leaves_models_loaded_in_half_precision(tiny, units):
    units(3)
    model = SmartModel(tiny("mean"), device="cpu", model_kwargs={"dtype": torch.bfloat16}, compute="auto")
    assert model.computing.reason == "its weights were loaded in bfloat16"
    assert model.compute == "bfloat16"
    assert "compute" not in model.identity()  # the fingerprint tells them apart


def test_a_model_that_goes_wrong_in_bfloat16_is_refused_or_left(smart, units, monkeypatch):
    units(3)
    monkeypatch.setattr(compute, "_WORST_COSINE", 1.1)
    assert smart("mean").with_compute("auto").computing.name == "float32"
    with pytest.raises(UnsupportedModelError, match=r"whose cosine with those in float32 is 0\.9|is 1\.0"):
        smart("mean").with_compute("bfloat16")


def test_a_model_that_does_not_run_in_bfloat16_is_refused_or_left(smart, units, monkeypatch):
    units(3)

    def fails(module):
        raise RuntimeError("expected m1 and m2 to have the same dtype")

    monkeypatch.setattr("smart_retrieval.backbones.backbone.bfloat16_copy", fails)
    model = smart("cls")
    model.backbone._half = None
    assert "does not run in bfloat16 (expected m1" in model.with_compute("auto").computing.reason
    with pytest.raises(UnsupportedModelError, match="does not run in bfloat16"):
        model.with_compute("bfloat16")


def test_an_unknown_one_is_refused(tiny, smart):
    with pytest.raises(ReadoutError, match="compute: found 'fp8', expected"):
        SmartModel(tiny("mean"), compute="fp8")
    with pytest.raises(UnsupportedModelError, match="compute: found 'fp8', expected"):
        smart("mean").with_compute("fp8")


# -- kept ------------------------------------------------------------------------------------------------------


def test_it_survives_a_pickle_and_a_saved_folder(tiny, tmp_path, units):
    model = SmartModel(tiny("mean"), device="cpu").with_compute("bfloat16")
    expected = model.encode_document(TEXTS[:4])
    again = pickle.loads(pickle.dumps(model))
    model.save_pretrained(tmp_path / "saved")
    saved = SmartModel(tmp_path / "saved", device="cpu")
    for one in (again, saved):
        assert one.computing == model.computing
        assert np.array_equal(one.encode_document(TEXTS[:4]).anchors, expected.anchors)
    # What was saved are the weights in float32.
    plain = SmartModel(tmp_path / "saved", device="cpu", compute="float32")
    assert plain.backbone.fingerprint == SmartModel(tiny("mean"), device="cpu").backbone.fingerprint
    units(None)  # another machine settles it again
    model.with_compute("auto").save_pretrained(tmp_path / "auto")
    assert SmartModel(tmp_path / "auto", device="cpu").computing.asked == "auto"


def test_float32_leaves_no_trace_in_a_saved_folder(tiny, tmp_path):
    SmartModel(tiny("mean"), device="cpu").save_pretrained(tmp_path / "saved")
    assert "compute" not in (tmp_path / "saved" / "smart" / "config.json").read_text()


def test_queries_stay_in_float32_unless_bfloat16_was_asked_for(smart, monkeypatch):
    model = smart("mean")
    monkeypatch.setattr(compute, "_not_automatic", lambda backbone: "")
    monkeypatch.setattr(compute, "_calibrated", lambda backbone: Compute("bfloat16", "auto", "it is faster"))
    auto, half = model.with_compute("auto"), model.with_compute("bfloat16")
    exact = model.encode_query("the otter swims").anchors
    assert np.array_equal(auto.encode_query("the otter swims").anchors, exact)
    assert not np.array_equal(half.encode_query("the otter swims").anchors, exact)
    documents = [one.encode_document("the otter swims").anchors for one in (model, auto, half)]
    assert np.array_equal(documents[1], documents[2])
    assert not np.array_equal(documents[0], documents[1])
