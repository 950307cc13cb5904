"""How a document is scored: the weights of anchor and late interaction, the query tokens' weights, the floor."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np

from ..errors import ScoringError, one_of
from ..types import Array
from .late import QueryWeights
from .weights import IdfWeights

#: Query-token weights that have a name: equal ones, or the inverse document frequency in the collection searched.
TOKEN_WEIGHTS = ("uniform", "idf")

TokenWeights: TypeAlias = Literal["uniform", "idf"] | QueryWeights


@dataclass(frozen=True)
class Scoring:
    """``lambda_anchor * cosine(anchors) + lambda_late * late`` (arXiv 2605.24938), and what ``late`` is made with.

    A preset holds one; every search, comparison and evaluation takes its fields, and a field left out is the preset's.

    Args:
        weights: Query-token weights: ``"uniform"``; ``"idf"``, from the documents that are scored; or numbers
            ``[sum T_q]`` or an object that gives them, such as :class:`~smart_retrieval.IdfWeights`.
        lambda_anchor: Weight of the anchors' cosine.
        lambda_late: Weight of the mean MaxSim.
        floor: Token similarities up to here count as none, see :func:`~smart_retrieval.late_scores`; None for no floor.

    Raises:
        ScoringError: The weights have no such name, a lambda is not finite, or the floor is not below 1.

    Example:
        >>> Scoring(lambda_late=2.0).override(floor=0.5).to_dict()
        {'weights': 'uniform', 'lambda_anchor': 1.0, 'lambda_late': 2.0, 'floor': 0.5}
    """

    weights: TokenWeights = "uniform"
    lambda_anchor: float = 1.0
    lambda_late: float = 1.0
    floor: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.weights, str) and self.weights not in TOKEN_WEIGHTS:
            raise ScoringError(f"token weights: {one_of(self.weights, TOKEN_WEIGHTS)}")
        for name in ("lambda_anchor", "lambda_late"):
            if not math.isfinite(getattr(self, name)):
                raise ScoringError(f"{name}: found {getattr(self, name)}, expected a finite number")
        if self.floor is not None and not -math.inf < self.floor < 1:
            raise ScoringError(f"floor: found {self.floor}, expected a finite number below 1")

    def override(
        self,
        *,
        weights: TokenWeights | Literal["preset"] = "preset",
        lambda_anchor: float | None = None,
        lambda_late: float | None = None,
        floor: float | Literal["preset"] | None = "preset",
    ) -> Scoring:
        """This scoring with some fields replaced; those left out stay.

        Args:
            weights: Query-token weights; None for equal ones.
            lambda_anchor: Weight of the anchors' cosine.
            lambda_late: Weight of the mean MaxSim.
            floor: Token similarities that count as none; None for no floor.

        Raises:
            ScoringError: As for the class.
        """
        changed: dict[str, Any] = {"lambda_anchor": lambda_anchor, "lambda_late": lambda_late}
        changed = {name: value for name, value in changed.items() if value is not None}
        if not (isinstance(weights, str) and weights == "preset"):
            changed["weights"] = "uniform" if weights is None else weights
        if isinstance(floor, str):
            if floor != "preset":
                raise ScoringError(f"floor: found {floor!r}, expected a number, None, or 'preset'")
        else:
            changed["floor"] = floor
        return replace(self, **changed) if changed else self

    def fitted(self, idf: Callable[[], IdfWeights]) -> Scoring:
        """The same scoring with the collection's IDF table in the place of the name ``"idf"``.

        Args:
            idf: Gives the table; called only where it is wanted.
        """
        return replace(self, weights=idf()) if isinstance(self.weights, str) and self.weights == "idf" else self

    @property
    def query_weights(self) -> QueryWeights:
        """The weights as :func:`~smart_retrieval.late_scores` takes them: None for equal ones.

        Raises:
            ScoringError: They are ``"idf"``, and no collection was named, see :meth:`fitted`.
        """
        if isinstance(self.weights, str):
            if self.weights == "uniform":
                return None
            raise ScoringError("token weights: found 'idf', expected a table: IdfWeights.fit(documents)")
        return self.weights

    def combine(self, anchor: Array, late: Array) -> Array:
        """``lambda_anchor * anchor + lambda_late * late`` of scores of one shape, float32; with 0 ``late`` is not read.

        Example:
            >>> Scoring(lambda_late=0.0).combine(np.float32([0.5]), np.float32([-np.inf])).tolist()
            [0.5]
        """
        scores: Array = np.float32(self.lambda_anchor) * anchor
        # 0 times the -inf of a document without tokens would be NaN.
        return scores + np.float32(self.lambda_late) * late if self.lambda_late else scores

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; weights that have no name are given as ``"custom"``."""
        weights = self.weights if isinstance(self.weights, str) else "custom"
        return {
            "weights": weights, "lambda_anchor": self.lambda_anchor, "lambda_late": self.lambda_late,
            "floor": self.floor,
        }  # fmt: skip
