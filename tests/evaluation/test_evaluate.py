"""An evaluation from folder to figures, with a model small enough to compute by hand."""

import copy
import json
import shutil
import warnings
from types import SimpleNamespace

import numpy as np
import pytest

import smart_retrieval.model.smart_model
from smart_retrieval import Readout, SmartEmbeddings, SmartModel
from smart_retrieval.backbones.compute import Compute
from smart_retrieval.core.collection import Calibrator
from smart_retrieval.core.hybrid import hybrid_scores
from smart_retrieval.core.late import late_scores
from smart_retrieval.core.scoring import Scoring
from smart_retrieval.errors import (
    DatasetError,
    EmbeddingsError,
    ModelNotFoundError,
    ReadoutError,
    ScoringError,
    SmartWarning,
)
from smart_retrieval.evaluation import evaluate
from smart_retrieval.evaluation.beir import BeirDataset
from smart_retrieval.evaluation.cache import EncodingCache
from smart_retrieval.evaluation.evaluate import evaluate_beir
from smart_retrieval.evaluation.metrics import per_query_metrics, rank
from smart_retrieval.evaluation.terminal import print_table
from smart_retrieval.types import EncodingReport

WORDS = ["the", "wing", "lift", "drag", "heat", "slab", "steel", "of", "flow", "shock"]


class FakeModel(SmartModel):
    """A bag of words: each word has one vector, the anchor is their mean. Counts its calls."""

    calls: list[str] = []  # noqa: RUF012

    def __init__(self, name="fake", *, readout=None, preset="default", weights="0", prompt=None):
        self.name = str(name)
        self.preset = smart_retrieval.core.presets.get_preset(preset)
        self.readout = readout or self.preset.readout
        self.backbone = SimpleNamespace(
            identity=lambda: {"name": str(name), "revision": None, "fingerprint": weights},
            fingerprint=weights,
            prompts={},
            prompt_for=lambda task, *_: prompt if task == "query" else None,
            max_length=4,
            tokenizer=None,
            model=SimpleNamespace(device="cpu"),
        )
        self.computing = Compute()
        self._encoder = SimpleNamespace(head=SimpleNamespace(adapter=None), dtype="float32")

    def with_readout(self, readout):
        clone = copy.copy(self)
        clone.readout = readout
        return clone

    def encode_query(self, texts, **options):
        return self._fake("query", texts, **options)

    def encode_document(self, texts, **options):
        return self._fake("document", texts, **options)

    def _fake(self, task, texts, *, batch_size, show_progress, out):
        FakeModel.calls.append(task)
        table = np.random.default_rng(0).normal(size=(len(WORDS), 6)).astype(np.float32)
        table /= np.linalg.norm(table, axis=1, keepdims=True)
        ids = [[WORDS.index(word) for word in text.split()][: self.max_length] for text in texts]
        cut = sum(len(text.split()) > self.max_length for text in texts)
        if cut:
            warnings.warn("texts were cut", SmartWarning, stacklevel=2)
        flat = np.array([i for item in ids for i in item], dtype=np.int32)
        embeddings = SmartEmbeddings(
            np.stack([table[item].mean(axis=0) if item else np.zeros(6, np.float32) for item in ids]),
            table[flat],
            np.concatenate([[0], np.cumsum([len(item) for item in ids])]),
            flat,
            report=EncodingReport(items=len(ids), truncated=cut),
        )
        if out is None:
            return embeddings
        embeddings.save(out)
        return SmartEmbeddings.load(out, mmap=True)


