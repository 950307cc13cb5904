"""Searches one commit of a store: filter, vectors and the documents shown all belong together."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from ...core.scoring import Scoring
from ...embeddings import SmartEmbeddings
from ...types import Array
from ..codec.base import Codec
from ..codec.storing import codec_from_bytes
from ..mirror.mirror import Mirror
from ..mirror.snapshot import Allowed, Filters, Snapshot
from ..store.store import Store
from .hits import Hit, Hits
from .stages import Scored, Settings, best_k, search_snapshot


class Searcher:
    """Runs searches over a store's newest commit.

    Args:
        store: The store.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._mirror: Mirror | None = None
        self._codec: tuple[int, Codec] | None = None
        self._filters = Filters()
        self._lock = threading.Lock()

    def close(self) -> None:
        """Let go of the mapped files."""
        if self._mirror is not None:
            self._mirror.close()
            self._mirror = None

    def codec(self) -> Codec:
        """The codec that reads the codes of the newest commit."""
        if self.store.generation != self.store.state().generation:
            self.store.reload()
        if self._codec is None or self._codec[0] != self.store.generation:
            self._codec = (self.store.generation, codec_from_bytes(self.store.codec()))
        return self._codec[1]

    def mirror(self) -> Mirror:
        """The mapped files, made when they are first needed."""
        with self._lock:  # threads that come meanwhile would write the same files
            if self._mirror is None:
                self._mirror = Mirror(self.store)
            return self._mirror

    def search(
        self,
        queries: SmartEmbeddings,
        texts: Sequence[str] | None,
        settings: Settings,
        *,
        where: str | None = None,
    ) -> list[Hits]:
        """Search for each query by itself.

        Args:
            queries: Encoded queries.
            texts: Their texts, for the lexical part.
            settings: How to score.
            where: Filter.

        Raises:
            FilterError: The filter cannot be read.
        """
        with self.store.reading():
            codec = self.codec()
            snapshot = self.mirror().snapshot()
            # Another thread may have brought the mirror up to a commit that this transaction does not see yet.
            unseen = snapshot.commit != self.store.state().number
            if unseen:
                allowed = Allowed(snapshot, self.store.select(where))
            elif where is not None:
                allowed = self._filters.get(snapshot, where, self.store.select)
            else:
                allowed = snapshot.everything
            return self._search(snapshot, codec, queries, texts, settings, allowed)

    def _search(
        self,
        snapshot: Snapshot,
        codec: Codec,
        queries: SmartEmbeddings,
        texts: Sequence[str] | None,
        settings: Settings,
        allowed: Allowed,
    ) -> list[Hits]:
        found = []
        for number in range(len(queries)):
            words = None
            if settings.lexical_weight and texts is not None:
                words = partial(self._words, texts[number], allowed.rowids)
            scored = search_snapshot(
                snapshot,
                codec,
                queries[number],
                replace(settings, scoring=_own(settings.scoring, queries, number)),
                allowed=allowed,
                words=words,
            )
            found.append(self._hits(snapshot, scored, settings))
        return found

    def _words(self, text: str, allowed: Array | None, limit: int, rowids: Array | None) -> tuple[Array, Array]:
        """BM25 of the best passages, or of certain rows."""
        return self.store.bm25_scores(text, limit, allowed if rowids is None else rowids)

    def _hits(self, snapshot: Snapshot, scored: Scored, settings: Settings) -> Hits:
        def ids_of(positions: Array) -> list[str]:
            return [name or "" for name in self.store.ids_of(snapshot.rowids_at(positions))]

        _, places = best_k(scored, ids_of, settings.k)
        documents = self.store.get(rowids=snapshot.rowids_at(scored.positions[places]))
        hits = tuple(
            Hit(
                document.id,
                float(scored.scores[place]),
                float(scored.anchor[place]),
                float(scored.late[place]),
                float(scored.lexical[place]) if settings.lexical_weight else None,
                document.text,
                document.source,
                document.page,
                document.heading,
                document.metadata,
                document.media,
            )
            for document, place in zip(documents, places.tolist(), strict=True)
        )
        return Hits(hits, len(scored.positions), scored.searched, scored.partial)


def _own(scoring: Scoring, queries: SmartEmbeddings, number: int) -> Scoring:
    """The scoring with one query's part of weights that are given as numbers for all."""
    weights = scoring.query_weights
    if weights is None or hasattr(weights, "weights"):
        return scoring
    values = np.asarray(weights)
    if values.shape != (len(queries.token_vectors),):
        return scoring  # refused, with its reason, where it is used
    own: Array = values[queries.offsets[number] : queries.offsets[number + 1]]
    return replace(scoring, weights=own)
