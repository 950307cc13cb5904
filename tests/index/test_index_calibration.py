"""The calibration of an index: fixed once, kept, shown, and refreshed only on request."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from smart_retrieval import Scoring, SmartIndex, SmartModel
from smart_retrieval.cli.main import app
from smart_retrieval.core.calibration import Calibration
from smart_retrieval.core.collection import MIN_DOCUMENTS
from smart_retrieval.errors import UnknownIdError
from smart_retrieval.index.store.manifest import Manifest

WORDS = [
    "otter",
    "swims",
    "cold",
    "river",
    "tax",
    "due",
    "warm",
    "sea",
    "water",
    "sun",
    "bread",
    "butter",
    "moon",
    "many",
    "animals",
    "sleep",
    "day",
    "people",
    "time",
    "oil",
]


def texts(count, seed=0):
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, int(size))) for size in random.integers(4, 12, count)]


@pytest.fixture
def model(tiny):
    return SmartModel(tiny("mean"), device="cpu")


def named(count, prefix="d"):
    return [f"{prefix}{number}" for number in range(count)]


def scores_of(index, query="sea otter", k=500):
    return {hit.id: hit.score for hit in index.search(query, k, exact=True)}


def test_it_is_fixed_by_the_write_that_makes_the_index_large_enough(model, tmp_path):
    few, more = texts(MIN_DOCUMENTS - 1), texts(30, seed=1)
    with SmartIndex.create(tmp_path / "i", model, codec="float32") as index:
        index.add(few, ids=named(len(few)))
        assert index.info()["calibration"] == {}
        assert index.calibration() == Calibration.fit(model.encode_document(few))
        index.add(more, ids=named(len(more), "e"))
        fixed = index.calibration()
        wanted = Calibration.fit(model.encode_document([*few, *more]))
        assert fixed.background == pytest.approx(wanted.background, abs=1e-6)
        assert fixed.anchor_spread == pytest.approx(wanted.anchor_spread, rel=1e-5)
        shown = index.info()["calibration"]
        assert shown["of"] == "collection"
        assert (shown["lambda_late"], shown["floor"]) == (fixed.lambda_late, fixed.floor)
        assert index.verify().ok
    with SmartIndex.open(tmp_path / "i", model, mode="r") as index:
        assert index.calibration() == fixed


def test_what_is_added_later_changes_no_calibration_until_refit(model, tmp_path):
    with SmartIndex.create(tmp_path / "i", model, codec="float32") as index:
        index.add(texts(80), ids=named(80))
        fixed = index.calibration()
        other = ["the otter " * 8 + word for word in WORDS] * 8
        index.add(other, ids=named(len(other), "e"))
        index.delete(named(40))
        index.optimize()
        assert index.calibration() == fixed
        index.optimize(refit=True)
        assert index.calibration() != fixed
        assert index.info()["calibration"]["documents"] == len(index)


def test_another_handle_sees_what_one_fixed(model, tmp_path):
    with SmartIndex.create(tmp_path / "i", model, codec="float32") as index:
        index.add(texts(10), ids=named(10))
        with SmartIndex.open(tmp_path / "i", model, mode="r") as reader:
            before = reader.calibration()
            index.add(texts(90, seed=2), ids=named(90, "e"))
            assert reader.calibration() == index.calibration() != before
            assert scores_of(reader) == scores_of(index)


def test_the_same_texts_score_the_same_in_similarity_and_in_an_index(model, tmp_path):
    documents = texts(100)
    expected = model.similarity(model.encode_query("sea otter"), model.encode_document(documents))[0]
    with SmartIndex.create(tmp_path / "i", model, codec="float32") as index:
        index.add(documents, ids=named(100))
        found = scores_of(index)
        explained = [index.explain("sea otter", id).score for id in named(100)[:5]]
    np.testing.assert_allclose([found[id] for id in named(100)], expected, atol=1e-5)
    np.testing.assert_allclose(explained, expected[:5], atol=1e-5)


def test_a_models_calibration_serves_a_young_index_and_is_recorded(model, tmp_path):
    own = model.calibrate(model.encode_document(texts(200, seed=3)))
    documents = texts(10)
    expected = model.similarity(model.encode_query("sea otter"), model.encode_document(documents))[0]
    with SmartIndex.create(tmp_path / "i", model, codec="float32") as index:
        index.add(documents, ids=named(10))
    # The index knows it, whatever the model knows.
    with SmartIndex.open(tmp_path / "i", SmartModel(model.name, device="cpu")) as index:
        assert index.calibration() == own
        assert index.info()["calibration"]["of"] == "model"
        found = scores_of(index)
    np.testing.assert_allclose([found[id] for id in named(10)], expected, atol=1e-5)


def test_scoring_needs_no_model_and_is_the_one_it_was_made_with(model, tmp_path):
    own = SmartModel(model.name, device="cpu")
    own.preset = type(own.preset)("default", own.readout, Scoring("uniform", 0.5, 3.0, 0.2))
    with SmartIndex.create(tmp_path / "i", own, codec="float32") as index:
        index.add(texts(70), ids=named(70))
        assert index.info()["calibration"] == {}, "nothing is calibrated that is not used"
        made = scores_of(index)
    with SmartIndex.open(tmp_path / "i", model) as index:
        assert index.preset.scoring == Scoring("uniform", 0.5, 3.0, 0.2)
        assert scores_of(index) == made
        assert index.search("sea", 3, floor="calibrated", lambda_late="calibrated")


def test_a_killed_first_run_is_calibrated_by_the_next_write(model, tmp_path, monkeypatch):
    from smart_retrieval.index.statistics import IndexStatistics

    with SmartIndex.create(tmp_path / "i", model, codec="float32") as index:
        monkeypatch.setattr(IndexStatistics, "fix_calibration", lambda *_, **__: None)
        index.add(texts(80), ids=named(80))
        monkeypatch.undo()
        before = scores_of(index)
        assert index.info()["calibration"] == {}
        index.add(["a tax"], ids=["one"])
        assert index.info()["calibration"]["of"] == "collection"
        after = scores_of(index)
    np.testing.assert_allclose([after[id] for id in before], [before[id] for id in before], atol=0.05)


def test_pooled_and_coded_indexes_are_calibrated(model, tmp_path):
    documents = texts(90)
    wanted = Calibration.fit(model.encode_document(documents))
    for options in ({"token_pooling": 2}, {"codec": "int8"}):
        with SmartIndex.create(tmp_path / str(options), model, **{"codec": "float32", **options}) as index:
            index.add(documents, ids=named(90))
            found = index.calibration()
        assert found.anchor_spread == pytest.approx(wanted.anchor_spread, rel=1e-4)
        assert found.background == pytest.approx(wanted.background, abs=0.15)


def test_info_says_where_the_numbers_come_from(model, tmp_path):
    def shown():
        found = CliRunner().invoke(app, ["info", str(tmp_path / "i")])
        assert found.exit_code == 0, found.output
        return " ".join(found.stdout.split())

    with SmartIndex.create(tmp_path / "i", model, codec="float32") as index:
        index.add(texts(10), ids=named(10))
        assert "λ_late calibrated, floor calibrated (on the documents there are" in shown()
        index.add(texts(60, seed=5), ids=named(60, "e"))
        number = index.calibration().lambda_late
        assert f"idf weights, λ_anchor 1, λ_late {number:.3g}, floor" in shown()
        assert "(calibrated on these documents)" in shown()
    found = json.loads(CliRunner().invoke(app, ["info", str(tmp_path / "i"), "--json"]).stdout)
    assert found["scoring"]["lambda_late"] == "calibrated"
    assert found["calibration"]["lambda_late"] == number


def test_a_damaged_calibration_is_found(model, tmp_path):
    with SmartIndex.create(tmp_path / "i", model, codec="float32") as index:
        index.add(texts(80), ids=named(80))
        with index.store.transaction() as handle:
            Manifest.put(handle.connection, "calibration", {"anchor_spread": -1})
            handle.dirty = True
        with pytest.raises(Exception, match="calibration: found"):
            index.search("sea")


@pytest.mark.parametrize("explain", [False, True])
def test_weights_and_documents_are_of_one_commit(make, monkeypatch, explain):
    """What another process adds after the weights were read belongs to the next search."""
    index = make()
    index.add(["the otter swims", "a cold river", "people sleep"], ids=["a", "b", "c"])
    settled = index._statistics.settled

    def then_another_adds(*arguments, **options):
        found = settled(*arguments, **options)
        if len(other) == 3:
            other.add(["the otter swims in the river"], ids=["d"])
        return found

    monkeypatch.setattr(index._statistics, "settled", then_another_adds)
    with SmartIndex.open(index.path, model=index.model) as other:
        if explain:
            with pytest.raises(UnknownIdError):
                index.explain("otter", "d")
            assert index.explain("otter", "d").score > 0
        else:
            assert sorted(hit.id for hit in index.search("otter", 9)) == ["a", "b", "c"]
            assert sorted(hit.id for hit in index.search("otter", 9)) == ["a", "b", "c", "d"]
