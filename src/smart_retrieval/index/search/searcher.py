"""Searches one commit of a store: filter, vectors and the documents shown all belong together."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ...core.scoring import Scoring
from ...core.weights import IdfWeights
from ...embeddings import SmartEmbeddings
from ...types import Array
from ..mirror.mirror import Mirror
from ..mirror.snapshot import Filters, Selection, Snapshot
from ..model_and_codec import IndexCodec
from ..store.store import Store
from .hits import Hit, Hits
from .stages import Scored, Settings, Words, best_k, search_snapshot


class Searcher:
    """Runs searches over a store's newest commit."""

    def __init__(self, store: Store, codec: IndexCodec) -> None:
        self.store = store
        self._codec = codec
        self._mirror: Mirror | None = None
        self._filters = Filters()
        self._idf: tuple[int, IdfWeights] | None = None
        self._lock = threading.Lock()

    def close(self) -> None:
        """Unmap the files."""
        if self._mirror is not None:
            self._mirror.close()
            self._mirror = None

    def mirror(self) -> Mirror:
        """The mapped files, made when they are first needed."""
        with self._lock:  # other threads would write the same files
            if self._mirror is None:
                self._mirror = Mirror(self.store)
            return self._mirror

    def idf(self) -> IdfWeights:
        """IDF weights over the documents of the newest commit."""
        with self.store.reading():
            commit = self.store.state().number
            if self._idf is None or self._idf[0] != commit:
                documents, ids, counts = self.store.idf()
                frequencies = np.zeros(int(ids.max(initial=-1)) + 1, np.int64)
                frequencies[ids] = counts
                self._idf = (commit, IdfWeights(documents, frequencies))
            return self._idf[1]

    def search(
        self, queries: SmartEmbeddings, texts: Sequence[str] | None, settings: Settings, *, where: str | None = None
    ) -> list[Hits]:
        """Search for each query by itself; the texts are for the lexical part.

        Raises:
            FilterError: The filter cannot be read.
        """
        with self.store.reading():
            codec = self._codec.get()
            snapshot = self.mirror().snapshot()
            if snapshot.commit != self.store.state().number:
                # Another thread brought the mirror up to a commit that this transaction does not see yet.
                selection = Selection(snapshot, self.store.select(where))
            elif where is not None:
                selection = self._filters.get(snapshot, where, self.store.select)
            else:
                selection = snapshot.everything
            found = []
            for number in range(len(queries)):
                query, words = queries[number], None
                if settings.lexical_weight and texts is not None:
                    words = self._words(texts[number], selection)
                own = replace(settings, scoring=_own_weights(settings.scoring, queries, number))
                scored = search_snapshot(snapshot, codec, query, own, selection, words)
                found.append(self._hits(snapshot, scored, settings, query))
            return found

    def _words(self, text: str, selection: Selection) -> Words:
        """BM25 of the best passages, or of certain rows."""
        return lambda limit, rowids: self.store.bm25_scores(text, limit, selection.rowids if rowids is None else rowids)

    def _hits(self, snapshot: Snapshot, scored: Scored, settings: Settings, query: SmartEmbeddings) -> Hits:
        def ids_of(positions: Array) -> list[str]:
            return [name or "" for name in self.store.ids_of(snapshot.rowids_at(positions))]

        places = best_k(scored, ids_of, settings.k)
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
        return Hits(hits, len(scored.positions), scored.searched, scored.partial, query)


def _own_weights(scoring: Scoring, queries: SmartEmbeddings, number: int) -> Scoring:
    """The scoring with one query's part of weights that are given as numbers for all."""
    weights = scoring.query_weights
    if weights is None or hasattr(weights, "weights"):
        return scoring
    values = np.asarray(weights)
    if values.shape != (len(queries.token_vectors),):
        return scoring  # refused, with its reason, where it is used
    own: Array = values[queries.offsets[number] : queries.offsets[number + 1]]
    return replace(scoring, weights=own)
