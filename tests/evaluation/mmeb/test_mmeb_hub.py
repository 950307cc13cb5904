"""Fetching: real data sets of the datasets library, a fake hub, and errors that say what to do."""

import json
from types import SimpleNamespace

import pytest
from fixtures.mmeb_layouts import Layout

from smart_retrieval.errors import DatasetError
from smart_retrieval.evaluation.mmeb import hub
from smart_retrieval.evaluation.mmeb.hub import recorded_commit
from smart_retrieval.evaluation.mmeb.parsers import parse, shortened_page_file
from smart_retrieval.evaluation.mmeb.prompts import PROMPTS
from smart_retrieval.evaluation.mmeb.tasks import choose

datasets = pytest.importorskip("datasets")

NEWEST, OLD = "c0ffee" + "0" * 34, "01d" + "0" * 37


@pytest.fixture
def fake_hub(monkeypatch):
    """``load_dataset`` gives what is in the dictionary; lists what was asked for."""
    import huggingface_hub

    tables, asked, newest = {}, [], [NEWEST]

    def load_dataset(path, name=None, *, split, revision):
        asked.append((path, name, split, revision))
        if (path, name) not in tables:
            raise ValueError(f"BuilderConfig {name!r} not found")
        return tables[path, name]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(
        huggingface_hub.HfApi,
        "dataset_info",
        lambda self, name, revision=None, timeout=None: SimpleNamespace(sha=revision or newest[-1]),
    )
    return SimpleNamespace(tables=tables, asked=asked, newest=newest)


def test_annotations_and_pages_are_fetched_and_can_be_read(tmp_path, fake_hub):
    (task,) = choose(["ViDoRe_docvqa"])
    layout = Layout(tmp_path / "source")
    pictures = [{"bytes": layout._bytes(number), "path": None} for number in range(2)]
    corpus = datasets.Dataset.from_dict({"corpus-id": [0, 1], "image": pictures}).cast_column("image", datasets.Image())
    name = task.data_set
    fake_hub.tables[name, "corpus"] = corpus
    fake_hub.tables[name, "queries"] = datasets.Dataset.from_dict({"query-id": [5], "query": ["what"]})
    fake_hub.tables[name, "qrels"] = datasets.Dataset.from_dict({"query-id": [5], "corpus-id": [1], "score": [1]})
    root = tmp_path / "root"
    lines = list(hub.fetch([task], root))
    assert "vidore/docvqa_test_subsampled_beir corpus test: 2 rows, 2 pages" in lines
    assert fake_hub.asked[0] == (name, "queries", "test", NEWEST)
    data = parse(task, root, PROMPTS["qwen"])
    assert not data.missing
    assert (data.names, data.cases[0].labels) == (["1", "0"], ("1",))
    assert data.items[0].images[0].load().size == (64, 64)
    assert json.loads((root / name / "revision.json").read_text()) == {"revision": NEWEST}
    # A second time there is nothing to do.
    fake_hub.asked.clear()
    assert "the annotations of 1 tasks are there" in list(hub.fetch([task], root))
    assert fake_hub.asked == []


def test_existing_pages_are_not_overwritten(tmp_path, fake_hub):
    (task,) = choose(["VisRAG_ChartQA"])
    pictures = [{"bytes": b"not a picture", "path": None}]
    fake_hub.tables[task.data_set, "corpus"] = datasets.Dataset.from_dict(
        {"corpus-id": ["a.jpg"], "image": pictures}
    ).cast_column("image", datasets.Image(decode=False))
    for config in ("queries", "qrels"):
        fake_hub.tables[task.data_set, config] = datasets.Dataset.from_dict({"query-id": ["q"]})
    page = tmp_path / task.folders[1] / shortened_page_file("a.jpg")
    page.parent.mkdir(parents=True)
    page.write_bytes(b"mine")
    assert any("corpus train: 1 rows" in line and "pages" not in line for line in hub.fetch([task], tmp_path))
    assert page.read_bytes() == b"mine"


