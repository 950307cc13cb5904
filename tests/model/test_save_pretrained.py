"""A saved SmartModel is a plain checkpoint with a readout beside it."""

import json

import numpy as np
import pytest
from fixtures.ragged import same
from fixtures.tiny_models import PROMPTS, TEXTS

from smart_retrieval import Readout, SmartModel
from smart_retrieval.core.calibration import Calibration
from smart_retrieval.core.presets import Preset, get_preset
from smart_retrieval.core.scoring import Scoring
from smart_retrieval.errors import ReadoutError, SmartError

READOUT = Readout(layers=(0, -2), mix="concat", token_filter="content")


@pytest.fixture(params=["mean", "cls-normalized", "dense-wide", "prompts", "decoder-prompts", "chat"])
def name(request):
    return request.param


def test_plain_sentence_transformers_opens_it_with_an_identical_anchor(name, tiny, tmp_path):
    from sentence_transformers import SentenceTransformer

    model = SmartModel(tiny(name), device="cpu", readout=READOUT)
    texts = TEXTS[:6] if name == "chat" else TEXTS
    encoded = model.encode_query(texts)
    _ = model.encoder  # assembling the multi-vector model must leave no trace in what is saved
    model.save_pretrained(tmp_path / "upgraded")
    before = SentenceTransformer(str(tiny(name)), device="cpu").encode_query(texts)
    after = SentenceTransformer(str(tmp_path / "upgraded"), device="cpu").encode_query(texts)
    assert np.abs(after - before).max() == 0.0
    assert np.abs(encoded.anchors - after).max() <= 1e-6


def test_smart_model_opens_it_with_its_readout(name, tiny, tmp_path):
    model = SmartModel(tiny(name), device="cpu", readout=READOUT)
    model.save_pretrained(str(tmp_path / "upgraded"))
    for reopened in (
        SmartModel(tmp_path / "upgraded", device="cpu"),
        SmartModel.from_pretrained(str(tmp_path / "upgraded"), device="cpu"),
    ):
        assert reopened.readout == READOUT
        assert reopened.prompts == model.prompts
        assert same(reopened.encode_document(TEXTS[:6]), model.encode_document(TEXTS[:6]))


def test_a_readout_given_wins_over_the_saved_one(tiny, tmp_path):
    SmartModel(tiny("mean"), device="cpu", readout=READOUT).save_pretrained(tmp_path / "m")
    assert SmartModel(tmp_path / "m", device="cpu", readout=Readout()).readout == Readout()
    assert SmartModel(tmp_path / "m", device="cpu", preset="paper").readout == READOUT


def test_the_scoring_is_saved_too(tiny, tmp_path):
    model = SmartModel(tiny("mean"), device="cpu", readout=READOUT)
    model.preset = Preset("default", READOUT, Scoring("uniform", 0.5, 3.0, 0.25))
    model.save_pretrained(tmp_path / "m")
    assert SmartModel(tmp_path / "m", device="cpu").preset == model.preset
    # What is asked for by name, and other layers, go their own way; a floor belongs to the layers it was chosen for.
    assert SmartModel(tmp_path / "m", device="cpu", preset="paper").preset.scoring == get_preset("paper").scoring
    other = SmartModel(tmp_path / "m", device="cpu", readout=Readout()).preset
    assert other == Preset("default", Readout(), Scoring("uniform", 0.5, 3.0, None))
    queries, documents = model.encode_query(TEXTS[:2]), model.encode_document(TEXTS[:3])
    reopened = SmartModel(tmp_path / "m", device="cpu")
    assert np.array_equal(reopened.similarity(queries, documents), model.similarity(queries, documents))


@pytest.mark.parametrize(("layers", "floor"), [((-3, -2), 0.55), ((-1,), None)])
def test_a_file_without_scoring_has_that_of_version_0_1(tiny, tmp_path, layers, floor):
    SmartModel(tiny("mean"), device="cpu", readout=Readout(layers)).save_pretrained(tmp_path / "m")
    file = tmp_path / "m" / "smart" / "config.json"
    config = json.loads(file.read_text())
    assert config.pop("scoring")["floor"] == "calibrated"
    file.write_text(json.dumps(config))
    model = SmartModel(tmp_path / "m", device="cpu")
    assert (model.readout, model.preset.scoring) == (Readout(layers), Scoring("idf", floor=floor))


def test_the_calibration_is_saved_with_the_model(tiny, tmp_path):
    model = SmartModel(tiny("mean"), device="cpu")
    assert model.calibration is None
    documents = model.encode_document(["the otter swims", "tax is due", "sea water and the sun"])
    found = model.calibrate(documents)
    assert model.calibration == found == Calibration.fit(documents)
    model.save_pretrained(tmp_path / "m")
    saved = SmartModel(tmp_path / "m", device="cpu")
    assert saved.calibration == found
    one, query = documents[[0]], model.encode_query("otter")
    # One document is too few to calibrate on.
    np.testing.assert_array_equal(saved.similarity(query, one), model.similarity(query, one))
    assert saved.with_readout(Readout((-2,))).calibration is None
    file = tmp_path / "m" / "smart" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "calibration": {"floor": 1}}))
    with pytest.raises(ReadoutError, match="calibration: found"):
        SmartModel(tmp_path / "m", device="cpu")


