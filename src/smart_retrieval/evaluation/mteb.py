"""mteb's tasks: a SmartModel, or a SmartIndex over it, as mteb searches with it."""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
import tempfile
import warnings
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar, Unpack

import numpy as np

from ..core.hybrid import anchor_scores
from ..core.late import late_scores
from ..core.scoring import Scoring
from ..embeddings import SmartEmbeddings
from ..errors import DatasetError, IndexMismatchError, ScoringError, SmartWarning, UnsupportedModelError
from ..extras import require
from ..files import settled
from ..index.ingest.new_documents import NewDocument, content_id
from ..index.search.searcher import DEFAULT_CANDIDATES
from ..index.smart_index import DEFAULT_CODEC, SmartIndex
from ..index.store.where import Field, In
from ..inputs import Item
from ..types import Array
from .evaluate import SCORES_AT_ONCE, ScoringFields, prompts_of, setting_label
from .metrics import rank
from .provenance import limits, run_facts, versions
from .results import MtebResult, MtebTask, write_json

if TYPE_CHECKING:
    from ..model.smart_model import SmartModel

Kept = TypeVar("Kept")

#: For reranking: the documents of each query, which alone are ranked.
TopRanked: TypeAlias = Mapping[str, Sequence[str]]

_AT_ONCE = 1024  # texts put into an index at a time; a picture counts as sixteen
_PICTURE = 16

_CONTENT = "content"  # key of the metadata of an index under which a document's content is known again


