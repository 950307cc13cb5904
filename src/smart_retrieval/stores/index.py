"""An index whose documents lie in an engine: SmartIndex's methods over any store."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack, cast, overload

from ..core.calibration import Calibration
from ..core.readout import Readout
from ..core.weights import IdfWeights
from ..embeddings import SmartEmbeddings
from ..errors import SmartError, StoreError, StoreUnreachableError, UnknownIdError
from ..index.codec.base import Codec
from ..index.encoder import IndexEncoder, OneQuery, decode_vectors
from ..index.ingest.new_documents import DocumentColumns, new_documents
from ..index.ingest.writer import DocumentWriter
from ..index.rerank import rerank_document, rerank_hits, reranker_of
from ..index.search.hits import Hits, SearchesMany
from ..index.search.options import RERANK_DEPTH, SCORING_OPTIONS, Refinements, SearchOptions, check_options, check_words
from ..index.search.searcher import DEFAULT_CANDIDATES, Settings, own_weights
from ..index.statistics import IndexStatistics
from ..index.store.records import Document
from ..inputs import is_one_item, item_of
from .base import SearchStore
from .search import added_parts, search_store

if TYPE_CHECKING:
    from ..index.explain.explanation import Explanation
    from ..model.smart_model import SmartModel

_NOT_HERE = "{}: found {!r}, expected it left out: {}; SmartIndex has it"


class StoreIndex(SearchesMany):
    """Documents in an engine, searched as a :class:`~smart_retrieval.SmartIndex` is, with the same scores.

    Args:
        store: The engine's store.
        model: The model it was made with; loaded under its recorded name when it is first needed, if left out.
    """

    def __init__(self, store: SearchStore, model: SmartModel | str | None = None) -> None:
        self.store = store
        #: Encodes queries with the model or with its export.
        self.encoder = IndexEncoder(store, model)
        self._statistics = IndexStatistics(store, self.encoder)
        self._writer = DocumentWriter(store, self.encoder)

    def close(self) -> None:
        """Close the connections."""
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __len__(self) -> int:
        return int(self.store.info()["documents"])

    def __contains__(self, id: str) -> bool:
        with suppress(UnknownIdError):
            return len(self.store.rowids([id])) == 1
        return False

    def count(self, where: str | None = None) -> int:
        """How many documents pass a filter."""
        return len(self.store.select(where)) if where else len(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.store.path)!r}, {self.store.manifest.codec})"

    @property
    def path(self) -> str:
        """What messages call it, without its password."""
        return str(self.store.path)

    @property
    def model(self) -> SmartModel:
        """The model, loaded under its recorded name if need be."""
        return self.encoder.model()

    def codec(self) -> Codec:
        """The codec of the codes."""
        return self.encoder.codec()

    def idf(self) -> IdfWeights:
        """IDF weights over the documents now in the index."""
        return self._statistics.newest().idf

    def calibration(self) -> Calibration:
        """Late weight and floor of these documents."""
        return self._statistics.newest().calibration

    def info(self) -> dict[str, Any]:
        """Counts, sizes and settings."""
        manifest = self.store.manifest
        return {
            **self.store.info(),
            "codec": manifest.codec,
            "codec_hash": self.codec().hash,
            "code_width": manifest.code_width,
            "model": dict(manifest.model),
            "readout": dict(manifest.readout),
            "prompts": dict(manifest.prompts),
            "pooling": manifest.pooling,
            "limits": dict(manifest.limits),
            "scoring": dict(manifest.scoring),
            "calibration": self._statistics.known_calibration(),
        }

    # -- documents ---------------------------------------------------------------------------------------------

    def add(
        self,
        items: Iterable[Any] | None = None,
        *,
        on_duplicate: Literal["error", "replace", "skip"] = "error",
        **columns: Unpack[DocumentColumns],
    ) -> list[str]:
        """Add documents, as :meth:`SmartIndex.add` does: encoded in batches, one transaction each.

        Args:
            items: Texts, images, or items with both.
            on_duplicate: What is done about an id that is there.
            **columns: ``ids``, ``metadata``, ``embeddings``, ``sources``, ``pages`` and ``headings``, as there.

        Returns:
            The ids.

        Raises:
            DuplicateIdError: An id is there already; batches before it are stored.
            IndexMismatchError: The embeddings have other widths than the index.
            StoreError: The server refuses, or cannot be reached.
        """
        documents, embeddings = new_documents(items, **columns), columns.get("embeddings")
        added = self._writer.add(documents, embeddings, on_duplicate)
        self._settle()
        return added

    def upsert(self, items: Iterable[Any] | None = None, **columns: Unpack[DocumentColumns]) -> list[str]:
        """:meth:`add`, replacing documents whose id is there."""
        return self.add(items, **columns, on_duplicate="replace")

    def delete(self, ids: Sequence[str] | None = None, *, where: str | None = None) -> int:
        """Delete documents by id or by filter, in one transaction.

        Returns:
            How many were deleted.

        Raises:
            UnknownIdError: An id is not there; nothing was deleted then.
            FilterError: The filter cannot be read.
        """
        if (ids is None) == (where is None):
            raise SmartError("delete: expected exactly one of ids= and where=")
        return self.store.delete([ids] if isinstance(ids, str) else ids, where)

    def get(self, ids: str | Sequence[str]) -> list[Document]:
        """Documents by id, in the order asked for.

        Raises:
            UnknownIdError: One is not there.
        """
        with self.store.reading():
            return self.store.documents(self.store.rowids([ids] if isinstance(ids, str) else list(ids)))

    def _settle(self) -> None:
        """Fix the calibration once there are enough documents."""
        self._statistics.fix_calibration()

    # -- searching ---------------------------------------------------------------------------------------------

    @overload
    def search(self, query: OneQuery, k: int = ..., **options: Unpack[SearchOptions]) -> Hits: ...

    @overload
    def search(
        self, query: Sequence[Any] | SmartEmbeddings, k: int = ..., **options: Unpack[SearchOptions]
    ) -> list[Hits]: ...

    def search(
        self, query: OneQuery | Sequence[Any] | SmartEmbeddings, k: int = 10, **options: Unpack[SearchOptions]
    ) -> Hits | list[Hits]:
        """Find documents for one query or several, as :meth:`SmartIndex.search` does.

        The engine chooses candidates by anchor among the documents that pass the filter; their hybrid scores are
        computed here, from the codes that it keeps beside them.

        Args:
            query: A text, an image or its path, an item; several of these; or encoded queries.
            k: Hits wanted.
            **options: Those of :meth:`SmartIndex.search`. ``lexical_weight`` and ``device`` are refused: there is no
                BM25 here, and no codes lie on a GPU.

        Returns:
            Hits for one query, a list of them for several and for encoded queries. After ``deadline_ms`` they are what
            was scored until then, marked ``partial``.

        Raises:
            EmptyInputError: A query is empty, or there is none.
            FilterError: The filter cannot be read.
            StoreError: An option is not to be had here, or the server cannot be reached.
        """
        started = time.perf_counter()
        alone = not isinstance(query, SmartEmbeddings) and is_one_item(query)
        queries = cast("Sequence[Any] | SmartEmbeddings", [query] if alone else query)
        reranker, depth = reranker_of(options.get("rerank")), options.get("rerank_depth", RERANK_DEPTH)
        texts, encoded = self.encoder.encode_queries(queries)
        check_words(texts, 0, reranker)
        deadline = options.get("deadline_ms")
        read, until = (
            max(k, depth) if reranker is not None else k,
            None if deadline is None else started + deadline / 1000,
        )
        try:
            hits = self._found(encoded, read, until, options)
        except StoreUnreachableError:  # over a new connection, to another host of its address if there is one
            hits = self._found(encoded, read, until, options)
        if reranker is not None:
            root, pairs = self.store.manifest.root, zip(hits, cast("Sequence[Any]", queries), strict=True)
            hits = [rerank_hits(found, item_of(one), reranker, depth, k, root) for found, one in pairs]
        return hits[0] if alone else hits

    def _found(self, encoded: SmartEmbeddings, k: int, deadline: float | None, options: SearchOptions) -> list[Hits]:
        with self.store.reading():
            settings, codec = replace(self._settings(options, k), deadline=deadline), self.codec()
            return [
                search_store(
                    self.store,
                    codec,
                    encoded[number],
                    replace(settings, scoring=own_weights(settings.scoring, encoded, number)),
                    options.get("where"),
                )
                for number in range(len(encoded))
            ]

    def explain(self, query: OneQuery | SmartEmbeddings, id: str, **options: Unpack[SearchOptions]) -> Explanation:
        """Take one document's score for one query apart.

        Args:
            query: A text, an image, an item, or one encoded query, such as ``hits.query``.
            id: The document.
            **options: Those of the :meth:`search` that is to be explained.

        Returns:
            What :meth:`SmartIndex.explain` returns.

        Raises:
            UnknownIdError: The document is not there.
            SmartError: It does not pass the filter; or as for :meth:`search`.
        """
        reranker, where = reranker_of(options.get("rerank")), options.get("where")
        texts, encoded = self.encoder.encode_queries(query if isinstance(query, SmartEmbeddings) else [query])
        check_words(texts, 0, reranker)
        from ..index.explain.explanation import explain_document
        from ..index.explain.shown_pictures import PictureFile

        settings, manifest = self._settings(options, 1), self.store.manifest
        with self.store.reading():
            codec = self.codec()
            rowids = self.store.rowids([id])
            (document,) = self.store.documents(rowids)
            stored = decode_vectors(codec, self.store.read_vectors(rowids))
            added = added_parts(self.store, codec, encoded, settings, where, int(rowids[0]))
            if media := document.media:
                document = replace(document, media=replace(media, preview=media.thumbnail()))
        found = explain_document(
            encoded,
            texts[0] if texts else None,
            document,
            stored,
            settings.scoring,
            self.encoder.vocabulary(),
            Readout.from_dict(manifest.readout).token_filter,
            PictureFile(manifest.root),
            folding=manifest.folding,
            added=added,
        )
        if reranker is None:
            return found
        return replace(found, rerank=rerank_document(document, item_of(query), reranker, manifest.root))

    def _settings(self, options: SearchOptions, k: int) -> Settings:
        check_options(options)
        if options.get("lexical_weight"):
            raise StoreError(_NOT_HERE.format("lexical_weight", options["lexical_weight"], "there is no BM25 here"))
        if options.get("device", "cpu") not in ("cpu", "auto"):
            raise StoreError(_NOT_HERE.format("device", options["device"], "codes are scored on the CPU"))
        candidates = options.get("candidates", DEFAULT_CANDIDATES)
        if k < 0 or candidates < 1:
            raise SmartError(
                f"search: found k={k} and candidates={candidates}, expected k of 0 or more and 1 candidate or more"
            )
        refinements = Refinements(options.get("feedback", 0.0), options.get("neighbours", 0.0))
        given: dict[str, Any] = {name: value for name, value in options.items() if name in SCORING_OPTIONS}
        exact = options.get("exact", False)
        return Settings(k, candidates, exact, self._statistics.settled(**given), refinements=refinements)
