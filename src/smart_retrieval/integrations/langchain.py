"""A retriever and a vector store for LangChain."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self, Unpack

from ..extras import require

try:
    from langchain_core.documents import Document
    from langchain_core.retrievers import BaseRetriever
    from langchain_core.vectorstores import VectorStore
    from pydantic import Field, PrivateAttr
except ImportError:
    require("langchain_core", "langchain")
    raise

from ..errors import SmartError
from ..index.smart_index import SmartIndex
from ..model.smart_model import SmartModel
from ..stores.opening import AnyIndex
from .filters import where_of
from .passages import Passage, PassageSearch

if TYPE_CHECKING:
    from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun

    from ..index.search.hits import Hit
    from ..index.search.options import SearchOptions
    from ..index.store.records import Document as Stored
else:  # before Python 3.12, pydantic cannot read a TypedDict of the standard library
    SearchOptions = dict[str, Any]

__all__ = ["SmartRetriever", "SmartVectorStore"]


class SmartRetriever(BaseRetriever):
    """An index as a LangChain retriever: ``invoke``, ``ainvoke``, ``batch``, and a place in any chain.

    A document's ``page_content`` is the passage (of a picture without text, a line that says what it is). Its
    ``metadata`` is what was stored, with ``id``, ``source``, ``page``, ``heading``, ``kind``, ``score`` and the parts
    of the score: ``anchor``, ``late`` and those that an option adds; a stored key of such a name becomes
    ``metadata.page``.

    Args:
        index: An open index of any kind, or its address, opened at the first search.
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

    index: AnyIndex | str | Path
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


class SmartVectorStore(VectorStore):
    """An index as a LangChain vector store: ``add_documents``, ``delete``, ``similarity_search``, ``as_retriever``.

    Documents come back as they were given: their metadata holds no scores, which ``similarity_search_with_score``
    returns, and ``source``, ``page`` and ``heading`` only of indexed files. An id that is there is replaced. MMR and
    scores between 0 and 1 are refused: a hybrid score has no fixed range.

    Args:
        index: An open index of any kind, or its address, opened when it is first needed. :meth:`from_texts` makes one.
        model: The index's model, if it was moved since.

    Raises:
        MissingExtraError: LangChain is not installed (at import).

    Example:
        >>> from smart_retrieval.integrations.langchain import SmartVectorStore
        >>> store = SmartVectorStore.from_texts(["Logs rotate nightly."], "minilm", index="x.smart")  # doctest: +SKIP
        >>> store.similarity_search_with_score("rotate the logs", k=1)  # doctest: +SKIP
    """

    def __init__(self, index: AnyIndex | str | Path, model: SmartModel | str | None = None) -> None:
        self._search = PassageSearch(index, model, "w")

    @property
    def index(self) -> AnyIndex:
        """The index."""
        return self._search.index

    @classmethod
    def from_texts(  # type: ignore[override]
        cls,
        texts: Iterable[str],
        embedding: SmartModel | str,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        index: str | Path,
    ) -> Self:
        """A store in a folder, made if it is not there, with these texts added.

        Args:
            texts: The texts; none for an empty store.
            embedding: The model or its name. LangChain's ``Embeddings`` do not do: they give no token vectors.
            metadatas: Of each text.
            ids: Of each text; drawn where there is none.
            index: The index's folder.

        Raises:
            SmartError: The model is of another kind, or the index is another model's.
        """
        if not isinstance(embedding, SmartModel | str):
            raise SmartError(f"embedding: found a {type(embedding).__name__}, expected a SmartModel or a model's name")
        store = cls(SmartIndex.open_or_create(index, embedding))
        store.add_texts(texts, metadatas, ids=ids)
        return store

    def add_texts(  # type: ignore[override]
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
    ) -> list[str]:
        """Add texts, or replace those whose id is there, as :meth:`~smart_retrieval.SmartIndex.upsert` does.

        Returns:
            Their ids, drawn where none is given.
        """
        texts = list(texts)
        chosen = [one or str(uuid.uuid4()) for one in (ids if ids is not None else [None] * len(texts))]
        return self.index.upsert(texts, ids=chosen, metadata=metadatas) if texts else []

    def delete(  # type: ignore[override]
        self, ids: list[str] | None = None, *, filter: str | Mapping[str, Any] | None = None
    ) -> bool:
        """Delete by id, where ids that are not there are passed over, or by filter; without either, everything."""
        index = self.index
        if ids is None:
            index.delete(where="id exists" if filter is None else where_of(filter))
        elif filter is not None:
            raise SmartError("delete: expected at most one of ids= and filter=")
        elif there := [one for one in ids if one in index]:
            index.delete(there)
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Documents by id; those that are not there are left out."""
        return [_stored(one) for one in self.index.get([one for one in ids if one in self.index])]

    def similarity_search_with_score(
        self,
        query: str,
        k: int = 4,
        filter: str | Mapping[str, Any] | None = None,
        **options: Unpack[SearchOptions],
    ) -> list[tuple[Document, float]]:
        """Documents with their hybrid scores, best first.

        Args:
            query: The query.
            k: Documents wanted.
            filter: A ``where`` text, or a filter as vector stores take it.
            **options: Further options of :meth:`~smart_retrieval.SmartIndex.search`.
        """
        return [(_stored(one.hit), one.score) for one in self._search.search(query, k, (where_of(filter),), options)]

    def similarity_search(  # type: ignore[override]
        self,
        query: str,
        k: int = 4,
        filter: str | Mapping[str, Any] | None = None,
        **options: Unpack[SearchOptions],
    ) -> list[Document]:
        """:meth:`similarity_search_with_score` without the scores."""
        return [found for found, _ in self.similarity_search_with_score(query, k, filter, **options)]

    def max_marginal_relevance_search(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused: see the class."""
        raise NotImplementedError("found search_type='mmr', which compares single vectors; expected 'similarity'")

    def _select_relevance_score_fn(self) -> NoReturn:
        raise NotImplementedError(
            "found a search for scores between 0 and 1, which hybrid scores are not; "
            "call similarity_search_with_score and choose a limit on your data"
        )


def _stored(found: Hit | Stored) -> Document:
    """As it was given; of a file, with its place."""
    place = {"source": found.source, "page": found.page, "heading": found.heading}
    known = {name: value for name, value in place.items() if value is not None}
    return Document(id=found.id, page_content=found.text, metadata=known | found.metadata)
