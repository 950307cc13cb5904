"""A replica of one shard: what it is asked, and what it answers."""

from __future__ import annotations

import asyncio
import logging
import threading
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...core.calibration import Calibration
from ...core.scoring import Scoring
from ...core.weights import IdfWeights
from ...embeddings import SmartEmbeddings
from ...errors import IndexMismatchError, SmartError
from ...index.search.hits import Hits
from ...index.search.options import SearchOptions
from ...index.shards.split import check_pair
from ...index.smart_index import SmartIndex
from ...index.store.folder import FILE
from ...types import Array, counted_elsewhere

LOG = logging.getLogger("ray.serve")
# Seconds after which an index that was replaced is closed: no search of it is under way any more.
_CLOSE_S = 60.0


@dataclass(frozen=True)
class ShardFacts:
    """What a front has to know of a shard.

    Args:
        version: Changes with its documents.
        documents: How many.
        idf: Its IDF counts.
        calibration: Late weight and floor.
        scoring: Where a search names none.
    """

    version: str
    documents: int
    idf: IdfWeights
    calibration: Calibration
    scoring: Scoring


@dataclass(frozen=True)
class ShardQuery:
    """An encoded query and how all shards score it; of the IDF table, what the query's tokens need.

    Args:
        encoded: The query.
        k: Hits wanted.
        options: Of the search; their scoring is without weights where ``idf`` is given.
        idf: Documents, and how many hold an unseen id, the query's ids, and each of these.
        deadline_ms: Milliseconds that the shard has.
    """

    encoded: SmartEmbeddings
    k: int
    options: SearchOptions
    idf: tuple[int, int, Array, Array] | None
    deadline_ms: float

    @classmethod
    def of(cls, encoded: SmartEmbeddings, k: int, options: SearchOptions, deadline_ms: float) -> ShardQuery:
        """From what a search in this process would be given."""
        scoring, idf = options.get("scoring"), None
        if scoring is not None and isinstance(weights := scoring.weights, IdfWeights):
            ids = np.unique(
                encoded.token_ids[(encoded.token_ids >= 0) & (encoded.token_ids < len(weights.frequencies))]
            )
            idf = (weights.documents, weights.unseen, ids, weights.frequencies[ids])
            options = {**options, "scoring": replace(scoring, weights=None)}
        encoded.tokenizer = None
        return cls(encoded, k, options, idf, deadline_ms)

    def search(self, index: SmartIndex) -> Hits:
        """The hits of one shard."""
        options = self.options.copy()
        options["deadline_ms"] = self.deadline_ms
        if self.idf is not None and (scoring := options.get("scoring")) is not None:
            documents, unseen, ids, counts = self.idf
            frequencies = np.zeros(int(ids.max(initial=-1)) + 1, np.int64)
            frequencies[ids] = counts
            weights = IdfWeights(documents, frequencies, unseen=unseen)
            options["scoring"] = replace(scoring, weights=weights)
        with counted_elsewhere():  # a filter may pass nothing in one shard
            (hits,) = index.search_many(self.encoded, self.k, **options)
        return replace(hits, query=None)


@dataclass(frozen=True)
class ShardAnswer:
    """What a shard says to a query: hits, or the name and message of an error that others would have, too."""

    version: str
    hits: Hits | None = None
    error: tuple[str, str] | None = None


class ShardReplica:
    """Serves one shard, read-only; another one that takes its place in the folder replaces it without a pause.

    Args:
        path: The shard.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._mark, self._index = _mark(self._path), _opened(path)
        self._refused = 0

    async def check_health(self) -> None:
        """Look for another shard in the place of this one; Serve calls it every two seconds."""
        await asyncio.to_thread(self._look)

    async def facts(self) -> ShardFacts:
        """What a front has to know."""
        return await asyncio.to_thread(_facts, self._index)

    async def search(self, query: ShardQuery) -> ShardAnswer:
        """Search for one query."""
        index = self._index

        def run() -> ShardAnswer:
            try:
                return ShardAnswer(_version(index), query.search(index))
            except SmartError as error:
                return ShardAnswer("", error=(type(error).__name__, str(error)))

        return await asyncio.to_thread(run)

    def _look(self) -> None:
        mark = _mark(self._path)
        if mark in (0, self._mark, self._refused):  # nothing there, for the moment between two moves
            return
        try:
            found = _opened(str(self._path))
            _check_place(self._index, found)
        except SmartError as error:
            self._refused = mark
            LOG.error("what took the place of %s is not served: %s", self._path.name, error)
            return
        before, self._index, self._mark = self._index, found, mark
        timer = threading.Timer(_CLOSE_S, before.close)
        timer.daemon = True
        timer.start()


def _mark(path: Path) -> int:
    """Another number for another folder in this place; 0 for none."""
    try:
        return (path / FILE).stat().st_ino
    except OSError:
        return 0


def _check_place(before: SmartIndex, found: SmartIndex) -> None:
    check_pair(before, found)
    places = [[one.store.manifest.limits.get(name) for name in ("whole", "shard")] for one in (before, found)]
    if places[0] != places[1]:
        raise IndexMismatchError(f"found shard {places[1][1]} of another split, expected {places[0][1]} of the same")


def _opened(path: str) -> SmartIndex:
    index = SmartIndex.open(path, mode="r")
    try:
        index.idf(), index.codec()  # read now, and not by the first query
    except BaseException:
        index.close()
        raise
    return index


def _version(index: SmartIndex) -> str:
    return f"{index.store.manifest.uuid} {index.store.state().number}"


def _facts(index: SmartIndex) -> ShardFacts:
    with index.store.reading():
        return ShardFacts(_version(index), len(index), index.idf(), index.calibration(), index.preset.scoring)