def test_a_data_set_that_cannot_be_loaded_is_an_error(tmp_path, fake_hub):
    with pytest.raises(DatasetError, match="VLM2Vec/MSVD test: cannot be loaded"):
        list(hub.fetch(choose(["MSVD"]), tmp_path))
    assert not (tmp_path / "VLM2Vec/MSVD/test.parquet").exists()


def test_offline_errors_name_the_download_commands(tmp_path, monkeypatch, no_network):
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


# -- commits -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def beir_like(fake_hub):
    """A task of three configurations, as the Hub has it; the task and the hub."""
    (task,) = choose(["ViDoRe_docvqa"])
    for config in ("corpus", "queries", "qrels"):
        fake_hub.tables[task.data_set, config] = datasets.Dataset.from_dict({"query-id": ["q"]})
    return task, fake_hub


def test_a_pinned_commit_is_fetched_and_recorded(tmp_path, beir_like):
    task, hub_ = beir_like
    list(hub.fetch([task], tmp_path, pins={task.data_set: OLD}))
    assert {revision for *_, revision in hub_.asked} == {OLD}
    assert recorded_commit(tmp_path, task.data_set) == OLD


def test_without_a_pin_the_newest_commit_is_fetched_and_kept_to(tmp_path, beir_like):
    task, hub_ = beir_like
    qrels = hub_.tables.pop((task.data_set, "qrels"))
    with pytest.raises(DatasetError, match="qrels test: cannot be loaded"):
        list(hub.fetch([task], tmp_path))
    assert recorded_commit(tmp_path, task.data_set) == NEWEST
    # Meanwhile there is a newer one; what is there already came from the old.
    hub_.tables[task.data_set, "qrels"] = qrels
    hub_.newest.append("bad" + "0" * 37)
    hub_.asked.clear()
    list(hub.fetch([task], tmp_path))
    assert hub_.asked == [(task.data_set, "qrels", "test", NEWEST)]
    assert recorded_commit(tmp_path, task.data_set) == NEWEST


def test_commits_are_never_mixed(tmp_path, beir_like):
    task, hub_ = beir_like
    list(hub.fetch([task], tmp_path))
    (tmp_path / task.data_set / "qrels/test.parquet").unlink()
    hub_.asked.clear()
    with pytest.raises(DatasetError, match=rf"found annotations of commit {NEWEST} in .*, expected {OLD}"):
        list(hub.fetch([task], tmp_path, pins={task.data_set: OLD}))
    (tmp_path / task.data_set / "revision.json").unlink()
    with pytest.raises(DatasetError, match="of an unknown commit, which others may not fit"):
        list(hub.fetch([task], tmp_path))
    assert hub_.asked == []


def test_a_commit_other_than_the_pinned_one_is_refused(tmp_path, beir_like, monkeypatch):
    import huggingface_hub

    task, _ = beir_like
    other = lambda self, name, revision=None, timeout=None: SimpleNamespace(sha=NEWEST)  # noqa: E731
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", other)
    with pytest.raises(DatasetError, match=rf"found commit {NEWEST} on the Hub, expected {OLD}"):
        list(hub.fetch([task], tmp_path, pins={task.data_set: OLD}))
    assert recorded_commit(tmp_path, task.data_set) is None


def test_download_commands_name_the_commit(tmp_path):
    pins = {"VLM2Vec/MSVD": OLD, hub.MEDIA: NEWEST}
    with pytest.raises(DatasetError, match=rf"hf download VLM2Vec/MSVD --repo-type dataset --revision {OLD} "):
        list(hub.fetch(choose(["MSVD"]), tmp_path, offline=True, pins=pins))
    assert f"--revision {NEWEST} --local-dir" in hub.media_commands(tmp_path, NEWEST)[0]
    assert "--revision" not in hub.media_commands(tmp_path)[0]


def test_every_configuration_that_a_task_reads_is_fetched():
    configs = {task.name: hub.annotation_configs(task) for task in choose(["MSR-VTT", "ViDoSeek-doc", "MVBench"])}
    assert configs["MSR-VTT"] == ("test_1k",)
    assert configs["ViDoSeek-doc"] == ("queries", "corpus", "qrels")
    assert len(configs["MVBench"]) == 20
