"""What a search takes beside the query, and what of it is off by default."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypedDict

from ...errors import ScoringError, SmartError

if TYPE_CHECKING:
    from ...core.scoring import LateWeight, Scoring, TokenWeights

# Those of :class:`SearchOptions` that say how a document is scored.
SCORING_OPTIONS = ("scoring", "weights", "lambda_anchor", "lambda_late", "floor")
# The first hits that a reranker sees: on a CPU a small cross-encoder takes about a second for so many passages.
RERANK_DEPTH = 50


class Reranker(Protocol):
    """What scores a query and a document together, such as Sentence Transformers' ``CrossEncoder``.

    Example:
        >>> class SharedWords:
        ...     def predict(self, pairs):
        ...         return [len({*query.split()} & {*text.split()}) for query, text in pairs]
        >>> index.search("rotate the logs", rerank=SharedWords())  # doctest: +SKIP
    """

    def predict(self, pairs: list[tuple[Any, Any]], /) -> Any:
        """A score for each pair of query and document, ``[n]`` numbers, the higher the better.

        Args:
            pairs: Text is a string and a picture a PIL image; several of them are a mapping with some of ``text``,
                ``image`` and ``video`` (a list of frames).
        """
        ...


RerankWith: TypeAlias = "Reranker | str | Path | None"


class RefinementFields(TypedDict, total=False):
    """Fields of :class:`Refinements`; what is left out is off."""

    feedback: float
    neighbours: float
    rerank: RerankWith
    rerank_depth: int


class SearchOptions(RefinementFields, total=False):
    """The keyword arguments of :meth:`SmartIndex.search`."""

    where: str | None
    candidates: int
    exact: bool
    scoring: Scoring | None
    weights: TokenWeights | Literal["preset"]
    lambda_anchor: float | None
    lambda_late: LateWeight | None
    floor: float | Literal["preset", "calibrated"] | None
    lexical_weight: float
    deadline_ms: float | None
    device: str


@dataclass(frozen=True)
class Refinements:
    """What is done with the hybrid's result list; see :meth:`~smart_retrieval.SmartIndex.search`."""

    feedback: float = 0.0
    neighbours: float = 0.0
    rerank: RerankWith = None
    rerank_depth: int = RERANK_DEPTH

    def __post_init__(self) -> None:
        for name in ("feedback", "neighbours"):
            check_weight(name, getattr(self, name))
        if self.rerank_depth < 1:
            raise ScoringError(f"rerank_depth: found {self.rerank_depth}, expected 1 or more")

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; of those that are on only."""
        found: dict[str, Any] = {name: value for name in ("feedback", "neighbours") if (value := getattr(self, name))}
        if self.rerank is not None:
            name = str(self.rerank) if isinstance(self.rerank, str | Path) else type(self.rerank).__name__
            found |= {"rerank": Path(name).name or name, "rerank_depth": self.rerank_depth}
        return found


def check_weight(name: str, weight: float) -> None:
    """Refuse a weight that is negative or no number."""
    if not 0 <= weight < math.inf:
        raise ScoringError(f"{name}: found {weight}, expected a weight of 0 or more")


def check_options(options: SearchOptions) -> None:
    """Refuse what is no option, as Python does for arguments: a misspelt filter must not search everything."""
    if unknown := ", ".join(repr(name) for name in options if name not in SearchOptions.__optional_keys__):
        raise TypeError(
            f"search: found the options {unknown}, expected some of {', '.join(SearchOptions.__annotations__)}"
        )


def check_words(texts: Sequence[str] | None, lexical_weight: float, reranker: Reranker | None) -> None:
    """Refuse what needs the query itself where it is encoded, and what needs words where there are none."""
    check_weight("lexical_weight", lexical_weight)
    if lexical_weight and (texts is None or not all(texts)):
        raise SmartError("lexical_weight: found queries that are encoded or without words, expected texts")
    if reranker is not None and texts is None:
        raise SmartError("rerank: found encoded queries, expected texts or pictures: a reranker reads them itself")
