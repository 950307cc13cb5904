"""mteb over a SmartIndex: what exhaustive scoring gives, codecs, kept folders, reranking, a given index."""

import json

import pytest
from typer.testing import CliRunner

from smart_retrieval import SmartIndex
from smart_retrieval.errors import DatasetError, IndexMismatchError

mteb = pytest.importorskip("mteb")
datasets = pytest.importorskip("datasets")

from fixtures.mteb_tasks import QUERIES, TEXTS, corpus_of, local_task, rows, run, text_task  # noqa: E402

from smart_retrieval.evaluation.mteb import IndexSearch, SmartSearch  # noqa: E402


def found_by(search, task=None, **options):
    task = task or text_task()
    task.load_data()
    split = task.dataset["default"]["test"]
    common = {"task_metadata": task.metadata, "hf_split": "test", "hf_subset": "default", "encode_kwargs": {}}
    search.index(split["corpus"], **common)
    return search.search(split["queries"], **{"top_k": 1000, **common, **options})


@pytest.mark.parametrize(
    "settings",
    [
        {"weights": "uniform", "lambda_late": 1.0, "floor": None},
        {"weights": "idf", "lambda_anchor": 0.5, "lambda_late": 2.0, "floor": 0.1},
        {"lambda_late": 0.0},
    ],
)
@pytest.mark.parametrize("candidates", [None, len(TEXTS)])
def test_uncompressed_exhaustive_scores_equal_those_without_an_index(smart, settings, candidates):
    model = smart("prompts")
    exhaustive = found_by(SmartSearch(model, **settings))
    indexed = found_by(IndexSearch(model, codec="float32", candidates=candidates, **settings))
    assert {query: set(own) for query, own in indexed.items()} == {query: set(own) for query, own in exhaustive.items()}
    for query, own in exhaustive.items():
        assert indexed[query] == pytest.approx(own, abs=1e-6)
        assert list(indexed[query].values()) == sorted(indexed[query].values(), reverse=True)
        assert len(set(indexed[query].values())) == len(own)  # equal texts are set apart


def test_mteb_gives_the_same_figures(smart, tmp_path):
    model = smart("prompts")
    whole = run(SmartSearch(model), text_task(), tmp_path / "a")
    indexed = run(IndexSearch(model, codec="float32"), text_task(), tmp_path / "b")
    assert indexed["ndcg_at_10"] == pytest.approx(whole["ndcg_at_10"], abs=1e-5)
    assert indexed["map_at_1000"] == pytest.approx(whole["map_at_1000"], abs=1e-5)


def test_a_codec_is_fitted_however_small_the_corpus(smart):
    search = IndexSearch(smart("prompts"), codec="int8", candidates=5)
    coded = found_by(search)
    assert search._kept.info()["codec"] == "int8"
    assert {len(own) for own in coded.values()} == {5}  # no more than there are candidates
    exact = found_by(SmartSearch(smart("prompts")))
    for query, own in coded.items():
        assert own == pytest.approx({name: exact[query][name] for name in own}, abs=0.05)
    assert any(own[name] != exact[query][name] for query, own in coded.items() for name in own)


def test_a_temporary_index_is_removed_for_the_next_corpus(smart):
    search = IndexSearch(smart("prompts"), codec="float32")
    found_by(search)
    first = search._kept.path
    assert first.is_dir()
    found_by(search)
    assert not first.exists()
    last = search._kept.path
    search._clean_up()
    assert not last.exists()


def test_unchanged_documents_in_a_kept_index_are_not_encoded_again(smart, tmp_path, monkeypatch):
    model = smart("prompts")
    before = found_by(IndexSearch(model, codec="float32", folder=tmp_path))
    seen = []
    real = type(model).encode_document

    def noting(self, items, **options):
        seen.extend(items := list(items))
        return real(self, items, **options)

    monkeypatch.setattr(type(model), "encode_document", noting)
    search = IndexSearch(model, codec="float32", folder=tmp_path)
    assert found_by(search) == before
    assert seen == []
    search._clean_up()
    assert [path.name for path in tmp_path.iterdir()] == ["LocalRetrieval-default-test"]
    # One document is another now, and one is gone.
    corpus = corpus_of([*TEXTS[:3], "the otter is gone", *TEXTS[4:-1]])
    changed = local_task(corpus, rows({"id": list(QUERIES), "text": list(QUERIES.values())}), {"q1": {"d0": 1}})
    after = found_by(search, changed)
    assert [item.text for item in seen] == ["a the otter is gone"]
    assert set(after["q1"]) == {f"d{number}" for number in range(len(TEXTS) - 1)}
    monkeypatch.undo()
    assert after["q1"] == pytest.approx(found_by(SmartSearch(model), changed)["q1"], abs=1e-6)
    search._clean_up()
    with pytest.raises(IndexMismatchError, match="found codec 'float32', expected 'int8'"):
        found_by(IndexSearch(model, codec="int8", folder=tmp_path))


