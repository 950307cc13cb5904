"""ShardedIndex: several indexes of one model and codec, searched as one."""

from __future__ import annotations

import time
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack, cast, overload

import numpy as np

from ...core.calibration import Calibration
from ...core.collection import CollectionStatistics
from ...core.weights import IdfWeights
from ...embeddings import SmartEmbeddings
from ...errors import DuplicateIdError, IndexFormatError, SmartError, SmartWarning, UnknownIdError
from ...inputs import is_one_item, item_of
from ..encoder import IndexEncoder, OneQuery
from ..ingest.new_documents import BATCH_WEIGHT, DocumentColumns, NewDocument, batches, new_documents
from ..rerank import rerank_hits, reranker_of
from ..search.boosts import AddedPart
from ..search.hits import Hits, SearchesMany
from ..search.options import RERANK_DEPTH, SearchOptions, check_words
from ..search.searcher import Settings
from ..smart_index import SmartIndex
from ..store.records import Document
from .gather import Rounds, gather, shard_settings, summed_idf
from .split import check_alike, shard_folders, shard_of, written

if TYPE_CHECKING:
    from ...model.smart_model import SmartModel
    from ..explain.explanation import Explanation

# Seconds beyond a deadline until a shard that has not answered is left out: it stops by itself at the deadline.
_GRACE = 0.05


