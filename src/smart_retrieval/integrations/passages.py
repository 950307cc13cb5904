"""What all retrievers share: an index that is opened when it is first needed, and hits as text and metadata."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

from ..errors import SmartError
from ..index.encoder import OneQuery
from ..index.search.hits import Hit
from ..index.search.options import SearchOptions
from ..index.shards.sharded_index import ShardedIndex
from ..index.smart_index import SmartIndex
from ..locks import ForkLock
from ..stores.index import StoreIndex
from ..stores.opening import AnyIndex, open_index
from .filters import narrowed

if TYPE_CHECKING:
    from ..model.smart_model import SmartModel

#: What retrievers add to the metadata that was stored with a document.
OWN_KEYS = ("id", "source", "page", "heading", "kind", "score")
PARTS = ("anchor", "late", "lexical", "feedback", "neighbours", "rerank")


class Passage(NamedTuple):
    """A hit as frameworks want it."""

    id: str
    text: str
    score: float
    metadata: dict[str, Any]
    hit: Hit


def text_of(hit: Hit) -> str:
    """Its passage; of a picture without one, what it is: ``[page 3 of report.pdf]``."""
    if hit.text or hit.media is None:
        return hit.text
    place = f" {hit.page}" if hit.page is not None and hit.kind == "page" else ""
    return f"[{hit.kind}{place} of {hit.source}]" if hit.source else f"[{hit.kind}{place}]"


def metadata_of(hit: Hit) -> dict[str, Any]:
    """What was stored with it, and where it is, of what kind, and its score with the parts.

    A stored key of one of these names is called as filters call it: ``metadata.page``.
    """
    own = {name: value for name in (*OWN_KEYS, *PARTS) if (value := getattr(hit, name)) is not None}
    stored = {f"metadata.{key}" if key in OWN_KEYS + PARTS else key: value for key, value in hit.metadata.items()}
    return {**stored, **own}


class PassageSearch:
    """Searches of one index, given as an open one or by its address, which is opened at the first search."""

    def __init__(
        self, index: AnyIndex | str | Path, model: SmartModel | str | None = None, mode: Literal["r", "w"] = "r"
    ) -> None:
        if not isinstance(index, AnyIndex | str | Path):
            raise SmartError(f"index: found a {type(index).__name__}, expected an index, its folder or its address")
        if isinstance(index, AnyIndex) and model is not None:
            raise SmartError("model: found one beside an open index, which has its own; give the index's folder")
        self.given, self.model, self.mode = index, model, mode
        self._opened = index if isinstance(index, AnyIndex) else None
        self._opening = ForkLock()

    @property
    def path(self) -> str:
        """The index's folder or address, to open it again."""
        if isinstance(self.given, StoreIndex):
            raise SmartError(f"found an open index in a store ({self.given.path}), expected its address, to be saved")
        if isinstance(self.given, ShardedIndex):
            return str(self.given.shards[0].path.parent)
        return str(self.given.path if isinstance(self.given, SmartIndex) else self.given)

    @property
    def index(self) -> AnyIndex:
        """The index, opened."""
        with self._opening.held:
            if self._opened is None:
                self._opened = open_index(str(self.given), self.model, mode=self.mode)
            return self._opened

    def search(
        self, query: OneQuery, k: int, wheres: tuple[str | None, ...], options: SearchOptions | None
    ) -> list[Passage]:
        """The best passages of those that all filters let through."""
        chosen: SearchOptions = {**(options or {})}
        chosen["where"] = narrowed(chosen.get("where"), *wheres)
        found = self.index.search(query, k, **chosen)
        # Where a reranker saw them all, the order is its own.
        reranked = all(hit.rerank is not None for hit in found)
        more = {"partial": True} if found.partial else {}
        return [
            Passage(
                hit.id,
                text_of(hit),
                hit.rerank if reranked and hit.rerank is not None else hit.score,
                metadata_of(hit) | more,
                hit,
            )
            for hit in found
        ]

    async def asearch(
        self, query: OneQuery, k: int, wheres: tuple[str | None, ...], options: SearchOptions | None
    ) -> list[Passage]:
        """:meth:`search` in a thread, so that the event loop goes on."""
        return await asyncio.to_thread(self.search, query, k, wheres, options)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Itself: frameworks copy their components, and one model in memory is enough."""
        return self

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Pickled, it is what it was made of; the lock stays."""
        return type(self), (self.given, self.model, self.mode)
