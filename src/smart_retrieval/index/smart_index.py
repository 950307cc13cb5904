"""SmartIndex: documents, their vectors and their search in one folder."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, cast, overload

from ..embeddings import SmartEmbeddings
from ..errors import IndexDamagedError, IndexMismatchError, SmartError
from ..inputs import is_one_item
from ..scoring.late import QueryWeights
from .codec import pool_tokens
from .explain import Explanation, explain_document
from .hits import Hits
from .opened import DEFAULT_CODEC as DEFAULT_CODEC
from .opened import OpenedIndex
from .queries import OneQuery, encode_queries, settle
from .records import Document
from .rows import batches, records_of, rows_of_columns
from .search import DEFAULT_CANDIDATES, Settings
from .verify import VerifyReport

_ADD_AT_ONCE = 256


class SmartIndex(OpenedIndex):
    """A durable index of documents with hybrid search.

    The folder holds one SQLite database, which is the truth, and files derived from it. Every batch that is added or
    deleted is one atomic, synced commit; other processes see whole commits only.

    Use :meth:`create` or :meth:`open`.

    Example:
        >>> import tempfile
        >>> with SmartIndex.create(tempfile.mkdtemp() + "/notes.smart", "minilm") as index:
        ...     _ = index.add(["Log files rotate nightly.", "Oak logs burn slowly."], ids=["logs", "oak"])
        ...     index.search("how do I rotate the logs", k=1)[0].id
        'logs'
    """

    # -- writing -----------------------------------------------------------------------------------------------

    def add(
        self,
        items: Iterable[Any] | None = None,
        *,
        ids: Iterable[str] | None = None,
        metadata: Iterable[Mapping[str, Any]] | None = None,
        embeddings: SmartEmbeddings | None = None,
        sources: Iterable[str | None] | None = None,
        pages: Iterable[int | None] | None = None,
        headings: Iterable[str | None] | None = None,
        on_duplicate: Literal["error", "replace", "skip"] = "error",
    ) -> list[str]:
        """Add documents, in batches of one atomic commit each.

        Args:
            items: Passages, pictures, videos: whatever :func:`~smart_retrieval.inputs.item_of` takes (a string is
                always text); an iterator is read as it is needed.
            ids: Their ids; made from what they hold (a hash) when left out.
            metadata: A JSON object each, for ``where``.
            embeddings: Their encodings, by this index's model; encoded here when None. Without items, passages are
                empty and ids are needed.
            sources: Files they come from; of pictures given as files, those files.
            pages: Pages there.
            headings: Heading paths there.
            on_duplicate: What happens with an id that is there: ``"error"``, ``"replace"`` it, or ``"skip"``.

        Returns:
            The ids, in order.

        Raises:
            DuplicateIdError: An id is there already; batches before it are stored.
            IndexMismatchError: The embeddings have other widths than the index.
            IndexFullError: The disk is full; whole batches before it are stored.
            MediaError: A picture cannot be read; batches before it are stored.
        """
        done: list[str] = []
        columns = rows_of_columns(items, ids, metadata, embeddings, sources, pages, headings)
        position = 0
        for batch in batches(columns, _ADD_AT_ONCE):
            if embeddings is None:
                encoded = self.model.encode_document([row["item"] for row in batch], show_progress=False)
            else:
                encoded = embeddings[position : position + len(batch)]
            position += len(batch)
            self.add_encoded(batch, encoded, on_duplicate=on_duplicate)
            done.extend(row["id"] for row in batch)
        return done

    def add_encoded(
        self,
        rows: Sequence[Mapping[str, Any]],
        encoded: SmartEmbeddings,
        *,
        on_duplicate: Literal["error", "replace", "skip"] = "error",
        fit: bool = True,
    ) -> None:
        """Add one batch of documents that are encoded already, as one commit.

        Args:
            rows: ``id``, and as wanted ``text``, ``metadata``, ``source``, ``page``, ``heading``, ``media`` of each.
            encoded: Their encodings.
            on_duplicate: As for :meth:`add`.
            fit: Fit the codec afterwards if it is time, see :meth:`fit_if_due`.

        Raises:
            IndexMismatchError: The embeddings have other widths than the index.
            DuplicateIdError: An id is there already, or twice in the batch.
        """
        self._check_width(encoded)
        pooled = self._pooled(encoded)
        while True:
            codes = self.codec().encode_documents(pooled)
            records = records_of(rows, encoded, pooled, codes)
            generation = self._store.generation
            try:
                self._store.add(records, on_duplicate)
                break
            except IndexMismatchError:
                # Another process fitted the codec since; the codes are made again with the new one.
                self._store.reload()
                if self._store.generation == generation:
                    raise
        if fit:
            self.fit_if_due()

    def fit_if_due(self) -> None:
        """Fit the wanted codec if the index has grown large enough for it; not to be called within a transaction."""
        self._fit.fit_if_due(self._model)

    def upsert(self, items: Iterable[Any], **columns: Any) -> list[str]:
        """:meth:`add`, replacing documents whose id is there."""
        return self.add(items, **{"on_duplicate": "replace", **columns})

    def delete(self, ids: Sequence[str] | None = None, *, where: str | None = None) -> int:
        """Delete documents by id or by filter, as one commit.

        Returns:
            How many were deleted.

        Raises:
            UnknownIdError: An id is not there; nothing was deleted then.
            FilterError: The filter cannot be read.
        """
        return self._store.delete(ids=[ids] if isinstance(ids, str) else ids, where=where)

    def get(self, ids: str | Sequence[str]) -> list[Document]:
        """Documents by id, in the order asked for.

        Raises:
            UnknownIdError: One is not there.
        """
        return self._store.get([ids] if isinstance(ids, str) else list(ids))

    def _pooled(self, encoded: SmartEmbeddings) -> SmartEmbeddings:
        factor = self._store.manifest.pooling
        return pool_tokens(encoded, factor) if factor and factor > 1 else encoded

    # -- searching ---------------------------------------------------------------------------------------------

    @overload
    def search(self, query: OneQuery, k: int = ..., **options: Any) -> Hits: ...

    @overload
    def search(self, query: Sequence[Any] | SmartEmbeddings, k: int = ..., **options: Any) -> list[Hits]: ...

    def search(
        self, query: OneQuery | Sequence[Any] | SmartEmbeddings, k: int = 10, **options: Any
    ) -> Hits | list[Hits]:
        """Find documents; :meth:`search_many` lists the options.

        Args:
            query: A text, an image or its path, an :class:`~smart_retrieval.inputs.Item` or mapping with both;
                several of these; or encoded queries.
            k: Hits wanted.
            **options: As for :meth:`search_many`.

        Returns:
            Hits for one query, a list of them otherwise.

        Raises:
            EmptyInputError: A query is empty, or there is none.
            FilterError: The filter cannot be read.

        Example:
            >>> index.search("rotate the logs", k=3, where="year > 2020")  # doctest: +SKIP
            >>> index.search({"text": "this chart, newer", "image": "chart.png"})  # doctest: +SKIP
        """
        # Asked of embeddings first: they can be loaded, as an image can.
        if not isinstance(query, SmartEmbeddings) and is_one_item(query):
            return self.search_many([query], k, **options)[0]
        return self.search_many(cast("Sequence[Any] | SmartEmbeddings", query), k, **options)

    def search_many(
        self,
        queries: Sequence[Any] | SmartEmbeddings,
        k: int = 10,
        *,
        where: str | None = None,
        candidates: int = DEFAULT_CANDIDATES,
        exact: bool = False,
        lambda_anchor: float | None = None,
        lambda_late: float | None = None,
        floor: float | Literal["preset"] | None = "preset",
        weights: QueryWeights | Literal["preset"] = "preset",
        lexical_weight: float = 0.0,
        deadline_ms: float | None = None,
    ) -> list[Hits]:
        """Find documents for several queries, or for queries that are encoded already.

        Anchors choose candidates among the documents that pass the filter; the hybrid score orders them. Small
        collections are scored whole. The same query on the same index gives the same hits, alone or in a batch.

        Args:
            queries: Texts, images, items, or their encodings.
            k: Hits wanted.
            where: Filter over metadata and ``id``, ``source``, ``page``, ``heading``, such as
                ``"year > 2020 and lang = 'en'"``.
            candidates: Documents the anchors choose for the second stage.
            exact: Score every document that passes the filter.
            lambda_anchor: Weight of the anchors' cosine; the preset's when None.
            lambda_late: Weight of late interaction; the preset's when None.
            floor: Token similarities that count as none, None for no floor; the preset's when left out.
            weights: Query-token weights, None for equal ones; the preset's when left out.
            lexical_weight: Weight of BM25 (brought to 0..1 by s / (s + 10)); its best passages become candidates, too.
                Needs a text in the query.
            deadline_ms: Milliseconds after which scoring stops; the hits are then marked ``partial``.

        Returns:
            Hits of each query.

        Raises:
            EmptyInputError: An empty query text, or no query.
            FilterError: The filter cannot be read.
            IndexMismatchError: Encoded queries of other widths than the index.
        """
        started = time.perf_counter()
        if k < 0 or candidates < 1:
            raise SmartError(
                f"search: found k={k} and candidates={candidates}, expected k of 0 or more and 1 candidate or more"
            )
        texts, encoded = encode_queries(queries, lambda: self.model)
        self._check_width(encoded)
        if lexical_weight and (texts is None or not all(texts)):
            raise SmartError("lexical_weight: found queries that are encoded or without words, expected texts")
        settings, token_weights = settle(
            lambda: self.preset,
            self.idf,
            Settings(k, candidates, exact, lexical_weight=lexical_weight),
            lambda_anchor=lambda_anchor,
            lambda_late=lambda_late,
            floor=floor,
            weights=weights,
            deadline=None if deadline_ms is None else started + deadline_ms / 1000,
        )
        return self._searcher.search(encoded, texts, settings, weights=token_weights, where=where)

    def explain(self, query: OneQuery | SmartEmbeddings, id: str, **options: Any) -> Explanation:
        """Take one document's score for one query apart.

        Args:
            query: A text, an image, an item, or one encoded query.
            id: The document.
            **options: ``lambda_anchor``, ``lambda_late``, ``floor`` and ``weights`` as for :meth:`search`.

        Returns:
            Which query token matched which document token, with contributions that add up to the late score.

        Raises:
            UnknownIdError: The document is not there.
        """
        texts, encoded = encode_queries(query if isinstance(query, SmartEmbeddings) else [query], lambda: self.model)
        self._check_width(encoded)
        return explain_document(self, encoded, texts[0] if texts else None, id, **options)

    # -- care --------------------------------------------------------------------------------------------------

    def optimize(self, *, refit: bool = False) -> None:
        """Give the space of deleted documents back; fit the codec if that is still to be done.

        Args:
            refit: Fit the codec anew, encoding all passages again from their stored texts.

        Raises:
            SmartError: ``refit`` and documents without texts, or pictures.
        """
        if refit or self._fit.pending():
            self._fit.fit(self.model if refit else self._model, from_texts=refit)
        self._store.optimize()
        self._searcher.mirror().rebuild()

    def verify(self) -> VerifyReport:
        """Recompute every checksum; finds every flipped byte."""
        report = self._store.verify()
        try:
            with self._store.reading():
                report.notes.extend(self._searcher.mirror().verify())
        except IndexDamagedError as error:
            # They cannot be made while a row is damaged; that row is in the report.
            report.notes.append(f"derived files: {error}")
        return report
