"""mteb over local tasks: the same scores as ``smart eval beir``, pictures, reranking, two stages."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from smart_retrieval.errors import DatasetError, ScoringError, UnsupportedModelError
from smart_retrieval.evaluation.evaluate import evaluate_beir

mteb = pytest.importorskip("mteb")
datasets = pytest.importorskip("datasets")

from fixtures.mteb_tasks import QRELS, QUERIES, TEXTS, local_task, rows, run, text_task  # noqa: E402

from smart_retrieval.evaluation.mteb import SmartSearch, evaluate_mteb  # noqa: E402


@pytest.fixture
def beir(tmp_path):
    folder = tmp_path / "beir"
    (folder / "qrels").mkdir(parents=True)
    corpus = [{"_id": f"d{n}", "title": "a" if n % 3 == 0 else "", "text": text} for n, text in enumerate(TEXTS)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in corpus))
    queries = [{"_id": name, "text": text} for name, text in QUERIES.items()]
    (folder / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in queries))
    lines = [f"{query}\t{document}\t{grade}\n" for query, own in QRELS.items() for document, grade in own.items()]
    (folder / "qrels/test.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(lines))
    return folder


@pytest.mark.parametrize(
    "settings",
    [{"weights": "uniform", "lambda_late": 1.0}, {"weights": "idf", "lambda_late": 2.0}, {"lambda_late": 0.0}],
)
def test_the_same_scores_as_smart_eval_beir(beir, smart, tmp_path, settings):
    model = smart("prompts")
    ours = evaluate_beir(beir, model=model, **settings)["rows"][2]
    theirs = run(SmartSearch(model, **settings), text_task(), tmp_path)
    assert theirs["ndcg_at_10"] == pytest.approx(ours["ndcg@10"], abs=1e-5)  # mteb rounds to five digits
    assert theirs["recall_at_100"] == pytest.approx(ours["recall@100"], abs=1e-5)
    assert theirs["map_at_1000"] == pytest.approx(ours["map"], abs=1e-5)
    assert theirs["mrr_at_10"] == pytest.approx(ours["mrr@10"], abs=1e-5)


def test_the_whole_ranking_equals_the_evaluations(beir, smart):
    """What mteb rounds away is checked on what it is given: judged unrounded, it equals the report to 1e-6."""
    import pytrec_eval

    model = smart("prompts")
    task = text_task()
    task.load_data()
    split = task.dataset["default"]["test"]
    search = SmartSearch(model)
    common = {"task_metadata": task.metadata, "hf_split": "test", "hf_subset": "default", "encode_kwargs": {}}
    search.index(split["corpus"], num_proc=None, **common)
    found = search.search(split["queries"], top_k=1000, num_proc=None, **common)
    assert all(len(own) == len(TEXTS) for own in found.values())
    judged = pytrec_eval.RelevanceEvaluator(QRELS, {"ndcg_cut_10", "map"}).evaluate(found)
    ours = evaluate_beir(beir, model=model)["rows"][2]
    for name, key in (("ndcg_cut_10", "ndcg@10"), ("map", "map")):
        assert np.mean([one[name] for one in judged.values()]) == pytest.approx(ours[key], abs=1e-6)
    # Two equal documents: by id, as in the report, and never at the same score.
    twins = {name: found["q2"][name] for name in ("d1", "d10")}
    assert twins["d1"] > twins["d10"]
    assert twins["d1"] - twins["d10"] < 1e-6


def test_two_stages_with_enough_candidates_give_the_same(smart, tmp_path):
    model = smart("prompts")
    whole = run(SmartSearch(model), text_task(), tmp_path / "a")
    staged = run(SmartSearch(model, candidates=11), text_task(), tmp_path / "b")
    assert staged["ndcg_at_3"] == pytest.approx(whole["ndcg_at_3"], abs=1e-5)
    few = SmartSearch(model, candidates=3)
    task = text_task()
    task.load_data()
    split = task.dataset["default"]["test"]
    common = {"task_metadata": task.metadata, "hf_split": "test", "hf_subset": "default", "encode_kwargs": {}}
    few.index(split["corpus"], **common)
    assert {len(own) for own in few.search(split["queries"], top_k=10, **common).values()} == {3}


def test_reranking_ranks_only_the_given_documents(smart):
    search = SmartSearch(smart("prompts"))
    task = text_task()
    task.load_data()
    split = task.dataset["default"]["test"]
    common = {"task_metadata": task.metadata, "hf_split": "test", "hf_subset": "default", "encode_kwargs": {}}
    search.index(split["corpus"], **common)
    given = {name: ["d3", "d5", "gone"] for name in QUERIES} | {"q5": []}
    found = search.search(split["queries"], top_k=10, top_ranked=given, **common)
    assert {name: set(own) for name, own in found.items()} == {
        **{name: {"d3", "d5"} for name in QUERIES},
        "q5": set(),
    }


def test_pictures(tiny_vlm, tmp_path):
    from PIL import Image

    from smart_retrieval import SmartModel

    model = SmartModel(tiny_vlm("qwen3-vl-embedding"), device="cpu", max_visual_tokens=16)
    pictures = [Image.fromarray(np.random.default_rng(n).integers(0, 256, (64, 64, 3), np.uint8)) for n in range(3)]
    corpus = datasets.Dataset.from_dict(
        {"id": ["p0", "p1", "p2"], "image": pictures},
        features=datasets.Features({"id": datasets.Value("string"), "image": datasets.Image()}),
    )
    queries = rows({"id": ["a", "b"], "text": ["a red circle", "a page"], "instruction": ["Find the page.", ""]})
    task = local_task(corpus, queries, {"a": {"p0": 1}, "b": {"p2": 1}}, modalities=("text", "image"), category="t2i")
    search = SmartSearch(model)
    task.load_data()
    split = task.dataset["default"]["test"]
    common = {"task_metadata": task.metadata, "hf_split": "test", "hf_subset": "default", "encode_kwargs": {}}
    search.index(split["corpus"], **common)
    found = search.search(split["queries"], top_k=10, **common)
    documents = model.encode_document(pictures)
    asked = model.encode_query([{"text": "a red circle", "instruction": "Find the page."}, "a page"])
    from smart_retrieval import IdfWeights

    expected = model.similarity(asked, documents, weights=IdfWeights.fit(documents))
    for row, name in enumerate("ab"):
        assert [found[name][f"p{n}"] for n in range(3)] == pytest.approx(expected[row], abs=1e-5)
    scores = run(SmartSearch(model), task, tmp_path)
    assert 0 <= scores["ndcg_at_10"] <= 1


def test_what_is_written_beside_results(smart):
    meta = SmartSearch(smart("prompts"), lambda_late=0.5, candidates=7).mteb_model_meta
    assert meta.name.startswith("smart-retrieval/")
    assert meta.experiment_kwargs["lambda_late"] == 0.5
    assert meta.experiment_kwargs["candidates"] == 7
    assert meta.embed_dim == smart("prompts").anchor_dim
    assert meta.n_parameters > 0


def test_refusals(smart):
    search = SmartSearch(smart("prompts"))
    about = SimpleNamespace(name="Local")
    common = {"task_metadata": about, "hf_split": "", "hf_subset": "", "encode_kwargs": {}}
    with pytest.raises(DatasetError, match="no indexed corpus"):
        search.search(rows({"id": ["a"], "text": ["b"]}), top_k=1, **common)
    with pytest.raises(UnsupportedModelError, match="found audio"):
        search.index(rows({"id": ["a"], "audio": ["b"]}), **common)
    with pytest.raises(DatasetError, match="expected text or image"):
        search.index(rows({"id": ["a"], "other": ["b"]}), **common)
    with pytest.raises(ScoringError, match="candidates: found 0"):
        SmartSearch(smart("prompts"), candidates=0)


def test_unknown_tasks(smart, monkeypatch):
    # Asking mteb itself imports all of its tasks, which takes long.
    def unknown(name):
        raise KeyError(f"'{name}' not found. Did you mean: NFCorpus?")

    monkeypatch.setattr(mteb, "get_task", unknown)
    monkeypatch.setattr(mteb, "get_benchmark", unknown)
    with pytest.raises(DatasetError, match=r"found no mteb task or benchmark 'NFCorp': .*Did you mean: NFCorpus"):
        evaluate_mteb(["NFCorp"], SmartSearch(smart("prompts")), "unused")


def test_the_command(smart, tiny, tmp_path, monkeypatch):
    from smart_retrieval.cli.main import eval_app as app
    from smart_retrieval.evaluation import mteb as mteb_module

    monkeypatch.setattr(mteb_module, "_tasks", lambda module, name: [text_task()])
    arguments = [
        "mteb",
        "-t",
        "LocalRetrieval",
        "--model",
        str(tiny("prompts")),
        "--out",
        str(tmp_path / "out"),
        "--json",
    ]
    found = CliRunner().invoke(app, arguments)
    assert found.exit_code == 0, found.exception
    result = json.loads(found.stdout)
    assert 0 < result["tasks"]["LocalRetrieval"]["main_score"] <= 1
    assert list((tmp_path / "out").rglob("LocalRetrieval.json"))
    (kept,) = (tmp_path / "out/smart").iterdir()
    assert json.loads(kept.read_text()) == result
    assert result["tasks"]["LocalRetrieval"]["metric"] == "ndcg_at_10"
    assert {"revision", "weights_fingerprint", "readout", "scoring", "prompts", "limits", "versions", "run"} <= set(
        result
    )
