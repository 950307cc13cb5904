"""Searches of one index under the same options, made together where several wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ...index.encoder import EncodedItem
from ...index.explain.explanation import Explanation
from ...index.search.hits import Hits
from ...index.search.options import SCORING_OPTIONS
from ...threads import one_thread
from ..access import Caller
from ..stored import AnyIndex, Stored
from .catalog import Catalog
from .reading import explained, shown_explanation, shown_hits


class Asked(NamedTuple):
    """A query that is encoded, and the ``time.perf_counter()`` at which its search is to stop."""

    query: EncodedItem
    until: float


@dataclass(frozen=True)
class SearchEach:
    """A call for a lane; equal ones are made together, as their queries then share what they read of the index.

    Each query has the hits that it has alone. The deadline is the earliest of them: those that wait for one another
    came within a moment, and asked for the same time.

    Args:
        catalog: Where the index is found.
        index: Its name.
        caller: Whose ids and sources the hits have.
        k: Hits wanted.
        options: Of :meth:`~smart_retrieval.SmartIndex.search`, without the deadline.
        thumbnails: With the thumbnails of pictures.
        deadline_ms: The time that was asked for.
        busy: Whether more than so many queries are under way, so that these are not to have all processors.
    """

    catalog: Catalog
    index: str
    caller: Caller
    k: int
    options: Mapping[str, Any]
    thumbnails: bool
    deadline_ms: float | None
    busy: Callable[[int], bool] = field(compare=False)

    def __call__(self, asked: Sequence[Asked]) -> Iterator[tuple[int, Hits | Exception]]:
        """Hits of each query, or what was wrong with it."""
        with one_thread() if self.busy(len(asked)) else nullcontext(), self.catalog.use(self.index) as opened:
            try:
                found: list[Hits | Exception] = [self._shown(hits) for hits in self._search(opened, asked)]
            except Exception:
                if len(asked) == 1:
                    raise
                found = [self._alone(opened, one) for one in asked]  # it may be the fault of one of them
            yield from enumerate(found)

    def explained(self, asked: Asked, most: int) -> tuple[Hits, list[Explanation]]:
        """Hits of one query and explanations of the first of them, of one commit."""
        scoring = {name: self.options[name] for name in SCORING_OPTIONS if name in self.options}
        with self.catalog.use(self.index) as opened, Stored(opened).reading():
            (found,) = self._search(opened, [asked])
            why = explained(opened, asked.query, found[:most], asked.until, **scoring)
        return self._shown(found), [shown_explanation(one, self.caller) for one in why]

    def _alone(self, opened: AnyIndex, asked: Asked) -> Hits | Exception:
        try:
            return self._shown(self._search(opened, [asked])[0])
        except Exception as error:
            return error

    def _search(self, opened: AnyIndex, asked: Sequence[Asked]) -> list[Hits]:
        left = max(0.0, (min(one.until for one in asked) - time.perf_counter()) * 1000)
        return opened.search([one.query for one in asked], self.k, **{**self.options, "deadline_ms": left})

    def _shown(self, hits: Hits) -> Hits:
        return shown_hits(hits, self.caller, thumbnails=self.thumbnails)
