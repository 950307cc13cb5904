"""Fine-tuning on the stock trainer: every objective, LoRA and whole, text and pictures."""

import json

import numpy as np
import pytest
import torch
from fixtures.pictures import LIMITS, picture
from fixtures.training import texts, training_set

from smart_retrieval import Readout, SmartModel
from smart_retrieval.errors import TrainingError
from smart_retrieval.inputs import Item
from smart_retrieval.training.data.batches import training_rows
from smart_retrieval.training.data.examples import Collector

for module in ("accelerate", "datasets", "peft"):
    pytest.importorskip(module)

from smart_retrieval.training.backbone import trainer as trainer_module  # noqa: E402 (needs the extra)
from smart_retrieval.training.backbone.finetune import FinetuneRecipe, finetune, lora_targets  # noqa: E402

QUICK = FinetuneRecipe(lora_rank=4, epochs=4, batch_size=8, validate=1, learning_rate=1e-2, distractors=4)


def recipe(**changes):
    return FinetuneRecipe(**{**QUICK.to_dict(), **changes})


def model_of(path, **kwargs):
    return SmartModel(path, device="cpu", readout=Readout(), **kwargs)


@pytest.mark.filterwarnings("ignore::smart_retrieval.errors.SmartWarning")
@pytest.mark.parametrize("mini_batch", [None, 3])
def test_items_without_content(mini_batch, tiny, tmp_path):
    collector = Collector("made")
    for query, document in [*texts(12), ("?", "the otter"), ("☃", "..."), ("the river", "")]:
        collector.add(Item(query), [collector.document(Item(document))], [])
    model = SmartModel(tiny("prompts"), device="cpu", readout=Readout(token_filter="content"))
    result = finetune(model, collector.finish(), tmp_path / "m", recipe(objective="late", mini_batch=mini_batch))
    assert all(np.isfinite(point["loss"]) for point in result.curve)
    assert SmartModel(tmp_path / "m", device="cpu").encode_query("?").lengths.tolist() == [0]


def weights(model):
    return {name: tensor.clone() for name, tensor in model.backbone.model.state_dict().items()}


@pytest.mark.parametrize(
    ("objective", "changes"),
    [
        ("anchor", {}), ("late", {"negatives": 1}), ("hybrid", {"mini_batch": 3}), ("hybrid", {"lora_rank": 0}),
        ("late", {"width": 6, "lora_rank": 0, "mini_batch": 4}),
    ],
    ids=str,
)  # fmt: skip
def test_text(objective, changes, tiny, tmp_path):
    model = model_of(tiny("prompts"))
    before, identity = weights(model), model.backbone.fingerprint
    result = finetune(model, training_set(32, negatives=1), tmp_path / "m", recipe(objective=objective, **changes))
    assert len(result.curve) == 4
    assert min(point["loss"] for point in result.curve[1:]) < result.curve[0]["loss"]
    reopened = SmartModel(tmp_path / "m", device="cpu")
    after = weights(reopened)
    # The same network again, without LoRA's matrices, and changed.
    assert {name: t.shape for name, t in after.items()} == {name: t.shape for name, t in before.items()}
    assert any(not torch.equal(after[name], before[name]) for name in before)
    assert reopened.backbone.fingerprint != identity
    assert reopened.token_dim == changes.get("width", 32)
    assert np.abs(reopened.encode_query("the otter").anchors - model.encode_query("the otter").anchors).max() < 1e-5
    from sentence_transformers import SentenceTransformer

    plain = SentenceTransformer(str(tmp_path / "m"), device="cpu").encode_query(["the otter"])
    assert np.abs(plain - reopened.encode_query("the otter").anchors).max() < 1e-6
    assert (tmp_path / "m" / "README.md").read_text().count("|") > 20
    if changes.get("lora_rank") != 0:
        frozen = [name for name in before if "embeddings" in name]
        assert frozen
        assert all(torch.equal(after[name], before[name]) for name in frozen)


def picture_set(count=8):
    collector = Collector("pictures")
    for number in range(count):
        document = collector.document(Item("", (picture(number), picture(number + 50))[: 1 + number % 2]))
        collector.add(Item(f"squares {number}"), [document])
    collector.add(Item("words", (picture(90),)), [collector.document(Item("only words"))])
    return collector.finish()


@pytest.mark.parametrize("name", ["qwen3-vl-embedding", "gme"])
@pytest.mark.parametrize("mini_batch", [None, 2])
def test_pictures(name, mini_batch, tiny_vlm, tmp_path):
    model = model_of(tiny_vlm(name), **{**LIMITS, "max_visual_tokens": 8})
    assert all("language_model" in target for target in lora_targets(model))
    chosen = recipe(batch_size=4, epochs=1, mini_batch=mini_batch, distractors=0)
    data = picture_set()
    result = finetune(model, data, tmp_path / "m", chosen, validation=data)
    assert np.isfinite(result.curve[-1]["loss"])
    reopened = SmartModel(tmp_path / "m", device="cpu")
    assert reopened.backbone.family == model.backbone.family
    item = Item(images=(picture(3),))
    difference = reopened.encode_document(item).token_vectors - model.encode_document(item).token_vectors
    assert np.abs(difference).max() < 1e-4


