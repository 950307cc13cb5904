"""A retriever for DSPy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..extras import require

try:
    import dspy
except ImportError:
    require("dspy", "dspy")
    raise

from .filters import where_of
from .passages import Passage, PassageSearch

if TYPE_CHECKING:
    from ..index.search.options import SearchOptions
    from ..model.smart_model import SmartModel
    from ..stores.opening import AnyIndex

__all__ = ["SmartRetriever"]


class SmartRetriever(dspy.Retrieve):  # type: ignore[misc]
    """An index as a DSPy retriever: called with a query, it gives a prediction with ``passages``.

    Beside ``passages`` (of a picture without text, a line that says what it is) the prediction has ``ids``, ``scores``
    and ``metadata``: what was stored, with ``source``, ``page`` and the parts of the score. Copies that an optimizer
    makes of a program share the index and its model.

    Args:
        index: An open index of any kind, or its address, opened at the first search.
        k: Passages wanted.
        filter: A ``where`` text, or a filter as vector stores take it. One given to a call narrows it further.
        options: Further options of :meth:`~smart_retrieval.SmartIndex.search`.
        model: The index's model, if it was moved since.

    Raises:
        MissingExtraError: DSPy is not installed (at import).
        FilterError: A filter cannot be read (when searching).

    Example:
        >>> from smart_retrieval.integrations.dspy import SmartRetriever
        >>> SmartRetriever("docs.smart", k=5)("rotate the logs").passages  # doctest: +SKIP
    """

    def __init__(
        self,
        index: AnyIndex | str | Path,
        k: int = 5,
        *,
        filter: str | Mapping[str, Any] | None = None,
        options: SearchOptions | None = None,
        model: SmartModel | str | None = None,
    ) -> None:
        super().__init__(k=k)
        self.filter = filter
        self.options = options
        self._search = PassageSearch(index, model)

    def dump_state(self, json_mode: bool = True) -> dict[str, Any]:
        """What a saved program keeps of it: ``k``; the base class does not know ``json_mode``."""
        return {"k": self.k}

    def forward(
        self, query: str, k: int | None = None, filter: str | Mapping[str, Any] | None = None
    ) -> dspy.Prediction:
        """Find passages.

        Args:
            query: The query.
            k: Passages wanted, if not as many as usual.
            filter: Narrows the retriever's own.

        Returns:
            ``passages``, ``ids``, ``scores`` and ``metadata``, lists of equal length, best first.

        Raises:
            FilterError: A filter cannot be read.
        """
        return _prediction(self._search.search(query, *self._settings(k, filter)))

    async def acall(
        self, query: str, k: int | None = None, filter: str | Mapping[str, Any] | None = None
    ) -> dspy.Prediction:
        """:meth:`forward` in a thread, so that the event loop goes on."""
        return _prediction(await self._search.asearch(query, *self._settings(k, filter)))

    def _settings(
        self, k: int | None, filter: str | Mapping[str, Any] | None
    ) -> tuple[int, tuple[str | None, ...], SearchOptions | None]:
        return self.k if k is None else k, (where_of(self.filter), where_of(filter)), self.options


def _prediction(found: list[Passage]) -> dspy.Prediction:
    return dspy.Prediction(
        passages=[one.text for one in found],
        ids=[one.id for one in found],
        scores=[one.score for one in found],
        metadata=[one.metadata for one in found],
    )
