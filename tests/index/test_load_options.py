"""What an index loads its model with, if that is given by name: recorded, kept to, and taken again."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from smart_retrieval import SmartModel
from smart_retrieval.errors import CodecError, IndexMismatchError, SmartError
from smart_retrieval.index.shared_codec import fit_shared_codec
from smart_retrieval.index.smart_index import SmartIndex

LONG = "the harbour master wrote the height of the tide into the book every morning before the ships came in"


def test_a_length_that_was_chosen_is_taken_again(tiny, tmp_path):
    name = str(tiny("mean"))
    with SmartIndex.open_or_create(tmp_path / "short", name, max_length=8, device="cpu") as index:
        index.add([LONG, "a short one"], ids=["long", "short"])
        stored = index.store.read_vectors(index.store.rowids(["long"])).anchors
    with SmartIndex.open(tmp_path / "short") as index:
        assert index.model.max_length == 8
        assert index.search(LONG, 1)[0].id == "long"
    with SmartIndex.open_or_create(tmp_path / "short", max_length=8) as index:
        assert index.model.max_length == 8
    with pytest.raises(IndexMismatchError, match="found max length 8, asked for 16; leave --max-length out"):
        SmartIndex.open_or_create(tmp_path / "short", max_length=16)
    whole, cut = (SmartModel(name, max_length=length).encode_document([LONG]).anchors for length in (None, 8))
    assert np.abs(stored - cut).max() <= np.abs(cut).max() / 32768 + 1e-6  # kept in 16 bits
    assert not np.allclose(stored, whole, atol=1e-3)


def test_a_family_is_recorded_and_kept_to(tiny, tmp_path):
    with SmartIndex.open_or_create(tmp_path / "e5", str(tiny("mean")), family="e5") as index:
        assert index.model.backbone.recipe is not None
        index.add(["one"], ids=["1"])
    with SmartIndex.open(tmp_path / "e5") as index:
        assert index.model.prompts["query"] == "query: "
    SmartIndex.open_or_create(tmp_path / "e5", family="e5").close()
    with pytest.raises(IndexMismatchError, match="found family e5, asked for sentence-transformers"):
        SmartIndex.open_or_create(tmp_path / "e5", family="sentence-transformers")


def test_a_loaded_model_must_be_as_asked(tiny, tmp_path):
    model = SmartModel(str(tiny("mean")), max_length=8, device="cpu")
    SmartIndex.open_or_create(tmp_path / "same", model, max_length=8, device="cpu").close()
    with pytest.raises(SmartError, match="max_length: found a model loaded with 8, expected 9"):
        SmartIndex.open_or_create(tmp_path / "other", model, max_length=9)
    with pytest.raises(SmartError, match="device: found a model loaded with cpu, expected meta"):
        SmartIndex.open_or_create(tmp_path / "other", model, device="meta")


def test_the_device_goes_with_a_pickled_index(tiny, tmp_path):
    with SmartIndex.create(tmp_path / "index", str(tiny("mean"))) as index:
        index.add(["one"], ids=["1"])
    with SmartIndex.open(tmp_path / "index", device="cpu") as index:
        again = pickle.loads(pickle.dumps(index))
        assert again.encoder.device == "cpu"
        assert again.model.device == "cpu"
        again.close()


def test_a_shared_codec_is_fitted_to_a_model_loaded_as_asked(tiny, tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/a.txt").write_text("\n\n".join([LONG] * 40))
    name = str(tiny("mean"))
    codec = fit_shared_codec(tmp_path / "docs", "int8", name, max_length=8)
    assert codec.token_dim == SmartModel(name).token_dim
    with SmartIndex.create(tmp_path / "index", name) as index:
        index.add(["one"], ids=["1"])
    with pytest.raises(CodecError, match="found max_length, expected none"):
        fit_shared_codec(tmp_path / "index", "int8", max_length=8)
