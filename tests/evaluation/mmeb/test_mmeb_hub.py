"""Fetching: real data sets of the datasets library, a hub that is played, and messages that say what to do."""

import json
from types import SimpleNamespace

import pytest
from fixtures.mmeb_layouts import Layout

from smart_retrieval.errors import DatasetError
from smart_retrieval.evaluation.mmeb import hub
from smart_retrieval.evaluation.mmeb.parsers import parse
from smart_retrieval.evaluation.mmeb.prompts import PROMPTS
from smart_retrieval.evaluation.mmeb.tasks import choose

datasets = pytest.importorskip("datasets")


@pytest.fixture
def played_hub(monkeypatch):
    """``load_dataset`` gives what is in the dictionary; lists what was asked for."""
    import huggingface_hub

    tables, asked = {}, []

    def load_dataset(path, name=None, *, split, revision):
        asked.append((path, name, split, revision))
        if (path, name) not in tables:
            raise ValueError(f"BuilderConfig {name!r} not found")
        return tables[path, name]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(
        huggingface_hub.HfApi,
        "dataset_info",
        lambda self, name, revision=None, timeout=None: SimpleNamespace(sha="c0ffee"),
    )
    return SimpleNamespace(tables=tables, asked=asked)


def test_annotations_and_pages_are_fetched_and_can_be_read(tmp_path, played_hub):
    (task,) = choose(["ViDoRe_docvqa"])
    layout = Layout(tmp_path / "source")
    pictures = [{"bytes": layout._bytes(number), "path": None} for number in range(2)]
    corpus = datasets.Dataset.from_dict({"corpus-id": [0, 1], "image": pictures}).cast_column("image", datasets.Image())
    name = task.data_set
    played_hub.tables[name, "corpus"] = corpus
    played_hub.tables[name, "queries"] = datasets.Dataset.from_dict({"query-id": [5], "query": ["what"]})
    played_hub.tables[name, "qrels"] = datasets.Dataset.from_dict({"query-id": [5], "corpus-id": [1], "score": [1]})
    root = tmp_path / "root"
    lines = list(hub.fetch([task], root))
    assert "vidore/docvqa_test_subsampled_beir corpus test: 2 rows, 2 pages" in lines
    assert played_hub.asked[0] == (name, "queries", "test", "c0ffee")
    data = parse(task, root, PROMPTS["qwen"])
    assert not data.missing
    assert (data.names, data.cases[0].labels) == (["1", "0"], ("1",))
    assert data.items[0].images[0].load().size == (64, 64)
    assert json.loads((root / name / "revision.json").read_text()) == {"revision": "c0ffee"}
    # A second time there is nothing to do.
    played_hub.asked.clear()
    assert "the annotations of 1 tasks are there" in list(hub.fetch([task], root))
    assert played_hub.asked == []


def test_pages_that_are_there_are_left_alone(tmp_path, played_hub):
    (task,) = choose(["VisRAG_ChartQA"])
    pictures = [{"bytes": b"not a picture", "path": None}]
    played_hub.tables[task.data_set, "corpus"] = datasets.Dataset.from_dict(
        {"corpus-id": ["a.jpg"], "image": pictures}
    ).cast_column("image", datasets.Image(decode=False))
    for config in ("queries", "qrels"):
        played_hub.tables[task.data_set, config] = datasets.Dataset.from_dict({"query-id": ["q"]})
    page = tmp_path / task.folders[1] / hub.short_file("a.jpg")
    page.parent.mkdir(parents=True)
    page.write_bytes(b"mine")
    assert any("corpus train: 1 rows" in line and "pages" not in line for line in hub.fetch([task], tmp_path))
    assert page.read_bytes() == b"mine"


def test_a_data_set_that_cannot_be_loaded(tmp_path, played_hub):
    with pytest.raises(DatasetError, match="VLM2Vec/MSVD test: cannot be loaded"):
        list(hub.fetch(choose(["MSVD"]), tmp_path))
    assert not (tmp_path / "VLM2Vec/MSVD/test.parquet").exists()


def test_offline_says_what_to_run_elsewhere(tmp_path, monkeypatch, no_network):
    tasks = choose(["MSVD", "VATEX", "DiDeMo", "K700", "WebQA"])
    with pytest.raises(DatasetError, match=r"offline, as asked.*hf download VLM2Vec/.*and 2 more like these"):
        list(hub.fetch(tasks, tmp_path, offline=True))
    assert no_network == []
    with pytest.raises(DatasetError, match=r"no answer from the Hub \(.*hf download VLM2Vec/MSVD --repo-type dataset"):
        list(hub.fetch(choose(["MSVD"]), tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DatasetError, match="offline, as asked"):
        list(hub.fetch(choose(["MSVD"]), tmp_path))


def test_every_archive_has_a_command(tmp_path):
    commands = "\n".join(hub.media_commands(tmp_path))
    for archive in ("mmeb_v1", "video_cls", "video_ret", "video_mret", "video_qa.tar.gz-0[0-4]", "visdoc-tasks.images"):
        assert archive in commands