class ShardedIndex(SearchesMany):
    """Several indexes of one model and codec, searched as one.

    Each shard scores its own documents under one scoring, with the IDF counts of all; the best of all shards are the
    hits, so they are those of one index with all documents (if each shard's ``candidates`` hold them, which are at
    least as many as one index would take). The query is encoded once.

    Args:
        shards: The shards :func:`~smart_retrieval.index.shards.split.split_index` made, all of them and in their order;
            or any indexes of one model, settings and codec that have no document in common.

    Raises:
        IndexMismatchError: They were made with different models, settings or codecs, or a shard is missing.

    Example:
        >>> with ShardedIndex.open("docs.shards") as index:  # doctest: +SKIP
        ...     index.search("how do I rotate the logs", where="year > 2020")
    """

    def __init__(self, shards: Sequence[SmartIndex]) -> None:
        check_alike([shard.store for shard in shards])
        self.shards = list(shards)
        self._pool = ThreadPoolExecutor(len(self.shards), thread_name_prefix="shard")

    @classmethod
    def open(cls, folder: str | Path, model: SmartModel | str | None = None, *, mode: Literal["r", "w"] = "w") -> Self:
        """Open all shards in a folder.

        Args:
            folder: What ``smart split`` wrote.
            model: The model they were made with; loaded under its recorded name when it is first needed, if left out.
            mode: ``"r"`` also works in a folder that cannot be written to.

        Raises:
            IndexFormatError: There are no shards.
            IndexMismatchError: A shard is missing, or they do not belong together.
        """
        places = shard_folders(folder)
        if not places:
            raise IndexFormatError(f"found no shards at {str(folder)!r}, expected shard-00000, ...: run smart split")
        opened: list[SmartIndex] = []
        try:
            for place in places:
                opened.append(SmartIndex.open(place, model, mode=mode))
                model = model or opened[0].encoder.given
            return cls(opened)
        except BaseException:
            for shard in opened:
                shard.close()
            raise

    def close(self) -> None:
        """Close all shards."""
        self._pool.shutdown()
        for shard in self.shards:
            shard.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __len__(self) -> int:
        return sum(map(len, self.shards))

    def __contains__(self, id: str) -> bool:
        return any(id in shard for shard in self.shards)

    def count(self, where: str | None = None) -> int:
        """How many documents pass a filter."""
        return sum(shard.count(where) for shard in self.shards)

    @property
    def encoder(self) -> IndexEncoder:
        """What encodes queries, of the first shard."""
        return self.shards[0].encoder

    def idf(self) -> IdfWeights:
        """IDF weights over the documents of all shards."""
        return summed_idf([shard.idf() for shard in self.shards])

    def calibration(self) -> Calibration:
        """Late weight and floor, which all shards have in common."""
        return self.shards[0].calibration()

    def info(self) -> dict[str, Any]:
        """What the shards have in common, their sums, and each shard's counts."""
        each = [shard.info() for shard in self.shards]
        counts = {name: sum(one[name] for one in each) for name in ("documents", "tokens", "files", "commit")}
        sums = {name: dict(sum((Counter(one[name]) for one in each), Counter())) for name in ("pictures", "bytes")}
        sums["bytes"] = {**dict.fromkeys(each[0]["bytes"], 0), **sums["bytes"]}
        parts = [{"path": one["path"], **{name: one[name] for name in counts}} for one in each]
        dates = {"updated": max(one["updated"] for one in each)}
        return {**each[0], **counts, **sums, **dates, "path": str(self.shards[0].path.parent), "shards": parts}

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
        """Find documents for one query or several, see :meth:`SmartIndex.search`.

        Args:
            query: As there.
            k: Hits wanted.
            **options: As there. ``candidates`` counts for each shard. A shard that has not answered shortly after
                ``deadline_ms`` is left out, and the hits are marked ``partial``.

        Raises:
            SmartError: As there.
        """
        started = time.perf_counter()
        reranker, depth = reranker_of(options.get("rerank")), options.get("rerank_depth", RERANK_DEPTH)
        alone = not isinstance(query, SmartEmbeddings) and is_one_item(query)
        queries = cast("Sequence[Any] | SmartEmbeddings", [query] if alone else query)
        settings = self._settings(options, max(k, depth) if reranker is not None else k)
        texts, encoded = self.encoder.encode_queries(queries)
        check_words(texts, settings.lexical_weight, reranker)
        deadline = options.get("deadline_ms")
        until = None if deadline is None else started + deadline / 1000
        found = self._run(gather(encoded, texts, settings, options.get("where"), len(self.shards)), until)
        self._warn_of_keys(options.get("where"), found)
        if reranker is not None:
            root, pairs = self.shards[0].store.manifest.root, zip(found, cast("Sequence[Any]", queries), strict=True)
            found = [rerank_hits(hits, item_of(one), reranker, depth, k, root) for hits, one in pairs]
        return found[0] if alone else found

    def _settings(self, options: SearchOptions, k: int) -> Settings:
        statistics = CollectionStatistics(self.idf, self.calibration)
        return shard_settings(options, k, self.shards[0].preset.scoring, statistics)

    def _run(self, rounds: Rounds, until: float | None) -> list[Hits]:
        """Put its questions to all shards, and leave out who has not answered in time."""
        try:
            question = next(rounds)
            while True:
                tasks = [self._pool.submit(question.answer, shard, until) for shard in self.shards]
                done, late = wait(tasks, None if until is None else max(0.0, until - time.perf_counter()) + _GRACE)
                for task in late:
                    task.cancel()
                question = rounds.send([task.result() for task in tasks if task in done])
        except StopIteration as ended:
            found: list[Hits] = ended.value
            return found

    def _warn_of_keys(self, where: str | None, found: Sequence[Hits]) -> None:
        if where and len(self) and not any(hits.searched or hits.partial for hits in found):
            unknown = [set(shard.store.unknown_keys(where)) for shard in self.shards]
            if keys := ", ".join(map(repr, sorted(set.intersection(*unknown)))):
                warnings.warn(f"where: no document has the metadata {keys}, so none passes", SmartWarning, stacklevel=3)

    def explain(self, query: OneQuery | SmartEmbeddings, id: str, **options: Unpack[SearchOptions]) -> Explanation:
        """Take one document's score for one query apart, see :meth:`SmartIndex.explain`.

        Raises:
            SmartError: As there; or what is to be explained of BM25, feedback or neighbours is no candidate.
        """
        settings, asked = self._settings(options, 1), options.copy()
        rerank = asked.pop("rerank", None)
        holder = self._holder(id)
        holder.encoder.adopt(self.encoder)
        found = holder.explain(query, id, where=options.get("where"), rerank=rerank, scoring=settings.scoring)
        if found.source is not None and found.file.entry is None:
            # Which files were read is noted in the shards that their paths choose.
            entries = (shard.store.files.get(found.source) for shard in self.shards)
            found = replace(found, file=replace(found.file, entry=next(filter(None, entries), None)))
        added = settings.refinements
        weights = {"lexical": settings.lexical_weight, "feedback": added.feedback, "neighbours": added.neighbours}
        weights = {name: weight for name, weight in weights.items() if weight}
        if not weights:
            return found
        queries = query if isinstance(query, SmartEmbeddings) else [query]
        (hits,) = self.search(queries, settings.candidates * len(self.shards), **asked)
        hit = next((one for one in hits if one.id == id), None)
        if hit is None:
            raise SmartError(f"document {id!r}: found one that is no candidate, expected one; raise candidates")
        likes = {"feedback": (hits.best,) if hits.best else ()}
        parts = [AddedPart(name, weight, getattr(hit, name), likes.get(name, ())) for name, weight in weights.items()]
        return replace(found, added=tuple(parts), score=found.score + sum(part.contribution for part in parts))

    # -- documents ---------------------------------------------------------------------------------------------

    def get(self, ids: str | Sequence[str]) -> list[Document]:
        """Documents by id, in the order asked for.

        Raises:
            UnknownIdError: One is not there.
        """
        return [self._holder(id).get(id)[0] for id in ([ids] if isinstance(ids, str) else ids)]

    def add(
        self,
        items: Iterable[Any] | None = None,
        *,
        on_duplicate: Literal["error", "replace", "skip"] = "error",
        **columns: Unpack[DocumentColumns],
    ) -> list[str]:
        """Add documents to the shards that their ids choose, see :meth:`SmartIndex.add`.

        A batch is one atomic commit in each shard, not over all shards.
        """
        documents, embeddings = new_documents(items, **columns), columns.get("embeddings")
        done: list[str] = []
        for batch in batches(documents, BATCH_WEIGHT):
            if on_duplicate == "error":  # before any shard has stored a part of them
                self._refuse_known([document.id for document in batch])
            encoder = self.encoder
            encoded = (
                embeddings[len(done) : len(done) + len(batch)]
                if embeddings is not None
                else encoder.model().encode_document([encoder.folded(one.item) for one in batch], show_progress=False)
            )
            for shard, places in self._by_shard(batch):
                part = [batch[place] for place in places]
                shard.add_encoded(part, encoded[places], on_duplicate=on_duplicate)
            done.extend(document.id for document in batch)
        return done

    def upsert(self, items: Iterable[Any] | None = None, **columns: Unpack[DocumentColumns]) -> list[str]:
        """:meth:`add`, replacing documents whose id is there."""
        return self.add(items, **columns, on_duplicate="replace")

    def delete(self, ids: Sequence[str] | None = None, *, where: str | None = None) -> int:
        """Delete documents by id or by filter; one commit in each shard.

        Raises:
            UnknownIdError: An id is not there; nothing was deleted then.
            FilterError: The filter cannot be read.
        """
        if (ids is None) == (where is None):
            raise SmartError("delete: expected either ids or where")
        if where is not None:
            return sum(shard.delete(where=where) for shard in self.shards)
        asked = [ids] if isinstance(ids, str) else list(ids or ())
        held = [(self._holder(id), id) for id in asked]
        return sum(
            shard.delete([id for holder, id in held if holder is shard])
            for shard in self.shards
            if any(holder is shard for holder, _ in held)
        )

    def backup(self, path: str | Path) -> None:
        """Copy all shards into a new folder, while others read and write; each shard's newest commit.

        Raises:
            IndexFormatError: Something is in the folder already.
        """
        with written(path) as partial:
            for number, shard in enumerate(self.shards):
                shard.backup(partial / f"shard-{number:05d}")

    def _by_shard(self, batch: Sequence[NewDocument]) -> Iterable[tuple[SmartIndex, list[int]]]:
        """The shards that documents go to, and which documents: where they are already, or where their ids say."""
        owners = np.array([self._owner(document.id) for document in batch])
        for number, shard in enumerate(self.shards):
            if (owners == number).any():
                yield shard, np.flatnonzero(owners == number).tolist()

    def _owner(self, id: str) -> int:
        for number, shard in enumerate(self.shards):
            if id in shard:
                return number
        return shard_of(id, len(self.shards))

    def _refuse_known(self, ids: Sequence[str]) -> None:
        for shard in self.shards:
            known = shard.store.rowids(ids, missing="skip")
            if len(known):
                (first, *_) = shard.store.ids_of(known)
                raise DuplicateIdError(
                    f"found id {first!r} in {shard.path.name!r} already; pass on_duplicate='replace' or 'skip'"
                )

    def _holder(self, id: str) -> SmartIndex:
        for shard in self.shards:
            if id in shard:
                return shard
        raise UnknownIdError(f"found no document {id!r} in any of {len(self.shards)} shards")


def open_index(
    path: str | Path, model: SmartModel | str | None = None, *, mode: Literal["r", "w"] = "w"
) -> SmartIndex | ShardedIndex:
    """Open an index, or the shards in a folder as one; see their ``open``.

    Example:
        >>> with open_index("docs.smart", mode="r") as index:  # doctest: +SKIP
        ...     index.search("how do I rotate the logs")
    """
    return (ShardedIndex if shard_folders(path) else SmartIndex).open(path, model, mode=mode)
