"""An index and a model that version 0.1.0 saved still open, and give what they gave."""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from smart_retrieval import SmartIndex, SmartModel
from smart_retrieval.index.store.store import Store


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The folder with ``notes.smart``, ``model`` and ``expected.json``, what 0.1.0 gave for both."""
    folder = tmp_path_factory.mktemp("saved")
    with zipfile.ZipFile(Path(__file__).parent / "fixtures" / "v0_1_0.zip") as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def expected(saved):
    return json.loads((saved / "expected.json").read_text(encoding="utf-8"))


def assert_hits(hits, expected):
    assert [hit.id for hit in hits] == [id for id, *_ in expected]
    found = [(hit.score, hit.anchor, hit.late)[: len(expected[0]) - 1] for hit in hits]
    np.testing.assert_allclose(found, [scores for _, *scores in expected], atol=1e-5)


def test_the_index_gives_the_same_hits(saved, expected, minilm):
    filtered = "topic = 'ops' and year > 2016"
    for mode in ("w", "r"):  # first without the mapped files, then with them
        with SmartIndex.open(saved / "notes.smart", minilm, mode=mode) as index:
            for hits, before in zip(index.search(expected["queries"], 5), expected["hits"], strict=True):
                assert_hits(hits, before)
            assert_hits(index.search(expected["queries"][0], 5, where=filtered), expected["filtered"])


def test_the_index_takes_more_documents(saved, minilm, tmp_path):
    shutil.copytree(saved / "notes.smart", tmp_path / "notes.smart")
    with SmartIndex.open(tmp_path / "notes.smart", minilm, mode="w") as index:
        index.add(["The logs are rotated."], ids=["more"])
        (added,) = index.store.read_vectors(index.store.rowids(["more"])).anchors
        assert np.array_equal(added, minilm.encode_document(["The logs are rotated."]).anchors[0])  # float32, as ever
        assert (index.info()["format"], index.info()["anchors"]) == (1, "float32")
        assert index.search("how do I rotate the logs", 1)[0].id == "more"
        index.optimize()  # which fits the codec that the index was made to have
        assert index.info()["codec"] == "anchored+3vq+norm"
        assert index.search("when are taxes due", 1)[0].id == "note-04"
        assert index.verify().ok


def test_the_database_is_read_and_made_the_same_way(saved, tmp_path):
    with Store.open(saved / "notes.smart", "w") as store:
        assert (store.manifest.package, store.count(), store.state().tokens) == ("0.1.0", 11, 119)
        assert store.verify().ok
        (document,) = store.get(["note-03"])
        assert document.text == "Otters sleep afloat, holding each other's paws."
        assert document.metadata == {"topic": "animals", "year": 2018}
        with Store.create(tmp_path / "new.smart", store.manifest, store.codec()) as new:
            assert tables(new) == tables(store)


def tables(store):
    with store.reading() as connection:
        return connection.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()


def test_the_model_gives_the_same_vectors(saved, expected):
    before = expected["model"]
    model = SmartModel(saved / "model", device="cpu")
    assert model.readout.to_dict() == before["readout"]
    scoring = model.preset.scoring
    assert {name: getattr(scoring, name) for name in before["scoring"]} == before["scoring"]
    documents = model.encode_document(["the otter swims in the cold river", "tax is due"])
    np.testing.assert_allclose(documents.anchors, before["anchors"], atol=1e-5)
    np.testing.assert_allclose(documents.token_vectors.sum(1), before["tokens"], atol=1e-4)
    scores = model.similarity(model.encode_query(["sea otter"]), documents, weights=None)
    np.testing.assert_allclose(scores, before["similarity_uniform"], atol=1e-5)
