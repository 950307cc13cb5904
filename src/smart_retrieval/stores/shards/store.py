"""The store of an index whose documents lie on several servers: one scoring over all of them, one list of hits."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal, Protocol, TypeVar

import numpy as np

from ...errors import DuplicateIdError, SmartError, UnknownIdError, one_of
from ...index.shards.split import check_alike, shard_of
from ...index.store.manifest import Manifest
from ...index.store.records import Added, Document, Record, Vectors
from ...index.store.schema import State
from ...types import Array
from ..base import Near, SearchStore, cosines, joined
from .lane import Lane, answers

Answer = TypeVar("Answer")
# Seconds that an answer is waited for where a search has no deadline; and how long beyond one, if it has.
PATIENCE = 30.0
_GRACE = 0.05


class ShardStore(SearchStore, Protocol):
    """A store that can be one of several."""

    @property
    def tenant(self) -> str | None:
        """Whose documents are seen; None for all."""
        ...

    def known(self, ids: Sequence[str]) -> dict[str, int]:
        """Rowids by id, of those documents that are there."""
        ...


class ShardedStore:
    """Several stores of one model, settings and codec as one.

    A search asks all of them at once. Each gives its share of the candidates, and more of them if they could be among
    the nearest of all, so that the candidates are those of one store with all documents. A store that does not answer
    is left out of a search, whose hits are marked partial; IDF counts and sums are then those last seen of it. What
    writes, counts or reads by id needs all stores that it concerns.

    Args:
        stores: Their order is that of the numbers that :func:`~smart_retrieval.index.shards.split.shard_of` gives.
        patience: Seconds until a store is left out of a search that has no deadline.

    Raises:
        IndexMismatchError: They do not belong together, or one is missing.
    """

    def __init__(self, stores: Sequence[ShardStore], patience: float = PATIENCE) -> None:
        check_alike(stores)
        self.stores, self.patience = list(stores), patience
        self.lanes = [Lane(store, str(store.path)) for store in stores]
        self.generation = 1
        self.manifest: Manifest = stores[0].manifest
        self._local = threading.local()
        self._states: list[State] = [store.state() for store in stores]
        self._idf: list[tuple[int, tuple[int, Array, Array]]] = [(-1, store.idf()) for store in stores]

    @property
    def path(self) -> str:
        """What messages call it."""
        return " + ".join(lane.name for lane in self.lanes)

    @property
    def tenant(self) -> str | None:
        """Whose documents are seen; None for all."""
        return self.stores[0].tenant

    def close(self) -> None:
        """Close all."""
        for lane in self.lanes:
            lane.close()
            lane.store.close()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """The sums are those of one moment; every question to a store is a view of its own."""
        local = self._local
        if getattr(local, "depth", 0):
            yield
            return
        local.depth, local.state = 1, None
        try:
            yield
        finally:
            local.depth, local.state = 0, None

    # -- asking ------------------------------------------------------------------------------------------------

    def _ask(
        self,
        questions: Sequence[Callable[[ShardStore], Answer] | None],
        until: float | None = None,
        *,
        again: bool = True,
    ) -> list[Answer | Exception | None]:
        """An answer or an error of each store."""
        limit = time.monotonic() + self.patience if until is None else until + _GRACE
        tasks = [
            None if question is None else lane.ask(question, again=again)
            for lane, question in zip(self.lanes, questions, strict=True)
        ]
        return answers(self.lanes, tasks, limit)

    def _each(self, question: Callable[[ShardStore], Answer]) -> list[Answer]:
        """The answers of all stores, without any of which there is none."""
        return _all(self._ask([question] * len(self.lanes)))

    def _first(self, question: Callable[[ShardStore], Answer]) -> Answer:
        """What is the same in all of them, of the first that answers."""
        error: Exception | None = None
        for lane in self.lanes:
            (found,) = answers([lane], [lane.ask(question)], time.monotonic() + self.patience)
            if not isinstance(found, Exception) and found is not None:
                return found
            error = error or found
        raise error or SmartError("found no store")

    # -- settings and sums -------------------------------------------------------------------------------------

    def reload(self) -> None:
        """Read the manifest again."""
        self.manifest = self.newest_manifest()

    def newest_manifest(self) -> Manifest:
        """The first store's."""
        return self._first(lambda store: store.newest_manifest())

    def codec(self) -> bytes:
        """The codec's bytes."""
        return self._first(lambda store: store.codec())

    def keep_calibration(self, calibration: Mapping[str, Any], *, again: bool) -> None:
        """Keep a calibration in all of them."""
        self._each(lambda store: store.keep_calibration(calibration, again=again))
        self.reload()

    def state(self) -> State:
        """The sum of all stores' sums; of one that does not answer, those that were seen last."""
        kept = getattr(self._local, "state", None)
        if kept is not None:
            return kept  # type: ignore[no-any-return]
        for place, found in enumerate(self._ask([lambda store: store.state()] * len(self.lanes))):
            if isinstance(found, State):
                self._states[place] = found
        each = list(self._states)
        summed = State(
            sum(one.number for one in each),
            sum(one.documents for one in each),
            sum(one.tokens for one in each),
            updated=max(one.updated for one in each),
        )
        if getattr(self._local, "depth", 0):
            self._local.state = summed
        return summed

    def idf(self) -> tuple[int, Array, Array]:
        """N, vocabulary ids ascending and the documents that hold each, of all stores together."""
        self.state()
        numbers = [state.number for state in self._states]
        stale: list[Callable[[ShardStore], tuple[int, Array, Array]] | None] = [
            (lambda store: store.idf()) if kept != number else None
            for (kept, _), number in zip(self._idf, numbers, strict=True)
        ]
        if any(stale):
            for place, found in enumerate(self._ask(stale)):
                if isinstance(found, tuple):
                    self._idf[place] = (numbers[place], found)
        tables = [table for _, table in self._idf]
        ids, places = np.unique(np.concatenate([table[1] for table in tables]), return_inverse=True)
        counts = np.zeros(len(ids), np.int64)
        np.add.at(counts, places, np.concatenate([table[2] for table in tables]))
        return sum(table[0] for table in tables), ids, counts

    def info(self) -> dict[str, Any]:
        """Sums, and the counts of each store."""
        each = self._each(lambda store: store.info())
        sums = {
            name: sum(one[name] for one in each)
            for name in ("documents", "tokens", "bytes", "commit")
            if all(isinstance(one.get(name), int) for one in each)
        }
        parts = [{"path": one["path"], "documents": one["documents"]} for one in each]
        dates = {"updated": max(one["updated"] for one in each)} if "updated" in each[0] else {}
        return {**each[0], **sums, **dates, "path": self.path, "shards": parts}

    # -- reading -----------------------------------------------------------------------------------------------

    def counted(self, where: str | None) -> int | None:
        """Documents that pass a filter; None where one of them does not know, or does not answer."""
        if where is None and self.tenant is None:
            return self.state().documents
        found = self._ask([lambda store: store.counted(where)] * len(self.lanes))
        counts = [one for one in found if isinstance(one, int)]
        return sum(counts) if len(counts) == len(found) else None

    def select(self, where: str | None = None) -> Array:
        """Rowids of the documents that a filter chooses, ascending."""
        each = self._each(lambda store: store.select(where))
        found: Array = np.sort(np.concatenate([self._global(place, rows) for place, rows in enumerate(each)]))
        return found

    def near(
        self,
        anchor: Array,
        wanted: int | None,
        where: str | None,
        *,
        exact: bool = False,
        timeout: float | None = None,
    ) -> Near:
        """See :class:`SearchStore`; partial if a store did not answer."""
        until = None if timeout is None else time.monotonic() + timeout

        def question(limit: int | None) -> Callable[[ShardStore], Near]:
            def ask(store: ShardStore) -> Near:
                left = None if until is None else max(0.001, until - time.monotonic())
                return store.near(anchor, limit, where, exact=exact, timeout=left)

            return ask

        # Of documents dealt out by chance, three standard deviations more than the mean are hardly ever needed.
        part = 1 / len(self.lanes)
        mean = (wanted or 0) * part
        share = None if wanted is None else min(wanted, math.ceil(mean + 3 * math.sqrt(mean * (1 - part))))
        found = self._ask([question(share)] * len(self.lanes), until)
        if wanted is not None and share is not None and share < wanted:
            short = self._short(found, anchor, wanted, share)
            if any(short):
                more = self._ask([question(wanted) if again else None for again in short], until)
                found = [old if new is None else new for old, new in zip(found, more, strict=True)]
        parts = [(place, near) for place, near in enumerate(found) if isinstance(near, Near)]
        if not parts:
            raise next(one for one in found if isinstance(one, Exception))
        return Near(
            np.concatenate([self._global(place, near.rowids) for place, near in parts]),
            np.concatenate([near.anchors for _, near in parts]),
            [blob for _, near in parts for blob in near.blobs],
            sum(near.passing for _, near in parts),
            len(parts) < len(found) or any(near.partial for _, near in parts),
        )

    @staticmethod
    def _short(found: Sequence[Near | Exception | None], anchor: Array, wanted: int, share: int) -> list[bool]:
        """Which stores gave a full share of documents that are among the nearest of all: they may have more of them."""
        none = np.zeros((0, len(anchor)), np.float32)
        each = [cosines(near.anchors if isinstance(near, Near) else none, anchor) for near in found]
        every = np.concatenate(each)
        last = np.partition(every, len(every) - wanted)[len(every) - wanted] if len(every) > wanted else -np.inf
        return [int((own >= last).sum()) >= share for own in each]

    def passes(self, rowid: int, where: str | None) -> bool:
        """Whether a document passes a filter."""
        place, local = self._local_row(rowid)
        return bool(self._one(place, lambda store: store.passes(local, where)))

    def read_vectors(self, rowids: Sequence[int] | Array) -> Vectors:
        """Vectors of rows, in the order given."""
        wanted = np.asarray(rowids, np.int64)
        if not len(wanted):
            return self._first(lambda store: store.read_vectors([]))
        parts = [
            found._replace(rowids=self._global(place, found.rowids))
            for place, found in self._by_store(wanted, lambda store, rows: store.read_vectors(rows))
        ]
        return joined(parts, np.argsort(np.argsort(wanted % len(self.lanes), kind="stable"), kind="stable"))

    def documents(self, rowids: Sequence[int] | Array) -> list[Document]:
        """Documents of rows, in the order given; rows that are gone are left out."""
        wanted = np.asarray(rowids, np.int64)
        found = {
            int(row): replace(document, rowid=int(row))
            for place, documents in self._by_store(wanted, lambda store, rows: store.documents(rows))
            for document in documents
            for row in self._global(place, np.array([document.rowid]))
        }
        return [found[row] for row in wanted.tolist() if row in found]

    def ids_of(self, rowids: Sequence[int] | Array) -> list[str | None]:
        """Ids by rowid, in the order given."""
        wanted = np.asarray(rowids, np.int64)
        names: dict[int, str | None] = {}
        for place, found in self._by_store(wanted, lambda store, rows: store.ids_of(rows)):
            names |= dict(zip(wanted[wanted % len(self.lanes) == place].tolist(), found, strict=True))
        return [names[row] for row in wanted.tolist()]

    def rowids(self, ids: Sequence[str]) -> Array:
        """Rowids of documents by id, in the order given."""
        known = self.known(ids)
        absent = [id for id in ids if id not in known]
        if absent:
            more = f" (and {len(absent) - 1} more)" if len(absent) > 1 else ""
            raise UnknownIdError(f"index {self.path}: found no document {absent[0]!r}{more}")
        return np.array([known[id] for id in ids], np.int64)

    def known(self, ids: Sequence[str]) -> dict[str, int]:
        """Rowids by id, of those documents that are there."""
        each = self._each(lambda store: store.known(ids))
        return {id: row * len(self.lanes) + place for place, found in enumerate(each) for id, row in found.items()}

    # -- writing -----------------------------------------------------------------------------------------------

    def add(self, batch: Iterable[Record], on_duplicate: Literal["error", "replace", "skip"] = "error") -> Added:
        """Add documents: in each store one transaction, over all of them none."""
        if on_duplicate not in ("error", "replace", "skip"):
            raise SmartError(f"on_duplicate: {one_of(on_duplicate, ('error', 'replace', 'skip'))}")
        records = list(batch)
        known = self.known([record.id for record in records])
        if known and on_duplicate == "error":  # before any store has taken a part of them
            raise DuplicateIdError(
                f"found id {next(iter(known))!r} in the index already ({len(known)} of {len(records)} are); "
                "pass on_duplicate='replace' or 'skip'"
            )
        count = len(self.lanes)
        owners = [known[one.id] % count if one.id in known else shard_of(one.id, count) for one in records]
        dealt = [
            [record for record, owner in zip(records, owners, strict=True) if owner == place] for place in range(count)
        ]

        def question(part: list[Record]) -> Callable[[ShardStore], Added]:
            return lambda store: store.add(part, on_duplicate)

        each = _all(self._ask([question(part) if part else None for part in dealt], again=False))
        rows = [self._global(place, np.array(added.rowids, np.int64)) for place, added in each_of(dealt, each)]
        return Added(
            np.concatenate([np.zeros(0, np.int64), *rows]).tolist(),
            sum(added.replaced for added in each),
            sum(added.skipped for added in each),
            self.state().number,
        )

    def delete(self, ids: Sequence[str] | None, where: str | None) -> int:
        """Delete documents by id or by filter: in each store one transaction, over all of them none."""
        count = len(self.lanes)
        # All are asked first, so that nothing is deleted when one does not answer or an id is not there.
        rows = self.rowids(ids) if ids is not None else self.select(where)
        held = list(zip(ids or (), rows % count, strict=False))

        def question(place: int) -> Callable[[ShardStore], int] | None:
            if ids is None:
                return lambda store: store.delete(None, where)
            own = [id for id, owner in held if owner == place]
            return (lambda store: store.delete(own, None)) if own else None

        return sum(_all(self._ask([question(place) for place in range(count)], again=False)))

    # -- rowids ------------------------------------------------------------------------------------------------

    def _global(self, place: int, rows: Array) -> Array:
        """Rowids over all stores, of one's own."""
        found: Array = np.asarray(rows, np.int64) * len(self.lanes) + place
        return found

    def _local_row(self, row: int) -> tuple[int, int]:
        return int(row) % len(self.lanes), int(row) // len(self.lanes)

    def _one(self, place: int, question: Callable[[ShardStore], Answer]) -> Answer:
        questions: list[Callable[[ShardStore], Answer] | None] = [None] * len(self.lanes)
        questions[place] = question
        (found,) = _all(self._ask(questions))
        return found

    def _by_store(self, rows: Array, question: Callable[[ShardStore, Array], Answer]) -> list[tuple[int, Answer]]:
        """Answers about rows, of the stores that have them."""
        count = len(self.lanes)

        def ask(own: Array) -> Callable[[ShardStore], Answer]:
            return lambda store: question(store, own // count)

        dealt = [rows[rows % count == place] for place in range(count)]
        found = _all(self._ask([ask(own) if len(own) else None for own in dealt]))
        return list(each_of(dealt, found))


def each_of(dealt: Sequence[Any], found: Sequence[Answer]) -> Iterator[tuple[int, Answer]]:
    """The places of those that were asked, each with its answer."""
    yield from zip((place for place, own in enumerate(dealt) if len(own)), found, strict=True)


def _all(found: Sequence[Answer | Exception | None]) -> list[Answer]:
    """All answers that were asked for, or the first error."""
    for one in found:
        if isinstance(one, Exception):
            raise one
    return [one for one in found if one is not None and not isinstance(one, Exception)]
