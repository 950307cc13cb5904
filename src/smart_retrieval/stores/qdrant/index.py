"""QdrantIndex: an index in Qdrant, and the export of an index into one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeAlias, Unpack, cast

import numpy as np

from ...core.scoring import Scoring
from ...core.vectors import unit_rows
from ...embeddings import SmartEmbeddings
from ...errors import SmartError, StoreError
from ...extras import require
from ...index.codec.base import Codec
from ...index.creation import GivenCodec
from ...index.encoder import OneQuery, decode_vectors, load_model
from ...index.search.hits import Hit, Hits
from ...index.search.options import SearchOptions
from ...index.search.searcher import DEFAULT_CANDIDATES, own_weights
from ...index.smart_index import DEFAULT_MODEL, SmartIndex
from ...index.store.manifest import Manifest
from ...inputs import is_one_item
from ...types import Array
from ..engine import Row
from ..engine_store import EngineStore, export_to, make_store
from ..index import StoreIndex
from ..rows import document_of, fitted_manifest, vectors_of
from .engine import QdrantEngine
from .points import row_of_point
from .query import PointsQuery, hybrid_query

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

    from ...model.smart_model import SmartModel

COLLECTION = "smart"
_SECONDS = 60  # that a request may take

#: A client, or where one is to connect to: an address, a folder, or ``":memory:"``.
Location: TypeAlias = "QdrantClient | str | Path"

# Options of a search that the server cannot follow.
_CODES_ONLY = ("feedback", "neighbours", "rerank", "rerank_depth", "deadline_ms")


class QdrantIndex(StoreIndex):
    """An index in Qdrant: anchors as vectors, codes and everything else as payload.

    It has the methods of :class:`~smart_retrieval.SmartIndex` and gives the same scores: Qdrant chooses candidates by
    anchor and filter, and their scores are computed here, from the codes. With ``tokens=True``, token vectors are kept
    beside the codes, and :meth:`search_native` has the server compute everything in one query.

    Qdrant has no transactions: a document is always whole, but a reader may see part of a batch. There may be one
    writer at a time.

    Example:
        >>> with QdrantIndex.open("http://localhost:6333") as index:  # doctest: +SKIP
        ...     index.search("how do I rotate the logs", where="year > 2020")
    """

    store: EngineStore

    def __init__(self, store: EngineStore, model: SmartModel | str | None = None) -> None:
        super().__init__(store, model)
        #: Whether there are token vectors for :meth:`search_native`.
        self.tokens = self._engine.has_tokens()
        if self.tokens:
            self._engine.decode = lambda rows: _decoded(rows, self.codec(), store.manifest)

    @property
    def _engine(self) -> QdrantEngine:
        return cast(QdrantEngine, self.store.engine)

    @classmethod
    def create(
        cls,
        location: Location,
        model: SmartModel | str = DEFAULT_MODEL,
        *,
        codec: GivenCodec,
        collection: str = COLLECTION,
        pooling: float = 1,
        tokens: bool = False,
        replace: bool = False,
        api_key: str | None = None,
    ) -> Self:
        """Make a new, empty index.

        Args:
            location: The server, such as ``"http://localhost:6333"``; a folder; ``":memory:"``; or a client, which is
                not closed.
            model: The model, or its name.
            codec: A fitted codec or its file (``smart codec fit``), or ``"float16"`` or ``"float32"``.
            collection: The collection to make; a small one, ``{collection}-settings``, is made beside it.
            pooling: Merge similar token vectors of a document until 1 / ``pooling`` are left.
            tokens: Keep token vectors, too, for :meth:`search_native`.
            replace: Delete such collections first.
            api_key: Of the server; ``$QDRANT_API_KEY`` if left out.

        Raises:
            StoreError: There is such a collection, or the server refuses or cannot be reached.
            CodecError: The codec is not fitted, or does not fit the model.
        """
        smart = load_model(model) if isinstance(model, str) else model
        manifest, start = fitted_manifest(smart, codec, pooling)
        with _engine_at(location, collection, api_key) as engine:
            engine.create(manifest.anchor_dim, start.token_dim if tokens else None, replace=replace)
            return cls(make_store(engine, manifest, start), smart)

    @classmethod
    def open(
        cls,
        location: Location,
        model: SmartModel | str | None = None,
        *,
        collection: str = COLLECTION,
        api_key: str | None = None,
    ) -> Self:
        """Open an index.

        Args:
            location: As for :meth:`create`.
            model: The model it was made with; loaded under its recorded name when it is first needed, if left out.
            collection: The collection.
            api_key: Of the server; ``$QDRANT_API_KEY`` if left out.

        Raises:
            StoreError: There is no index, or the server cannot be reached.
            IndexMismatchError: The model differs from the one it was made with.
        """
        with _engine_at(location, collection, api_key) as engine:
            return cls(EngineStore(engine), model)

    @classmethod
    def export(
        cls,
        location: Location,
        index: SmartIndex | str | Path,
        *,
        collection: str = COLLECTION,
        tokens: bool = False,
        replace: bool = False,
        api_key: str | None = None,
        progress: Callable[[int], object] = lambda done: None,
    ) -> Self:
        """Copy an index into Qdrant: codec, calibration and IDF counts with the documents.

        It becomes an index when all is there; one that was broken off is replaced with ``replace``.

        Args:
            location: As for :meth:`create`.
            index: The index, or its folder.
            collection: The collection to make.
            tokens: Keep token vectors, too, for :meth:`search_native`: four bytes a dimension of each token.
            replace: Delete such collections first.
            api_key: Of the server; ``$QDRANT_API_KEY`` if left out.
            progress: Told how many documents were copied since the last call.

        Returns:
            The new index, open.

        Raises:
            StoreError: There is such a collection, the server refuses, or a document has too many token vectors.
        """
        if not isinstance(index, SmartIndex):
            with SmartIndex.open(index, mode="r") as opened:
                return cls.export(
                    location, opened, collection=collection, tokens=tokens, replace=replace, api_key=api_key,
                    progress=progress,
                )  # fmt: skip
        codec, manifest = index.codec(), index.store.newest_manifest()
        with _engine_at(location, collection, api_key) as engine:
            engine.create(manifest.anchor_dim, codec.token_dim if tokens else None, replace=replace)
            if tokens:
                engine.decode = lambda rows: _decoded(rows, codec, manifest)
            return cls(export_to(engine, index, progress), index.encoder.loaded)

    def search_native(
        self, query: OneQuery | Sequence[Any] | SmartEmbeddings, k: int = 10, **options: Unpack[SearchOptions]
    ) -> Hits | list[Hits]:
        """:meth:`search` with scores that the server computes from token vectors, in one query.

        They are those of :meth:`search`. A floor, as the default preset has one, makes every query token a stage of the
        query; with ``floor=None`` all are one.

        Args:
            query: As for :meth:`search`.
            k: Hits wanted.
            **options: ``where``, ``candidates``, ``exact``, and the scoring's.

        Returns:
            As :meth:`search`.

        Raises:
            StoreError: The index has no token vectors, or an option is not to be had here.
            FilterError: The filter cannot be read, or Qdrant cannot express it exactly.
        """
        alone = not isinstance(query, SmartEmbeddings) and is_one_item(query)
        _, encoded = self.encoder.encode_queries(cast("Sequence[Any] | SmartEmbeddings", [query] if alone else query))
        found, where, candidates = [], options.get("where"), options.get("candidates", DEFAULT_CANDIDATES)
        with self.store.reading():
            count = self.store.counted(where)
            searched = self.store.state().documents if count is None else count
            for number in range(len(encoded)):
                scoring = self._native_scoring(encoded, number, k, options)
                hits = self._hits(encoded[number], scoring, k, options) if k else ()
                found.append(Hits(hits, min(searched, max(k, candidates)), searched, False, encoded[number], None))
        return found[0] if alone else found

    def native_query(
        self, query: OneQuery | SmartEmbeddings, k: int = 10, **options: Unpack[SearchOptions]
    ) -> PointsQuery:
        """The request that :meth:`search_native` sends for one query: for a client of your own.

        Args:
            query: A text, an image, an item, or one encoded query.
            k: Hits wanted.
            **options: As for :meth:`search_native`.

        Returns:
            What ``client.query_points(collection, **...)`` takes; see :func:`hybrid_query`.

        Raises:
            StoreError: As for :meth:`search_native`.
        """
        _, encoded = self.encoder.encode_queries(query if isinstance(query, SmartEmbeddings) else [query])
        return self._native_query(encoded, self._native_scoring(encoded, 0, k, options), k, options)

    def _native_scoring(self, encoded: SmartEmbeddings, number: int, k: int, options: SearchOptions) -> Scoring:
        if not self.tokens:
            raise StoreError(f"index {self.store.path}: found no token vectors; make it with tokens=True")
        if refused := [name for name in _CODES_ONLY if options.get(name)]:
            raise StoreError(f"search_native: found {refused[0]}, expected it left out; search has it")
        settings = self._settings(options, k)
        return own_weights(settings.scoring, encoded, number)

    @staticmethod
    def _native_query(query: SmartEmbeddings, scoring: Scoring, k: int, options: SearchOptions) -> PointsQuery:
        candidates, exact = options.get("candidates", DEFAULT_CANDIDATES), options.get("exact", False)
        return hybrid_query(query, scoring, k, candidates=candidates, where=options.get("where"), exact=exact)

    def _hits(self, query: SmartEmbeddings, scoring: Scoring, k: int, options: SearchOptions) -> tuple[Hit, ...]:
        """Hits of one query, best first; what ties, by id."""
        hits, (asked,) = [], unit_rows(query.anchors)
        for point in self._engine.query(self._native_query(query, scoring, k, options)):
            row = row_of_point(point)
            if row.anchor is None:
                raise SmartError(f"point {row.key}: found no anchor")
            document, anchor, score = document_of(row), float(row.anchor @ asked), float(point.score)
            rest, weight = score - scoring.lambda_anchor * anchor, scoring.late_weight
            hits.append(Hit.of(document, score, anchor, rest / weight if weight else 0.0))
        return tuple(sorted(hits, key=lambda hit: (-hit.score, hit.id)))


def _decoded(rows: Sequence[Row], codec: Codec, manifest: Manifest) -> list[Array]:
    """The token vectors that codes stand for."""
    decoded = decode_vectors(codec, vectors_of(rows, manifest, codec.hash, "to be written"))
    tokens = np.asarray(decoded.token_vectors, np.float32)
    return np.split(tokens, decoded.offsets[1:-1])


@contextmanager
def _engine_at(location: Location, collection: str, api_key: str | None) -> Iterator[QdrantEngine]:
    """An engine for a location; its client, if it was made here, is closed on an error."""
    require("qdrant_client", "qdrant")
    from qdrant_client import QdrantClient

    if isinstance(location, QdrantClient):
        yield QdrantEngine(location, collection)
        return
    place = str(location)
    given: dict[str, Any] = {"location": place} if place == ":memory:" else {"path": place}
    if "://" in place:
        given = {"url": place, "api_key": api_key or os.environ.get("QDRANT_API_KEY"), "timeout": _SECONDS}
    try:
        engine = QdrantEngine(QdrantClient(**given), collection, owned=True)
    except (ValueError, OSError, RuntimeError) as error:
        raise StoreError(f"qdrant {place}: {str(error)[:200]}") from error
    try:
        yield engine
    except BaseException:
        engine.close()
        raise
