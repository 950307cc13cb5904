"""What an index's documents are computed in: recorded, kept to, and never in the way of opening it."""

import numpy as np
import pytest
from fixtures.commands import loaded, run
from fixtures.tiny_models import TEXTS

from smart_retrieval import SmartIndex, SmartModel
from smart_retrieval.backbones import compute
from smart_retrieval.backbones.compute import Compute
from smart_retrieval.errors import IndexMismatchError, SmartError
from smart_retrieval.index.store.anchors import rounded_anchors


@pytest.fixture
def faster(monkeypatch):
    """``faster(name)``: what auto comes to on this machine."""

    def decide(name):
        monkeypatch.setattr(compute, "bfloat16_units", lambda: True)
        monkeypatch.setattr(compute, "_calibrated", lambda backbone: Compute(name, "auto", "measured here"))

    return decide


def stored(index):
    return next(iter(index.store.iterate(100))).anchors


def test_documents_are_encoded_as_recorded_whatever_model_is_given(tiny, tmp_path, faster):
    model = SmartModel(tiny("mean"), device="cpu")
    half = model.with_compute("bfloat16")
    faster("bfloat16")
    for name, recorded in (("half", half), ("full", model)):
        with SmartIndex.create(tmp_path / name, recorded, codec="float16") as index:
            index.add(TEXTS[:3])
        for given in (model, half):
            with SmartIndex.open(tmp_path / name, given) as index:
                index.add(TEXTS[3:6], on_duplicate="replace")
                expected = recorded.encode_document(TEXTS[3:6]).anchors
                assert np.array_equal(stored(index)[3:], rounded_anchors(expected))
                assert index.search(TEXTS[4], 1)[0].text == TEXTS[4]
                assert index.info()["model"].get("compute") == (None if name == "full" else "bfloat16")


def test_it_is_added_to_in_float32_where_that_is_faster(tiny, tmp_path, faster):
    faster("bfloat16")
    model = SmartModel(tiny("mean"), device="cpu")
    SmartIndex.create(tmp_path / "notes", model.with_compute("auto"), codec="float16").close()
    faster("float32")  # on another machine
    with SmartIndex.open(tmp_path / "notes", model) as index:
        index.add(TEXTS[:3])
        assert np.array_equal(stored(index), rounded_anchors(model.encode_document(TEXTS[:3]).anchors))
        assert index.search(TEXTS[1], 1)[0].text == TEXTS[1]


def test_settings_of_an_existing_index_stay(tiny, tmp_path, faster):
    faster("bfloat16")
    path, model = tmp_path / "notes", str(tiny("mean"))
    SmartIndex.open_or_create(path, model, compute="float32").close()
    SmartIndex.open_or_create(path, model, compute="auto").close()
    with pytest.raises(IndexMismatchError, match="found compute float32, asked for bfloat16; leave --compute out"):
        SmartIndex.open_or_create(path, model, compute="bfloat16")
    with pytest.raises(SmartError, match="compute: found 'fp8'"):
        SmartIndex.open_or_create(tmp_path / "other", model, compute="fp8")
    assert not (tmp_path / "other").exists()


def test_the_command_chooses_and_says_so(tiny, tmp_path, faster):
    (tmp_path / "a.txt").write_text("The otter swims in the cold river.\n")
    for name in ("bfloat16", "float32"):
        faster(name)
        result = run("index", tmp_path / "a.txt", "--index", tmp_path / name, "--model", tiny("mean"), "--json")
        assert loaded(result)["compute"] == {"name": name, "reason": "measured here"}
        assert ("note: encoded in bfloat16 (measured here)" in result.stderr) == (name == "bfloat16")
        again = run("index", tmp_path / "a.txt", "--index", tmp_path / name, "--json")
        assert loaded(again)["compute"] is None  # nothing was encoded
    result = run(
        "index",
        tmp_path / "a.txt",
        "--index",
        tmp_path / "c",
        "--model",
        tiny("mean"),
        "--compute",
        "float32",
        "--json",
    )
    assert loaded(result)["compute"] == {"name": "float32", "reason": "as asked"}
    assert "compute" in loaded(run("info", tmp_path / "bfloat16", "--json"))["model"]


def test_queries_without_torch_share_one_export(tiny, tmp_path, faster):
    faster("bfloat16")
    keys = []
    for name in ("auto", "float32"):
        with SmartIndex.open_or_create(tmp_path / name, str(tiny("mean")), compute=name) as index:
            keys.append(index.encoder._key())
    assert keys[0] == keys[1]
