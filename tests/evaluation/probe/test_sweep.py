"""A sweep gives what the model itself gives under any readout, and the scores and metrics that follow from it."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from fixtures.tiny_models import HIDDEN, LAYERS, TEXTS, bert
from sentence_transformers import SentenceTransformer

from smart_retrieval import Readout, SmartModel
from smart_retrieval.core.adapter import Adapter, AdapterConfig
from smart_retrieval.core.hybrid import hybrid_scores
from smart_retrieval.core.late import late_scores
from smart_retrieval.core.presets import Preset
from smart_retrieval.core.scoring import Scoring
from smart_retrieval.core.weights import IdfWeights
from smart_retrieval.errors import AdapterMismatchError, DatasetError, ReadoutError, ScoringError
from smart_retrieval.evaluation.beir import load_beir, sample
from smart_retrieval.evaluation.cache import EncodingCache
from smart_retrieval.evaluation.evaluate import evaluate_beir
from smart_retrieval.evaluation.probe import sweep as sweep_module
from smart_retrieval.evaluation.probe.sweep import Sweep, spread

READOUTS = [
    Readout(layers, mix, token_filter)
    for layers, mix in (((-1,), "mean"), ((0,), "mean"), ((-3, -2), "mean"), ((-1, 0, -2), "mean"), ((1, -1), "concat"))
    for token_filter in ("paper", "content")
]


pytestmark = pytest.mark.filterwarnings("ignore::smart_retrieval.errors.SmartWarning")


@pytest.fixture
def folder(tmp_path):
    """Two empty documents and an empty query among others."""
    folder = tmp_path / "tiny"
    (folder / "qrels").mkdir(parents=True)
    texts, queries = ["", *TEXTS[:12], ""], ["cold river", "", "the passage of time", "sleep"]
    for name, values in (("corpus", texts), ("queries", queries)):
        lines = [json.dumps({"_id": f"{name[0]}{n}", "text": text}) for n, text in enumerate(values)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    judged = ["q0\tc1\t2", "q0\tc7\t1", "q1\tc3\t1", "q2\tc5\t1", "q2\tc2\t0", "q3\tc12\t1"]
    (folder / "qrels" / "test.tsv").write_text("\n".join(judged))
    return folder


@pytest.fixture
def data(folder):
    return load_beir(folder)


def close(ours, theirs):
    assert ours.offsets.tolist() == theirs.offsets.tolist()
    assert ours.token_ids.tolist() == theirs.token_ids.tolist()
    assert ours.roles.tolist() == theirs.roles.tolist()
    assert ours.token_vectors.dtype == theirs.token_vectors.dtype
    assert np.abs(ours.token_vectors - theirs.token_vectors).max() <= 1e-5
    assert np.abs(ours.anchors - theirs.anchors).max() <= 1e-5


@pytest.mark.parametrize("name", ["mean", "dense-narrow", "prompts", "decoder-prompts", "chat"])
def test_every_readout_is_what_the_model_gives(name, tiny, data):
    model = SmartModel(tiny(name), device="cpu", readout=Readout())
    sweep = Sweep.encode(model, data)
    assert sweep.layers == tuple(range(model.backbone.n_states))
    assert sweep.token_filters == ("paper", "content")
    for readout in READOUTS:
        if min(readout.layers) < -model.backbone.n_states:
            continue
        own = model.with_readout(readout)
        documents, queries = own.encode_document(data.texts), own.encode_query(data.queries)
        close(sweep.embeddings("document", readout), documents)
        close(sweep.embeddings("query", readout), queries)
        for weights, floor in (("uniform", None), ("idf", 0.3)):
            fitted = IdfWeights.fit(documents) if weights == "idf" else None
            expected = late_scores(queries, documents, weights=fitted, floor=floor)
            assert np.abs(sweep.late(readout, weights, floor) - expected).max() <= 1e-5


def test_a_projection_behind_the_last_layer_is_read_as_the_model_reads_it(data, tmp_path):
    from sentence_transformers.base.modules import Dense
    from sentence_transformers.sentence_transformer.modules import Pooling

    project = Dense(
        HIDDEN, 12, activation_function=torch.nn.Identity(), module_input_name="token_embeddings",
        module_output_name="token_embeddings",
    )  # fmt: skip
    model = SentenceTransformer(modules=[bert(tmp_path / "plain"), project, Pooling(12)], device="cpu")
    model.save_pretrained(str(tmp_path / "st"), create_model_card=False)
    smart = SmartModel(tmp_path / "st", device="cpu")
    sweep = Sweep.encode(smart, data)
    for readout in (Readout(), Readout((-2,)), Readout((0, -2))):
        own = smart.with_readout(readout)
        close(sweep.embeddings("document", readout), own.encode_document(data.texts))
        close(sweep.embeddings("query", readout), own.encode_query(data.queries))


def test_scores_do_not_depend_on_blocks(tiny, data, monkeypatch):
    model = SmartModel(tiny("prompts"), device="cpu")
    settings = [Scoring("uniform"), Scoring("idf", floor=0.2), Scoring("uniform", floor=0.4)]
    readout = Readout((-2, -1))
    whole = Sweep.encode(model, data).lates(readout, settings)
    monkeypatch.setattr(sweep_module, "DEFAULT_MEMORY", 1)
    monkeypatch.setattr(sweep_module, "_QUERY_ROWS", 2)
    blocks = Sweep.encode(model, data)
    for one, other in zip(whole, blocks.lates(readout, settings), strict=True):
        assert np.abs(one - other).max() <= 1e-6


def test_late_scores_belong_to_their_readout(tiny, data):
    sweep = Sweep.encode(SmartModel(tiny("mean"), device="cpu"), data)
    first = sweep.late(Readout((-1,)))
    other = sweep.late(Readout((-2,)))
    assert np.abs(first - other).max() > 1e-3
    assert np.array_equal(sweep.late(Readout((-1,))), first)


@pytest.mark.parametrize("system", ["anchor", "late", "hybrid"])
@pytest.mark.parametrize("preset", ["paper", "default"])
def test_metrics_are_those_of_an_evaluation(preset, system, tiny, folder, data):
    model = SmartModel(tiny("prompts"), device="cpu", preset=preset)
    result = evaluate_beir(folder, model=model)
    sweep = Sweep.encode(model, data)
    row = next(row for row in result["rows"] if row["name"] == system)
    for metric in ("ndcg@10", "recall@100", "mrr@10", "map"):
        assert sweep.per_query(model.preset, metric, system).mean() == pytest.approx(row[metric])


def test_without_the_late_part_the_hybrid_is_the_anchor(tiny, data):
    sweep = Sweep.encode(SmartModel(tiny("mean"), device="cpu"), data)
    setting = Preset("", Readout(), Scoring(lambda_late=0.0))
    assert np.array_equal(sweep.per_query(setting), sweep.per_query(setting, system="anchor"))
    assert np.array_equal(sweep.anchor, hybrid_scores(sweep.queries, sweep.documents, lambda_late=0))


def test_a_second_sweep_encodes_nothing(tiny, data, tmp_path, monkeypatch):
    model = SmartModel(tiny("mean"), device="cpu")
    cache = EncodingCache(tmp_path / "cache")
    first = Sweep.encode(model, data, cache=cache)
    assert isinstance(first.documents.token_vectors, np.memmap)
    again = Sweep.encode(model, data, cache=cache)
    assert again.encodings[0].seconds is None
    readout = Readout((0, -1))
    assert np.array_equal(first.late(readout), again.late(readout))


def test_an_adapter_fixes_the_layers(tiny, data):
    model = SmartModel(tiny("prompts"), device="cpu", readout=Readout((-1, -2)))
    model = model.with_adapter(Adapter(AdapterConfig(HIDDEN, 6, 2)))
    sweep = Sweep.encode(model, data)
    assert sweep.settled
    assert sweep.layers == (LAYERS - 1, LAYERS)
    for token_filter in ("paper", "content"):
        readout = replace(model.readout, token_filter=token_filter)
        own = model.with_readout(readout)
        close(sweep.embeddings("document", readout), own.encode_document(data.texts))
        close(sweep.embeddings("query", readout), own.encode_query(data.queries))
    with pytest.raises(AdapterMismatchError):
        sweep.late(Readout((-1,)))
    with pytest.raises(AdapterMismatchError):
        Sweep.encode(model, data, layers=[-1])


def test_only_named_layers_are_encoded(tiny, data):
    model = SmartModel(tiny("mean"), device="cpu")
    sweep = Sweep.encode(model, data, layers=[-1, 1])
    assert sweep.layers == (1, LAYERS)
    close(sweep.embeddings("query", Readout((1,))), model.with_readout(Readout((1,))).encode_query(data.queries))
    with pytest.raises(ReadoutError, match=r"found layers \[0\]"):
        sweep.late(Readout((0, -1)))
    last = Sweep.encode(model, data, layers=[-1])
    close(last.embeddings("query", Readout()), model.with_readout(Readout()).encode_query(data.queries))


def test_unknown_weights_floors_and_metrics_are_errors(tiny, data):
    sweep = Sweep.encode(SmartModel(tiny("mean"), device="cpu"), data)
    with pytest.raises(ScoringError, match="tfidf"):
        sweep.late(Readout(), "tfidf")
    with pytest.raises(ScoringError, match="below 1"):
        sweep.late(Readout(), floor=1.0)
    with pytest.raises(ScoringError, match="metric"):
        sweep.judge(sweep.anchor, "accuracy")


def test_settings_are_measured_by_named_weights_alone(tiny, data):
    sweep = Sweep.encode(SmartModel(tiny("mean"), device="cpu"), data, layers=[-1])
    custom = np.ones(len(sweep.queries.token_vectors))
    with pytest.raises(ScoringError, match="found custom ones"):
        sweep.per_query(Preset("", Readout(), Scoring(custom)))
    assert np.array_equal(sweep.late(Readout(), custom), sweep.late(Readout()))


@pytest.mark.parametrize("states", [2, 7, 8, 13, 25, 37])
def test_a_spread_holds_the_last_three_and_the_models_own(states):
    layers = spread(states, (min(states - 1, 2),))
    assert list(layers) == sorted(set(layers))
    assert {*range(max(0, states - 3), states), min(states - 1, 2), 0} <= set(layers)
    assert len(layers) == states if states <= 8 else len(layers) <= 9


def test_a_sample_keeps_what_is_relevant(data):
    assert sample(data, 100, 100) is data
    some = sample(data, documents=5, queries=2, seed=3)
    assert len(some.texts) == 5
    assert len(some.queries) == 2
    relevant = {name for grades in some.qrels.values() for name, grade in grades.items() if grade > 0}
    assert relevant <= set(some.document_ids)
    for query in some.query_ids:
        own = {name: grade for name, grade in data.qrels[query].items() if grade > 0}
        assert {name: grade for name, grade in some.qrels[query].items() if grade > 0} == own
    assert [data.document_ids.index(name) for name in some.document_ids] == sorted(
        data.document_ids.index(name) for name in some.document_ids
    )
    assert some.texts == [data.texts[data.document_ids.index(name)] for name in some.document_ids]
    assert "5 of 14 documents and 2 of 4 queries drawn" in some.warnings[-1]
    assert some.fingerprint != data.fingerprint
    assert sample(data, documents=5, queries=2, seed=3) == some
    # What is relevant is kept even where that is more than the limit.
    assert len(sample(data, documents=1, queries=4).texts) == 5
    with pytest.raises(DatasetError, match="0 documents"):
        sample(data, documents=0)
