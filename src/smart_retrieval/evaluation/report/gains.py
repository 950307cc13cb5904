"""What a system gains over another on the same queries, and how sure that is."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ...errors import ScoringError
from ..significance import paired_comparison
from .measured import SAME, Measured

#: Marks of the paired test's p-value, as in most papers; not corrected for how many are looked at.
MARKS = ((0.001, "***"), (0.01, "**"), (0.05, "*"))

#: Random sign patterns behind a p-value that is computed here.
PERMUTATIONS = 100_000


@dataclass(frozen=True)
class Gain:
    """A difference of means, with a paired test where there is one.

    Args:
        difference: Treatment minus baseline.
        relative: As a share of the baseline; None where that is 0.
        basis: ``"per query"`` (tested here), ``"stored"`` (tested when it was measured) or ``"means"`` (not tested).
        p_value: Of the paired randomisation test.
        ci_low: Lower end of the 95 % interval.
        ci_high: Upper end.
        wins: Queries on which the treatment is better.
        ties: Queries on which both are equal.
        losses: Queries on which it is worse.
    """

    difference: float
    relative: float | None
    basis: str
    p_value: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    wins: int | None = None
    ties: int | None = None
    losses: int | None = None

    @property
    def mark(self) -> str:
        """``*``, ``**`` or ``***`` (`MARKS`), nothing for what chance may give, ``?`` for what was not tested."""
        if self.p_value is None:
            return "?"
        return next((mark for bound, mark in MARKS if self.p_value < bound), "")

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {**asdict(self), "mark": self.mark}


def gain_over(treatment: Measured, baseline: Measured, metric: str, *, permutations: int = PERMUTATIONS) -> Gain | None:
    """Compare two systems on the same data.

    Both per-query values are compared where both are known, for the queries of both; otherwise the comparison that the
    treatment's file holds is taken, if it is of this metric and of this baseline; otherwise the means alone are.

    Args:
        treatment: One.
        baseline: The other, on the same data.
        metric: Which metric.
        permutations: Random sign patterns of the test.

    Returns:
        None where one lacks the metric.

    Raises:
        ScoringError: The two are not on the same data.
    """
    if treatment.data != baseline.data:
        raise ScoringError(
            f"found results on {treatment.data} and {baseline.data}, expected two on the same data to compare"
        )
    if metric not in treatment.values or metric not in baseline.values:
        return None
    after, before = treatment.values[metric], baseline.values[metric]
    pairs = _pairs(treatment, baseline, metric)
    if pairs is not None:
        found = paired_comparison(*pairs, permutations=permutations).to_dict()
        return _gain(found, "per query")
    stored = treatment.gain
    if (
        stored is not None
        and baseline.system == "anchor"
        and stored["metric"] == metric
        and abs(stored["mean_baseline"] - before) <= SAME
        and abs(stored["mean_treatment"] - after) <= SAME
    ):
        return _gain(stored, "stored")
    return Gain(after - before, (after - before) / before if before else None, "means")


def anchor_of(one: Measured, among: Iterable[Measured]) -> Measured | None:
    """The anchor a system is compared with: of the same model, on the same data; of its own file if there are two.

    For BM25, which is of no model, it is the only one there is, if there is but one.
    """
    same_data = [other for other in among if other.system == "anchor" and other.data == one.data]
    fitting = [other for other in same_data if one.has_anchor(other)]
    if "model" not in one.own_settings and len(same_data) == 1:
        fitting = same_data
    own = [other for other in fitting if other.file == one.file]
    chosen = own or fitting
    return chosen[0] if len(chosen) == 1 else None


def _gain(found: Mapping[str, Any], basis: str) -> Gain:
    counts = (found.get(name) for name in ("wins", "ties", "losses"))
    tested = (found[name] for name in ("p_value", "ci_low", "ci_high"))
    return Gain(found["difference"], found["relative"], basis, *tested, *counts)


def _pairs(treatment: Measured, baseline: Measured, metric: str) -> tuple[list[float], list[float]] | None:
    """Values of the baseline and of the treatment for the same queries in the same order."""
    before, after = (_by_query(one, metric) for one in (baseline, treatment))
    # Other queries than the baseline's: a mean over those of both would be another than the table shows.
    if before is None or after is None or before.keys() != after.keys():
        return None
    return list(before.values()), [after[query] for query in before]


def _by_query(one: Measured, metric: str) -> dict[str, float] | None:
    if one.per_query is not None and metric in one.per_query.values:
        values = dict(zip(one.per_query.ids, one.per_query.values[metric], strict=True))
    elif one.predictions is not None:
        ranked = _judged(one.predictions, one.settings.get("mode", "correct"), metric)
        values = {} if ranked is None else {str(number): value for number, value in enumerate(ranked)}
    else:
        return None
    # Values that do not give the mean are of another run.
    return values if values and abs(sum(values.values()) / len(values) - one.values[metric]) <= SAME else None


@lru_cache(maxsize=512)
def _judged(file: Path, mode: str, metric: str) -> tuple[float, ...] | None:
    """A metric of each ranked list in a file of predictions; None where they cannot be read."""
    from ..mmeb.metrics import score_ranking

    try:
        with file.open(encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        return tuple(
            score_ranking(row["prediction"], row["label"], row["rel_scores"], mode=mode)[metric] for row in rows
        )
    except (OSError, ValueError, KeyError, TypeError, ScoringError):
        return None
