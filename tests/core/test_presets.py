"""Presets: the paper's recipe stays the paper's, and names are checked."""

import dataclasses
import json

import pytest

from smart_retrieval import Preset, Readout
from smart_retrieval.core.presets import PRESETS, get_preset
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
        assert preset.scoring.lambda_late in (1.0, "calibrated")


def test_scoring_is_json():
    for preset in PRESETS.values():
        scoring = preset.scoring.to_dict()
        assert json.loads(json.dumps(scoring)) == scoring
        assert Preset("again", preset.readout, Scoring(**scoring)) == dataclasses.replace(preset, name="again")
    assert get_preset("paper").scoring.floor is None


@pytest.mark.parametrize("pooling", ["mean", "cls", "lasttoken"])
def test_the_default_is_one_rule_for_every_pooling(smart, pooling):
    default = get_preset("default")
    model = smart(pooling, preset="default")
    assert model.preset == default
    assert model.readout == default.readout == Readout((-1,), token_filter="content")
    assert smart(pooling, preset="paper").readout == Readout()


def test_a_floor_chosen_for_certain_layers_is_dropped_with_them_and_a_calibrated_one_is_kept():
    other = Readout((-2,))
    assert get_preset("default").reading(other).scoring == get_preset("default").scoring
    fixed = Preset("mine", Readout(), Scoring("idf", floor=0.4))
    assert fixed.reading(other).scoring == Scoring("idf")
    assert fixed.reading(Readout(token_filter="content")).scoring.floor == 0.4


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