def test_features_are_those_of_inference(tiny_vlm):
    model = model_of(tiny_vlm("qwen3-vl-embedding"), **LIMITS)
    data = picture_set(4)
    rows = training_rows(data, 1, 0)
    batch = trainer_module.RowCollator(model.backbone, data)(
        [{name: column[i] for name, column in rows.items()} for i in range(4)]
    )
    for column, task in (("query", "query"), ("positive", "document"), ("negative_1", "document")):
        features = {k.removeprefix(f"{column}_"): v for k, v in batch.items() if k.startswith(f"{column}_")}
        out = model.encoder(dict(features), task=task)
        items = data.queries if task == "query" else data.documents
        wanted = getattr(model, f"encode_{task}")([items[n] for n in rows[column][:4]])
        kept = out["kept"]
        assert kept.sum(dim=1).tolist() == wanted.lengths.tolist()
        assert np.abs(out["token_vectors"][kept].detach().numpy() - wanted.token_vectors).max() < 1e-5


def test_rows_hold_queries_with_their_documents():
    data = training_set(10, negatives=2, scores=True)
    rows = training_rows(data, 4, seed=0)
    for i, label in enumerate(rows["label"]):
        assert label == [rows["query"][i], rows["positive"][i], *(rows[f"negative_{n}"][i] for n in (1, 2, 3, 4))]
        assert rows["positive"][i] in data.relevant()[rows["query"][i]]
        assert len(set(label[1:])) == 5
    scored = training_rows(data, 2, seed=0, scored=True)
    assert scored["label"][0][0] == 1.0
    assert sorted(scored["label"][0][1:]) == pytest.approx([0.25, 0.5])
    with pytest.raises(TrainingError, match="no query with 3 scored"):
        training_rows(data, 3, seed=0, scored=True)
    with pytest.raises(TrainingError, match="teacher"):
        training_rows(training_set(10), 2, seed=0, scored=True)
    with pytest.raises(TrainingError, match="fewer than the 10 documents"):
        training_rows(data, 10, seed=0)


def test_a_teacher_is_followed(tiny, tmp_path):
    data = training_set(32, negatives=2, scores=True)
    chosen = recipe(distill=True, negatives=2, teacher_temperature=0.2, temperature=0.2, lora_rank=0)
    result = finetune(model_of(tiny("prompts")), data, tmp_path / "m", chosen, validation=training_set(6))
    assert result.curve[-1]["loss"] < result.curve[0]["loss"]


def test_a_resumed_finetuning_equals_an_uninterrupted_one(tiny, tmp_path, monkeypatch, capsys):
    data = training_set(32)
    whole = finetune(model_of(tiny("prompts")), data, tmp_path / "whole", QUICK)
    original = trainer_module.HybridTrainer.compute_loss

    def dying(self, *args, **kwargs):
        if self.state.global_step == 6:
            raise KeyboardInterrupt
        return original(self, *args, **kwargs)

    monkeypatch.setattr(trainer_module.HybridTrainer, "compute_loss", dying)
    with pytest.raises(KeyboardInterrupt):
        finetune(model_of(tiny("prompts")), data, tmp_path / "cut", QUICK)
    monkeypatch.setattr(trainer_module.HybridTrainer, "compute_loss", original)
    said = []
    resumed = finetune(model_of(tiny("prompts")), data, tmp_path / "cut", QUICK, say=said.append)
    assert any("going on from checkpoint-4" in sentence for sentence in said)
    assert capsys.readouterr().out == ""  # stdout is for results
    assert resumed.after == pytest.approx(whole.after)
    assert [p["step"] for p in resumed.curve] == [p["step"] for p in whole.curve]
    a, b = (weights(model_of(tmp_path / name)) for name in ("whole", "cut"))
    for name, tensor in a.items():
        torch.testing.assert_close(b[name], tensor, atol=1e-5, rtol=1e-4)


def test_a_loss_that_is_no_number_and_a_finished_folder(tiny, tmp_path):
    with pytest.raises(TrainingError, match=r"loss of (nan|inf)"):
        finetune(model_of(tiny("prompts")), training_set(32), tmp_path / "a", recipe(learning_rate=1e30))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "training.json").write_text(json.dumps({}))
    with pytest.raises(TrainingError, match="finished"):
        finetune(model_of(tiny("prompts")), training_set(32), tmp_path / "b", QUICK)


@pytest.mark.parametrize(
    "change", [{"objective": "x"}, {"lora_rank": -1}, {"batch_size": 1}, {"temperature": 0}, {"mini_batch": 0}], ids=str
)
def test_a_recipe_out_of_range_is_refused(change):
    with pytest.raises(TrainingError):
        FinetuneRecipe(**change)
