"""Training an adapter: what it learns, what it must not change, and resuming a killed run."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from fixtures.tiny_models import HIDDEN
from fixtures.training import texts, training_set

from smart_retrieval import Readout, SmartModel, hybrid_scores
from smart_retrieval.errors import ReadoutError, TrainingError
from smart_retrieval.inputs import Item
from smart_retrieval.training.adapter import train as training
from smart_retrieval.training.adapter.train import train_adapter
from smart_retrieval.training.data.examples import Collector, split
from smart_retrieval.training.recipes import AdapterRecipe
from smart_retrieval.training.validation import LAMBDAS, ndcg

QUICK = AdapterRecipe(epochs=4, batch_size=8, validate=1, learning_rate=5e-3, distractors=4)


def model_of(path, layers=(-1,)):
    return SmartModel(path, device="cpu", readout=Readout(layers))


def trained(tiny, out, recipe=QUICK, data=None, layers=(-1,), **kwargs):
    return train_adapter(model_of(tiny("prompts"), layers), data or training_set(), out, recipe, **kwargs)


@pytest.mark.parametrize("objective", ["late", "hybrid"])
def test_training_lowers_the_loss_and_saves_the_measured_adapter(objective, tiny, tmp_path):
    recipe = AdapterRecipe(**{**QUICK.to_dict(), "objective": objective, "width": 8})
    result = trained(tiny, tmp_path / "a", recipe)
    assert result.curve[-1]["loss"] < result.curve[0]["loss"]
    assert result.after["hybrid"] == max(result.after["hybrid"], *(p["hybrid"] for p in result.curve))
    assert result.before["anchor"] == result.after["anchor"]
    model = SmartModel(tmp_path / "a", device="cpu")
    assert model.token_dim == 8
    assert model.preset.scoring.weights == "uniform"
    # Measured again from scratch, on the same held-out queries and documents.
    data, held = split(training_set(), 0.1, recipe.seed)
    held = held.with_distractors(data, recipe.distractors)
    scores = hybrid_scores(model.encode_query(held.queries), model.encode_document(held.documents))
    found = np.mean([ndcg(scores[e.query], set(e.positives), 10) for e in held.examples])
    assert found == pytest.approx(result.after["hybrid"], abs=1e-6)


@pytest.mark.parametrize("kind", ["mlp", "self-attention", "residual"])
def test_every_kind_is_trained_saved_and_resumed(kind, tiny, tmp_path, monkeypatch):
    sizes = {"mlp": {"inner": 24}, "self-attention": {"heads": 2, "blocks": 2}}.get(kind, {})
    recipe = replace(QUICK, kind=kind, width=8, epochs=2, **sizes)
    result = trained(tiny, tmp_path / "a", recipe)
    assert result.curve[-1]["loss"] < result.curve[0]["loss"]
    model = SmartModel(tmp_path / "a", device="cpu")
    assert (model.adapter.config.kind, model.token_dim) == ({"residual": "linear"}.get(kind, kind), 8)
    data, held = split(training_set(), 0.1, recipe.seed)
    held = held.with_distractors(data, recipe.distractors)
    scores = hybrid_scores(model.encode_query(held.queries), model.encode_document(held.documents))
    found = np.mean([ndcg(scores[e.query], set(e.positives), 10) for e in held.examples])
    assert found == pytest.approx(result.after["hybrid"], abs=1e-6)

    steps = training.AdapterTraining.step

    def killed(self, step):
        steps(self, step)
        if step == self.steps // 2 + 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(training.AdapterTraining, "step", killed)
        with pytest.raises(KeyboardInterrupt):
            trained(tiny, tmp_path / "b", recipe)
    again = trained(tiny, tmp_path / "b", recipe)
    assert again.after == result.after
    resumed = SmartModel(tmp_path / "b", device="cpu").adapter.state_dict()
    for name, tensor in model.adapter.state_dict().items():
        torch.testing.assert_close(resumed[name], tensor, rtol=0, atol=0)


@pytest.mark.parametrize(("change", "message"), [
    ({"kind": "conv"}, "kind: found 'conv'"), ({"kind": "mlp", "inner": 0}, "inner: found 0"),
])  # fmt: skip
def test_kinds_that_do_not_exist(change, message):
    with pytest.raises(TrainingError, match=message):
        replace(QUICK, **change)


def test_heads_must_divide_the_width(tiny, tmp_path):
    with pytest.raises(ReadoutError, match="heads: found 3, expected a divisor of the width 8"):
        trained(tiny, tmp_path / "a", replace(QUICK, kind="self-attention", width=8, heads=3))


@pytest.mark.filterwarnings("ignore::smart_retrieval.errors.SmartWarning")
def test_items_without_content_are_trained_on_as_they_are_scored(tiny, tmp_path):
    collector = Collector("made")
    for query, document in [*texts(30), ("?", "the otter"), ("☃", "..."), ("the river", "")]:
        collector.add(Item(query), [collector.document(Item(document))], [])
    model = SmartModel(tiny("prompts"), device="cpu", readout=Readout(token_filter="content"))
    recipe = replace(QUICK, objective="hybrid", batch_size=33)
    held = training_set(6)
    held = replace(held, queries=[*held.queries[:4], Item("?"), Item("")])
    result = train_adapter(model, collector.finish(), tmp_path / "a", recipe, validation=held)
    assert all(np.isfinite(point["loss"]) for point in result.curve)
    trained = SmartModel(tmp_path / "a", device="cpu")
    assert trained.readout.token_filter == "content"
    queries = trained.encode_query(held.queries)
    assert queries.lengths[-2:].tolist() == [0, 0]
    scored = held.with_distractors(collector.finish(), recipe.distractors)
    scores = hybrid_scores(queries, trained.encode_document(scored.documents))
    found = np.mean([ndcg(scores[e.query], set(e.positives), 10) for e in scored.examples])
    assert found == pytest.approx(result.after["hybrid"], abs=1e-6)


def test_the_weight_of_the_late_score_is_chosen_on_validation_and_kept(tiny, tmp_path):
    recipe = AdapterRecipe(**{**QUICK.to_dict(), "width": 8, "choose_lambda": True, "lambda_late": 3.0})
    result = trained(tiny, tmp_path / "a", recipe)
    chosen = result.after["lambda_late"]
    assert SmartModel(tmp_path / "a", device="cpu").preset.scoring.lambda_late == chosen
    # The naive way: every weight measured from scratch, for what was kept and for the frozen readout.
    data, held = split(training_set(), 0.1, recipe.seed)
    held = held.with_distractors(data, recipe.distractors)
    for model, found in (
        (SmartModel(tmp_path / "a", device="cpu"), result.after),
        (model_of(tiny("prompts")), result.before),
    ):
        queries, documents = model.encode_query(held.queries), model.encode_document(held.documents)
        by_weight = {}
        for weight in (*LAMBDAS, 3.0):
            scores = hybrid_scores(queries, documents, lambda_late=weight)
            by_weight[weight] = np.mean([ndcg(scores[e.query], set(e.positives), 10) for e in held.examples])
        assert found["hybrid"] == pytest.approx(max(by_weight.values()), abs=1e-6)
        assert by_weight[found["lambda_late"]] == pytest.approx(max(by_weight.values()), abs=1e-6)
    # Without being asked, the weight stays as given.
    assert trained(tiny, tmp_path / "b", replace(recipe, choose_lambda=False)).after["lambda_late"] == 3.0


def test_the_backbone_is_bit_identical_and_in_evaluation_mode(tiny, tmp_path):
    model = model_of(tiny("prompts"), (-1, -2))
    before = {name: tensor.clone() for name, tensor in model.backbone.model.state_dict().items()}
    fingerprint = model.backbone.fingerprint
    model.backbone.model.train()
    train_adapter(model, training_set(), tmp_path / "a", QUICK)
    assert not any(module.training for module in model.backbone.model.modules())
    after = model.backbone.model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert all(parameter.grad is None for parameter in model.backbone.model.parameters())
    assert SmartModel(tmp_path / "a", device="cpu").backbone.fingerprint == fingerprint
    # The model that was given is not changed either.
    assert model.adapter is None


class _KilledError(BaseException):
    pass


@pytest.mark.parametrize("fusion", ["learned", "concat"])
def test_a_resumed_run_equals_an_uninterrupted_one(fusion, tiny, tmp_path, monkeypatch):
    recipe = AdapterRecipe(**{**QUICK.to_dict(), "fusion": fusion, "width": 6, "negatives": 1})
    data = training_set(negatives=2)
    whole = trained(tiny, tmp_path / "whole", recipe, data, (-1, -2))
    original = training.AdapterTraining.step

    def dying(self, step):
        if step == 11:
            raise _KilledError
        original(self, step)

    monkeypatch.setattr(training.AdapterTraining, "step", dying)
    with pytest.raises(_KilledError):
        trained(tiny, tmp_path / "cut", recipe, data, (-1, -2))
    # What was the best until then is there already.
    assert SmartModel(tmp_path / "cut", device="cpu").token_dim == 6
    steps = []
    monkeypatch.setattr(training.AdapterTraining, "step", lambda self, step: (steps.append(step), original(self, step)))
    resumed = trained(tiny, tmp_path / "cut", recipe, data, (-1, -2))
    assert steps[0] == 10
    assert (resumed.curve, resumed.after, resumed.best_step) == (whole.curve, whole.after, whole.best_step)
    a, b = ((tmp_path / name / "smart" / "model.safetensors").read_bytes() for name in ("whole", "cut"))
    assert a == b


def test_another_runs_checkpoint_and_a_finished_folder_are_refused(tiny, tmp_path, monkeypatch):
    original = training.AdapterTraining.step

    def dying(self, step):
        if step == 6:
            raise _KilledError
        original(self, step)

    monkeypatch.setattr(training.AdapterTraining, "step", dying)
    with pytest.raises(_KilledError):
        trained(tiny, tmp_path / "a")
    monkeypatch.setattr(training.AdapterTraining, "step", original)
    other = AdapterRecipe(**{**QUICK.to_dict(), "learning_rate": 1e-4})
    with pytest.raises(TrainingError, match="another run"):
        trained(tiny, tmp_path / "a", other)
    with pytest.raises(TrainingError, match="another run"):
        trained(tiny, tmp_path / "a", data=training_set(41))
    with pytest.raises(ReadoutError, match="expected"):
        trained(tiny, tmp_path / "a", layers=(-1, -2))
    trained(tiny, tmp_path / "a")
    with pytest.raises(TrainingError, match="finished"):
        trained(tiny, tmp_path / "a")
    (tmp_path / "a" / training.CHECKPOINT).write_bytes(b"damaged")
    with pytest.raises(TrainingError, match="delete it"):
        trained(tiny, tmp_path / "a")


def test_a_loss_that_is_no_number_stops_with_the_best_kept(tiny, tmp_path, monkeypatch):
    original = training.AdapterTraining.loss
    calls = []

    def breaking(self, batch):
        calls.append(batch)
        return original(self, batch) * (float("nan") if len(calls) == 8 else 1.0)

    monkeypatch.setattr(training.AdapterTraining, "loss", breaking)
    with pytest.raises(TrainingError, match=r"loss of nan at step 8.*kept"):
        trained(tiny, tmp_path / "a")
    embeddings = SmartModel(tmp_path / "a", device="cpu").encode_query(["the otter"])
    assert np.isfinite(embeddings.token_vectors).all()


def test_states_over_the_budget_give_the_same_losses(tiny, tmp_path):
    said = []
    cached = trained(tiny, tmp_path / "cached")
    live = trained(tiny, tmp_path / "live", budget=0, say=said.append)
    assert "4 of 4 sets are over the budget" in said[0]
    assert [p["loss"] for p in live.curve] == pytest.approx([p["loss"] for p in cached.curve], rel=0.02)


def test_loss_and_gradient_equal_the_naive_formula(tiny, tmp_path):
    data = training_set(12, negatives=1)
    recipe = AdapterRecipe(**{**QUICK.to_dict(), "objective": "hybrid", "lambda_late": 2.0, "width": 8, "negatives": 1})
    model = model_of(tiny("prompts"))
    run = training.AdapterTraining(model, data, data, tmp_path, recipe)
    run.open_states(tmp_path / "cache", 10**9, False, lambda _: None)
    batch = training.batch_of_step(data, 0, batch_size=8, negatives=1, seed=0)
    run.loss(batch).backward()
    adapted = model.with_adapter(run.adapter)
    queries = adapted.encode_query([data.queries[q] for q in batch.queries])
    documents = adapted.encode_document([data.documents[d] for d in batch.documents])
    logits = hybrid_scores(queries, documents, lambda_late=2.0) / recipe.temperature
    logits[batch.ignored] = -np.inf
    expected = -np.mean(
        [
            row[t] - np.log(np.exp(row - row.max()).sum()) - row.max()
            for row, t in zip(logits, batch.targets, strict=True)
        ]
    )
    assert run.loss(batch).item() == pytest.approx(expected, rel=5e-3)
    # The gradient against finite differences of the loss.
    weight = run.adapter.projection.weight
    gradient = weight.grad[2, 5].item()
    with torch.no_grad():
        sides = []
        for shift in (1e-2, -1e-2):
            weight[2, 5] += shift
            sides.append(run.loss(batch).item())
            weight[2, 5] -= shift
    assert gradient == pytest.approx((sides[0] - sides[1]) / 2e-2, rel=0.05, abs=1e-3)


def test_a_teacher_is_followed(tiny, tmp_path):
    data = training_set(40, negatives=2, scores=True)
    recipe = AdapterRecipe(**{**QUICK.to_dict(), "distill": 1.0, "negatives": 2, "teacher_temperature": 0.2})
    result = trained(tiny, tmp_path / "a", recipe, data)
    assert result.curve[-1]["loss"] < result.curve[0]["loss"]
    with pytest.raises(TrainingError, match="scores in every row"):
        trained(tiny, tmp_path / "b", recipe)


def test_the_card_holds_results_recipe_and_data(tiny, tmp_path):
    result = trained(tiny, tmp_path / "a")
    text = (tmp_path / "a" / "README.md").read_text()
    assert (
        f"| trained | {result.after['anchor']:.4f} | {result.after['late']:.4f} | {result.after['hybrid']:.4f} |"
        in text
    )
    assert "| learning_rate | 0.005 |" in text
    assert "36 queries" in text
    record = json.loads((tmp_path / "a" / "training.json").read_text())
    assert record["result"]["after"] == result.after
    assert record["backbone"]["fingerprint"] in text
    assert not (tmp_path / "a" / training.CHECKPOINT).exists()


@pytest.mark.parametrize(
    "change",
    [
        {"objective": "anchor"}, {"objective": "x"}, {"fusion": "mean"}, {"start": "pca"}, {"epochs": 0}, {"width": 0},
        {"batch_size": 1}, {"temperature": 0}, {"learning_rate": float("nan")}, {"warmup": 2}, {"distill": -0.1},
        {"inner": 24}, {"heads": 2}, {"kind": "mlp", "blocks": 2}, {"kind": "self-attention", "inner": 24},
    ],
    ids=str,
)  # fmt: skip
def test_a_recipe_out_of_range_is_refused(change):
    with pytest.raises(TrainingError):
        AdapterRecipe(**change)


def test_the_rate_rises_and_falls():
    recipe = AdapterRecipe(learning_rate=1.0, warmup=0.1)
    rates = [recipe.rate(step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([(s + 1) / 10 for s in range(10)])
    assert rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5, abs=0.01)
    assert 0 < rates[-1] < 0.01
    assert all(a > b for a, b in pairwise(rates[10:]))


def test_one_example_is_refused(tiny, tmp_path):
    with pytest.raises(TrainingError, match="at least 2"):
        trained(tiny, tmp_path / "a", data=training_set(1), validation=training_set(3))


def test_frozen_weights_have_no_decay(tiny, tmp_path):
    run = training.AdapterTraining(model_of(tiny("mean"), (-1, -2)), training_set(), training_set(), tmp_path, QUICK)
    decayed = {id(p) for group in run.optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    assert decayed == {id(run.adapter.projection.weight)}
    assert sum(len(group["params"]) for group in run.optimizer.param_groups) == len(list(run.adapter.parameters())) == 4
    assert run.adapter.config.width == HIDDEN
