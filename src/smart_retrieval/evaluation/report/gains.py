"""What a system gains over another on the same queries, and how sure that is."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from ...errors import ScoringError
from ..mmeb.metrics import score_ranking
from ..results import ComparisonFacts
from ..significance import paired_comparison
from .measurements import SAME, Measurement

#: Marks of the paired test's p-value, as in most papers; not corrected for how many are looked at.
MARKS = ((0.001, "***"), (0.01, "**"), (0.05, "*"))

PERMUTATIONS = 100_000  #: random sign patterns behind a p-value that is computed here


@dataclass(frozen=True)
class Gain:
    """A difference of means, and a paired test where there is one (see `significance.Comparison`)."""

    difference: float
    relative: float | None
    #: ``"per query"`` (tested here), ``"stored"`` (tested when it was measured) or ``"means"`` (not tested).
    basis: str
    p_value: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    wins: int | None = None
    ties: int | None = None
    losses: int | None = None

    @classmethod
    def of(cls, comparison: ComparisonFacts, basis: str) -> Gain:
        """A gain from a paired comparison; of a stored one, the counts may be missing."""
        facts = {"wins": None, "ties": None, "losses": None, **comparison}
        known: dict[str, Any] = {one.name: facts[one.name] for one in fields(cls) if one.name != "basis"}
        return cls(basis=basis, **known)

    @property
    def mark(self) -> str:
        """``*``, ``**`` or ``***`` (`MARKS`), nothing for what chance may give, ``?`` for what was not tested."""
        if self.p_value is None:
            return "?"
        return next((mark for bound, mark in MARKS if self.p_value < bound), "")


def gain_over(
    treatment: Measurement, baseline: Measurement, metric: str, *, permutations: int = PERMUTATIONS
) -> Gain | None:
    """Compare two systems on the same data; None where one lacks the metric.

    Both per-query values are compared where both are known, for the queries of both; otherwise the comparison that the
    treatment's file holds is taken, if it is of this metric and of this baseline; otherwise the means alone are.
    """
    if treatment.data != baseline.data:
        raise ScoringError(
            f"found results on {treatment.data} and {baseline.data}, expected two on the same data to compare"
        )
    if metric not in treatment.values or metric not in baseline.values:
        return None
    before, after = (_by_query(one, metric) for one in (baseline, treatment))
    # Of other queries than the baseline's, a mean over those of both would be another than the table shows.
    if before is not None and after is not None and before.keys() == after.keys():
        values = [after[query] for query in before]
        compared = paired_comparison(list(before.values()), values, permutations=permutations)
        return Gain.of(compared.to_dict(), "per query")
    mean_before, mean_after = baseline.values[metric], treatment.values[metric]
    stored = treatment.gain
    if (
        stored is not None
        and baseline.system == "anchor"
        and stored["metric"] == metric
        and abs(stored["mean_baseline"] - mean_before) <= SAME
        and abs(stored["mean_treatment"] - mean_after) <= SAME
    ):
        return Gain.of(stored, "stored")
    difference = mean_after - mean_before
    return Gain(difference, difference / mean_before if mean_before else None, "means")


def anchor_of(one: Measurement, among: Iterable[Measurement]) -> Measurement | None:
    """The anchor of the same model on the same data, of its own file if there are two; for BM25 the only one."""
    same_data = [other for other in among if other.system == "anchor" and other.data == one.data]
    fitting = [other for other in same_data if one.has_anchor(other)]
    if "model" not in one.own_settings and len(same_data) == 1:
        fitting = same_data
    chosen = [other for other in fitting if other.file == one.file] or fitting
    return chosen[0] if len(chosen) == 1 else None


def _by_query(one: Measurement, metric: str) -> Mapping[str, float] | None:
    values = (one.per_query or {}).get(metric, {})
    if not values and one.predictions is not None:
        ranked = _judged(one.predictions, one.settings.get("mode", "correct"), metric)
        values = {str(number): value for number, value in enumerate(ranked)}
    # Values that do not give the mean are of another run.
    return values if values and abs(sum(values.values()) / len(values) - one.values[metric]) <= SAME else None


@lru_cache(maxsize=512)
def _judged(file: Path, mode: str, metric: str) -> tuple[float, ...]:
    """A metric of each ranked list in a file of predictions; none where they cannot be read."""
    try:
        with file.open(encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        return tuple(
            score_ranking(row["prediction"], row["label"], row["rel_scores"], mode=mode)[metric] for row in rows
        )
    except (OSError, ValueError, KeyError, TypeError, ScoringError):
        return ()
