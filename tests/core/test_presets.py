"""Presets: the paper's recipe stays the paper's, and names are checked."""

import dataclasses
import json

import pytest

from smart_retrieval import Preset, Readout
from smart_retrieval.core.presets import PRESETS, get_preset, preset_for
from smart_retrieval.core.scoring import Scoring
from smart_retrieval.errors import ScoringError


def test_the_papers_recipe():
    # arXiv 2605.24938: last layer, special tokens dropped only, equal weights, both parts in full.
    paper = get_preset("paper")
    assert paper.readout == Readout(layers=(-1,), token_filter="paper")
    assert (paper.scoring.weights, paper.scoring.lambda_anchor, paper.scoring.lambda_late) == ("uniform", 1.0, 1.0)


def test_there_is_a_default_and_each_preset_knows_its_name():
    assert "default" in PRESETS
    for name, preset in PRESETS.items():
        assert get_preset(name) is preset
        assert preset.name == name
        assert preset.scoring.lambda_anchor > 0
        assert preset.scoring.lambda_late > 0


def test_scoring_is_json():
    for preset in PRESETS.values():
        scoring = preset.scoring.to_dict()
        assert json.loads(json.dumps(scoring)) == scoring
        assert Preset("again", preset.readout, Scoring(**scoring)) == dataclasses.replace(preset, name="again")
    assert get_preset("paper").scoring.floor is None


@pytest.mark.parametrize(("pooling", "n_states"), [("lasttoken", 25), ("cls", 13), ("mean", 3), ("cls+mean", 13)])
def test_the_default_falls_back_to_the_last_layer_where_it_was_not_shown_to_hold(pooling, n_states):
    preset = preset_for("default", pooling=pooling, n_states=n_states)
    assert preset.readout == Readout()
    assert preset.scoring.floor is None
    assert preset.scoring.weights == get_preset("default").scoring.weights
    assert preset_for("paper", pooling=pooling, n_states=n_states) is get_preset("paper")


def test_the_default_applies_in_full_to_mean_pooled_models():
    assert preset_for("default", pooling="mean", n_states=7) is get_preset("default")
    with pytest.raises(ScoringError, match="papper"):
        preset_for("papper", pooling="mean", n_states=7)


def test_a_models_preset_fits_its_pooling(smart):
    assert smart("cls", preset="default").readout == Readout()
    assert smart("mean", preset="default").readout == get_preset("default").readout
    assert smart("mean", preset="paper").readout == Readout()


@pytest.mark.parametrize("floor", [1, 1.5, float("nan"), float("inf")])
def test_invalid_floors_are_refused(floor):
    with pytest.raises(ScoringError, match="floor"):
        Preset("mine", Readout(), Scoring(floor=floor))


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(ScoringError, match=r"'papper'.*'default'.*'paper'"):
        get_preset("papper")
    with pytest.raises(ScoringError, match=r"'bm25'.*'idf', 'uniform'"):
        Preset("mine", Readout(), Scoring(weights="bm25"))


def test_a_model_checks_its_preset(tiny):
    from smart_retrieval import SmartModel

    with pytest.raises(ScoringError, match="papper"):
        SmartModel(tiny("mean"), preset="papper")