@pytest.fixture(autouse=True)
def fake(monkeypatch):
    monkeypatch.setattr(smart_retrieval.model.smart_model, "SmartModel", FakeModel)
    monkeypatch.setattr(FakeModel, "calls", [])
    return FakeModel


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "tiny"
    (folder / "qrels").mkdir(parents=True)
    rng = np.random.default_rng(1)
    texts = [" ".join(rng.choice(WORDS, size=int(size))) for size in rng.integers(1, 7, size=12)]
    (folder / "corpus.jsonl").write_text(
        "".join(json.dumps({"_id": f"d{i}", "text": text}) + "\n" for i, text in enumerate(texts)), encoding="utf-8"
    )
    queries = ["the wing", "heat of slab", "shock flow", "steel drag lift"]
    (folder / "queries.jsonl").write_text(
        "".join(json.dumps({"_id": f"q{i}", "text": text}) + "\n" for i, text in enumerate(queries)), encoding="utf-8"
    )
    (folder / "qrels" / "test.tsv").write_text("q0\td1\t2\nq0\td5\t1\nq1\td3\t1\nq2\td7\t1\nq3\tgone\t1\nq3\td2\t1\n")
    (folder / "qrels" / "dev.tsv").write_text("q0\td1\t1\n")
    return folder


@pytest.fixture
def cache(tmp_path):
    return EncodingCache(tmp_path / "cache")


def test_schema(folder):
    result = evaluate_beir(folder, model="fake")
    assert list(result) == [
        *(
            "dataset",
            "model",
            "preset",
            "rows",
            "gain",
            "refinements",
            "calibration",
            "readout",
            "scoring",
            "prompts",
            "limits",
            "encode",
        ),
        *("versions", "run"),
    ]
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    dataset = result["dataset"]
    assert (dataset["name"], dataset["split"]) == ("tiny", "test")
    assert (dataset["n_documents"], dataset["n_queries"], dataset["n_judgments"]) == (12, 4, 5)
    assert dataset["warnings"] == ["1 judgment of 1 unknown document left out: 'gone'"]
    assert (result["model"], result["preset"]) == ("fake", "default")
    assert (result["refinements"], result["gain"]["refined"]) == ({}, None)
    assert [row["name"] for row in result["rows"]] == ["anchor", "late", "hybrid"]
    for row in result["rows"]:
        expected = ["name", "ndcg@10", "recall@100", "mrr@10", "map", "bytes_per_document", "score_ms_per_query"]
        assert list(row) == expected
        assert row["score_ms_per_query"] > 0
    assert set(result["versions"]) == {
        *("smart_retrieval", "python", "sentence_transformers", "torch", "transformers", "numpy")
    }
    assert "unknown" not in result["versions"].values()


@pytest.mark.parametrize("preset", ["paper", "default"])
def test_figures_are_those_of_the_public_functions(folder, preset, monkeypatch):
    # A budget of two queries at a time: the parts must add up.
    monkeypatch.setattr(evaluate, "SCORES_AT_ONCE", 24)
    result = evaluate_beir(folder, model="fake", preset=preset)
    data, model = evaluate.load_beir(folder), FakeModel(preset=preset)
    warnings.simplefilter("ignore", SmartWarning)
    documents = model.encode_document(data.texts, batch_size=None, show_progress=False, out=None)
    queries = model.encode_query(data.queries, batch_size=None, show_progress=False, out=None)
    chosen = model.preset
    own = chosen.scoring.fitted(Calibrator(None, lambda: None).statistics(documents))
    weights = own.query_weights
    assert (weights is None) == (preset == "paper")
    options = {
        "lambda_anchor": own.lambda_anchor,
        "lambda_late": own.late_weight,
        "weights": weights,
        "floor": own.late_floor,
    }
    by_system = {
        "anchor": hybrid_scores(queries, documents, lambda_late=0.0),
        "late": late_scores(queries, documents, weights=weights, floor=own.late_floor),
        "hybrid": hybrid_scores(queries, documents, **options),
    }
    for row in result["rows"]:
        ranking = rank(by_system[row["name"]], data.document_ids, 1000)
        expected = per_query_metrics(data.qrels, dict(zip(data.query_ids, ranking, strict=True)))
        assert {name: row[name] for name in expected} == pytest.approx({n: v.mean() for n, v in expected.items()})
    rows = {row["name"]: row for row in result["rows"]}
    assert len({row["map"] for row in rows.values()}) == 3, "three systems that agree would test nothing"
    assert result["gain"]["metric"] == "ndcg@10"
    for name, gain in (("hybrid", result["gain"]), ("late", result["gain"]["late"])):
        assert gain["mean_baseline"] == pytest.approx(rows["anchor"]["ndcg@10"])
        assert gain["mean_treatment"] == pytest.approx(rows[name]["ndcg@10"])
        assert gain["wins"] + gain["ties"] + gain["losses"] == 4


