"""A replica of one shard: what it is asked, and what it answers."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ...core.calibration import Calibration
from ...core.scoring import Scoring
from ...core.weights import IdfWeights
from ...errors import IndexMismatchError, SmartError
from ...index.shards.gather import Found, Question, Search
from ...index.shards.split import differences
from ...index.smart_index import SmartIndex
from ...index.store.folder import FILE
from ...index.store.manifest import Manifest
from ...types import Array

LOG = logging.getLogger("ray.serve")
T = TypeVar("T")
# How often, and with which pause, a shard is looked for in its place before it counts as gone.
_TRIES, _PAUSE_S = 10, 0.05


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
    """A question to all shards; of the IDF table, what the query's tokens need.

    Args:
        question: What is asked; the scoring of a search is without weights where ``idf`` is given.
        idf: Documents, and how many hold an unseen id, the query's ids, and each of these.
        deadline_ms: Milliseconds that the shard has.
    """

    question: Question
    idf: tuple[int, int, Array, Array] | None
    deadline_ms: float

    @classmethod
    def of(cls, question: Question, deadline_ms: float) -> ShardQuery:
        """From what a shard in this process would be asked."""
        idf = None
        if isinstance(question, Search):
            scoring, encoded = question.settings.scoring, question.queries
            if isinstance(weights := scoring.weights, IdfWeights):
                ids = np.unique(
                    encoded.token_ids[(encoded.token_ids >= 0) & (encoded.token_ids < len(weights.frequencies))]
                )
                idf = (weights.documents, weights.unseen, ids, weights.frequencies[ids])
                scoring = replace(scoring, weights=None)
            encoded.tokenizer = None
            question = replace(question, settings=replace(question.settings, scoring=scoring))
        return cls(question, idf, deadline_ms)

    def answer(self, index: SmartIndex) -> Any:
        """The answer of one shard."""
        question = self.question
        if self.idf is not None and isinstance(question, Search):
            documents, unseen, ids, counts = self.idf
            frequencies = np.zeros(int(ids.max(initial=-1)) + 1, np.int64)
            frequencies[ids] = counts
            scoring = replace(question.settings.scoring, weights=IdfWeights(documents, frequencies, unseen=unseen))
            question = replace(question, settings=replace(question.settings, scoring=scoring))
        found = question.answer(index, time.perf_counter() + self.deadline_ms / 1000)
        # A query does not travel back.
        return found._replace(hits=[replace(one, query=None) for one in found.hits]) if type(found) is Found else found


@dataclass(frozen=True)
class ShardAnswer:
    """What a shard says to a question, or the name and message of an error that others would have, too."""

    version: str
    answer: Any = None
    error: tuple[str, str] | None = None


class ShardReplica:
    """Serves one shard, read-only; another one that takes its place replaces it without a pause.

    Args:
        path: The shard: a folder, or a link to one.
    """

    def __init__(self, path: str) -> None:
        self._place = Path(path)
        self._served = _Served.open(self._place)
        self._before: list[_Served] = []  # replaced, and perhaps still searched in
        self._refused = 0
        self._looking = threading.Lock()

    async def check_health(self) -> None:
        """Look for another shard in the place of this one; Serve calls it every two seconds."""
        await asyncio.to_thread(self._look)

    async def facts(self) -> ShardFacts:
        """What a front has to know."""
        return await asyncio.to_thread(self._of_the_present, _facts)

    async def search(self, query: ShardQuery) -> ShardAnswer:
        """Answer one question."""

        def run(index: SmartIndex) -> ShardAnswer:
            try:
                return ShardAnswer(_version(index), query.answer(index))
            except SmartError as error:
                return ShardAnswer("", error=(type(error).__name__, str(error)))

        return await asyncio.to_thread(self._of_the_present, run)

    def close(self) -> None:
        """Close the shard, and those that it has replaced."""
        for served in (self._served, *self._before):
            served.index.close()

    def _of_the_present(self, ask: Callable[[SmartIndex], T]) -> T:
        """What an index answers whose folder was not moved meanwhile: a new thread would open what lies there now."""
        for _ in range(_TRIES):
            if _mark(self._place) != self._served.mark:
                self._look()
            served = self._served
            if served.is_there():
                answer = ask(served.index)
                if served.is_there():
                    return answer
            time.sleep(_PAUSE_S)  # between the moves of two folders
        raise IndexMismatchError(f"found no shard that fits in the place of {self._place.name}")

    def _look(self) -> None:
        with self._looking:
            mark = _mark(self._place)
            if mark in (0, self._served.mark, self._refused):
                return
            try:
                found = _Served.open(self._place)
                _check_place(self._served, found)
            except SmartError as error:
                self._refused = mark
                LOG.error("what took the place of %s is not served: %s", self._place.name, error)
                return
            while len(self._before) > 1:  # replaced long ago: no search of it is under way any more
                self._before.pop(0).index.close()
            self._before.append(self._served)
            self._served = found


@dataclass(frozen=True)
class _Served:
    """An open shard, and what tells its folder from another one in the same place."""

    index: SmartIndex
    mark: int
    manifest: Manifest
    codec: bytes

    @classmethod
    def open(cls, place: Path) -> _Served:
        path = place.resolve()  # a link may soon lead elsewhere
        mark, index = _mark(path), SmartIndex.open(path, mode="r")
        try:
            index.idf()  # read now, and not by the first query
            return cls(index, mark, index.store.manifest, index.store.codec())
        except BaseException:
            index.close()
            raise

    def is_there(self) -> bool:
        return _mark(self.index.path) == self.mark


def _mark(path: Path) -> int:
    """Another number for another folder in this place; 0 for none."""
    try:
        return (path / FILE).stat().st_ino
    except OSError:
        return 0


def _check_place(before: _Served, found: _Served) -> None:
    """Refuse what is not a shard of the same number, split, model and codec."""
    different = differences(before.manifest, found.manifest)
    if found.codec != before.codec:
        different.append("codec")
    limits = before.manifest.limits, found.manifest.limits
    different += [name for name in ("whole", "shard") if limits[0].get(name) != limits[1].get(name)]
    if different:
        raise IndexMismatchError(f"found one that differs in {', '.join(different)}, expected the same")


def _version(index: SmartIndex) -> str:
    return f"{index.store.manifest.uuid} {index.store.state().number}"


def _facts(index: SmartIndex) -> ShardFacts:
    with index.store.reading():
        return ShardFacts(_version(index), len(index), index.idf(), index.calibration(), index.preset.scoring)
