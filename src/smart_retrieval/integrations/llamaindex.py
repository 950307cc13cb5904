"""A retriever for LlamaIndex."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..extras import require

try:
    from llama_index.core.base.base_retriever import BaseRetriever
    from llama_index.core.callbacks import CallbackManager
    from llama_index.core.schema import NodeRelationship, NodeWithScore, QueryBundle, RelatedNodeInfo, TextNode
    from llama_index.core.vector_stores.types import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters
except ImportError:
    require("llama_index.core", "llamaindex")
    raise

from ..errors import FilterError
from ..index.search.options import SearchOptions
from .filters import all_of, any_of, compare, negated, one_of, where_of
from .passages import OWN_KEYS, PARTS, Passage, PassageSearch

if TYPE_CHECKING:
    from ..index.encoder import OneQuery
    from ..model.smart_model import SmartModel
    from ..stores.opening import AnyIndex

__all__ = ["SmartRetriever", "where_of_filters"]

# What a language model need not read, and no embedding model should.
_NUMBERS = ["score", *PARTS]


class SmartRetriever(BaseRetriever):
    """An index as a LlamaIndex retriever: ``retrieve``, ``aretrieve``, and query and chat engines built on it.

    A node's text is the passage (of a picture without text, a line that says what it is), its ``ref_doc_id`` the
    source, and its metadata what was stored, with ``id``, ``source``, ``page``, ``heading``, ``kind``, ``score`` and
    the parts of the score. Language models are shown the metadata without scores.

    Args:
        index: An open index of any kind, or its address, opened at the first search.
        similarity_top_k: Nodes wanted.
        filters: LlamaIndex's filters, or a ``where`` text.
        options: Further options of :meth:`~smart_retrieval.SmartIndex.search`.
        model: The index's model, if it was moved since.
        callback_manager: LlamaIndex's.
        verbose: LlamaIndex's.

    Raises:
        MissingExtraError: LlamaIndex is not installed (at import).
        FilterError: A filter says what ``where`` cannot.

    Example:
        >>> from smart_retrieval.integrations.llamaindex import SmartRetriever
        >>> retriever = SmartRetriever("docs.smart", similarity_top_k=5)  # doctest: +SKIP
        >>> retriever.retrieve("rotate the logs")[0].node.metadata["source"]  # doctest: +SKIP
    """

    def __init__(
        self,
        index: AnyIndex | str | Path,
        similarity_top_k: int = 10,
        *,
        filters: MetadataFilters | Mapping[str, Any] | str | None = None,
        options: SearchOptions | None = None,
        model: SmartModel | str | None = None,
        callback_manager: CallbackManager | None = None,
        verbose: bool = False,
    ) -> None:
        super().__init__(callback_manager=callback_manager, verbose=verbose)
        self.similarity_top_k = similarity_top_k
        self.options = options
        self._where = where_of_filters(filters) if isinstance(filters, MetadataFilters) else where_of(filters)
        self._search = PassageSearch(index, model)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        found = self._search.search(_query(query_bundle), self.similarity_top_k, (self._where,), self.options)
        return [_node(one) for one in found]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        found = await self._search.asearch(_query(query_bundle), self.similarity_top_k, (self._where,), self.options)
        return [_node(one) for one in found]


def _query(bundle: QueryBundle) -> OneQuery:
    if bundle.image_path is None:
        return bundle.query_str
    return {"text": bundle.query_str, "image": bundle.image_path}


def _node(passage: Passage) -> NodeWithScore:
    source = passage.metadata.get("source")
    node = TextNode(
        id_=passage.id,
        text=passage.text,
        metadata=passage.metadata,
        excluded_llm_metadata_keys=_NUMBERS,
        excluded_embed_metadata_keys=[*OWN_KEYS, *PARTS],
        relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=source)} if source else {},
    )
    return NodeWithScore(node=node, score=passage.score)


def where_of_filters(filters: MetadataFilters) -> str:
    """LlamaIndex's filters as a ``where`` text.

    Args:
        filters: The filters. ``not`` holds where none of its filters does, as in LlamaIndex.

    Raises:
        FilterError: ``is_empty``, which ``where`` cannot say of lists, or a value that does not fit its operator.

    Example:
        >>> where_of_filters(MetadataFilters(filters=[MetadataFilter(key="year", value=2020, operator=">=")]))
        '`year` >= 2020'
    """
    parts = [where_of_filters(one) if isinstance(one, MetadataFilters) else _condition(one) for one in filters.filters]
    if filters.condition == FilterCondition.OR and parts:  # without filters, LlamaIndex lets everything through
        return any_of(parts)
    return negated(any_of(parts)) if filters.condition == FilterCondition.NOT and parts else all_of(parts)


_COMPARISONS = {
    FilterOperator.EQ: "=",
    FilterOperator.NE: "!=",
    FilterOperator.GT: ">",
    FilterOperator.GTE: ">=",
    FilterOperator.LT: "<",
    FilterOperator.LTE: "<=",
    FilterOperator.CONTAINS: "contains",
    FilterOperator.TEXT_MATCH: "contains",
}


def _like(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise FilterError(f"filter: found {value!r} for {name!r}, expected text to match")
    for special in ("\\", "%", "_"):
        value = value.replace(special, "\\" + special)
    return compare(name, "like", f"%{value}%")


def _every(name: str, values: Any) -> str:
    one_of(name, values)  # refuses what is no list
    return all_of(compare(name, "=", value) for value in values)


_OTHERS: dict[FilterOperator, Callable[[str, Any], str]] = {
    FilterOperator.IN: one_of,
    FilterOperator.NIN: lambda name, values: negated(one_of(name, values)),
    FilterOperator.ANY: one_of,
    FilterOperator.ALL: _every,
    FilterOperator.TEXT_MATCH_INSENSITIVE: _like,
}


def _condition(one: MetadataFilter) -> str:
    if one.operator in _COMPARISONS:
        return compare(one.key, _COMPARISONS[one.operator], one.value)
    if one.operator not in _OTHERS:
        raise FilterError(
            f"filter: found the operator {one.operator.value!r} for {one.key!r}, which cannot be told of a list; "
            f"give filters='{one.key} is null' instead"
        )
    return _OTHERS[one.operator](one.key, one.value)
