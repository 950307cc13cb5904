"""How far hits of one index are those of another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from smart_retrieval.index.search.hits import Hits


def agreement(found: Sequence[Hits], expected: Sequence[Hits]) -> dict[str, float]:
    """Share of equal first tens, of their hits, and the largest difference of a hit's scores."""
    ids = [([hit.id for hit in one], [hit.id for hit in other]) for one, other in zip(found, expected, strict=True)]
    known = [{hit.id: hit.score for hit in other} for other in expected]
    pairs = [(hit, scores) for one, scores in zip(found, known, strict=True) for hit in one if hit.id in scores]
    return {
        "same_top10": float(np.mean([one == other for one, other in ids])),
        "overlap": float(np.mean([len({*one} & {*other}) / max(1, len(other)) for one, other in ids])),
        "largest_gap": max((abs(hit.score - scores[hit.id]) for hit, scores in pairs), default=0.0),
    }