class Search(ABC, Generic[Kept]):
    """What mteb calls a ``SearchProtocol``; how a corpus is kept and ranked is up to the subclasses."""

    def __init__(
        self,
        smart: SmartModel,
        *,
        candidates: int | None = None,
        scoring: Scoring | None = None,
        **fields: Unpack[ScoringFields],
    ) -> None:
        self.chosen = replace(smart.preset, scoring=(scoring or smart.preset.scoring).override(**fields))
        if candidates is not None and candidates < 1:
            raise ScoringError(f"candidates: found {candidates}, expected 1 or more, or None for all documents")
        self.smart, self.candidates = smart, candidates
        self._ids: list[str] = []
        self._kept: Kept | None = None
        self._clean_up: weakref.finalize[Any, Any] | None = None

    def index(
        self,
        corpus: Any,
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        encode_kwargs: Mapping[str, Any],
        **kwargs: Any,
    ) -> None:
        """Encode a corpus to disk, or put it into an index; memory does not grow with it.

        Of ``encode_kwargs``, ``batch_size`` and ``show_progress_bar`` are used. The names of task, subset and split
        make up the name of an index's folder.

        Raises:
            DatasetError: A document is of a kind that is not read, or a given index holds other documents.
            IndexMismatchError: The index in the folder has another codec, or is another model's.
        """
        self._kept = None
        if self._clean_up is not None:
            self._clean_up()
            self._clean_up = None
        self._ids = [str(one) for one in corpus["id"]]
        name = str(task_metadata.name)
        folder_name = re.sub(r"[^\w.-]+", "_", f"{name}-{hf_subset}-{hf_split}")
        self._kept = self._keep(items_of(corpus, name), name, folder_name, encode_kwargs)

    def search(
        self,
        queries: Any,
        *,
        task_metadata: Any,
        top_k: int,
        encode_kwargs: Mapping[str, Any],
        top_ranked: Mapping[str, Sequence[str]] | None = None,
        **kwargs: Any,
    ) -> dict[str, dict[str, float]]:
        """Rank the corpus, or for reranking the documents in ``top_ranked``, for each query.

        Equal scores are set apart by the smallest step there is, in the order of the document ids, so that a ranking
        is the same wherever it is judged. In an index no more documents are listed than there are candidates.

        Returns:
            Scores by query and document.

        Raises:
            DatasetError: Nothing was indexed, or a query is of a kind that is not read.
        """
        name = str(task_metadata.name)
        if self._kept is None:
            raise DatasetError(f"{name}: found no indexed corpus, expected index() before search()")
        ids = [str(one) for one in queries["id"]]
        encoded = self._encode("query", items_of(queries, name), encode_kwargs)
        only = None if top_ranked is None else {one: [str(own) for own in top_ranked.get(one, ())] for one in ids}
        return {query: strictly_falling(ranked) for query, ranked in self._rank(self._kept, ids, encoded, top_k, only)}

    @property
    def mteb_model_meta(self) -> Any:
        """What mteb writes beside the results: sizes, and every setting that differs from run to run."""
        meta: Any = require("mteb.models.model_meta", "mteb")
        identity = self.smart.identity()
        parameters = list(self.smart.backbone.model.parameters())
        name = str(identity["name"])
        known = name.count("/") == 1 and not name.startswith((".", "/", "~"))
        return meta.ModelMeta(
            loader=None,
            name=name if known else f"smart-retrieval/{Path(name).name or name}",
            revision=str(identity.get("revision") or identity.get("fingerprint") or "unknown"),
            release_date=None,
            languages=None,
            n_parameters=sum(one.numel() for one in parameters),
            memory_usage_mb=sum(one.numel() * one.element_size() for one in parameters) / 2**20,
            max_tokens=self.smart.max_length,
            embed_dim=self.smart.anchor_dim,
            license=None,
            open_weights=True,
            public_training_code=None,
            public_training_data=None,
            framework=["Sentence Transformers", "PyTorch"],
            similarity_fn_name=meta.ScoringFunction.CUSTOM,
            use_instructions=bool(self.smart.prompts),
            training_datasets=None,
            modalities=sorted(self.smart.modalities),
            model_type=["dense", "late-interaction"],
            experiment_kwargs=self._experiment(),
        )

    def _experiment(self) -> dict[str, Any]:
        """Every setting that differs from run to run."""
        return {
            **self.chosen.scoring.to_dict(),
            "layers": ",".join(map(str, self.chosen.readout.layers)),
            "token_filter": self.chosen.readout.token_filter,
            "candidates": self.candidates,
        }

    @abstractmethod
    def _keep(self, items: Iterable[Item], task: str, folder_name: str, encode_kwargs: Mapping[str, Any]) -> Kept:
        """Encode a corpus, and keep it; `_clean_up` is set to what removes it."""

    @abstractmethod
    def _rank(
        self, kept: Kept, ids: Sequence[str], queries: SmartEmbeddings, top_k: int, only: TopRanked | None
    ) -> Iterator[tuple[str, Iterable[tuple[str, float]]]]:
        """The documents of each query with their scores, best first."""

    def _encode(
        self, side: str, items: Iterable[Item], encode_kwargs: Mapping[str, Any], out: Path | None = None
    ) -> SmartEmbeddings:
        encode = self.smart.encode_query if side == "query" else self.smart.encode_document
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SmartWarning)
            return encode(
                items,
                batch_size=encode_kwargs.get("batch_size"),
                show_progress=bool(encode_kwargs.get("show_progress_bar", False)),
                out=out,
            )


