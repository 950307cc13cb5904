"""SmartIndex: documents, their vectors and their search in one folder."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypedDict, Unpack, cast, overload

import numpy as np

from ..core.presets import Preset
from ..core.readout import Readout
from ..core.scoring import Scoring, TokenWeights
from ..core.weights import IdfWeights
from ..embeddings import SmartEmbeddings
from ..errors import IndexDamagedError, IndexMismatchError, SmartError
from ..inputs import is_one_item
from .codec.base import Codec
from .codec.pooling import pool_tokens
from .explain.explanation import Explanation, explain_document
from .ingest.codec_fit import FitPolicy
from .ingest.rows import batches, records_of, rows_of_columns
from .model_binding import check_model, load_model, new_manifest
from .search.hits import Hits
from .search.queries import OneQuery, encode_queries
from .search.searcher import Searcher
from .search.stages import DEFAULT_CANDIDATES, Settings
from .store.records import Document
from .store.store import Store
from .store.verify import VerifyReport

if TYPE_CHECKING:
    from ..model.smart_model import SmartModel

# 6 bytes a token; of the 6-byte codecs the one that keeps most (benchmarks/results/codec_quality.json).
DEFAULT_CODEC = "anchored+3vq+norm"


class OpenedIndex:
    """What an index is made of; :class:`~smart_retrieval.index.smart_index.SmartIndex` is what one does with it.

    Args:
        store: The store, which is closed with the index.
        model: The model, if it is loaded.
    """

    def __init__(self, store: Store, model: SmartModel | None = None) -> None:
        self._store = store
        self._model = model
        self._searcher = Searcher(store)
        self._idf: tuple[int, IdfWeights] | None = None
        self._fit = FitPolicy(store)

    # -- opening and closing -----------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        path: str | Path,
        model: SmartModel | str = "minilm",
        *,
        codec: str = DEFAULT_CODEC,
        pooling: float = 1,
        lexical: bool = True,
        files_as: Literal["auto", "text", "pages"] = "auto",
        timeout: float = 30.0,
    ) -> Self:
        """Make a new index.

        Args:
            path: A folder that does not hold an index yet.
            model: The model, or its name.
            codec: How token vectors are kept, see :func:`~smart_retrieval.index.codec.names.parse_codec`. One that has
                to be fitted is fitted once enough tokens are there; until then they are kept in float16.
            pooling: Merge similar token vectors of a document until 1 / ``pooling`` are left; 1 for none.
            lexical: Keep a full-text index of the passages, for ``lexical_weight``.
            files_as: What ``index_folder`` makes of files: ``"pages"`` takes PDFs as pictures of their pages, and
                pictures and videos too; ``"text"`` what can be read as text; ``"auto"``
                pages if the model takes pictures.
            timeout: Seconds that a write waits for other writers.

        Raises:
            IndexFormatError: There is an index already.
            CodecError: There is no such codec.
            SmartError: The model cannot be loaded.
            UnsupportedModelError: ``files_as="pages"`` and the model takes no pictures.
        """
        smart = load_model(model)
        manifest, start = new_manifest(smart, codec=codec, pooling=pooling, lexical=lexical, files_as=files_as)
        return cls(Store.create(path, manifest, start.to_bytes(), timeout=timeout), smart)

    @classmethod
    def open(
        cls,
        path: str | Path,
        model: SmartModel | str | None = None,
        *,
        mode: Literal["r", "w"] = "w",
        timeout: float = 30.0,
    ) -> Self:
        """Open an index.

        Args:
            path: Its folder.
            model: The model it was made with; loaded under its recorded name when it is first needed, if left out.
            mode: ``"r"`` also works in a folder that cannot be written to.
            timeout: Seconds that a write waits for other writers.

        Raises:
            IndexFormatError: There is no index, or one of another format.
            IndexMismatchError: The model differs from the one it was made with.
        """
        store = Store.open(path, mode, timeout=timeout)
        index = cls(store)
        try:
            if model is not None:
                index._model = index._checked(model)
        except BaseException:
            store.close()
            raise
        return index

    def close(self) -> None:
        """Close the index; what was acknowledged is on the disk already."""
        self._searcher.close()
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return self._store.count()

    def __contains__(self, id: str) -> bool:
        return len(self._store.rowids([id], missing="skip")) == 1

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r}, {len(self)} documents, {self._store.manifest.codec})"

    # -- what it is made of ------------------------------------------------------------------------------------

    @property
    def path(self) -> Path:
        """The folder."""
        return self._store.path

    @property
    def store(self) -> Store:
        """The database beneath."""
        return self._store

    @property
    def readout(self) -> Readout:
        """The readout its token vectors come from."""
        return Readout.from_dict(self._store.manifest.readout)

    @property
    def model(self) -> SmartModel:
        """The model, loaded under its recorded name if need be.

        Raises:
            ModelNotFoundError: It cannot be found under that name any more; pass it to :meth:`open`.
            IndexMismatchError: What is found there is another model.
        """
        if self._model is None:
            self._model = self._checked(str(self._store.manifest.model["name"]))
        return self._model

    def _checked(self, model: SmartModel | str) -> SmartModel:
        """A model, read, scored and limited as the index was made, if it is the one it was made with."""
        manifest = self._store.manifest
        preset = str(manifest.limits.get("preset", "default"))
        return check_model(manifest, load_model(model, self.readout, preset, manifest.model))

    @property
    def preset(self) -> Preset:
        """The scoring settings in force where a search names no others."""
        return self.model.preset

    def codec(self) -> Codec:
        """The codec that reads the stored codes."""
        return self._searcher.codec()

    def idf(self) -> IdfWeights:
        """IDF weights over the documents now in the index."""
        with self._store.reading():
            commit = self._store.state().number
            if self._idf is None or self._idf[0] != commit:
                documents, ids, counts = self._store.idf()
                frequencies = np.zeros(int(ids.max(initial=-1)) + 1, np.int64)
                frequencies[ids] = counts
                self._idf = (commit, IdfWeights(documents, frequencies))
            return self._idf[1]

    def info(self) -> dict[str, Any]:
        """Counts, sizes and settings."""
        manifest = self._store.manifest
        found = self._store.info()
        return {
            **found,
            "files_as": manifest.limits.get("files_as", "text"),
            "codec_wanted": manifest.limits.get("codec", found["codec"]),
            "readout": dict(manifest.readout),
            "prompts": dict(manifest.prompts),
            "pooling": manifest.pooling,
            "limits": dict(manifest.limits),
        }

    def _check_width(self, encoded: SmartEmbeddings) -> None:
        expected = (self._store.manifest.anchor_dim, self.codec().token_dim)
        found = (encoded.anchor_dim, encoded.token_dim)
        if found != expected:
            raise IndexMismatchError(
                f"index {str(self.path)!r}: found embeddings of {found[0]} (anchor) and {found[1]} (token) dimensions, "
                f"expected {expected[0]} and {expected[1]}: encode with the index's model and readout"
            )


_ADD_AT_ONCE = 256


class SearchOptions(TypedDict, total=False):
    """The keyword arguments of :meth:`SmartIndex.search`."""

    where: str | None
    candidates: int
    exact: bool
    scoring: Scoring | None
    weights: TokenWeights | Literal["preset"]
    lambda_anchor: float | None
    lambda_late: float | None
    floor: float | Literal["preset"] | None
    lexical_weight: float
    deadline_ms: float | None


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

    def upsert(
        self,
        items: Iterable[Any] | None = None,
        *,
        ids: Iterable[str] | None = None,
        metadata: Iterable[Mapping[str, Any]] | None = None,
        embeddings: SmartEmbeddings | None = None,
        sources: Iterable[str | None] | None = None,
        pages: Iterable[int | None] | None = None,
        headings: Iterable[str | None] | None = None,
    ) -> list[str]:
        """:meth:`add`, replacing documents whose id is there."""
        return self.add(
            items,
            ids=ids,
            metadata=metadata,
            embeddings=embeddings,
            sources=sources,
            pages=pages,
            headings=headings,
            on_duplicate="replace",
        )

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
    def search(self, query: OneQuery, k: int = ..., **options: Unpack[SearchOptions]) -> Hits: ...

    @overload
    def search(
        self, query: Sequence[Any] | SmartEmbeddings, k: int = ..., **options: Unpack[SearchOptions]
    ) -> list[Hits]: ...

    def search(
        self,
        query: OneQuery | Sequence[Any] | SmartEmbeddings,
        k: int = 10,
        *,
        where: str | None = None,
        candidates: int = DEFAULT_CANDIDATES,
        exact: bool = False,
        scoring: Scoring | None = None,
        weights: TokenWeights | Literal["preset"] = "preset",
        lambda_anchor: float | None = None,
        lambda_late: float | None = None,
        floor: float | Literal["preset"] | None = "preset",
        lexical_weight: float = 0.0,
        deadline_ms: float | None = None,
    ) -> Hits | list[Hits]:
        """Find documents for one query or several.

        Anchors choose candidates among the documents that pass the filter; the hybrid score orders them. Small
        collections are scored whole. The same query on the same index gives the same hits, alone or in a batch.

        Args:
            query: A text, an image or its path, an :class:`~smart_retrieval.inputs.Item` or mapping with both;
                several of these; or encoded queries.
            k: Hits wanted.
            where: Filter over metadata and ``id``, ``source``, ``page``, ``heading``, such as
                ``"year > 2020 and lang = 'en'"``.
            candidates: Documents the anchors choose for the second stage.
            exact: Score every document that passes the filter.
            scoring: Lambdas, weights and floor; the preset's when None. The next four arguments replace its fields.
            weights: Query-token weights; ``"idf"`` counts the documents of this index; None for equal ones.
            lambda_anchor: Weight of the anchors' cosine.
            lambda_late: Weight of late interaction.
            floor: Token similarities that count as none; None for no floor.
            lexical_weight: Weight of BM25 (brought to 0..1 by s / (s + 10)); its best passages become candidates, too.
                Needs a text in the query.
            deadline_ms: Milliseconds after which scoring stops; the hits are then marked ``partial``.

        Returns:
            Hits for one query, a list of them for several and for encoded queries.

        Raises:
            EmptyInputError: A query is empty, or there is none.
            FilterError: The filter cannot be read.
            IndexMismatchError: Encoded queries of other widths than the index.

        Example:
            >>> index.search("rotate the logs", k=3, where="year > 2020")  # doctest: +SKIP
            >>> index.search({"text": "this chart, newer", "image": "chart.png"})  # doctest: +SKIP
        """
        started = time.perf_counter()
        # Asked of embeddings first: they can be loaded, as an image can.
        alone = not isinstance(query, SmartEmbeddings) and is_one_item(query)
        queries = cast("Sequence[Any] | SmartEmbeddings", [query] if alone else query)
        if k < 0 or candidates < 1:
            raise SmartError(
                f"search: found k={k} and candidates={candidates}, expected k of 0 or more and 1 candidate or more"
            )
        texts, encoded = encode_queries(queries, lambda: self.model)
        self._check_width(encoded)
        if lexical_weight and (texts is None or not all(texts)):
            raise SmartError("lexical_weight: found queries that are encoded or without words, expected texts")
        chosen = self._scoring(scoring, weights, lambda_anchor, lambda_late, floor)
        deadline = None if deadline_ms is None else started + deadline_ms / 1000
        settings = Settings(k, candidates, exact, chosen, lexical_weight, deadline)
        hits = self._searcher.search(encoded, texts, settings, where=where)
        return hits[0] if alone else hits

    def search_many(
        self, queries: Sequence[Any] | SmartEmbeddings, k: int = 10, **options: Unpack[SearchOptions]
    ) -> list[Hits]:
        """:meth:`search` for several queries, with the same options: always a list."""
        if not isinstance(queries, SmartEmbeddings) and is_one_item(queries):
            queries = [queries]
        return self.search(queries, k, **options)

    def _scoring(
        self,
        scoring: Scoring | None,
        weights: TokenWeights | Literal["preset"],
        lambda_anchor: float | None,
        lambda_late: float | None,
        floor: float | Literal["preset"] | None,
    ) -> Scoring:
        """The scoring in force; the preset, which may load the model, is looked at only where a field is left to it."""
        left_out = lambda_anchor is None or lambda_late is None or "preset" in (floor, type(weights) is str and weights)
        base = scoring or (self.preset.scoring if left_out else Scoring())
        given = base.override(weights=weights, lambda_anchor=lambda_anchor, lambda_late=lambda_late, floor=floor)
        return given.fitted(self.idf)

    def explain(
        self,
        query: OneQuery | SmartEmbeddings,
        id: str,
        *,
        scoring: Scoring | None = None,
        weights: TokenWeights | Literal["preset"] = "preset",
        lambda_anchor: float | None = None,
        lambda_late: float | None = None,
        floor: float | Literal["preset"] | None = "preset",
    ) -> Explanation:
        """Take one document's score for one query apart.

        Args:
            query: A text, an image, an item, or one encoded query.
            id: The document.
            scoring: As for :meth:`search`, and so the others.
            weights: Query-token weights.
            lambda_anchor: Weight of the anchors' cosine.
            lambda_late: Weight of late interaction.
            floor: Token similarities that count as none.

        Returns:
            Which query token matched which document token, with contributions that add up to the late score.

        Raises:
            UnknownIdError: The document is not there.
        """
        texts, encoded = encode_queries(query if isinstance(query, SmartEmbeddings) else [query], lambda: self.model)
        self._check_width(encoded)
        chosen = self._scoring(scoring, weights, lambda_anchor, lambda_late, floor)
        return explain_document(self, encoded, texts[0] if texts else None, id, chosen)

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
