"""A retriever for LangChain."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..extras import require

try:
    from langchain_core.documents import Document
    from langchain_core.retrievers import BaseRetriever
    from pydantic import Field, PrivateAttr
except ImportError:
    require("langchain_core", "langchain")
    raise

from ..index.smart_index import SmartIndex
from ..model.smart_model import SmartModel
from .filters import where_of
from .passages import Passage, PassageSearch

if TYPE_CHECKING:
    from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun

    from ..index.search.options import SearchOptions
else:  # before Python 3.12, pydantic cannot read a TypedDict of the standard library
    SearchOptions = dict[str, Any]

__all__ = ["SmartRetriever"]


class SmartRetriever(BaseRetriever):
    """An index as a LangChain retriever: ``invoke``, ``ainvoke``, ``batch``, and a place in any chain.

    A document's ``page_content`` is the passage (of a picture without text, a line that says what it is). Its
    ``metadata`` is what was stored, with ``id``, ``source``, ``page``, ``heading``, ``kind``, ``score`` and the parts
    of the score: ``anchor``, ``late`` and those that an option adds; a stored key of such a name becomes
    ``metadata.page``.

    Args:
        index: An open index, or its folder, opened at the first search.
        k: Documents wanted; ``invoke(query, k=3)`` for one call.
        filter: A ``where`` text, or a filter as vector stores take it. One given to ``invoke`` narrows it further.
        options: Further options of :meth:`~smart_retrieval.SmartIndex.search`.
        model: The index's model, if it was moved since.

    Raises:
        MissingExtraError: LangChain is not installed (at import).
        FilterError: A filter cannot be read (when searching).

    Example:
        >>> from smart_retrieval.integrations.langchain import SmartRetriever
        >>> retriever = SmartRetriever(index="docs.smart", k=5, filter={"lang": "en"})  # doctest: +SKIP
        >>> retriever.invoke("rotate the logs", filter="year >= 2024")  # doctest: +SKIP
    """

    index: SmartIndex | str | Path
    k: int = Field(default=10, ge=0)
    filter: str | dict[str, Any] | None = None
    options: SearchOptions | None = None
    model: SmartModel | str | None = None
    _search: PassageSearch = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:
        """Make the search, which opens the index when it is needed."""
        self._search = PassageSearch(self.index, self.model)

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,
        k: int | None = None,
        filter: str | Mapping[str, Any] | None = None,
    ) -> list[Document]:
        return _documents(self._search.search(query, *self._settings(k, filter)))

    async def _aget_relevant_documents(
        self,
        query: str,
        *,
        run_manager: AsyncCallbackManagerForRetrieverRun,
        k: int | None = None,
        filter: str | Mapping[str, Any] | None = None,
    ) -> list[Document]:
        return _documents(await self._search.asearch(query, *self._settings(k, filter)))

    def _settings(
        self, k: int | None, filter: str | Mapping[str, Any] | None
    ) -> tuple[int, tuple[str | None, ...], SearchOptions | None]:
        return self.k if k is None else k, (where_of(self.filter), where_of(filter)), self.options


def _documents(passages: list[Passage]) -> list[Document]:
    return [Document(id=one.id, page_content=one.text, metadata=one.metadata) for one in passages]
