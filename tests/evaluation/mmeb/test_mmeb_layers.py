"""Late interaction layer by layer: what each point is, and the command."""

import json
import pickle

import numpy as np
import pytest
import torch
from fixtures.mmeb_layouts import Layout
from typer.testing import CliRunner

from smart_retrieval import Readout, Scoring, SmartIndex, SmartModel
from smart_retrieval.cli.main import eval_app as app
from smart_retrieval.core.adapter import Adapter, AdapterConfig
from smart_retrieval.errors import IndexMismatchError, ReadoutError, UnsupportedModelError
from smart_retrieval.evaluation.layers import draw_layers
from smart_retrieval.evaluation.mmeb.layers import ablate_layers
from smart_retrieval.evaluation.mmeb.run import MmebOptions, evaluate_mmeb
from smart_retrieval.evaluation.mmeb.tasks import choose

FEW = ["MSCOCO_t2i", "MSVD", "ViDoRe_docvqa"]
LIMITS = {"max_visual_tokens": 16, "max_frames": 2}
TEXTS = ["the otter swims", "tax is due"]


@pytest.fixture(scope="module")
def model(tiny_vlm):
    return SmartModel(tiny_vlm("qwen3-vl-embedding"), device="cpu", preset="paper", **LIMITS)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    layout = Layout(tmp_path_factory.mktemp("layers") / "root")
    layout.write(choose(FEW))
    return layout.root


@pytest.mark.parametrize("name", ["qwen3-vl-embedding", "lamra-qwen3"])
def test_an_anchor_of_another_layer_is_that_layers_state_where_the_model_pools(name, tiny_vlm):
    model = SmartModel(tiny_vlm(name), device="cpu", readout=Readout((2,)))
    moved = model.with_anchor_of(2)
    features = model.backbone.preprocess(TEXTS, prompt=None, task="document")
    with torch.inference_mode():
        states = model.backbone.model(features, task="document")["all_layer_embeddings"]
    for row in range(2):
        ids = features["input_ids"][row, : int(features["attention_mask"][row].sum())].tolist()
        emb = model.tokenizer.convert_tokens_to_ids("<emb>")
        place = ids.index(emb) - 1 if name == "lamra-qwen3" else len(ids) - 1
        expected = torch.nn.functional.normalize(states[2][row, place], dim=-1).numpy()
        np.testing.assert_allclose(moved.encode_document(TEXTS).anchors[row], expected, rtol=0, atol=1e-5)
    several = model.with_anchor_of(-1, 2)
    both = np.concatenate([moved.encode_document(TEXTS).anchors, model.encode_document(TEXTS).anchors], axis=1)
    np.testing.assert_array_equal(several.encode_document(TEXTS).anchors, both)
    assert (several.anchor_dim, several.identity()["anchor_layer"]) == (2 * model.anchor_dim, [2, 4])
    assert pickle.loads(pickle.dumps(several)).identity() == several.identity()
    assert (moved.identity()["anchor_layer"], "anchor_layer" in model.identity()) == (2, False)
    np.testing.assert_array_equal(
        moved.encode_document(TEXTS).token_vectors, model.encode_document(TEXTS).token_vectors
    )
    same = model.with_anchor_of(-1)
    np.testing.assert_array_equal(same.encode_document(TEXTS).anchors, model.encode_document(TEXTS).anchors)
    with pytest.raises(ReadoutError, match="expected an index"):
        model.with_anchor_of(99)


def test_text_models_too_and_no_index_takes_it_for_the_model(smart, tmp_path):
    model = smart("mean").with_anchor_of(1)
    own = smart("mean").with_readout(Readout((1,)))
    states = own.encode_document(TEXTS)
    assert np.abs(model.encode_document(TEXTS).anchors - states.anchors).max() > 1e-3
    with SmartIndex.create(tmp_path / "i", model) as index:
        index.add(TEXTS)
    with pytest.raises(IndexMismatchError, match=r"model\.anchor_layer is 1, not None"):
        SmartIndex.open(tmp_path / "i", model=smart("mean"))


