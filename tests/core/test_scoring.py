"""The settings that a score is computed with."""

from __future__ import annotations

import numpy as np
import pytest

from smart_retrieval import IdfWeights, Scoring
from smart_retrieval.core.calibration import Calibration
from smart_retrieval.core.collection import CollectionStatistics
from smart_retrieval.errors import ScoringError


def test_override_keeps_fields_that_are_left_out():
    scoring = Scoring("idf", 0.5, 2.0, 0.3)
    assert scoring.override() == scoring
    assert scoring.override(lambda_late=0.0) == Scoring("idf", 0.5, 0.0, 0.3)
    assert scoring.override(floor=None, weights=None) == Scoring("uniform", 0.5, 2.0, None)
    assert Scoring(**scoring.to_dict()) == scoring


@pytest.mark.parametrize(
    ("field", "value"),
    [("weights", "idff"), ("lambda_late", np.nan), ("lambda_anchor", np.inf), ("floor", 1.0), ("floor", np.nan)],
)
def test_invalid_values_are_refused(field, value):
    with pytest.raises(ScoringError, match=field):
        Scoring(**{field: value})
    with pytest.raises(ScoringError, match=field):
        Scoring().override(**{field: value})


def test_a_floor_is_a_number_none_or_the_presets():
    with pytest.raises(ScoringError, match="'prest'"):
        Scoring().override(floor="prest")


def test_idf_is_a_name_until_a_collection_gives_the_table():
    table = IdfWeights()

    def unwanted():
        pytest.fail("not wanted")

    assert Scoring("idf").fitted(CollectionStatistics(lambda: table, unwanted)).query_weights is table
    assert Scoring().fitted(CollectionStatistics(unwanted, unwanted)).query_weights is None
    with pytest.raises(ScoringError, match="found 'idf'"):
        _ = Scoring("idf").query_weights
    assert Scoring(table).to_dict()["weights"] == "custom"


def test_late_weight_and_floor_are_names_until_a_collection_is_calibrated():
    scoring = Scoring("uniform", lambda_late="calibrated", floor="calibrated")
    statistics = CollectionStatistics(IdfWeights, lambda: Calibration(0.125, 0.25))
    fitted = scoring.fitted(statistics)
    assert (fitted.late_weight, fitted.late_floor) == (1.25, 0.25)
    assert Scoring(**scoring.to_dict()) == scoring
    assert scoring.override(lambda_late=2.0).fitted(statistics).late_weight == 2.0
    assert scoring.override(floor=None).fitted(statistics).late_floor is None
    with pytest.raises(ScoringError, match="lambda_late: found 'calibrated'"):
        _ = scoring.late_weight
    with pytest.raises(ScoringError, match="floor: found 'calibrated'"):
        _ = scoring.late_floor


def test_the_two_parts_are_added_by_their_weights():
    anchor = np.float32([0.5, 0.25])
    assert Scoring(lambda_late=0.0).combine(anchor, np.float32([1.0, -1.0])).tolist() == [0.5, 0.25]
    both = Scoring("uniform", 2.0, 0.5).combine(anchor, np.float32([1.0, -1.0]))
    assert both.tolist() == [1.5, 0.0]
    assert both.dtype == np.float32
