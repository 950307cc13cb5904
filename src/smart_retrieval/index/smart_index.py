"""SmartIndex: documents, their vectors and their search in one folder."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack, cast, overload

from ..core.calibration import Calibration
from ..core.presets import Preset
from ..core.readout import Readout
from ..core.scoring import LateWeight, Scoring, TokenWeights
from ..core.weights import IdfWeights
from ..embeddings import SmartEmbeddings
from ..errors import CodecError, CodecMissingError, IndexDamagedError, IndexFormatError
from ..files import settled
from ..inputs import is_one_item, item_of
from .codec.base import Codec, CodecBytes
from .creation import check_settings, model_within, new_manifest
from .encoder import IndexEncoder, OneQuery, load_model
from .ingest.new_documents import BATCH_WEIGHT, DocumentColumns, NewDocument, new_documents
from .ingest.writer import IndexWriter
from .mirror.files import MirrorFiles
from .rerank import rerank_document, rerank_hits, reranker_of
from .search.hits import Hits, SearchesMany
from .search.options import RERANK_DEPTH, SCORING_OPTIONS, Refinements, RerankWith, SearchOptions, check_words
from .search.searcher import DEFAULT_CANDIDATES, Searcher, Settings, settings_of
from .statistics import IndexStatistics
from .store.folder import FILE, check_place
from .store.records import Document
from .store.store import Store
from .store.verify import VerifyReport
from .text.language import Language

if TYPE_CHECKING:
    from ..documents.read import JsonlFields, OcrMode
    from ..model.options import IndexModelOptions
    from ..model.smart_model import SmartModel
    from .explain.explanation import Explanation
    from .ingest.report import IngestReport

DEFAULT_CODEC = "anchored+3vq+norm"  # keeps most of those of 6 bytes (benchmarks/results/codec_quality.json)
DEFAULT_MODEL = "minilm"


class SmartIndex(SearchesMany):
    """A durable index of documents with hybrid search.

    The folder holds one SQLite database, which is the truth, and files derived from it. Every batch that is added or
    deleted is one atomic, synced commit; other processes see whole commits only. Made by :meth:`create`, :meth:`open`
    or :meth:`open_or_create`.

    Example:
        >>> import tempfile
        >>> with SmartIndex.create(tempfile.mkdtemp() + "/notes.smart", "minilm") as index:
        ...     _ = index.add(["Log files rotate nightly.", "Oak logs burn slowly."], ids=["logs", "oak"])
        ...     index.search("how do I rotate the logs", k=1)[0].id
        'logs'
    """

    def __init__(self, store: Store, model: SmartModel | str | None = None, device: str | None = None) -> None:
        #: The database.
        self.store = self._store = store
        #: The folder.
        self.path: Path = store.path
        #: Encodes queries with the model or with its export, which ``encoder.export()`` makes.
        self.encoder = IndexEncoder(store, model, device)
        self._statistics = IndexStatistics(store, self.encoder)
        #: Searches with settings in numbers.
        self.searcher = Searcher(store, self.encoder)
        self._writer = IndexWriter(store, self.encoder)

    # -- opening and closing -----------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        path: str | Path,
        model: SmartModel | str = DEFAULT_MODEL,
        *,
        codec: str | Path | Codec = DEFAULT_CODEC,
        token_pooling: float = 1,
        lexical: bool = True,
        language: Language = "auto",
        files_as: Literal["auto", "text", "pages"] = "auto",
        timeout: float = 30.0,
    ) -> Self:
        """Make a new index.

        Args:
            path: A folder that does not hold an index yet.
            model: The model, or its name.
            codec: How token vectors are kept: ``"float16"``, ``"codebook+32x1"``, ...; or a fitted codec or its file,
                to be shared. For ``minilm`` the package ships the usual one, whose tables no index holds; any other
                is fitted once enough tokens are there, until when they are kept in float16.
            token_pooling: Merge similar token vectors of a document until 1 in so many is left; 1 for none.
            lexical: Keep a full-text index of the passages, for ``lexical_weight``.
            language: What it is to read words as: ``"english"`` strips endings and leaves stop words out of queries,
                ``"other"`` does not; ``"auto"`` takes English if 15 % of the first words (200 or more) are stop words.
            files_as: What :meth:`index_folder` makes of files: ``"pages"`` takes PDFs as pictures of their pages, and
                pictures and videos too; ``"text"`` what can be read as text; ``"auto"`` pages if the model takes
                pictures.
            timeout: Seconds that a write waits for other writers.

        Raises:
            IndexFormatError: There is an index already.
            CodecError: There is no such codec.
            SmartError: The model cannot be loaded.
            UnsupportedModelError: ``files_as="pages"`` and the model takes no pictures.
        """
        check_place(settled(path))
        smart = load_model(model) if isinstance(model, str) else model
        manifest, start = new_manifest(smart, codec, token_pooling, files_as, lexical=lexical, language=language)
        return cls(Store.create(path, manifest, start.to_bytes(), timeout=timeout), smart)

    @classmethod
    def open(
        cls,
        path: str | Path,
        model: SmartModel | str | None = None,
        *,
        mode: Literal["r", "w"] = "w",
        timeout: float = 30.0,
        device: str | None = None,
    ) -> Self:
        """Open an index.

        Args:
            path: Its folder.
            model: The model it was made with; loaded under its recorded name when it is first needed, if left out.
            mode: ``"r"`` also works in a folder that cannot be written to.
            timeout: Seconds that a write waits for other writers.
            device: Torch device of a model that is loaded by name; the best at hand when None.

        Raises:
            IndexFormatError: There is no index, or one of another format.
            IndexMismatchError: The model differs from the one it was made with.
        """
        store = Store.open(path, mode, timeout=timeout)
        try:
            return cls(store, model, device)
        except BaseException:
            store.close()
            raise

    @classmethod
    def open_or_create(
        cls,
        path: str | Path,
        model: SmartModel | str | None = None,
        *,
        codec: str | Path | Codec | None = None,
        token_pooling: float | None = None,
        language: Language = "auto",
        files_as: Literal["auto", "text", "pages"] = "auto",
        compute: str | None = None,
        **options: Unpack[IndexModelOptions],
    ) -> Self:
        """Open an index for writing; make it if there is none.

        Args:
            path: The index's folder.
            model: The model, or its name; ``minilm`` for a new index when None, the recorded one otherwise.
            codec: How token vectors are kept; the usual one for a new index when None.
            token_pooling: See :meth:`create`; 1 for a new index when None.
            language: Of the passages, see :meth:`create`; ``"auto"`` takes an existing index as it is.
            files_as: What is made of files, see :meth:`create`; ``"auto"`` takes an existing index as it is.
            compute: For a new index, as of :class:`SmartModel`; ``"auto"`` takes an existing index as it is.
            **options: ``family``, ``pooling``, ``max_length``, ``max_visual_tokens``, ``max_frames``, ``video_budget``,
                ``truncate_dim`` and ``device``, as :class:`SmartModel` takes them, for a model given by name; its own
                for a new index when None.

        Raises:
            IndexMismatchError: There is an index, made with another model, limit or setting.
            CodecError: There is an index with another codec, or no such codec.
            IndexFormatError: There is an index of another format.
            SmartError: A limit is given, and a model that is loaded with another.

        Example:
            >>> with SmartIndex.open_or_create("docs.smart") as index:  # doctest: +SKIP
            ...     index.index_folder("docs", include=["*.md"])
        """
        asked: dict[str, Any] = {**options}
        path = settled(path)
        if not os.path.exists(path / FILE):  # also where one may not look
            check_place(path)
            model = model_within(model or DEFAULT_MODEL, asked, compute)
            new: dict[str, Any] = {"codec": codec, "language": language, "files_as": files_as}
            new["token_pooling"] = token_pooling
            with suppress(IndexFormatError):  # another process was faster
                return cls.create(path, model, **{name: value for name, value in new.items() if value is not None})
        index = cls.open(path, model, device=asked.pop("device", None))
        try:
            asked |= {"token_pooling": token_pooling, "language": language, "as": files_as, "compute": compute}
            check_settings(index.path, index.store.manifest, codec, asked)
        except BaseException:
            index.close()
            raise
        return index

    def close(self) -> None:
        """Close the index; what was acknowledged is on the disk already."""
        self.searcher.close()
        self._store.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled, it is its folder: whoever unpickles it opens it again, with the model that this one was given."""
        return type(self), (self._store, self.encoder.given, self.encoder.device)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __len__(self) -> int:
        return self._store.count()

    def __contains__(self, id: str) -> bool:
        return len(self._store.rowids([id], missing="skip")) == 1

    def count(self, where: str | None = None) -> int:
        """How many documents pass a filter."""
        return len(self._store.select(where)) if where else len(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r}, {len(self)} documents, {self._store.manifest.codec})"

    # -- what it is made of ------------------------------------------------------------------------------------

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
        return self.encoder.model()

    @property
    def preset(self) -> Preset:
        """The settings in force where a search names no others."""
        name = str(self._store.manifest.limits.get("preset", "default"))
        return Preset(name, self.readout, self._statistics.scoring())

    def codec(self) -> Codec:
        """The codec that reads the stored codes."""
        return self.encoder.codec()

    def idf(self) -> IdfWeights:
        """IDF weights over the documents now in the index."""
        return self._statistics.newest().idf

    def calibration(self) -> Calibration:
        """Late weight and floor of these documents, which the scoring of ``default`` takes."""
        return self._statistics.newest().calibration

    def info(self) -> dict[str, Any]:
        """Counts, sizes and settings."""
        manifest, found = self._store.manifest, self._store.info()
        return {
            **found,
            "files_as": manifest.limits.get("files_as", "text"),
            "codec_wanted": manifest.limits.get("codec", found["codec"]),
            "codec_packaged": CodecBytes.read(self._store.codec()).packaged,
            "pooling": manifest.pooling,
            **{name: dict(getattr(manifest, name)) for name in ("readout", "prompts", "limits", "scoring")},
            "calibration": self._statistics.known_calibration(),
        }

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
            items: Passages, pictures, videos: whatever :meth:`SmartModel.encode_document` takes (a string is
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
        documents = new_documents(items, ids, metadata, embeddings, sources, pages, headings)
        added = self._writer.add(documents, embeddings, on_duplicate)
        self._statistics.fix_calibration()
        return added

    def add_encoded(
        self,
        documents: Sequence[NewDocument],
        embeddings: SmartEmbeddings,
        *,
        on_duplicate: Literal["error", "replace", "skip"] = "error",
    ) -> None:
        """Add documents that are encoded already, as one commit whatever their number.

        Args:
            documents: The documents.
            embeddings: Their encodings, by this index's model.
            on_duplicate: As for :meth:`add`.

        Raises:
            IndexMismatchError: The embeddings have other widths than the index.
            DuplicateIdError: An id is there already, or twice among the documents.
        """
        self._writer.add_encoded(documents, embeddings, on_duplicate)
        self._statistics.fix_calibration()

    def upsert(self, items: Iterable[Any] | None = None, **columns: Unpack[DocumentColumns]) -> list[str]:
        """:meth:`add`, replacing documents whose id is there."""
        return self.add(items, **columns, on_duplicate="replace")

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

    def index_folder(
        self,
        folder: str | Path,
        *,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        hidden: bool = False,
        sync: bool = False,
        read_as: Mapping[str, str] | None = None,
        jsonl: JsonlFields | None = None,
        encoding: str = "",
        ocr: OcrMode = "auto",
        max_ocr_pages: int = 500,
        max_tokens: int | None = None,
        overlap: int = 0,
        min_tokens: int | None = None,
        batch: int = BATCH_WEIGHT,
        show_progress: bool | None = None,
    ) -> IngestReport:
        """Index the files of a folder; what the index holds already is not touched.

        A file is unchanged if size and time are, or else if its SHA-256 is. A changed file's passages are replaced.
        Every batch is one atomic commit, so a run that is stopped goes on where it was when it is started again. A file
        that cannot be read costs nothing but itself; what the index held of it stays.

        Paths are kept relative to ``folder``, and ids are made of them (``"guide/logs.md#3"``), so an index belongs to
        one folder. It may be moved: it is recognised by its files.

        Args:
            folder: A folder, or a single file.
            include: Patterns as in ``.gitignore``; if any, only files that match are read.
            exclude: Such patterns for what is left out.
            hidden: Read files and folders whose names begin with a dot, too.
            sync: Delete passages of files that this run does not find any more (deleted, or excluded by now).
            read_as: Format by suffix, on top of the known ones: ``{".conf": "text"}``; ``"*"`` stands for every suffix
                that is not known. Goes before pages: with ``{".pdf": "pdf"}`` an index of pages takes the text of PDFs.
            jsonl: Which fields of JSON Lines mean what.
            encoding: Of the files' text ("windows-1251"); empty: each file's own, or else a guess that is noted.
            ocr: What of files read as text is read by OCR: see :class:`~smart_retrieval.documents.ReadOptions`.
            max_ocr_pages: Most pages of one file that OCR reads.
            max_tokens: Most tokens of a passage; the model's limit when None.
            overlap: Tokens of a passage repeated at the beginning of the next.
            min_tokens: Neighbouring sections shorter than this are joined; a little when None.
            batch: Passages that are encoded and committed together; of pictures, a sixteenth as many.
            show_progress: Draw a bar on stderr; None draws it on a terminal.

        Returns:
            What was done, and what was passed over and why.

        Raises:
            MediaError: There is no such folder, or a pattern is malformed.
            IndexMismatchError: The index belongs to another folder.
            SmartError: ``sync`` and nothing was found at all: the folder may not be mounted.
        """
        # Imported here, so that a search need not wait for the readers of files.
        from ..documents.read import JsonlFields, ReadOptions
        from .ingest.file_reader import FileReader
        from .ingest.folder import index_folder

        fields, formats = jsonl or JsonlFields(), read_as or {}
        options = ReadOptions(jsonl=fields, formats=formats, encoding=encoding, ocr=ocr, max_ocr_pages=max_ocr_pages)
        reader = FileReader(self._store.manifest, self.encoder, options, max_tokens, overlap, min_tokens)
        report = index_folder(
            self._writer, reader, folder, include, exclude, hidden=hidden, sync=sync, batch=batch, bar=show_progress
        )
        self._statistics.fix_calibration()
        return report

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
        lambda_late: LateWeight | None = None,
        floor: float | Literal["preset", "calibrated"] | None = "preset",
        lexical_weight: float = 0.0,
        feedback: float = 0.0,
        neighbours: float = 0.0,
        rerank: RerankWith = None,
        rerank_depth: int = RERANK_DEPTH,
        deadline_ms: float | None = None,
        device: str = "cpu",
    ) -> Hits | list[Hits]:
        """Find documents for one query or several.

        Anchors choose candidates among the documents that pass the filter; the hybrid score orders them. Small
        collections are scored whole. The same query on the same index gives the same hits, alone or in a batch.

        Args:
            query: A text, an image or its path, an :class:`~smart_retrieval.inputs.Item` or mapping with both;
                several of these; or encoded queries.
            k: Hits wanted.
            where: Filter over metadata and ``id``, ``source``, ``page``, ``heading``, such as
                ``"year > 2020 and tags = 'en'"``; of a list, one item has to pass.
            candidates: Documents the anchors choose for the second stage.
            exact: Score every document that passes the filter.
            scoring: Lambdas, weights and floor; the preset's when None. The next four arguments replace its fields.
            weights: Query-token weights; ``"idf"`` counts the documents of this index; None for equal ones.
            lambda_anchor: Weight of the anchors' cosine.
            lambda_late: Weight of late interaction.
            floor: Token similarities that count as none; None for no floor.
            lexical_weight: Weight of BM25, see :class:`Hit`; 3 is usual. Its best passages become candidates, too.
                Needs a text in the query.
            feedback: Weight of a document's likeness to the best hit: the cosine of their anchors.
            neighbours: Weight of the mean score of a document's three nearest by anchor, among the first 400 hits.
            rerank: What orders the first hits anew, reading query and document together: a Sentence Transformers
                ``CrossEncoder``, its name or folder, or any :class:`~smart_retrieval.Reranker`. A hit's ``score`` stays
                what it was; pictures are read from their files again.
            rerank_depth: How many hits it reads.
            deadline_ms: Milliseconds after which scoring stops; the hits are then marked ``partial``, and not reranked.
            device: Where ``exact`` scores: ``"cpu"``; ``"cuda"``; or ``"auto"`` for a GPU once worth it.

        Returns:
            Hits for one query, a list of them for several and for encoded queries.

        Raises:
            EmptyInputError: A query is empty, or there is none.
            FilterError: The filter cannot be read.
            IndexMismatchError: Encoded queries of other widths than the index.
            ModelNotFoundError: The reranker cannot be loaded.
            UnsupportedModelError: It has no trained head, or takes no pictures and is to rank some.

        Warns:
            SmartWarning: Hits were not reranked, as their pictures cannot be opened any more.

        Example:
            >>> index.search({"text": "this chart, newer", "image": "chart.png"})  # doctest: +SKIP
        """
        started = time.perf_counter()
        # Embeddings first: they have a ``load``, as an image source has.
        alone = not isinstance(query, SmartEmbeddings) and is_one_item(query)
        queries = cast("Sequence[Any] | SmartEmbeddings", [query] if alone else query)
        refinements, reranker = Refinements(feedback, neighbours, rerank, rerank_depth), reranker_of(rerank)
        with self.searcher.loading():
            texts, encoded = self.encoder.encode_queries(queries)
        check_words(texts, lexical_weight, reranker)
        until = None if deadline_ms is None else started + deadline_ms / 1000
        read = max(k, rerank_depth) if reranker is not None else k
        with self._store.reading():  # weights and documents of one commit
            chosen = self._statistics.settled(scoring, weights, lambda_anchor, lambda_late, floor)
            spread = self.calibration().anchor_spread if lexical_weight else 0.0
            settings = Settings(read, candidates, exact, chosen, lexical_weight, refinements, until, spread, device)
            hits = self.searcher.search(encoded, texts, settings, where=where)
        if reranker is not None:
            root, pairs = self._store.manifest.root, zip(hits, cast("Sequence[Any]", queries), strict=True)
            hits = [rerank_hits(found, item_of(one), reranker, rerank_depth, k, root) for found, one in pairs]
        return hits[0] if alone else hits

    def explain(self, query: OneQuery | SmartEmbeddings, id: str, **options: Unpack[SearchOptions]) -> Explanation:
        """Take one document's score for one query apart.

        Args:
            query: A text, an image, an item, or one encoded query, such as ``hits.query``.
            id: The document.
            **options: Those of the :meth:`search` that is to be explained.

        Returns:
            Which query token matched which document token, with contributions that add up to the late score, and what
            else the options add.

        Raises:
            UnknownIdError: The document is not there.
            SmartError: It does not pass the filter; or as for :meth:`search`.
        """
        from .explain.explanation import explain_stored

        reranker = reranker_of(options.get("rerank"))
        texts, encoded = self.encoder.encode_queries(query if isinstance(query, SmartEmbeddings) else [query])
        weight = options.get("lexical_weight", 0.0)
        check_words(texts, weight, reranker)
        given: dict[str, Any] = {name: value for name, value in options.items() if name in SCORING_OPTIONS}
        asked = (encoded, texts[0] if texts else None)
        with self._store.reading():  # weights and documents of one commit
            spread = self.calibration().anchor_spread if weight else 0.0
            settings = settings_of(options, self._statistics.settled(**given), spread)
            found = explain_stored(self._store, self.encoder, self.searcher, *asked, id, settings, options.get("where"))
        if reranker is None:
            return found
        (document,) = self.get(id)
        return replace(found, rerank=rerank_document(document, item_of(query), reranker, self._store.manifest.root))

    # -- care --------------------------------------------------------------------------------------------------

    def backup(self, path: str | Path) -> None:
        """Copy the newest commit into a folder that holds no index yet, while others read and write."""
        self._store.backup(path)

    def optimize(self, *, refit: bool = False) -> None:
        """Give the space of deleted documents back; fit the codec if that is still to be done.

        Args:
            refit: Fit the codec anew, encoding all passages again from their stored texts, and the calibration.

        Raises:
            SmartError: ``refit`` and documents without texts, or pictures.
        """
        self._writer.fit(from_texts=refit)
        self._statistics.fix_calibration(again=refit)
        self._store.optimize()
        self.searcher.mirror().rebuild()

    def verify(self) -> VerifyReport:
        """Recompute every checksum, of the database and of the derived files; finds every flipped byte."""
        report = self._store.verify()
        try:
            with self._store.reading():
                report.problems.extend(MirrorFiles(self.path / "derived").verify(self._store))
                self.codec()
        except (IndexDamagedError, CodecMissingError) as error:
            report.notes.append(f"derived files and codec: {error}")
        except CodecError as error:
            report.problems.append(str(error))
        return report
