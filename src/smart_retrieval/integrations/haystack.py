"""A retriever component for Haystack."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..extras import require

try:
    from haystack import Document, component, default_from_dict, default_to_dict
    from haystack.document_stores.types import FilterPolicy, apply_filter_policy
except ImportError:
    require("haystack", "haystack")
    raise

from ..errors import FilterError, SmartError
from .filters import all_of, any_of, compare, negated, one_of, where_of
from .passages import Passage, PassageSearch

if TYPE_CHECKING:
    from ..index.search.options import SearchOptions
    from ..model.smart_model import SmartModel
    from ..stores.opening import AnyIndex

__all__ = ["SmartRetriever", "where_of_filters"]


@component
class SmartRetriever:
    """An index as a Haystack component: in goes a query, out come documents.

    A document's content is the passage (of a picture without text, a line that says what it is). Its ``meta`` is what
    was stored, with ``id``, ``source``, ``page``, ``heading``, ``kind``, ``score`` and the parts of the score.

    Args:
        index: An open index of any kind, or its address, opened by ``warm_up`` or the first run.
        filters: Haystack's filters; ``meta.source`` and ``meta.page`` are where the document is from.
        top_k: Documents wanted.
        filter_policy: ``"replace"``: filters of a run take the place of ``filters``; ``"merge"``: they are joined.
        where: A ``where`` text that always holds, whatever the filters of a run are.
        options: Further options of :meth:`~smart_retrieval.SmartIndex.search`.
        model: The index's model, if it was moved since.

    Raises:
        MissingExtraError: Haystack is not installed (at import).
        FilterError: A filter says what ``where`` cannot.

    Example:
        >>> from smart_retrieval.integrations.haystack import SmartRetriever
        >>> SmartRetriever("docs.smart", top_k=5).run("rotate the logs")["documents"]  # doctest: +SKIP
    """

    def __init__(
        self,
        index: AnyIndex | str | Path,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        filter_policy: str | FilterPolicy = FilterPolicy.REPLACE,
        where: str | None = None,
        options: SearchOptions | None = None,
        model: SmartModel | str | None = None,
    ) -> None:
        self.filters = filters
        self.top_k = top_k
        self.filter_policy = FilterPolicy.from_str(filter_policy) if isinstance(filter_policy, str) else filter_policy
        self.where = where
        self.options = options
        self._search = PassageSearch(index, model)

    def warm_up(self) -> None:
        """Open the index and load what encodes queries."""
        self._search.index.encoder.encode_queries(["warm up"])

    def to_dict(self) -> dict[str, Any]:
        """The component as a pipeline saves it; the index by its folder.

        Raises:
            SmartError: Made with a loaded model, a reranker or a scoring, which have no text.
        """
        settings = {"options": self.options, "model": self._search.model}
        try:
            json.dumps(settings)
        except TypeError as error:
            raise SmartError(
                f"to_dict: {error}; give the model and the reranker by name, and weights and lambdas instead of scoring"
            ) from None
        return default_to_dict(
            self, index=self._search.path, filters=self.filters, top_k=self.top_k,
            filter_policy=self.filter_policy.value, where=self.where, **settings,
        )  # fmt: skip

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> SmartRetriever:
        """The inverse of :meth:`to_dict`."""
        return default_from_dict(cls, data)

    @component.output_types(documents=list[Document])
    def run(
        self, query: str, filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """Find documents.

        Args:
            query: The query.
            filters: Haystack's filters, which replace or join the component's, as ``filter_policy`` says.
            top_k: Documents wanted, if not as many as usual.

        Returns:
            ``documents``, best first.

        Raises:
            FilterError: A filter says what ``where`` cannot.
        """
        return _documents(self._search.search(query, *self._settings(filters, top_k)))

    @component.output_types(documents=list[Document])
    async def run_async(
        self, query: str, filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """:meth:`run` in a thread, so that the event loop goes on."""
        return _documents(await self._search.asearch(query, *self._settings(filters, top_k)))

    def _settings(
        self, filters: dict[str, Any] | None, top_k: int | None
    ) -> tuple[int, tuple[str | None, ...], SearchOptions | None]:
        found = apply_filter_policy(self.filter_policy, self.filters, filters)
        where = where_of_filters(found) if found else None
        return self.top_k if top_k is None else top_k, (where_of(self.where), where), self.options


def _documents(passages: list[Passage]) -> dict[str, list[Document]]:
    return {"documents": [Document(id=p.id, content=p.text, meta=p.metadata, score=p.score) for p in passages]}


_COMPARISONS = {"==": "=", "!=": "!=", ">": ">", ">=": ">=", "<": "<", "<=": "<="}
_LISTS: dict[str, Callable[[str, Any], str]] = {
    "in": one_of,
    "not in": lambda name, values: negated(one_of(name, values)),
}
_JOINTS: dict[str, Callable[[list[str]], str]] = {
    "AND": all_of,
    "OR": any_of,
    "NOT": lambda parts: negated(all_of(parts)),
}


def where_of_filters(filters: Mapping[str, Any]) -> str:
    """Haystack's filters as a ``where`` text.

    Args:
        filters: The filters; ``NOT`` holds where not all of its conditions do, as in Haystack.

    Raises:
        FilterError: A field that is neither ``id`` nor in ``meta``, an unknown operator, a key that is missing.

    Example:
        >>> where_of_filters({"field": "meta.year", "operator": ">=", "value": 2020})
        '`year` >= 2020'
    """
    if not isinstance(filters, Mapping):
        raise FilterError(f"filters: found {filters!r}, expected a mapping with operator, and field or conditions")
    given = [filters.get(key) for key in ("operator", "conditions")]
    if "field" not in filters:
        operator, conditions = given
        if operator not in _JOINTS or not isinstance(conditions, list | tuple):
            raise FilterError(f"filters: found {dict(filters)!r}, expected operator AND, OR or NOT and conditions")
        return _JOINTS[operator]([where_of_filters(one) for one in conditions])
    field, operator = filters["field"], given[0]
    if "value" not in filters or operator not in (*_COMPARISONS, *_LISTS):
        known = ", ".join([*_COMPARISONS, *_LISTS])
        raise FilterError(f"filters: found {dict(filters)!r}, expected a value and one of the operators {known}")
    if not isinstance(field, str) or field in ("content", "blob", "score", "embedding", "sparse_embedding"):
        raise FilterError(f"filters: found the field {field!r}, expected id or one of meta, such as meta.year")
    name = field.removeprefix("meta.")
    if operator in _LISTS:
        return _LISTS[operator](name, filters["value"])
    return compare(name, _COMPARISONS[operator], filters["value"])
