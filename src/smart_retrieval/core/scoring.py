"""How a document is scored: the weights of anchor and late interaction, the query tokens' weights, the floor."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np

from ..errors import ScoringError, one_of
from ..types import Array
from .collection import CollectionStatistics
from .late import QueryWeights

#: Query-token weights that have a name: equal ones, or the inverse document frequency in the collection searched.
TOKEN_WEIGHTS = ("uniform", "idf")

TokenWeights: TypeAlias = Literal["uniform", "idf"] | QueryWeights

#: A late weight or floor that is settled by the collection searched, see :class:`~smart_retrieval.Calibration`.
CALIBRATED: Literal["calibrated"] = "calibrated"
LateWeight: TypeAlias = float | Literal["calibrated"]


@dataclass(frozen=True)
class Scoring:
    """``lambda_anchor * cosine(anchors) + lambda_late * late`` (arXiv 2605.24938), and what ``late`` is made with.

    A preset holds one; every search, comparison and evaluation takes its fields, and a field left out is the preset's.

    Args:
        weights: Query-token weights: ``"uniform"``; ``"idf"``, from the documents that are scored; or numbers
            ``[sum T_q]`` or an object that gives them, such as :class:`~smart_retrieval.IdfWeights`.
        lambda_anchor: Weight of the anchors' cosine.
        lambda_late: Weight of the mean MaxSim; ``"calibrated"`` for the collection's own.
        floor: Token similarities up to here count as none, see :func:`~smart_retrieval.late_scores`; None for no
            floor, ``"calibrated"`` for the collection's own.

    Raises:
        ScoringError: The weights have no such name, a lambda is not finite, or the floor is not below 1.

    Example:
        >>> Scoring(lambda_late=2.0).override(floor=0.5).to_dict()
        {'weights': 'uniform', 'lambda_anchor': 1.0, 'lambda_late': 2.0, 'floor': 0.5}
    """

    weights: TokenWeights = "uniform"
    lambda_anchor: float = 1.0
    lambda_late: LateWeight = 1.0
    floor: float | Literal["calibrated"] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.weights, str) and self.weights not in TOKEN_WEIGHTS:
            raise ScoringError(f"token weights: {one_of(self.weights, TOKEN_WEIGHTS)}")
        for name in ("lambda_anchor", "lambda_late"):
            value = getattr(self, name)
            if not ((name == "lambda_late" and value == CALIBRATED) or (_is_number(value) and math.isfinite(value))):
                raise ScoringError(f"{name}: found {value!r}, expected a finite number")
        floor = self.floor
        if not (floor is None or floor == CALIBRATED or (_is_number(floor) and -math.inf < floor < 1)):
            raise ScoringError(f"floor: found {floor!r}, expected a finite number below 1")

    def override(
        self,
        *,
        weights: TokenWeights | Literal["preset"] = "preset",
        lambda_anchor: float | None = None,
        lambda_late: LateWeight | None = None,
        floor: float | Literal["preset", "calibrated"] | None = "preset",
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
        if floor != "preset":
            changed["floor"] = floor
        return replace(self, **changed) if changed else self

    def for_other_states(self) -> Scoring:
        """The same for other layers or another adapter: a floor that is a number was chosen for certain states."""
        return self if isinstance(self.floor, str) else self.override(floor=None)

    def fitted(self, collection: CollectionStatistics) -> Scoring:
        """The same scoring with numbers in the place of names: the collection's IDF table, late weight and floor.

        Args:
            collection: Its parts are made only where they are needed.

        Example:
            >>> docs = SmartEmbeddings([[1.0], [1.0]], [[1.0]] * 2, [0, 1, 2], token_ids=[7, 8])
            >>> fitted = Scoring("idf", floor="calibrated").fitted(CollectionStatistics.of(docs))
            >>> fitted.weights.documents, fitted.lambda_late
            (2, 1.0)
        """
        changed: dict[str, Any] = {}
        if isinstance(self.weights, str) and self.weights == "idf":
            changed["weights"] = collection.idf
        if self.lambda_late == CALIBRATED:
            changed["lambda_late"] = collection.calibration.lambda_late
        if self.floor == CALIBRATED:
            changed["floor"] = collection.calibration.floor
        return replace(self, **changed) if changed else self

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

    @property
    def late_weight(self) -> float:
        """``lambda_late`` as a number.

        Raises:
            ScoringError: It is ``"calibrated"``, and no collection was named, see :meth:`fitted`.
        """
        return _settled("lambda_late", self.lambda_late)

    @property
    def late_floor(self) -> float | None:
        """``floor`` as a number, None for no floor; raises as :attr:`late_weight` does."""
        return None if self.floor is None else _settled("floor", self.floor)

    def combine(self, anchor: Array, late: Array) -> Array:
        """``lambda_anchor * anchor + lambda_late * late`` of scores of one shape, float32.

        Example:
            >>> Scoring(lambda_late=2.0).combine(np.float32([0.5]), np.float32([0.25])).tolist()
            [1.0]
        """
        scores: Array = np.float32(self.lambda_anchor) * anchor + np.float32(self.late_weight) * late
        return scores

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; weights that have no name are given as ``"custom"``."""
        weights = self.weights if isinstance(self.weights, str) else "custom"
        return {
            "weights": weights, "lambda_anchor": self.lambda_anchor, "lambda_late": self.lambda_late,
            "floor": self.floor,
        }  # fmt: skip


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _settled(name: str, value: float | str) -> float:
    if isinstance(value, str):
        raise ScoringError(
            f"{name}: found {value!r}, expected a number: Scoring.fitted(CollectionStatistics.of(documents))"
        )
    return value
