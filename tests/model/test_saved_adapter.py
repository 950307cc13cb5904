"""A model with an adapter on disk: whole, or the adapter alone beside the name of its backbone."""

import json
import shutil

import numpy as np
import pytest
import torch
from fixtures.ragged import same
from fixtures.tiny_models import HIDDEN, TEXTS

from smart_retrieval import Readout, SmartModel
from smart_retrieval.core.adapter import Adapter, AdapterConfig
from smart_retrieval.core.scoring import Scoring
from smart_retrieval.errors import AdapterMismatchError, ModelNotFoundError, ReadoutError
from smart_retrieval.model.saving import write_tensors

READOUT = Readout((-2, -1), token_filter="content")


def adapted(path, readout=READOUT, **shape):
    torch.manual_seed(5)
    model = SmartModel(path, device="cpu", readout=readout)
    return model.with_adapter(Adapter(AdapterConfig(HIDDEN, **{"width": 6, "layers": len(readout.layers), **shape})))


def test_widths_and_identity_follow_the_adapter(tiny):
    frozen = SmartModel(tiny("mean"), device="cpu", readout=READOUT)
    model = adapted(tiny("mean"))
    embeddings = model.encode_document(TEXTS)
    assert model.token_dim == embeddings.token_dim == 6
    assert frozen.token_dim == HIDDEN
    assert frozen.adapter is None
    assert np.array_equal(embeddings.anchors, frozen.encode_document(TEXTS).anchors)
    assert np.array_equal(embeddings.offsets, frozen.encode_document(TEXTS).offsets)
    before = model.identity()
    assert before["fingerprint"] != frozen.identity()["fingerprint"]
    with torch.no_grad():
        model.adapter.projection.weight[0, 0] += 1
    assert model.identity()["fingerprint"] != before["fingerprint"]
    assert model.with_adapter(None).identity() == frozen.identity()