def test_bytes_are_those_of_the_vectors(folder):
    rows = {row["name"]: row["bytes_per_document"] for row in evaluate_beir(folder, model="fake")["rows"]}
    lengths = [min(4, len(text.split())) for text in evaluate.load_beir(folder).texts]
    assert rows["anchor"] == 6 * 4
    assert rows["late"] == pytest.approx(np.mean(lengths) * 6 * 4)
    assert rows["hybrid"] == pytest.approx(rows["anchor"] + rows["late"])


def test_truncated_texts_are_counted_without_warnings(folder, cache):
    with warnings.catch_warnings():
        warnings.simplefilter("error", SmartWarning)
        first = evaluate_beir(folder, model="fake", cache=cache)
        again = evaluate_beir(folder, model="fake", cache=cache)
    cut = sum(len(text.split()) > 4 for text in evaluate.load_beir(folder).texts)
    assert cut > 0
    assert first["encode"]["truncated_documents"] == again["encode"]["truncated_documents"] == cut
    assert first["encode"]["truncated_queries"] == 0


def test_scoring_settings_encode_nothing_again(folder, cache):
    first = evaluate_beir(folder, model="fake", cache=cache)
    assert FakeModel.calls == ["document", "query"]
    assert first["encode"]["cached"] is False
    assert first["encode"]["seconds"] > 0
    assert first["encode"]["documents_per_second"] == pytest.approx(12 / first["encode"]["seconds"])
    again = evaluate_beir(folder, model="fake", cache=cache, weights="uniform", lambda_late=0.5)
    assert FakeModel.calls == ["document", "query"]
    assert (again["encode"]["cached"], again["encode"]["seconds"]) == (True, None)
    assert again["encode"]["documents_per_second"] is None
    assert again["rows"][0]["map"] == first["rows"][0]["map"]
    assert again["rows"][2]["map"] != first["rows"][2]["map"]


def test_another_split_encodes_its_queries_alone(folder, cache):
    evaluate_beir(folder, model="fake", cache=cache)
    FakeModel.calls.clear()
    evaluate_beir(folder, model="fake", cache=cache, split="dev")
    assert FakeModel.calls == ["query"]


@pytest.mark.parametrize(
    "change",
    [
        {"layers": [-2]},
        {"token_filter": "paper"},
        {"model": FakeModel("another")},
        {"model": FakeModel("fake", weights="1")},
    ],
)
def test_what_changes_the_vectors_encodes_again(folder, cache, change):
    evaluate_beir(folder, model="fake", cache=cache)
    FakeModel.calls.clear()
    evaluate_beir(folder, cache=cache, **{"model": "fake", **change})
    assert FakeModel.calls == ["document", "query"]


def test_a_query_prompt_encodes_only_the_queries_again(folder, cache):
    evaluate_beir(folder, model="fake", cache=cache)
    FakeModel.calls.clear()
    result = evaluate_beir(folder, model=FakeModel(prompt="query: "), cache=cache)
    assert FakeModel.calls == ["query"]
    assert result["prompts"] == {"query": "query: ", "document": ""}


def test_a_changed_document_encodes_again(folder, cache):
    evaluate_beir(folder, model="fake", cache=cache)
    corpus = folder / "corpus.jsonl"
    corpus.write_text(corpus.read_text() + '{"_id": "new", "text": "steel"}\n')
    assert evaluate_beir(folder, model="fake", cache=cache)["encode"]["cached"] is False
    assert FakeModel.calls == ["document", "query", "document"]


