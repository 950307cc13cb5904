"""The paired test against brute force, and the coverage of the interval."""

import itertools
import json

import numpy as np
import pytest

from smart_retrieval.errors import EmptyInputError, NonFiniteError, ScoringError
from smart_retrieval.evaluation import significance
from smart_retrieval.evaluation.significance import EXACT_UP_TO, paired_comparison


def brute_force(differences) -> float:
    """Every sign pattern, one by one."""
    observed = abs(sum(differences))
    sums = [
        abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
        for signs in itertools.product((-1, 1), repeat=len(differences))
    ]
    return sum(value >= observed - 1e-9 for value in sums) / len(sums)


@pytest.mark.parametrize(
    "differences",
    [
        [1, 2, 3, 4, 5],  # all one way: 2 of 32
        [1, -1, 1, 1],
        [0.1, 0.2, -0.3],  # sums to 0 up to rounding: every pattern is as extreme
        [0.5],
        [0.1, 0.1, 0.1, -0.1, 0.3, 0.0, 0.0, 0.2],
        list(np.random.default_rng(3).normal(0.3, 1, 12)),
    ],
)
def test_small_cases_are_exact(differences):
    found = paired_comparison(np.zeros(len(differences)), differences).p_value
    assert found == pytest.approx(brute_force(differences), abs=1e-12)


def test_known_values():
    assert paired_comparison([0] * 5, [1, 2, 3, 4, 5]).p_value == 2 / 32
    assert paired_comparison([0, 0, 0], [0.1, 0.2, -0.3]).p_value == 1


def test_sampling_agrees_with_enumeration(monkeypatch):
    differences = np.random.default_rng(5).normal(0.4, 1, 13)
    exact = paired_comparison(np.zeros(13), differences).p_value
    monkeypatch.setattr(significance, "EXACT_UP_TO", 0)
    sampled = paired_comparison(np.zeros(13), differences).p_value
    assert 0.01 < exact < 0.9, "a p-value in the middle, or the check is idle"
    # Five standard errors of 100,000 draws.
    assert sampled == pytest.approx(exact, abs=5 * (exact * (1 - exact) / 100_000) ** 0.5)
    assert sampled != exact


def test_sampled_p_value_is_never_zero():
    count = 40
    found = paired_comparison(np.zeros(count), np.linspace(1, 2, count), permutations=999)
    assert found.p_value == 1 / 1000


def test_queries_without_a_difference_change_no_p_value():
    rng = np.random.default_rng(0)
    differences = rng.normal(0.5, 1, EXACT_UP_TO)
    alone = paired_comparison(np.zeros(EXACT_UP_TO), differences)
    padded = paired_comparison(np.zeros(100), np.concatenate([differences, np.zeros(100 - EXACT_UP_TO)]))
    assert padded.p_value == alone.p_value
    assert padded.ties == 100 - EXACT_UP_TO


def test_no_difference_at_all():
    found = paired_comparison([0.3, 0.4], [0.3, 0.4])
    assert (found.p_value, found.difference, found.ci_low, found.ci_high) == (1, 0, 0, 0)
    assert (found.wins, found.ties, found.losses) == (0, 2, 0)


def test_exchanging_the_systems_mirrors_the_comparison():
    rng = np.random.default_rng(1)
    a, b = rng.random(30), rng.random(30)
    there, back = paired_comparison(a, b), paired_comparison(b, a)
    assert there.p_value == pytest.approx(back.p_value, abs=1e-12)
    assert there.difference == pytest.approx(-back.difference)
    assert there.ci_low == pytest.approx(-back.ci_high, abs=1e-12)
    assert (there.wins, there.losses) == (back.losses, back.wins)


def test_p_values_are_uniform_under_the_null():
    rng = np.random.default_rng(11)
    p_values = np.array(
        [paired_comparison(rng.random(20), rng.random(20), permutations=500, bootstraps=1).p_value for _ in range(400)]
    )
    assert p_values.mean() == pytest.approx(0.5, abs=0.06)
    assert (p_values <= 0.05).mean() == pytest.approx(0.05, abs=0.04)


def test_the_interval_has_its_nominal_coverage():
    rng = np.random.default_rng(12)
    covered = []
    for _ in range(200):
        differences = rng.normal(0.2, 1, 50)
        found = paired_comparison(np.zeros(50), differences, permutations=1, bootstraps=400)
        assert found.ci_low < found.difference < found.ci_high
        covered.append(found.ci_low <= 0.2 <= found.ci_high)
    assert 0.88 <= np.mean(covered) <= 0.99


def test_the_interval_equals_a_plain_bootstrap():
    differences = np.random.default_rng(2).normal(0.1, 0.5, 400)
    found = paired_comparison(np.zeros(400), differences, permutations=10)
    half = 1.96 * differences.std() / 20
    assert found.ci_low == pytest.approx(differences.mean() - half, abs=0.1 * half)
    assert found.ci_high == pytest.approx(differences.mean() + half, abs=0.1 * half)


def test_same_seed_same_figures_and_chunks_do_not_matter(monkeypatch):
    rng = np.random.default_rng(4)
    a, b = rng.random(33), rng.random(33) + 0.05
    first = paired_comparison(a, b, permutations=2000, bootstraps=500)
    assert paired_comparison(a, b, permutations=2000, bootstraps=500) == first
    assert paired_comparison(a, b, permutations=2000, bootstraps=500, seed=9).p_value != first.p_value
    assert paired_comparison(a, b, permutations=99, bootstraps=500).ci_low == first.ci_low
    monkeypatch.setattr(significance, "_CHUNK", 33 * 7)
    chunked = paired_comparison(a, b, permutations=2000, bootstraps=500)
    assert chunked == first


def test_fields():
    found = paired_comparison([0.2, 0.4, 0.6], [0.3, 0.4, 0.4])
    assert found.mean_baseline == pytest.approx(0.4)
    assert found.mean_treatment == pytest.approx(1.1 / 3)
    assert found.relative == pytest.approx(-1 / 12)
    assert (found.wins, found.ties, found.losses) == (1, 1, 1)
    assert json.loads(json.dumps(found.to_dict())) == found.to_dict()
    assert paired_comparison([0.0], [1.0]).relative is None


@pytest.mark.parametrize(
    ("baseline", "treatment", "error"),
    [
        ([], [], EmptyInputError),
        ([1.0], [1.0, 2.0], ScoringError),
        ([[1.0]], [[1.0]], ScoringError),
        ([1.0], [np.nan], NonFiniteError),
        ([np.inf], [1.0], NonFiniteError),
    ],
)
def test_bad_input(baseline, treatment, error):
    with pytest.raises(error):
        paired_comparison(baseline, treatment)


@pytest.mark.parametrize("counts", [{"permutations": 0}, {"bootstraps": 0}])
def test_counts_are_checked(counts):
    with pytest.raises(ScoringError):
        paired_comparison([1.0], [2.0], **counts)
