"""What a handle is, is settled when it is made; it survives pickle, spawn and fork; and it asks nobody for a model."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from fixtures.indexes import flat
from fixtures.tiny_models import TEXTS

from smart_retrieval import Readout, SmartEmbeddings, SmartModel
from smart_retrieval.errors import ModelNotFoundError, SmartError
from smart_retrieval.index.smart_index import SmartIndex
from smart_retrieval.pictures import ImageFile, PdfPageImage, VideoFile

pytestmark = pytest.mark.filterwarnings("ignore::smart_retrieval.errors.SmartWarning")
QUERY = "where do otters sleep"
FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Change to another folder, with another home, in the middle of a test."""

    def go():
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        monkeypatch.setenv("HOME", str(tmp_path / "elsewhere"))

    return go


@pytest.fixture
def index(tiny, tmp_path):
    with SmartIndex.create(tmp_path / "a.smart", SmartModel(tiny("mean"), device="cpu")) as made:
        made.add(TEXTS)
        yield made


# -- where it is -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["notes.smart", "~/notes.smart"])
def test_an_index_stays_where_it_was_opened(path, tiny, tmp_path, monkeypatch, elsewhere):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model").symlink_to(tiny("mean"))
    with SmartIndex.create(path, "model") as index:
        index.add(TEXTS[:8])
    with SmartIndex.open(path) as index, SmartIndex.open(path, mode="r") as reader:
        elsewhere()
        assert index.path == tmp_path / "notes.smart"
        index.add(TEXTS[8:])  # the model is loaded here, too, by the name that was recorded
        with ThreadPoolExecutor(1) as pool:  # a thread's own connection
            assert flat(pool.submit(reader.search, QUERY).result()) == flat(index.search(QUERY))
        assert index.verify().ok
        assert len(pickle.loads(pickle.dumps(index))) == len(TEXTS)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_relative_model_name_of_an_older_index(tiny, tmp_path, monkeypatch, elsewhere):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").symlink_to(tiny("mean"))
    with SmartIndex.create("a.smart", "model") as index:
        index.add(TEXTS)
        hits = flat(index.search(QUERY))
        recorded = {**index.store.manifest.model, "name": "model"}
    _record(tmp_path / "a.smart", recorded)
    with SmartIndex.open("a.smart") as index:
        elsewhere()
        assert flat(index.search(QUERY)) == hits


def test_a_model_stays_where_it_was_opened(tiny, tmp_path, monkeypatch, elsewhere):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").symlink_to(tiny("mean"))
    model = SmartModel("model", device="cpu")
    elsewhere()
    assert model.name == str(tmp_path / "model")
    again = pickle.loads(pickle.dumps(model))
    assert again.identity() == model.identity()


def test_pictures_stay_where_they_were_named(tmp_path, monkeypatch, elsewhere):
    monkeypatch.chdir(tmp_path)
    made = [ImageFile(Path("a.png")), PdfPageImage(Path("a.pdf"), 1), VideoFile(Path("a.mp4"))]
    elsewhere()
    assert [one.path for one in made] == [tmp_path / name for name in ("a.png", "a.pdf", "a.mp4")]


# -- pickle ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"preset": "paper"},
        {"readout": Readout(layers=(-2, -1)), "max_length": 12, "prompts": {"query": "q: "}, "dtype": "float16"},
    ],
)
def test_a_model_loads_again_as_it_was(options, tiny):
    model = SmartModel(tiny("mean"), device="cpu", **options)
    model.calibrate(model.encode_document(TEXTS))
    again = pickle.loads(pickle.dumps(model))
    assert again.identity() == model.identity()
    assert (again.preset, again.calibration, again.dtype) == (model.preset, model.calibration, model.dtype)
    for side in ("encode_query", "encode_document"):
        ours, theirs = (getattr(one, side)(TEXTS) for one in (model, again))
        assert np.array_equal(ours.token_vectors, theirs.token_vectors)
        assert np.array_equal(ours.anchors, theirs.anchors)


def test_an_adapter_goes_along(tiny):
    import torch

    from smart_retrieval.core.adapter import Adapter, AdapterConfig

    frozen = SmartModel(tiny("mean"), device="cpu", readout=Readout())
    torch.manual_seed(1)
    model = frozen.with_adapter(Adapter(AdapterConfig(frozen.state_dim, 8, 1)))
    again = pickle.loads(pickle.dumps(model))
    assert again.identity() == model.identity()
    assert np.array_equal(again.encode_query(TEXTS).token_vectors, model.encode_query(TEXTS).token_vectors)
    assert pickle.loads(pickle.dumps(again.with_adapter(None))).adapter is None


def test_weights_changed_in_memory_are_refused(tiny):
    import torch

    model = SmartModel(tiny("mean"), device="cpu")
    with torch.no_grad():
        next(model.backbone.model.parameters()).mul_(1.01)
    with pytest.raises(SmartError, match="save_pretrained"):
        pickle.dumps(model)


def test_another_model_under_the_name_is_refused(tiny, tmp_path):
    link = tmp_path / "model"
    link.symlink_to(tiny("mean"))
    pickled = pickle.dumps(SmartModel(link, device="cpu"))
    link.unlink()
    link.symlink_to(tiny("cls"))
    # One that has other weights, whatever its pooling.
    SmartModel(tiny("decoder"), device="cpu").save_pretrained(tmp_path / "other")
    link.unlink()
    link.symlink_to(tmp_path / "other")
    with pytest.raises(SmartError, match="replaced"):
        pickle.loads(pickled)


def test_the_hubs_token_is_not_pickled(tiny):
    assert b"hf_secret" not in pickle.dumps(SmartModel(tiny("mean"), device="cpu", token="hf_secret"))