def test_an_entry_of_another_length_is_damaged(folder, cache, tmp_path):
    evaluate_beir(folder, model="fake", cache=cache)
    one, other = sorted(path / "data" for path in cache.folder.iterdir())
    shutil.rmtree(one)
    shutil.copytree(other, one)
    with pytest.warns(SmartWarning, match="damaged cache entry"):
        evaluate_beir(folder, model="fake", cache=cache)


def test_the_label_names_what_differs_from_the_preset(folder):
    def label(**options):
        return evaluate_beir(folder, **{"model": "fake", **options})["preset"]

    assert label(preset="paper") == "paper"
    assert label(lambda_late="calibrated", floor="calibrated") == "default", "the default's own value is no change"
    assert label(lambda_late=3.0) == "default with lambda_late=3.0"
    assert label(preset="paper", weights="idf") == "paper with weights=idf"
    assert label(model=FakeModel(preset="paper")) == "paper", "a loaded model brings its preset"
    assert label(model=FakeModel(readout=Readout((-3,), token_filter="content"))) == "default with layers=[-3]"


def test_the_result_names_the_settings_used(folder):
    result = evaluate_beir(folder, model="fake", preset="paper", layers=(-1, -2), mix="concat", lambda_anchor=0.5)
    assert result["readout"]["layers"] == [-1, -2]
    assert result["readout"]["mix"] == "concat"
    assert result["scoring"] == {"weights": "uniform", "lambda_anchor": 0.5, "lambda_late": 1.0, "floor": None}


def test_lambda_late_zero_gives_the_anchors_ranking(folder, monkeypatch):
    corpus = folder / "corpus.jsonl"
    corpus.write_text(corpus.read_text() + '{"_id": "empty", "text": ""}\n')
    rows = evaluate_beir(folder, model="fake", lambda_late=0.0)["rows"]
    assert {name: rows[2][name] for name in ("map", "ndcg@10")} == {name: rows[0][name] for name in ("map", "ndcg@10")}


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"preset": "papper"}, ScoringError),
        ({"weights": "tfidf"}, ScoringError),
        ({"token_filter": "none"}, ReadoutError),
        ({"split": "train"}, DatasetError),
        ({"model": FakeModel(), "layers": (-2,)}, ReadoutError),
        ({"model": FakeModel(), "token_filter": "content"}, ReadoutError),
        ({"lambda_late": float("nan")}, ScoringError),
        ({"lambda_anchor": float("inf")}, ScoringError),
    ],
)
def test_bad_settings_fail_before_anything_is_encoded(folder, options, error):
    with pytest.raises(error):
        evaluate_beir(folder, **{"model": "fake", **options})
    assert FakeModel.calls == []


def test_too_few_vectors_are_an_error(folder, cache, monkeypatch):
    monkeypatch.setattr(
        FakeModel, "encode_document", lambda self, texts, **options: self._fake("document", texts[1:], **options)
    )
    with pytest.raises(EmbeddingsError, match="found 11 items"):
        evaluate_beir(folder, model="fake", cache=cache)


def test_a_whole_scoring_and_single_fields(folder):
    result = evaluate_beir(folder, model="fake", scoring=Scoring(lambda_anchor=0.5), lambda_late=2.0)
    assert result["scoring"] == {"weights": "uniform", "lambda_anchor": 0.5, "lambda_late": 2.0, "floor": None}


@pytest.mark.parametrize("option", ["lambda_lat", "layer", "querys"])
def test_unknown_options_are_type_errors(folder, option):
    with pytest.raises(TypeError, match=option):
        evaluate_beir(folder, **{"model": "fake", option: 1})


