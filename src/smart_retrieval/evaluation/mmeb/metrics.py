"""The metrics of a ranking: eight of them at 1, 5 and 10, in a correct form and in the benchmark's own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...errors import ScoringError, one_of

CUTS = (1, 5, 10)
METRICS = ("hit", "precision", "recall", "f1", "map", "mrr", "ndcg_linear", "ndcg_exponential")
NAMES = tuple(f"{metric}@{cut}" for metric in METRICS for cut in CUTS)
MODES = ("correct", "official-compatible")


@dataclass(frozen=True)
class Ranked:
    """The best candidates of one query by one setting, best first, and their scores."""

    names: tuple[str, ...]
    scores: tuple[float, ...]


def score_ranking(
    prediction: Sequence[str],
    labels: Sequence[str],
    grades: Sequence[float] | None = None,
    *,
    mode: str = "correct",
) -> dict[str, float]:
    """The metrics of one ranking of candidates' names, best first; fewer than ten are fine.

    ``correct`` counts a candidate that is ranked twice once, at its better place, takes the higher of two grades of one
    label, and leaves out grades of 0 or below. ``official-compatible`` follows the benchmark's code where it differs:
    candidates and labels are counted as they come, a query without a right answer has a recall of 1, and grades are
    paired with labels in the order of a Python set, which is another in every process; what is given is the mean over
    all these orders, so a perfect ranking of grades 2 and 1 scores 0.93, not 1. Labels without grades count equally.

    Source:
        TIGER-AI-Lab/VLM2Vec, src/eval_utils/metrics.py, for the definitions and for what the compatible mode copies.
    """
    if mode not in MODES:
        raise ScoringError(f"mode: {one_of(mode, MODES)}")
    if grades is not None and len(grades) != len(labels):
        raise ScoringError(f"found {len(grades)} grades for {len(labels)} labels, expected one for each")
    correct = mode == "correct"
    graded = _graded(labels, grades, correct)
    if correct and not graded:
        raise ScoringError("found a query without a right answer, expected at least one with a grade above 0")
    ranked = list(dict.fromkeys(prediction)) if correct else list(prediction)
    values: dict[str, float] = {}
    for cut in CUTS:
        values |= _at(cut, ranked[:cut], graded, shuffled=not correct)
    return {name: values[name] for name in NAMES}


def _graded(labels: Sequence[str], grades: Sequence[float] | None, correct: bool) -> dict[str, float]:
    """The grade of each label; ``correct`` takes the higher of two and leaves out those that are not above 0."""
    if grades is None:
        return dict.fromkeys(labels, 1.0)
    if not correct:
        if len(set(labels)) != len(labels):
            raise ScoringError(
                f"found a label twice among {len(labels)} with grades; the benchmark's code fails there too"
            )
        return dict(zip(labels, map(float, grades), strict=True))
    best: dict[str, float] = {}
    for label, grade in zip(labels, grades, strict=True):
        best[label] = max(float(grade), best.get(label, 0.0))
    return {label: grade for label, grade in best.items() if grade > 0}


def _at(cut: int, top: Sequence[str], graded: Mapping[str, float], *, shuffled: bool) -> dict[str, float]:
    """All metrics at one cut; with ``shuffled`` each label gains what it does on average over all pairings."""
    places = [place for place, name in enumerate(top) if name in graded]
    found = len({top[place] for place in places})
    precision = found / cut
    recall = found / len(graded) if graded else 1.0
    values = {
        f"hit@{cut}": float(found > 0),
        f"precision@{cut}": precision,
        f"recall@{cut}": recall,
        f"f1@{cut}": 2 * precision * recall / (precision + recall) if found else 0.0,
        f"map@{cut}": sum((number + 1) / (place + 1) for number, place in enumerate(places))
        / max(1, min(len(graded), cut)),
        f"mrr@{cut}": 1.0 / (places[0] + 1) if places else 0.0,
    }
    for name in ("ndcg_linear", "ndcg_exponential"):
        gains = {label: grade if name == "ndcg_linear" else 2.0**grade - 1.0 for label, grade in graded.items()}
        ideal = sum(gain * _discount(place) for place, gain in enumerate(sorted(gains.values(), reverse=True)[:cut]))
        if shuffled and gains:
            gains = dict.fromkeys(gains, math.fsum(gains.values()) / len(gains))
        reached = sum(gains[top[place]] * _discount(place) for place in places)
        values[f"{name}@{cut}"] = reached / ideal if ideal > 0 else 0.0
    return values


def _discount(place: int) -> float:
    return 1.0 / math.log2(place + 2)


def mean_of_columns(values: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The mean of each metric, from its values for all queries."""
    if not all(values.values()):
        raise ScoringError("found no query to take the mean over, expected at least one")
    return {name: math.fsum(column) / len(column) for name, column in values.items()}
