"""The best candidates of a query, and the order of those that score the same."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import NonFiniteError, ScoringError, one_of

TIES = ("official", "name")


def tie_key(task: str, row: int, name: str) -> int:
    """A candidate's place among equals in SMART's evaluation: another order for every query, the same in every run.

    Args:
        task: The task's name.
        row: The query's number.
        name: The candidate's name.

    Example:
        >>> tie_key("MSVD", 0, "a") == tie_key("MSVD", 0, "a") != tie_key("MSVD", 1, "a")
        True
    """
    text = f"{task}:{row}\0{name}\0"
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def tie_order(kind: str, task: str, row: int) -> Callable[[str], Any]:
    """The key by which equal candidates are sorted.

    Args:
        kind: ``"official"`` (:func:`tie_key`), or ``"name"``.
        task: The task's name.
        row: The query's number.

    Raises:
        ScoringError: The kind is unknown.
    """
    if kind not in TIES:
        raise ScoringError(f"ties: {one_of(kind, TIES)}")
    return (lambda name: tie_key(task, row, name)) if kind == "official" else (lambda name: name)


def best_places(
    scores: NDArray[Any], names: Sequence[str], depth: int, order: Callable[[str], Any]
) -> NDArray[np.int64]:
    """Places of the best candidates: score falling, equal ones in the given order, at the last place too.

    Args:
        scores: ``[N]``.
        names: The N candidates' names.
        depth: How many.
        order: Key of equal ones, see :func:`tie_order`.

    Raises:
        NonFiniteError: A score is NaN.

    Example:
        >>> best_places(np.float32([0.5, 0.9, 0.5]), ["c", "b", "a"], 2, str).tolist()
        [1, 2]
    """
    if np.isnan(scores).any():
        name = names[int(np.isnan(scores).argmax())]
        raise NonFiniteError(f"found NaN as the score of candidate {name[:80]!r}, expected a number")
    if depth < len(scores):
        # A partition alone would keep an arbitrary few of those that share the last score let in.
        boundary = scores[np.argpartition(scores, len(scores) - depth)[len(scores) - depth]]
        kept = np.flatnonzero(scores >= boundary)
    else:
        kept = np.arange(len(scores))
    kept = kept[np.argsort(-scores[kept], kind="stable")]
    ordered: list[int] = []
    for _, equals in groupby(kept.tolist(), key=lambda place: float(scores[place])):
        run = list(equals)
        ordered += run if len(run) == 1 else sorted(run, key=lambda place: order(names[place]))
    return np.array(ordered[:depth], np.int64)