@pytest.mark.parametrize(
    "options", [{"feedback": 0.5}, {"neighbours": 0.2}, {"lexical_weight": 3.0, "feedback": 0.4, "neighbours": 0.3}]
)
def test_options_add_a_row_and_leave_the_others_as_they_are(folder, monkeypatch, capsys, options):
    plain = evaluate_beir(folder, model="fake")
    ranked = []
    rank = BeirDataset.rank
    monkeypatch.setattr(
        BeirDataset, "rank", lambda data, values, *rest: ranked.append(values) or rank(data, values, *rest)
    )
    result = evaluate_beir(folder, model="fake", per_query=True, **options)
    drop = ("score_ms_per_query",)
    rows = [{name: value for name, value in row.items() if name not in drop} for row in result["rows"]]
    assert rows[:3] == [{name: value for name, value in row.items() if name not in drop} for row in plain["rows"]]
    named = (f"{name.removesuffix('_weight')} {weight:g}" for name, weight in options.items())
    assert rows[3]["name"] == ", ".join(["hybrid", *named])
    assert (result["refinements"], result["preset"]) == (options, "default")
    hybrid, refined = ranked[-2:]
    assert (refined > hybrid).any()
    values = result["per_query"]["values"]
    difference = np.mean(values[rows[3]["name"]]["ndcg@10"]) - np.mean(values["hybrid"]["ndcg@10"])
    assert result["gain"]["refined"]["difference"] == pytest.approx(difference)
    assert result["gain"]["mean_baseline"] == pytest.approx(np.mean(values["anchor"]["ndcg@10"]))
    print_table(result)
    shown = capsys.readouterr().out
    assert "+ options" in shown
    assert f"options ({rows[3]['name']}) over hybrid, nDCG@10" in " ".join(shown.split())


def test_the_query_itself_is_not_the_best_hit(folder):
    lines = (folder / "queries.jsonl").read_text().splitlines()
    (folder / "corpus.jsonl").write_text((folder / "corpus.jsonl").read_text() + "\n".join(lines) + "\n")
    options = {"model": "fake", "feedback": 100.0, "per_query": True}
    alike = evaluate_beir(folder, **options)["per_query"]["values"]["hybrid, feedback 100"]
    # With the query itself as the best hit, whatever is like it would come first.
    (folder / "corpus.jsonl").write_text((folder / "corpus.jsonl").read_text().replace('"q0"', '"other"'))
    other = evaluate_beir(folder, **options)["per_query"]["values"]["hybrid, feedback 100"]
    assert alike["mrr@10"][0] != other["mrr@10"][0]


def test_a_reranker_orders_the_first_documents(folder):
    class Judge:
        """Knows that the text of d5 is right."""

        def __init__(self, wanted):
            self.wanted, self.seen = wanted, []

        def predict(self, pairs):
            self.seen.append([text for _, text in pairs])
            return [float(text == self.wanted) for _, text in pairs]

    texts = {row["_id"]: row["text"] for row in map(json.loads, (folder / "corpus.jsonl").read_text().splitlines())}
    judge = Judge(texts["d5"])
    result = evaluate_beir(folder, model="fake", rerank=judge, rerank_depth=12, per_query=True)
    assert [len(texts) for texts in judge.seen] == [12] * 4
    assert result["rows"][3]["name"] == "hybrid, rerank Judge (12)"
    assert result["refinements"] == {"rerank": "Judge", "rerank_depth": 12}
    values = result["per_query"]["values"]["hybrid, rerank Judge (12)"]
    assert values["mrr@10"][0] == 1.0
    few = Judge(texts["d5"])
    evaluate_beir(folder, model="fake", rerank=few, rerank_depth=3, feedback=0.2)
    assert [len(texts) for texts in few.seen] == [3] * 4


@pytest.mark.parametrize("name", ["lexical_weight", "feedback", "neighbours"])
@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_a_weight_that_is_none_is_refused_before_anything_is_encoded(folder, fake, name, weight):
    with pytest.raises(ScoringError, match=f"{name}: found {weight}"):
        evaluate_beir(folder, model="fake", **{name: weight})
    assert fake.calls == []


def test_a_reranker_that_cannot_be_loaded_fails_before_anything_is_encoded(folder, fake):
    with pytest.raises(ModelNotFoundError, match="reranker"):
        evaluate_beir(folder, model="fake", rerank="./missing")
    assert fake.calls == []