def test_every_point_is_a_run_of_its_own(model, root, tmp_path, monkeypatch):
    assert model.anchor_dim == 64  # which takes a forward pass, once
    passes = []
    forward = type(model.backbone).forward
    monkeypatch.setattr(type(model.backbone), "forward", lambda *args: passes.append(1) or forward(*args))
    found = ablate_layers(root, tmp_path / "out", layers=(2, -1), tasks=FEW, model=model, cache=tmp_path / "cache")
    once = len(passes)
    assert [point["layer"] for point in found["points"]] == [2, 4]
    assert found["points"][1]["both"] == found["points"][1]["late"]
    assert json.loads((tmp_path / "out/layers.json").read_text())["points"] == found["points"]
    plain = evaluate_mmeb(
        root, tmp_path / "plain", tasks=FEW, model=model, cache=tmp_path / "cache",
        options=MmebOptions(lambdas_late=(1.0,)),
    )  # fmt: skip
    metrics = {task.name: task.metric for task in choose(FEW)}
    for system, mine in (("anchor", found["anchor"]), ("hybrid-1", found["points"][1]["late"])):
        values = [100 * plain["settings"][system]["scores"][name][metrics[name]] for name in FEW]
        assert mine["mean"] == pytest.approx(np.mean(values))
    assert once == len(passes) - once  # as many forward passes for all layers as for the last alone
    # Each layer is what a model that reads that layer alone gives.
    for kind, own in (("late", model), ("both", model.with_anchor_of(2))):
        alone = evaluate_mmeb(
            root, tmp_path / kind, tasks=FEW, model=own.with_readout(Readout((2,))), cache=tmp_path / "cache",
            options=MmebOptions(lambdas_late=(1.0,)),
        )["settings"]  # fmt: skip
        systems = (
            ("hybrid-1", kind),
            ("late", "late_alone"),
            *([("anchor", "anchor_alone")] if kind == "both" else []),
        )
        for system, name in systems:
            values = [100 * alone[system]["scores"][task][metrics[task]] for task in FEW]
            assert found["points"][0][name]["mean"] == pytest.approx(np.mean(values))
    # The anchors of layer 2 alone and beside its late score.
    scored = json.loads((tmp_path / "out/layer-2/both/result.json").read_text())
    assert scored["identity"]["anchor_layer"] == 2
    assert scored["readout"]["layers"] == [2]
    assert scored["scoring"] == {"weights": "uniform", "floor": None}
    assert model.preset.scoring == Scoring()


def test_the_command_and_its_plot(root, tiny_vlm, tmp_path):
    pytest.importorskip("matplotlib")
    options = {
        "data-root": root, "out": tmp_path / "out", "cache": tmp_path / "cache", "tasks": "MSVD", "layers": "1,4",
        "model": tiny_vlm("qwen3-vl-embedding"), "device": "cpu", "plot": tmp_path / "curve.svg",
        "max-visual-tokens": 16, "max-frames": 2,
    }  # fmt: skip
    arguments = ["layers", *(part for name, value in options.items() for part in (f"--{name}", str(value)))]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, (done.output, done.exception)
    assert "late + own anchor" in done.stdout
    drawn = (tmp_path / "curve.svg").read_text()
    assert drawn.count("<path") > 5
    found = json.loads((tmp_path / "out/layers.json").read_text())
    assert found["tasks"] == ["MSVD"]
    assert found["points"][0]["late"]["groups"] == {}
    assert draw_layers(found, tmp_path / "again.svg").read_bytes() == (tmp_path / "curve.svg").read_bytes()


def test_discarding_leaves_no_encodings_of_any_layer(model, root, tmp_path):
    found = ablate_layers(
        root, tmp_path / "out", layers=(1, 2), tasks=["MSVD"], model=model, cache=tmp_path / "cache", discard=True
    )
    assert found["points"][1]["late_alone"]["mean"] is not None
    assert [path for path in (tmp_path / "cache/mmeb").rglob("*") if path.suffix == ".npy"] == []
    assert sorted(path.name for path in (tmp_path / "cache/mmeb").glob("*/document/*")) == []


def test_an_adapter_has_its_own_layers(model, root, tmp_path):
    adapted = model.with_adapter(Adapter(AdapterConfig(model.state_dim, 4)))
    with pytest.raises(UnsupportedModelError, match="found an adapter"):
        ablate_layers(root, tmp_path / "out", tasks=FEW, model=adapted)