class SmartSearch(Search[SmartEmbeddings]):
    """A model as mteb searches with it: ``mteb.evaluate(SmartSearch(model), tasks)``.

    Scoring is exhaustive, over encodings kept on disk.

    Args:
        smart: The model.
        candidates: Documents that the anchor picks for late interaction; None scores all of them.
        scoring: How documents are scored; the preset's when None.
        **fields: Single fields of the scoring: ``weights``, ``lambda_anchor``, ``lambda_late``, ``floor``.

    Raises:
        ScoringError: The weights are unknown, or there are fewer than one candidate.

    Example:
        >>> import mteb  # doctest: +SKIP
        >>> tasks = mteb.get_tasks(["VidoreDocVQARetrieval"])  # doctest: +SKIP
        >>> mteb.evaluate(SmartSearch(SmartModel("Qwen/Qwen3-VL-Embedding-2B")), tasks)  # doctest: +SKIP
    """

    def _keep(
        self, items: Iterable[Item], task: str, folder_name: str, encode_kwargs: Mapping[str, Any]
    ) -> SmartEmbeddings:
        folder = Path(tempfile.mkdtemp(prefix="smart-mteb-"))
        self._clean_up = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return self._encode("document", items, encode_kwargs, folder / "documents")

    def _rank(
        self, kept: SmartEmbeddings, ids: Sequence[str], queries: SmartEmbeddings, top_k: int, only: TopRanked | None
    ) -> Iterator[tuple[str, Iterable[tuple[str, float]]]]:
        scoring = self.chosen.scoring.fitted(self.smart.calibrator.statistics(kept))
        place_of = {one: place for place, one in enumerate(self._ids)}
        step = max(1, SCORES_AT_ONCE // max(1, len(self._ids)))
        for start in range(0, len(ids), step):
            names = ids[start : start + step]
            allowed = None
            if only is not None:
                allowed = [
                    np.array(sorted({place_of[one] for one in only[name] if one in place_of}), int) for name in names
                ]
            scores = self._scores(queries[start : start + step], kept, scoring, allowed)
            for name, row, ranked in zip(names, scores, rank(scores, self._ids, top_k), strict=True):
                yield name, [(one, row[place_of[one]]) for one in ranked]

    def _scores(
        self, queries: SmartEmbeddings, documents: SmartEmbeddings, scoring: Scoring, allowed: Sequence[Array] | None
    ) -> Array:
        """``[Nq, Nd]``; minus infinity for documents that are not to be listed."""
        weights, floor, limit = scoring.query_weights, scoring.late_floor, self.candidates
        anchor = anchor_scores(queries, documents)
        if allowed is None and not scoring.lambda_late:
            return scoring.combine(anchor, anchor)
        if allowed is None and (limit is None or limit >= len(documents)):
            return scoring.combine(anchor, late_scores(queries, documents, weights=weights, floor=floor))
        scores = np.full(anchor.shape, -np.inf, np.float32)
        for row in range(len(queries)):
            places = np.arange(len(documents)) if allowed is None else allowed[row]
            if limit is not None and limit < len(places):
                places = np.sort(places[np.lexsort((places, -anchor[row, places]))[:limit]])
            if len(places):
                late = late_scores(queries[row], documents[places], weights=weights, floor=floor)
                scores[row, places] = scoring.combine(anchor[row : row + 1, places], late)[0]
        return scores


class IndexSearch(Search[SmartIndex]):
    """A `SmartIndex` as mteb searches with it: ``mteb.evaluate(IndexSearch(model), tasks)``.

    Each task's corpus gets an index of its own, as a user would make it, and is searched in two stages.

    Args:
        source: The model; or an index that holds the documents of a task already, under the task's own ids.
        codec: How token vectors are kept, see `index.codec.parse_codec`. Of a given index, its own.
        folder: Where the indexes are kept, a folder for each task; documents that are there and have not changed are
            not encoded again. None for a temporary one, which is removed in the end.
        candidates: Documents that the anchor picks for late interaction; None scores all of them. Small corpora are
            scored whole, as the index always does.
        scoring: As for `SmartSearch`.
        **fields: As for `SmartSearch`.

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
        scoring: Scoring | None = None,
        **fields: Unpack[ScoringFields],
    ) -> None:
        self._given = source if isinstance(source, SmartIndex) else None
        smart = source.model if isinstance(source, SmartIndex) else source
        super().__init__(smart, candidates=candidates, scoring=scoring, **fields)
        self.codec = codec if self._given is None else str(self._given.info()["codec_wanted"])
        self._folder = None if folder is None else settled(folder)

    def _experiment(self) -> dict[str, Any]:
        return {**super()._experiment(), "index": True, "codec": self.codec}

    def _keep(self, items: Iterable[Item], task: str, folder_name: str, encode_kwargs: Mapping[str, Any]) -> SmartIndex:
        if self._given is not None:
            _check_documents(self._given, set(self._ids), task)
            return self._given
        root = Path(tempfile.mkdtemp(prefix="smart-mteb-")) if self._folder is None else self._folder
        index = self._open(root / folder_name)
        self._clean_up = weakref.finalize(self, _close, index, root if self._folder is None else None)
        for batch in _batches(self._ids, items):
            self._add(index, batch, encode_kwargs)
        if gone := set(index.store.ids()) - set(self._ids):
            index.delete(sorted(gone))
        about = index.info()
        if about["codec"] != about["codec_wanted"]:
            index.optimize()  # a small index would stay uncompressed, and its results would say nothing of the codec
        return index

    def _open(self, place: Path) -> SmartIndex:
        if not place.is_dir():
            return SmartIndex.create(place, self.smart, codec=self.codec, lexical=False)
        index = SmartIndex.open(place, self.smart)
        if (found := index.info()["codec_wanted"]) != self.codec:
            index.close()
            raise IndexMismatchError(
                f"index {str(place)!r}: found codec {found!r}, expected {self.codec!r}: name another folder "
                "or that codec"
            )
        return index

    def _add(self, index: SmartIndex, batch: Mapping[str, Item], encode_kwargs: Mapping[str, Any]) -> None:
        contents = {name: content_id(item) for name, item in batch.items()}
        there = {one.id: one.metadata.get(_CONTENT) for one in index.store.get(list(batch), missing="skip")}
        fresh = {name: item for name, item in batch.items() if there.get(name) != contents[name]}
        if fresh:
            # Only their texts: a measurement needs no thumbnails of pictures.
            documents = [
                NewDocument(name, Item(item.text), metadata={_CONTENT: contents[name]}) for name, item in fresh.items()
            ]
            encoded = self._encode("document", list(fresh.values()), encode_kwargs)
            index.add_encoded(documents, encoded, on_duplicate="replace")

    def _rank(
        self, kept: SmartIndex, ids: Sequence[str], queries: SmartEmbeddings, top_k: int, only: TopRanked | None
    ) -> Iterator[tuple[str, Iterable[tuple[str, float]]]]:
        limit = self.candidates
        options: dict[str, Any] = {"scoring": self.chosen.scoring, "exact": limit is None}
        if limit is not None:
            # The index scores as many as it is to list, if these are more than the candidates.
            options["candidates"], top_k = limit, min(top_k, limit)
        for number, query in enumerate(ids):
            where: Any = None
            if only is not None:
                if not only[query]:
                    yield query, ()
                    continue
                where = In(Field(("id",), built_in=True), tuple(only[query]))
            hits = kept.search_many(queries[number], top_k, where=where, **options)[0]
            yield query, ((hit.id, hit.score) for hit in hits)


def _batches(ids: Sequence[str], items: Iterable[Item]) -> Iterator[dict[str, Item]]:
    batch: dict[str, Item] = {}
    weight = 0
    for name, item in zip(ids, items, strict=True):
        batch[name] = item
        weight += _PICTURE if item.images else 1
        if weight >= _AT_ONCE:
            yield batch
            batch, weight = {}, 0
    if batch:
        yield batch


def _check_documents(index: SmartIndex, wanted: set[str], task: str) -> None:
    """Refuse an index that does not hold exactly a task's documents."""
    found = set(index.store.ids())
    if found != wanted:
        example = min(wanted - found or found - wanted)
        raise DatasetError(
            f"{task}: found {len(found)} documents in the index {str(index.path)!r}, expected the task's {len(wanted)} "
            f"under the task's ids, and no others ({len(wanted - found)} are missing, {len(found - wanted)} are "
            f"not the task's, such as {example!r})"
        )


def _close(index: SmartIndex, folder: Path | None) -> None:
    index.close()
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


def strictly_falling(ranked: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Scores of documents ranked best first, up to the first minus infinity; trec_eval would reorder equal float32s."""
    found: dict[str, float] = {}
    last = np.float32(np.inf)
    for name, given in ranked:
        score = np.float32(given)
        if np.isneginf(score):
            break
        if score >= last:
            score = np.nextafter(last, np.float32(-np.inf))
        found[name], last = float(score), score
    return found


def items_of(rows: Any, task: str) -> Iterator[Item]:
    """Rows of a data set of mteb as inputs, read one at a time."""
    columns = set(rows.column_names)
    if unknown := columns & {"audio", "video"}:
        raise UnsupportedModelError(f"{task}: found {', '.join(sorted(unknown))}, expected text and images")
    if not columns & {"text", "image"}:
        raise DatasetError(f"{task}: found columns {sorted(columns)}, expected text or image")
    for row in rows:
        parts = (_text(row.get("title")), _text(row.get("text")))
        text = " ".join(stripped for part in parts if (stripped := part.strip()))
        image = row.get("image")
        yield Item(text, () if image is None else (image,), instruction=row.get("instruction") or None)


def _text(value: Any) -> str:
    """A text; a conversation's turns one below the other."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "\n".join(str(turn.get("content", "")) if isinstance(turn, Mapping) else str(turn) for turn in value)
    return "" if value is None else str(value)


def evaluate_mteb(
    names: Sequence[str],
    search: SmartSearch | IndexSearch,
    out: str | Path,
    *,
    batch_size: int | None = None,
    progress: bool = False,
    overwrite: bool = False,
) -> MtebResult:
    """Evaluate on mteb's tasks by name.

    Args:
        names: Names of retrieval tasks, or of benchmarks such as ``"ViDoRe(v2)"``.
        search: The model.
        out: Where mteb keeps results, in the layout that can be submitted.
        batch_size: Most inputs in one forward pass.
        progress: Draw bars on stderr.
        overwrite: Run tasks again that have results there.

    Returns:
        JSON-able: ``tasks`` (main score, its metric, the data's revision and all scores of each), and what was measured
        with what. The same is written to ``smart/`` in `out`, beside mteb's own files, for ``smart report``.

    Raises:
        DatasetError: A task is unknown, or its data cannot be had.
        MissingExtraError: mteb is not installed.
        SmartError: `out` cannot be written.
    """
    mteb: Any = require("mteb", "mteb")
    kwargs: dict[str, Any] = {"show_progress_bar": progress}
    if batch_size is not None:
        kwargs["batch_size"] = batch_size
    found: dict[str, MtebTask] = {}
    for task in [task for name in names for task in _tasks(mteb, name)]:
        try:
            result = mteb.evaluate(
                search,
                task,
                cache=mteb.ResultCache(cache_path=str(out)),
                encode_kwargs=kwargs,
                overwrite_strategy="always" if overwrite else "only-missing",
                show_progress_bar=progress,
            )
        except (OSError, ConnectionError, ValueError) as error:
            reason = " ".join(str(error).split())[:300]
            raise DatasetError(
                f"task {task.metadata.name}: cannot be run ({type(error).__name__}: {reason})"
            ) from error
        own = result.task_results[0]
        found[own.task_name] = {
            "main_score": float(own.get_score()),
            "metric": str(task.metadata.main_score),
            "revision": own.dataset_revision,
            "scores": _without_nan(own.scores),
        }
    smart, chosen, meta = search.smart, search.chosen, search.mteb_model_meta
    identity = smart.identity()
    # mteb's own files say nothing of all this but the model's name.
    outcome: MtebResult = {
        "benchmark": "mteb",
        "model": meta.name,
        "out": str(out),
        "tasks": found,
        "preset": setting_label(chosen, smart.preset),
        "revision": identity.get("revision"),
        "weights_fingerprint": identity.get("fingerprint"),
        "readout": chosen.readout.to_dict(),
        "scoring": chosen.scoring.to_dict(),
        "settings": meta.experiment_kwargs,
        "prompts": prompts_of(smart),
        "limits": limits(smart),
        "versions": versions(["mteb"]),
        "run": run_facts(),
    }
    kept = json.dumps([meta.revision, meta.experiment_kwargs, sorted(found)], default=str)
    digest = hashlib.sha256(kept.encode()).hexdigest()[:12]
    write_json(outcome, Path(out) / "smart" / f"{meta.model_name_as_path()}-{digest}.json")
    return outcome


def _without_nan(value: Any) -> Any:
    """None for what could not be computed: NaN is no JSON."""
    if isinstance(value, dict):
        return {key: _without_nan(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _tasks(mteb: Any, name: str) -> list[Any]:
    try:
        return [mteb.get_task(name)]
    except KeyError as error:
        try:
            return list(mteb.get_benchmark(name).tasks)
        except KeyError:
            reason = " ".join(str(error.args[0] if error.args else error).split())[:300]
            raise DatasetError(f"found no mteb task or benchmark {name!r}: {reason}") from error