@pytest.mark.parametrize(
    "change",
    [
        {"floor": True}, {"floor": "0.5"}, {"floor": float("nan")}, {"lambda_late": float("inf")}, {"pooling": 2},
        {"weights": None},
    ],
    ids=str,
)  # fmt: skip
def test_an_invalid_scoring_is_refused(tiny, tmp_path, change):
    SmartModel(tiny("mean"), device="cpu").save_pretrained(tmp_path / "m")
    file = tmp_path / "m" / "smart" / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "scoring": {**config["scoring"], **change}}))
    with pytest.raises(ReadoutError, match="found scoring"):
        SmartModel(tmp_path / "m", device="cpu")


def test_saving_twice_and_saving_a_saved_one_change_nothing(tiny, tmp_path):
    model = SmartModel(tiny("prompts"), device="cpu", readout=READOUT)
    model.save_pretrained(tmp_path / "a")
    model.save_pretrained(tmp_path / "a")
    SmartModel(tmp_path / "a", device="cpu").save_pretrained(tmp_path / "b")
    assert same(SmartModel(tmp_path / "b", device="cpu").encode_query(TEXTS), model.encode_query(TEXTS))
    for name in ("config.json", "modules.json", "tokenizer.json", "smart/config.json"):
        a, b = (json.loads((tmp_path / folder / name).read_text()) for folder in "ab")
        if name.startswith("smart"):
            a["backbone"].pop("name"), b["backbone"].pop("name")
        assert a == b


def test_what_was_set_at_construction_is_saved(tiny, tmp_path):
    SmartModel(tiny("mean"), device="cpu", prompts=PROMPTS, max_length=9).save_pretrained(tmp_path / "m")
    reopened = SmartModel(tmp_path / "m", device="cpu")
    assert reopened.prompts == PROMPTS
    assert reopened.max_length == 9


def test_no_code_is_named_in_the_checkpoint(tiny, tmp_path):
    # A module class of ours in modules.json would need trust_remote_code everywhere.
    model = SmartModel(tiny("mean"), device="cpu", readout=READOUT)
    _ = model.encoder
    model.save_pretrained(tmp_path / "m")
    modules = json.loads((tmp_path / "m" / "modules.json").read_text())
    assert len(modules) == 2
    assert all(module["type"].startswith("sentence_transformers.") for module in modules)


# -- damage --------------------------------------------------------------------------------------------------------


@pytest.fixture
def config(tiny, tmp_path):
    SmartModel(tiny("mean"), device="cpu").save_pretrained(tmp_path / "m")
    return tmp_path / "m" / "smart" / "config.json"


@pytest.mark.parametrize("data", [b"", b"{", b"hello", b"[]", b"null", b"3", b"\xff\xfe{}", b"{}"], ids=repr)
def test_a_damaged_file(config, data):
    config.write_bytes(data)
    with pytest.raises(ReadoutError, match=r"config\.json"):
        SmartModel(config.parent.parent, device="cpu")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "smart-model/9"}, r"smart-model/9.*expected 'smart-model/1'"),
        ({"format": None}, "None"),
        ({"router": "model.safetensors"}, r"unknown keys \['router'\]"),
        ({"adapter": "model.safetensors"}, "expected an object"),
        ({"readout": {"layers": [-1], "heads": 3}}, r"unknown keys \['heads'\]"),
        ({"readout": {"layers": [99]}}, "found 99"),
        ({"readout": {"layers": "all"}}, "readout"),
        ({"readout": {"token_filter": "everything"}}, "everything"),
        ({"readout": []}, "readout"),
        ({"readout": "last"}, "readout"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_unknown_values_in_the_file_are_refused(config, change, message):
    config.write_text(json.dumps({**json.loads(config.read_text()), **change}))
    with pytest.raises(ReadoutError, match=message):
        SmartModel(config.parent.parent, device="cpu")


@pytest.mark.parametrize("readout", [None, 3])
def test_a_readout_that_is_not_an_object(config, readout):
    config.write_text(json.dumps({**json.loads(config.read_text()), "readout": readout}))
    with pytest.raises(ReadoutError):
        SmartModel(config.parent.parent, device="cpu")


def test_a_file_without_a_readout(config):
    config.write_text('{"format": "smart-model/1"}')
    with pytest.raises(ReadoutError):
        SmartModel(config.parent.parent, device="cpu")


def test_a_checkpoint_with_a_weight_missing_is_refused_or_refuses_to_load(tiny, tmp_path):
    SmartModel(tiny("mean"), device="cpu").save_pretrained(tmp_path / "m")
    weights = tmp_path / "m" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(SmartError, match="model"):
        SmartModel(tmp_path / "m", device="cpu")
