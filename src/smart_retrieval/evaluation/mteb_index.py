"""A SmartIndex as mteb searches with it: documents kept in its codec, candidates by anchor, hybrid scores of these."""

from __future__ import annotations

import re
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DatasetError, IndexMismatchError
from ..index.ingest.new_documents import NewDocument, content_id
from ..index.search.stages import DEFAULT_CANDIDATES
from ..index.smart_index import DEFAULT_CODEC, SmartIndex
from ..index.store.where import Field, In
from ..inputs import Item
from .mteb_search import SmartSearch, items_of, strictly_falling

if TYPE_CHECKING:
    from ..model.smart_model import SmartModel

#: Texts encoded at a time; a picture counts as sixteen.
_AT_ONCE = 1024
_PICTURE = 16

#: Key of the metadata under which a document's content is known again.
_CONTENT = "content"


class IndexSearch(SmartSearch):
    """What mteb calls a ``SearchProtocol``, over a `SmartIndex`: ``mteb.evaluate(IndexSearch(model), tasks)``.

    Each task's corpus gets an index of its own, as a user would make it, and is searched in two stages.

    Args:
        source: The model; or an index that holds the documents of a task already, under the task's own ids.
        codec: How token vectors are kept, see `index.codec.parse_codec`. Of a given index, its own.
        folder: Where the indexes are kept, a folder for each task; documents that are there and have not changed are
            not encoded again. None for a temporary one, which is removed in the end.
        candidates: Documents that the anchor picks for late interaction; None scores all of them. Small corpora are
            scored whole, as the index always does.
        **settings: ``weights``, ``lambda_anchor``, ``lambda_late`` and ``floor``, as for `SmartSearch`.

    Raises:
        ScoringError: The weights are unknown, or there are fewer than one candidate.

    Example:
        >>> import mteb  # doctest: +SKIP
        >>> search = IndexSearch(SmartModel("minilm"), codec="codebook+32x1")  # doctest: +SKIP
        >>> mteb.evaluate(search, mteb.get_tasks(["NanoNFCorpusRetrieval"]))  # doctest: +SKIP
    """

    def __init__(
        self,
        source: SmartModel | SmartIndex,
        *,
        codec: str = DEFAULT_CODEC,
        folder: str | Path | None = None,
        candidates: int | None = DEFAULT_CANDIDATES,
        **settings: Any,
    ) -> None:
        self._given = source if isinstance(source, SmartIndex) else None
        super().__init__(source.model if isinstance(source, SmartIndex) else source, candidates=candidates, **settings)
        self.codec = codec if self._given is None else str(self._given.info()["codec_wanted"])
        self._folder = None if folder is None else Path(folder).expanduser()
        self._index: SmartIndex | None = None

    def index(
        self,
        corpus: Any,
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        encode_kwargs: Mapping[str, Any],
        num_proc: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Put a corpus into an index, or see that the given one holds it.

        Args:
            corpus: mteb's data set, with ``id`` and some of ``title``, ``text``, ``image``.
            task_metadata: The task; its name names the folder.
            hf_split: Part of the folder's name.
            hf_subset: Part of the folder's name.
            encode_kwargs: ``batch_size`` and ``show_progress_bar`` are heeded.
            num_proc: Not used.
            **kwargs: Not used.

        Raises:
            DatasetError: A document is of a kind that is not read, or the given index holds other documents.
            IndexMismatchError: The index in the folder has another codec, or is another model's.
        """
        name = str(task_metadata.name)
        if self._clean_up is not None:
            self._index = None
            self._clean_up()
            self._clean_up = None
        if self._given is not None:
            self._index = _holding(self._given, [str(one) for one in corpus["id"]], name)
            return
        root = Path(tempfile.mkdtemp(prefix="smart-mteb-")) if self._folder is None else self._folder
        place = root / re.sub(r"[^\w.-]+", "_", f"{name}-{hf_subset}-{hf_split}")
        index = (
            self._opened(place)
            if place.is_dir()
            else SmartIndex.create(place, self.smart, codec=self.codec, lexical=False)
        )
        self._clean_up = weakref.finalize(self, _close, index, root if self._folder is None else None)
        for batch in _batches(corpus, name):
            self._add(index, batch, encode_kwargs)
        wanted = {str(one) for one in corpus["id"]}
        if gone := [one for one in index.store.ids() if one not in wanted]:
            index.delete(gone)
        about = index.info()
        if about["codec"] != about["codec_wanted"]:
            index.optimize()  # a small index would stay uncompressed, and its results would say nothing of the codec
        self._index = index

    def search(
        self,
        queries: Any,
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        top_k: int,
        encode_kwargs: Mapping[str, Any],
        top_ranked: Mapping[str, Sequence[str]] | None = None,
        num_proc: int | None = None,
        **kwargs: Any,
    ) -> dict[str, dict[str, float]]:
        """Search the index for each query; as `SmartSearch.search` otherwise.

        Args:
            queries: mteb's data set, with ``id`` and some of ``text``, ``image``, ``instruction``.
            task_metadata: The task.
            hf_split: Not used.
            hf_subset: Not used.
            top_k: Documents listed for each query; no more than there are candidates.
            encode_kwargs: ``batch_size`` and ``show_progress_bar`` are heeded.
            top_ranked: For reranking: the documents of each query, which alone are ranked.
            num_proc: Not used.
            **kwargs: Not used.

        Returns:
            Scores by query and document.

        Raises:
            DatasetError: Nothing was indexed, or a query is of a kind that is not read.
        """
        index = self._index
        if index is None:
            raise DatasetError(f"{task_metadata.name}: found no indexed corpus, expected index() before search()")
        ids = [str(one) for one in queries["id"]]
        encoded = self._encode("query", items_of(queries, str(task_metadata.name)), encode_kwargs, None)
        options: dict[str, Any] = {
            "lambda_anchor": self.chosen.scoring.lambda_anchor,
            "lambda_late": self.chosen.scoring.lambda_late,
            "floor": self.chosen.scoring.floor,
            "weights": index.idf() if self.chosen.scoring.weights == "idf" else None,
            "exact": self.candidates is None,
        }
        if self.candidates is not None:
            # The index scores as many as are asked for, if these are more than the candidates.
            options["candidates"], top_k = self.candidates, min(top_k, self.candidates)
        found: dict[str, dict[str, float]] = {}
        for number, query in enumerate(ids):
            where: Any = None
            if top_ranked is not None:
                own = tuple(str(one) for one in top_ranked.get(query, ()))
                if not own:
                    found[query] = {}
                    continue
                where = In(Field(("id",), built_in=True), own)
            hits = index.search_many(encoded[number], top_k, where=where, **options)[0]
            found[query] = strictly_falling((hit.id, hit.score) for hit in hits)
        return found

    # -- within ------------------------------------------------------------------------------------------------

    def _kept(self) -> dict[str, Any]:
        return {"index": True, "codec": self.codec}

    def _opened(self, place: Path) -> SmartIndex:
        index = SmartIndex.open(place, self.smart)
        found = index.info()["codec_wanted"]
        if found != self.codec:
            index.close()
            raise IndexMismatchError(
                f"index {str(place)!r}: found codec {found!r}, expected {self.codec!r}: name another folder "
                "or that codec"
            )
        return index

    def _add(self, index: SmartIndex, batch: list[tuple[str, Item]], encode_kwargs: Mapping[str, Any]) -> None:
        contents = {name: content_id(item) for name, item in batch}
        there = {one.id: one.metadata.get(_CONTENT) for one in index.store.get(list(contents), missing="skip")}
        fresh = [(name, item) for name, item in batch if there.get(name) != contents[name]]
        if not fresh:
            return
        encoded = self._encode("document", [item for _, item in fresh], encode_kwargs, None)
        # Only their texts: a measurement needs no thumbnails of pictures.
        documents = [NewDocument(name, Item(item.text), metadata={_CONTENT: contents[name]}) for name, item in fresh]
        index.add_encoded(documents, encoded, on_duplicate="replace")


def _batches(corpus: Any, task: str) -> Iterator[list[tuple[str, Item]]]:
    batch: list[tuple[str, Item]] = []
    weight = 0
    for name, item in zip(corpus["id"], items_of(corpus, task), strict=True):
        batch.append((str(name), item))
        weight += _PICTURE if item.images else 1
        if weight >= _AT_ONCE:
            yield batch
            batch, weight = [], 0
    if batch:
        yield batch


def _holding(index: SmartIndex, ids: Sequence[str], task: str) -> SmartIndex:
    """The index, if it holds a task's documents and no others."""
    found, wanted = set(index.store.ids()), set(ids)
    if found != wanted:
        example = sorted(wanted - found)[:1] or sorted(found - wanted)[:1]
        raise DatasetError(
            f"{task}: found {len(found)} documents in the index {str(index.path)!r}, expected the task's {len(wanted)} "
            f"under the task's ids, and no others ({len(wanted - found)} are missing, {len(found - wanted)} are "
            f"not the task's, such as {example[0]!r})"
        )
    return index


def _close(index: SmartIndex, folder: Path | None) -> None:
    index.close()
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
