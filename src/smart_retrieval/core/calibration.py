"""Late weight and floor of a model in a collection, without judgments, from what is known to be unrelated."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from ..embeddings import SmartEmbeddings
from ..errors import ScoringError
from ..types import Array
from .late import best_similarities
from .vectors import expect_embeddings, unit_rows
from .weights import IdfWeights

# The two constants of the default preset. Both lie on wide plateaus over four collections and four models; the weight
# is what most folds choose that leave a collection or a model out (benchmarks/results/default_selection.json).
FLOOR_QUANTILE = 0.8
LATE_PER_SPREAD = 10.0

# Documents and query tokens looked at, whatever the size of the collection.
_SAMPLE_DOCUMENTS = 256
_SAMPLE_TOKENS = 512
_SEED = 20260524
# Equal vectors everywhere would leave nothing to stretch the rest over.
_HIGHEST_FLOOR = 0.98
# Those of eight documents. A pair alone would have no spread, and late interaction no weight.
_PRIOR_PAIRS = 28


@dataclass(frozen=True)
class Calibration:
    """How similar a model finds what is unrelated, in one collection: late weight and floor of ``default``.

    Cosines of one model spread between 0 and 1, of another between 0.7 and 0.9, so that no fixed weight or floor suits
    both. Two figures of different documents, which are mostly unrelated, say what they mean:

    * ``anchor_spread``, the standard deviation of the cosines of their anchors. The late weight is 10 times that, so
      that late interaction moves a score as far as the anchors do.
    * ``background``, the similarity that a rare token of one document finds in another (the .8 quantile of its best
      ones). What is no more similar than that says nothing, and is the floor.

    Args:
        anchor_spread: Standard deviation of cosines.
        background: A cosine.
        documents: Documents it was measured on.

    Source:
        This project; benchmarks/default_selection.py.

    Example:
        >>> documents = SmartEmbeddings([[1.0, 0.0], [0.6, 0.8]], [[1.0, 0.0], [0.6, 0.8]], [0, 1, 2], token_ids=[7, 8])
        >>> round(Calibration.fit(documents).floor, 3)
        0.6
    """

    anchor_spread: float
    background: float
    documents: int = 0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.anchor_spread) and self.anchor_spread >= 0 and -1 <= self.background < 1):
            raise ScoringError(
                f"calibration: found an anchor spread of {self.anchor_spread} and a background of {self.background}, "
                "expected a number of 0 or more and one between -1 and 1"
            )

    @property
    def lambda_late(self) -> float:
        """Weight of the late score."""
        return LATE_PER_SPREAD * self.anchor_spread

    @property
    def floor(self) -> float:
        """Token similarities up to here count as none."""
        return self.background

    @classmethod
    def fit(
        cls, documents: SmartEmbeddings, probes: SmartEmbeddings | None = None, *, quantile: float = FLOOR_QUANTILE
    ) -> Calibration:
        """Measure documents: a sample of 256, and 512 of their tokens, drawn by IDF; the same for the same documents.

        Of a few documents the spread is drawn towards a late weight of 1 - floor, of fewer than two that is all: the
        paper's weight of 1, and no floor.

        Args:
            documents: The collection, in its order. Those without token vectors are left out.
            probes: Queries whose tokens ask in the place of the documents' own, which pictures have none of.
            quantile: The share of unrelated similarities that lie below the background.
        """
        expect_embeddings(documents)
        sample = documents[sample_positions(len(documents))]
        return cls.measure(sample, IdfWeights.fit(documents), probes, quantile=quantile)

    @classmethod
    def measure(
        cls,
        sample: SmartEmbeddings,
        idf: IdfWeights,
        probes: SmartEmbeddings | None = None,
        *,
        quantile: float = FLOOR_QUANTILE,
    ) -> Calibration:
        """:meth:`fit` of a sample that is drawn already, with the IDF weights of the collection it was drawn from."""
        sample = sample[sample.lengths > 0]
        if len(sample) < 2:
            return cls(_spread(np.zeros(0), 0.0), 0.0, len(sample))
        anchors = unit_rows(sample.anchors)
        cosines = (anchors @ anchors.T)[np.triu_indices(len(sample), 1)].astype(np.float64)
        asking = sample if probes is None else probes
        chosen, shares = _drawn_tokens(idf.of(asking.token_ids) if probes is None else None, asking)
        best = best_similarities(np.asarray(asking.token_vectors[chosen], np.float32), sample)
        weights = np.repeat(shares[:, None], len(sample), axis=1)
        if probes is None:  # no token is asked about its own document
            weights[np.repeat(np.arange(len(sample)), sample.lengths)[chosen][:, None] == np.arange(len(sample))] = 0
        background = _weighted_quantile(best.ravel(), weights.ravel(), quantile)
        background = min(max(background, 0.0), _HIGHEST_FLOOR)
        return cls(_spread(cosines, background), background, len(sample))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, read back by :meth:`from_dict`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Calibration:
        """Read what :meth:`to_dict` gave.

        Raises:
            ScoringError: A value is missing, unknown or unusable.
        """
        try:
            return cls(**found)
        except (TypeError, ValueError) as error:
            expected = ", ".join(part.name for part in fields(cls))
            raise ScoringError(f"calibration: found {found!r}, expected {expected}") from error


def sample_positions(documents: int) -> Array:
    """Positions of the documents that are looked at, ascending, of so many."""
    if documents <= _SAMPLE_DOCUMENTS:
        return np.arange(documents)
    return np.sort(np.random.default_rng(_SEED).choice(documents, _SAMPLE_DOCUMENTS, replace=False))


def has_words(sample: SmartEmbeddings) -> bool:
    """Whether at least half of the documents have words of their own, and not only pictures."""
    worded = np.zeros(len(sample), bool)
    worded[np.repeat(np.arange(len(sample)), sample.lengths)[sample.token_ids >= 0]] = True
    return 2 * int(worded.sum()) >= len(sample)


def _drawn_tokens(weights: Array | None, asking: SmartEmbeddings) -> tuple[Array, Array]:
    """Rows of the tokens that ask, ascending, and what each counts: words only where there are any.

    Drawn by priority sampling (Duffield, Lund and Thorup, 2007), whose weights are exact where everything is drawn. A
    token's chance depends on its document's text and its place there, so that the order of documents changes nothing.
    """
    total = len(asking.token_vectors)
    shares = np.ones(total) if weights is None else np.asarray(weights, np.float64)
    words = asking.token_ids >= 0
    shares = np.where(words, shares, 0.0) if shares[words].any() else np.ones(total)
    texts = [zlib.crc32(ids.tobytes()) for ids in np.split(asking.token_ids.astype(np.int64), asking.offsets[1:-1])]
    places = np.arange(total) - np.repeat(asking.offsets[:-1], asking.lengths)
    priority = shares / _uniform(np.repeat(np.array(texts, np.uint64), asking.lengths), places.astype(np.uint64))
    order = np.argsort(-priority, kind="stable")
    chosen = np.sort(order[:_SAMPLE_TOKENS][shares[order[:_SAMPLE_TOKENS]] > 0])
    threshold = priority[order[_SAMPLE_TOKENS]] if total > _SAMPLE_TOKENS else 0.0
    return chosen, np.maximum(shares[chosen], threshold)


def _uniform(texts: Array, places: Array) -> Array:
    """Numbers in (0, 1] that look random and are the same for the same text and place (SplitMix64)."""
    with np.errstate(over="ignore"):
        mixed = (texts << np.uint64(32)) + places + np.uint64(0x9E3779B97F4A7C15)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
        mixed ^= mixed >> np.uint64(31)
    uniform: Array = ((mixed >> np.uint64(11)).astype(np.float64) + 1) / 2.0**53
    return uniform


def _spread(cosines: Array, background: float) -> float:
    """The standard deviation of the cosines; where they are few, near that of the paper's weight above the floor."""
    prior = (1 - background) / LATE_PER_SPREAD
    squares = len(cosines) * float(cosines.var()) if len(cosines) else 0.0
    return math.sqrt((squares + _PRIOR_PAIRS * prior**2) / (len(cosines) + _PRIOR_PAIRS))


def _weighted_quantile(values: Array, weights: Array, share: float) -> float:
    """The value up to which this share of the weight lies."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(reached, share * reached[-1])])