def test_reranking_ranks_only_the_given_documents(smart):
    given = {name: ["d3", "d5", "it's gone"] for name in QUERIES} | {"q5": []}
    found = found_by(IndexSearch(smart("prompts"), codec="float32"), top_ranked=given)
    assert {name: set(own) for name, own in found.items()} == {
        **{name: {"d3", "d5"} for name in QUERIES},
        "q5": set(),
    }


def test_a_given_index(smart, tmp_path):
    model = smart("prompts")
    with SmartIndex.create(tmp_path / "own", model, codec="float32") as index:
        task = text_task()
        task.load_data()
        split = task.dataset["default"]["test"]
        texts = [" ".join(part for part in (row["title"], row["text"]) if part) for row in split["corpus"]]
        index.add(texts, ids=split["corpus"]["id"])
        search = IndexSearch(index)
        assert search.codec == "float32"
        for query, own in found_by(SmartSearch(model)).items():
            assert found_by(search)[query] == pytest.approx(own, abs=1e-6)
        index.add(["another"], ids=["mine"])
        index.delete(["d0"])
        with pytest.raises(DatasetError, match=r"1 are missing, 1 are not the task's, such as 'd0'"):
            found_by(search)


def test_searching_before_indexing(smart):
    task = text_task()
    with pytest.raises(DatasetError, match="no indexed corpus"):
        IndexSearch(smart("prompts")).search(
            rows({"id": ["a"], "text": ["b"]}), task_metadata=task.metadata, hf_split="", hf_subset="", top_k=1,
            encode_kwargs={},
        )  # fmt: skip


def test_pictures(tiny_vlm):
    import numpy as np
    from PIL import Image

    from smart_retrieval import SmartModel

    model = SmartModel(tiny_vlm("qwen3-vl-embedding"), device="cpu", max_visual_tokens=16)
    pictures = [Image.fromarray(np.random.default_rng(n).integers(0, 256, (64, 64, 3), np.uint8)) for n in range(3)]
    corpus = datasets.Dataset.from_dict(
        {"id": ["p0", "p1", "p2"], "image": pictures},
        features=datasets.Features({"id": datasets.Value("string"), "image": datasets.Image()}),
    )
    queries = rows({"id": ["a"], "text": ["a page"], "instruction": ["Find the page."]})
    task = local_task(corpus, queries, {"a": {"p0": 1}}, modalities=("text", "image"), category="t2i")
    indexed = found_by(IndexSearch(model, codec="float32"), task)["a"]
    assert indexed == pytest.approx(found_by(SmartSearch(model), task)["a"], abs=1e-6)


def test_the_command(tiny, tmp_path, monkeypatch):
    from smart_retrieval.cli.main import eval_app as app
    from smart_retrieval.evaluation import mteb as mteb_module

    monkeypatch.setattr(mteb_module, "_tasks", lambda module, name: [text_task()])
    common = ["mteb", "-t", "LocalRetrieval", "--model", str(tiny("prompts")), "--out", str(tmp_path / "out"), "--json"]
    found = CliRunner().invoke(app, [*common, "--index", str(tmp_path / "kept"), "--codec", "int8"])
    assert found.exit_code == 0, found.exception
    result = json.loads(found.stdout)
    assert {"index": True, "codec": "int8", "candidates": 400}.items() <= result["settings"].items()
    assert (tmp_path / "kept/LocalRetrieval-default-test/index.sqlite").is_file()
    # Another setting is another result: mteb does not take one for the other.
    whole = CliRunner().invoke(app, common)
    assert whole.exit_code == 0, whole.exception
    assert len(list((tmp_path / "out").rglob("LocalRetrieval.json"))) == 2
    wrong = CliRunner().invoke(app, [*common, "--codec", "zip"])
    assert wrong.exit_code == 1