def test_what_an_index_gives_pickles_plainly(index, tmp_path):
    hits = index.search(QUERY, 3)
    assert flat(pickle.loads(pickle.dumps(hits))) == flat(hits)
    explanation = index.explain(QUERY, hits[0].id)
    assert pickle.loads(pickle.dumps(explanation)).to_dict() == explanation.to_dict()
    encoded = index.model.encode_document(TEXTS)
    encoded.save(tmp_path / "saved")
    for one in (encoded, SmartEmbeddings.load(tmp_path / "saved", mmap=True)):
        again = pickle.loads(pickle.dumps(one))
        assert np.array_equal(again.token_vectors, encoded.token_vectors)
        assert len(again) == len(TEXTS)
    assert pickle.loads(pickle.dumps(encoded)).token_strings(0) == encoded.token_strings(0)


def test_a_picture_pickles_with_its_thumbnail(tiny_vlm, tmp_path):
    from PIL import Image

    Image.new("RGB", (64, 64), "red").save(tmp_path / "red.png")
    with SmartIndex.create(tmp_path / "a.smart", SmartModel(tiny_vlm("gme"), device="cpu")) as index:
        index.add([tmp_path / "red.png"])
        hit = index.search("red", 1)[0]
        pickled, thumbnail = pickle.dumps(hit), hit.media.thumbnail()
    assert thumbnail
    assert pickle.loads(pickled).media.thumbnail() == thumbnail


# -- processes ---------------------------------------------------------------------------------------------------------


def _found(index):
    return flat(index.search(QUERY))


def _add_one(index, number):
    index.add([f"number {number} of all"], ids=[f"n{number}"])
    return _found(index)


def _vectors(model):
    return model.encode_document(TEXTS).token_vectors


@pytest.mark.parametrize("start", ["spawn", pytest.param("fork", marks=FORKS)])
def test_handles_in_other_processes(start, index):
    expected, vectors = _found(index), index.model.encode_document(TEXTS).token_vectors
    with multiprocessing.get_context(start).Pool(2) as pool:
        assert pool.map(_found, [index, index]) == [expected, expected]
        for found in pool.map(_vectors, [index.model]):
            assert np.array_equal(found, vectors)
        pool.starmap(_add_one, [(index, number) for number in range(4)])
    assert {f"n{number}" for number in range(4)} <= set(index.store.ids())
    assert index.verify().ok


@FORKS
def test_a_fork_while_threads_use_the_handle(index):
    """The child uses the very object, in the midst of whatever the parent's threads were doing with it."""
    expected, stop = _found(index), threading.Event()

    def use(number):
        while not stop.is_set():
            index.search(QUERY)
            if number == 0:
                index.add(["more of it"], ids=["more"], on_duplicate="replace")
                stop.wait(0.02)  # whoever waits for the lock is to get it

    threads = [threading.Thread(target=use, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    try:
        children = [multiprocessing.get_context("fork").Process(target=_in_child, args=(index,)) for _ in range(6)]
        for child in children:
            child.start()
        for child in children:
            child.join(60)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert [child.exitcode for child in children] == [0] * 6
    assert len(expected) == 10
    assert index.verify().ok


def _in_child(index):
    index.search(QUERY)
    index.add(["from a child"], ids=[f"c{os.getpid()}"])
    assert f"c{os.getpid()}" in index


@FORKS
def test_a_childs_life_does_not_prolong_a_lock(tmp_path):
    from smart_retrieval.index.store.lock import file_lock

    with file_lock(tmp_path / "lock", 1) as held:
        assert held
        child = multiprocessing.get_context("fork").Process(target=threading.Event().wait, args=(30,))
        child.start()
    try:
        with file_lock(tmp_path / "lock", 5) as held:
            assert held
    finally:
        child.kill()
        child.join()


# -- who is asked for a model ------------------------------------------------------------------------------------------


def _record(path, model):
    """Record another model in an index, as whoever made it could have."""
    from smart_retrieval.index.store.manifest import Manifest
    from smart_retrieval.index.store.store import Store

    with Store.open(path, "w") as store, store.transaction() as handle:
        Manifest.put(handle.connection, "model", model)


@pytest.fixture
def nobody(monkeypatch, no_network):
    """Fails whatever asks the hub."""
    import huggingface_hub

    def asked(*_, **__):
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", asked)
    return no_network


@pytest.mark.parametrize("name", ["attacker/model", "model", "//server/share/model", "\\\\server\\share", "a b", ""])
def test_an_index_does_not_decide_whom_you_contact(name, index, tiny, nobody):
    index.close()
    _record(index.path, {**index.store.manifest.model, "name": name})
    calls = {
        "search": lambda index: index.search(QUERY),
        "explain": lambda index: index.explain(QUERY, index.store.ids()[0]),
        "add": lambda index: index.add(["one more"]),
        "refit": lambda index: index.optimize(refit=True),
        "model": lambda index: index.model,
    }
    for call in calls.values():
        with SmartIndex.open(index.path) as opened, pytest.raises(ModelNotFoundError, match="--model"):
            call(opened)
    with SmartIndex.open(index.path) as opened:  # these need none
        assert opened.info()["model"]["name"] == name
        assert opened.verify().ok
        opened.optimize()
    assert nobody == []
    with SmartIndex.open(index.path, str(tiny("mean"))) as opened:
        assert len(opened.search(QUERY)) == 10


def test_a_name_that_one_gives_oneself_may_be_fetched(index, nobody):
    with pytest.raises((ModelNotFoundError, AssertionError), match="hub"):
        SmartIndex.open(index.path, "publisher/model")
