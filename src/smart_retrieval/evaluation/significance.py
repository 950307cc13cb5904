"""Is one system better than another on these queries, and by how much: a paired test and an interval."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import EmptyInputError, NonFiniteError, ScoringError
from .results import ComparisonFacts

#: Up to this many queries that differ, every one of the 2^n sign patterns is tried instead of a sample of them.
EXACT_UP_TO = 14

_TIE = 1e-12  # differences below this are rounding, not wins: the metrics are quotients of small numbers
_CHUNK = 1 << 22  # random numbers held at once (8 bytes each, twice): 64 MiB, whatever the number of queries


@dataclass(frozen=True)
class Comparison:
    """How a treatment fares against a baseline on the same queries.

    Attributes:
        mean_baseline: Mean of the baseline's per-query values.
        mean_treatment: Mean of the treatment's.
        difference: Treatment minus baseline.
        relative: The difference as a share of the baseline's mean; None where that mean is 0.
        p_value: Two-sided p-value of the paired randomisation test: how often exchanging the two systems at random
            within each query would give a difference of the means at least this large.
        ci_low: Lower end of the 95 % percentile bootstrap interval of the difference.
        ci_high: Upper end.
        wins: Queries on which the treatment is better.
        ties: Queries on which the two are equal.
        losses: Queries on which it is worse.
    """

    mean_baseline: float
    mean_treatment: float
    difference: float
    relative: float | None
    p_value: float
    ci_low: float
    ci_high: float
    wins: int
    ties: int
    losses: int

    def to_dict(self) -> ComparisonFacts:
        """Return the fields as a dictionary of JSON-able values."""
        return cast(ComparisonFacts, asdict(self))


def paired_comparison(
    baseline: ArrayLike,
    treatment: ArrayLike,
    *,
    seed: int = 20070611,
    permutations: int = 100_000,
    bootstraps: int = 10_000,
) -> Comparison:
    """Compare two systems query by query.

    Args:
        baseline: Metric of the baseline, shape [queries].
        treatment: Metric of the treatment, shape [queries], for the same queries in the same order.
        seed: Seed of the random sign patterns and of the resampling. The same input and seed give the same output.
        permutations: Random sign patterns of the test. Where at most `EXACT_UP_TO` queries differ, all are enumerated
            instead and the p-value is exact.
        bootstraps: Resamplings of the queries behind the interval.

    Returns:
        The comparison. With a single query the interval is the difference itself and says nothing.

    Raises:
        EmptyInputError: There are no queries.
        ScoringError: The two are not of one length, or a count is below 1.
        NonFiniteError: A value is NaN or infinite.

    Example:
        >>> comparison = paired_comparison([0.1, 0.2, 0.3], [0.2, 0.4, 0.3])
        >>> round(comparison.difference, 3), comparison.p_value, comparison.wins, comparison.ties
        (0.1, 0.5, 2, 1)

    Source:
        The test: Smucker, Allan and Carterette, "A comparison of statistical significance tests for information
        retrieval evaluation", CIKM 2007. The +1 of the sampled p-value, without which the test is not valid: Phipson
        and Smyth, "Permutation p-values should never be zero", 2010. The interval: Efron's percentile bootstrap.
    """
    before, after = np.asarray(baseline, dtype=np.float64), np.asarray(treatment, dtype=np.float64)
    if before.ndim != 1 or before.shape != after.shape:
        raise ScoringError(
            f"found shapes {before.shape} and {after.shape}, expected two arrays [queries] of one length"
        )
    if not len(before):
        raise EmptyInputError("found no queries to compare, expected at least one")
    if not (np.isfinite(before).all() and np.isfinite(after).all()):
        raise NonFiniteError("found NaN or infinity among the metrics, expected numbers: check the scores behind them")
    if permutations < 1 or bootstraps < 1:
        raise ScoringError(f"found {permutations} permutations and {bootstraps} bootstraps, expected 1 or more of each")
    differences = after - before
    differences[np.abs(differences) < _TIE] = 0.0
    # Two streams, so that the number of permutations does not move the interval.
    for_test, for_interval = (np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(2))
    low, high = _bootstrap_interval(differences, bootstraps, for_interval)
    mean_before, mean_after = float(before.mean()), float(after.mean())
    return Comparison(
        mean_baseline=mean_before,
        mean_treatment=mean_after,
        difference=mean_after - mean_before,
        relative=(mean_after - mean_before) / mean_before if mean_before else None,
        p_value=_sign_flip_p_value(differences, permutations, for_test),
        ci_low=low,
        ci_high=high,
        wins=int((differences > 0).sum()),
        ties=int((differences == 0).sum()),
        losses=int((differences < 0).sum()),
    )


def p_value_text(p_value: float) -> str:
    """A p-value for a table: ``"0.0123"`` or ``"< 0.0001"``."""
    return "< 0.0001" if p_value < 0.0001 else f"{p_value:.4f}"


def format_p_value(p_value: float) -> str:
    """A p-value for a sentence: ``"p = 0.0123"`` or ``"p < 0.0001"``."""
    return f"p {p_value_text(p_value)}" if p_value < 0.0001 else f"p = {p_value_text(p_value)}"


def _sign_flip_p_value(differences: NDArray[np.float64], permutations: int, rng: np.random.Generator) -> float:
    """Share of the sign patterns whose sum is at least as far from 0 as the observed one."""
    # A query without a difference adds nothing under either sign: leaving it out changes no sum.
    moving = differences[differences != 0]
    if not len(moving):
        return 1.0
    total = moving.sum()
    # Patterns that equal the observed one in exact arithmetic must count, whatever order they were summed in.
    bar = abs(total) - 1e-9 * np.abs(moving).sum()
    exact = len(moving) <= EXACT_UP_TO
    patterns = 1 << len(moving) if exact else permutations
    step = max(1, _CHUNK // len(moving))
    extreme = 0
    for start in range(0, patterns, step):
        count = min(step, patterns - start)
        if exact:
            kept = ((np.arange(start, start + count)[:, None] >> np.arange(len(moving))) & 1).astype(np.float64)
        else:
            # Whole 32-bit words, which is how the generator hands out bytes: so the chunks' size changes no pattern.
            width = 4 * -(-len(moving) // 32)
            noise = np.frombuffer(rng.bytes(count * width), dtype=np.uint8).reshape(count, width)
            kept = np.unpackbits(noise, axis=1, count=len(moving)).astype(np.float64)
        # With s = 2b - 1 the signed sum is twice the sum of the kept ones less the total.
        extreme += int((np.abs(2.0 * (kept @ moving) - total) >= bar).sum())
    return extreme / patterns if exact else (extreme + 1) / (patterns + 1)


def _bootstrap_interval(
    differences: NDArray[np.float64], bootstraps: int, rng: np.random.Generator
) -> tuple[float, float]:
    """2.5th and 97.5th percentile of the mean over resampled queries."""
    count = len(differences)
    step = max(1, _CHUNK // count)
    means = np.concatenate(
        [
            differences[rng.integers(0, count, size=(min(step, bootstraps - start), count))].mean(axis=1)
            for start in range(0, bootstraps, step)
        ]
    )
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