def test_the_packed_encoder_carries_it_and_can_train_it(tiny):
    model = adapted(tiny("prompts"))
    packed = model.encoder.encode_document(TEXTS, convert_to_numpy=True, normalize_embeddings=False)
    ours = model.encode_document(TEXTS)
    rows = -(-HIDDEN // 6)
    for i, matrix in enumerate(packed):
        assert matrix.shape == (rows + ours.lengths[i], 6)
        assert np.abs(matrix[rows:] - ours[i].token_vectors).max() <= 1e-5
    names = [name for name, _ in model.encoder.named_parameters() if "adapter" in name]
    assert len(names) == 4


@pytest.mark.parametrize("name", ["mean", "decoder-prompts"])
def test_a_whole_model_keeps_its_adapter(name, tiny, tmp_path):
    model = adapted(tiny(name), width=5)
    model.save_pretrained(tmp_path / "m")
    reopened = SmartModel(tmp_path / "m", device="cpu")
    assert reopened.adapter.config == model.adapter.config
    assert reopened.readout == READOUT
    assert same(reopened.encode_query(TEXTS), model.encode_query(TEXTS))
    from sentence_transformers import SentenceTransformer

    plain = SentenceTransformer(str(tmp_path / "m"), device="cpu").encode(TEXTS)
    assert np.abs(plain - SentenceTransformer(str(tiny(name)), device="cpu").encode(TEXTS)).max() == 0.0


@pytest.mark.parametrize("name", ["mean", "prompts"])
def test_an_adapter_alone_loads_the_backbone_it_names(name, tiny, tmp_path):
    model = adapted(tiny(name))
    model.save_adapter(tmp_path / "a")
    assert sorted(p.relative_to(tmp_path / "a").as_posix() for p in (tmp_path / "a").rglob("*")) == [
        "smart", "smart/config.json", "smart/model.safetensors",
    ]  # fmt: skip
    reopened = SmartModel(tmp_path / "a", device="cpu")
    assert reopened.backbone.name == str(tiny(name).resolve())
    assert reopened.prompts == model.prompts
    assert same(reopened.encode_query(TEXTS), model.encode_query(TEXTS))
    # An index opens a model by the name it was given: that of the adapter.
    assert reopened.identity()["name"] == str(tmp_path / "a")
    assert reopened.identity()["fingerprint"] == model.identity()["fingerprint"]


def test_limits_of_the_backbone_are_restored(tiny, tmp_path):
    model = SmartModel(tiny("mean"), device="cpu", readout=Readout(), max_length=9, prompts={"query": "see "})
    model.with_adapter(Adapter(AdapterConfig(HIDDEN, 4))).save_adapter(tmp_path / "a")
    reopened = SmartModel(tmp_path / "a", device="cpu")
    assert (reopened.max_length, reopened.prompts) == (9, {"query": "see "})
    assert SmartModel(tmp_path / "a", device="cpu", max_length=7).max_length == 7


def test_the_scoring_it_was_trained_with_is_its_default(tiny, tmp_path):
    model = SmartModel(tiny("mean"), device="cpu", readout=READOUT)
    adapter = Adapter(AdapterConfig(HIDDEN, 6, 2))
    model = model.with_adapter(adapter, scoring=Scoring("uniform", 0.5, 3.0))
    model.save_adapter(tmp_path / "a")
    model.save_pretrained(tmp_path / "m")
    for folder in "am":
        reopened = SmartModel(tmp_path / folder, device="cpu")
        assert reopened.preset.scoring.to_dict() == {
            "weights": "uniform", "lambda_anchor": 0.5, "lambda_late": 3.0, "floor": None,
        }  # fmt: skip
        assert SmartModel(tmp_path / folder, device="cpu", preset="paper").preset.scoring.lambda_late == 1.0
    file = tmp_path / "a" / "smart" / "config.json"
    config = json.loads(file.read_text())
    for scoring in ({"lambda_late": 1}, "paper", {**config["scoring"], "lambda_late": True}):
        file.write_text(json.dumps({**config, "scoring": scoring}))
        with pytest.raises(ReadoutError, match="scoring"):
            SmartModel(tmp_path / "a", device="cpu")


def test_a_floor_stays_with_the_adapter_it_was_chosen_for(tiny, tmp_path):
    plain = SmartModel(tiny("mean"), device="cpu", readout=Readout((-3, -2)))
    adapter = Adapter(AdapterConfig(HIDDEN, 6, 2))
    assert plain.with_adapter(adapter).preset.scoring.floor == "calibrated"  # which fits any states
    model = plain.with_adapter(adapter, scoring=plain.preset.scoring.override(floor=0.2))
    for save in ("save_adapter", "save_pretrained"):
        getattr(model, save)(tmp_path / save)
        reopened = SmartModel(tmp_path / save, device="cpu")
        assert reopened.preset.scoring.floor == 0.2
        assert reopened.with_readout(Readout((-3, -2), token_filter="content")).preset.scoring.floor == 0.2
        assert reopened.with_adapter(None).preset.scoring.floor is None
    # Files written before there was a floor in them have none.
    model.with_adapter(adapter, scoring=model.preset.scoring.override(floor=None)).save_adapter(tmp_path / "old")
    assert "floor" not in json.loads((tmp_path / "old" / "smart" / "config.json").read_text())["scoring"]
    assert SmartModel(tmp_path / "old", device="cpu").preset.scoring.floor is None


def test_another_backbone_is_refused(tiny, tmp_path):
    adapted(tiny("mean")).save_adapter(tmp_path / "a")
    with pytest.raises(AdapterMismatchError, match="trained on"):
        SmartModel(tmp_path / "a", device="cpu", backbone=tiny("dense-wide"))
    moved = shutil.copytree(tiny("mean"), tmp_path / "moved")
    assert SmartModel(tmp_path / "a", device="cpu", backbone=moved).token_dim == 6
    weights = moved / "model.safetensors"
    from safetensors.torch import load_file, save_file

    tensors = load_file(weights)
    save_file({name: tensor + 0.01 for name, tensor in tensors.items()}, weights, {"format": "pt"})
    with pytest.raises(AdapterMismatchError, match="with weights"):
        SmartModel(tmp_path / "a", device="cpu", backbone=moved)


def test_a_missing_backbone_and_a_backbone_without_an_adapter(tiny, tmp_path):
    adapted(tiny("mean")).save_adapter(tmp_path / "a")
    file = tmp_path / "a" / "smart" / "config.json"
    config = json.loads(file.read_text())
    config["backbone"]["name"] = str(tmp_path / "gone")
    file.write_text(json.dumps(config))
    with pytest.raises(ModelNotFoundError, match="gone"):
        SmartModel(tmp_path / "a", device="cpu")
    with pytest.raises(ReadoutError, match="expected an adapter"):
        SmartModel(tiny("mean"), device="cpu", backbone=tiny("mean"))


def test_other_layers_are_refused(tiny, tmp_path):
    model = adapted(tiny("mean"))
    model.save_adapter(tmp_path / "a")
    with pytest.raises(AdapterMismatchError, match=r"\[-2, -1\]"):
        SmartModel(tmp_path / "a", device="cpu", readout=Readout((-1, -3)))
    with pytest.raises(AdapterMismatchError, match="trained"):
        model.with_readout(Readout())
    with pytest.raises(AdapterMismatchError, match="2 layers"):
        model.with_adapter(model.adapter, Readout())
    with pytest.raises(AdapterMismatchError, match="dimensions"):
        model.with_adapter(Adapter(AdapterConfig(HIDDEN + 1, 4, 2)))
    assert model.with_readout(Readout((-2, -1))).token_dim == 6


def test_it_is_saved_only_where_there_is_one_and_no_checkpoint(tiny, tmp_path):
    with pytest.raises(ReadoutError, match="no adapter"):
        SmartModel(tiny("mean"), device="cpu").save_adapter(tmp_path / "a")
    adapted(tiny("mean")).save_pretrained(tmp_path / "m")
    with pytest.raises(ReadoutError, match="checkpoint"):
        adapted(tiny("mean")).save_adapter(tmp_path / "m")


def test_saving_without_an_adapter_leaves_none_behind(tiny, tmp_path):
    model = adapted(tiny("mean"))
    model.save_pretrained(tmp_path / "m")
    model.with_adapter(None).save_pretrained(tmp_path / "m")
    assert SmartModel(tmp_path / "m", device="cpu").adapter is None
    assert not (tmp_path / "m" / "smart" / "model.safetensors").exists()


@pytest.mark.parametrize("damage", ["missing", "short", "renamed", "unknown", "shape", "nan", "layers", "size"])
def test_weights_that_do_not_fit_are_refused(damage, tiny, tmp_path):
    model = adapted(tiny("mean"))
    model.save_adapter(tmp_path / "a")
    file = tmp_path / "a" / "smart" / "model.safetensors"
    tensors = {name: tensor.clone() for name, tensor in model.adapter.state_dict().items()}
    if damage == "missing":
        file.unlink()
    elif damage == "short":
        file.write_bytes(file.read_bytes()[:40])
    elif damage in ("layers", "size"):
        config = json.loads((file.parent / "config.json").read_text())
        config["adapter"]["layers" if damage == "layers" else "width"] = 3
        (file.parent / "config.json").write_text(json.dumps(config))
    else:
        if damage == "renamed":
            tensors["proj.weight"] = tensors.pop("projection.weight")
        elif damage == "unknown":
            tensors["bias"] = torch.zeros(3)
        elif damage == "shape":
            tensors["norm.bias"] = torch.zeros(3)
        else:
            tensors["norm.bias"][0] = float("nan")
        write_tensors(file, tensors)
    with pytest.raises(ReadoutError):
        SmartModel(tmp_path / "a", device="cpu")
