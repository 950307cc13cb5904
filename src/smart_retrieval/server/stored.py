"""What an index stores, in its one database or in those of its shards: read and deleted as one."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import islice
from typing import Any, TypeAlias

from ..errors import UnknownIdError
from ..index.shards.sharded_index import ShardedIndex
from ..index.smart_index import SmartIndex
from ..index.store.records import Document
from ..index.store.store import Store
from ..index.store.where import Expression, Field, In, OfKinds

#: What is served.
AnyIndex: TypeAlias = SmartIndex | ShardedIndex
Where: TypeAlias = "str | Expression | OfKinds | None"

#: The field that holds the ids.
ID = Field(("id",), built_in=True)
_AT_ONCE = 1000


class Stored:
    """The documents of an index.

    Ids are those under which documents are stored, in their exact spelling.

    Args:
        index: An index, or several shards as one.
    """

    def __init__(self, index: AnyIndex) -> None:
        self.shards: Sequence[SmartIndex] = index.shards if isinstance(index, ShardedIndex) else [index]
        self.stores: list[Store] = [shard.store for shard in self.shards]

    def reading(self) -> AbstractContextManager[None]:
        """What this thread reads inside is of one commit of each shard."""
        return self._within(Store.reading)

    def transaction(self) -> AbstractContextManager[None]:
        """What this thread changes inside is kept only if all goes well; others see it shard by shard."""
        return self._within(Store.transaction)

    @contextmanager
    def _within(self, enter: Callable[[Store], AbstractContextManager[Any]]) -> Iterator[None]:
        with ExitStack() as stack:
            for store in self.stores:
                stack.enter_context(enter(store))
            yield

    @property
    def version(self) -> tuple[tuple[str, int], ...]:
        """What changes with every commit."""
        return tuple((store.manifest.uuid, store.state().number) for store in self.stores)

    def count(self, where: Where) -> int:
        """How many documents pass a filter."""
        return sum(len(store.select(where)) for store in self.stores)

    def fields(self, where: Where) -> dict[str, list[str]]:
        """Metadata keys and the kinds of their values, of documents that pass a filter."""
        found: dict[str, set[str]] = {}
        for store in self.stores:
            for key, kinds in store.fields(where).items():
                found.setdefault(key, set()).update(kinds)
        return {key: sorted(kinds) for key, kinds in sorted(found.items())}

    def ids(self, where: Where = None, *, limit: int | None = None) -> list[str]:
        """Ids of documents that pass a filter, in their order."""
        return list(islice(heapq.merge(*(store.ids(where, limit=limit) for store in self.stores)), limit))

    def get(self, ids: Sequence[str]) -> list[Document]:
        """Documents in the order given.

        Raises:
            UnknownIdError: One is not there.
        """
        found = {one.id: one for store, own in self._holding(ids) for one in store.get(own, missing="skip")}
        if absent := [id for id in ids if id not in found]:
            raise UnknownIdError(f"found no document {absent[0]!r}")
        return [found[id] for id in ids]

    def holds_any(self, ids: Sequence[str]) -> bool:
        """Whether one of the ids is taken, in whatever spelling."""
        return any(len(store.rowids(ids, missing="skip")) for store in self.stores)

    def holds_file(self, path: str) -> bool:
        """Whether a path is that of a file that was indexed."""
        return any(store.files.get(path) is not None for store in self.stores)

    def delete(self, ids: Sequence[str]) -> int:
        """Delete documents; how many."""
        with self.transaction():
            return sum(store.delete(ids=own, missing="skip") for store, own in self._holding(ids))

    def _holding(self, ids: Sequence[str]) -> Iterator[tuple[Store, Sequence[str]]]:
        if len(self.stores) == 1:
            yield self.stores[0], ids
            return
        for store in self.stores:
            own: list[str] = []
            for start in range(0, len(ids), _AT_ONCE):
                own += store.ids(having(ids[start : start + _AT_ONCE]))
            if own:
                yield store, own


def having(ids: Sequence[str]) -> In:
    """The filter for documents of some ids, a thousand or so."""
    return In(ID, tuple(ids))
