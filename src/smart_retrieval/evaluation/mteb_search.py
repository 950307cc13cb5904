"""A SmartModel as mteb searches with it: hybrid scores, exhaustive or in two stages."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import tempfile
import warnings
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..core.hybrid import anchor_scores
from ..core.late import late_scores
from ..core.scoring import TokenWeights
from ..core.weights import IdfWeights
from ..embeddings import SmartEmbeddings
from ..errors import DatasetError, ScoringError, SmartWarning, UnsupportedModelError
from ..extras import require
from ..inputs import Item
from .evaluate import SCORES_AT_ONCE, setting_label
from .metrics import rank
from .provenance import limits, run_facts, versions
from .results import write_json

if TYPE_CHECKING:
    from ..model.smart_model import SmartModel


class SmartSearch:
    """What mteb calls a ``SearchProtocol``: ``mteb.evaluate(SmartSearch(model), tasks)``.

    Args:
        smart: The model.
        weights: ``"uniform"`` or ``"idf"`` query-token weights; the preset's when None.
        lambda_anchor: Weight of the anchors' cosine; the preset's when None.
        lambda_late: Weight of late interaction; the preset's when None.
        floor: Token similarities that count as none, None for no floor; the preset's when left out.
        candidates: Documents that the anchor picks for late interaction; None scores all of them.

    Raises:
        ScoringError: The weights are unknown, or there are fewer than one candidate.

    Example:
        >>> import mteb  # doctest: +SKIP
        >>> tasks = mteb.get_tasks(["VidoreDocVQARetrieval"])  # doctest: +SKIP
        >>> mteb.evaluate(SmartSearch(SmartModel("Qwen/Qwen3-VL-Embedding-2B")), tasks)  # doctest: +SKIP
    """

    def __init__(
        self,
        smart: SmartModel,
        *,
        weights: TokenWeights | Literal["preset"] = "preset",
        lambda_anchor: float | None = None,
        lambda_late: float | None = None,
        floor: float | Literal["preset"] | None = "preset",
        candidates: int | None = None,
    ) -> None:
        scoring = smart.preset.scoring.override(
            weights=weights, lambda_anchor=lambda_anchor, lambda_late=lambda_late, floor=floor
        )
        self.chosen = replace(smart.preset, scoring=scoring)
        if candidates is not None and candidates < 1:
            raise ScoringError(f"candidates: found {candidates}, expected 1 or more, or None for all documents")
        self.smart, self.candidates = smart, candidates
        self._ids: list[str] = []
        self._place_of: dict[str, int] = {}
        self._documents: SmartEmbeddings | None = None
        self._weights: IdfWeights | None = None
        self._clean_up: weakref.finalize[Any, Any] | None = None

    # -- mteb's interface --------------------------------------------------------------------------------------

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
        """Encode a corpus to disk; memory does not grow with it.

        Args:
            corpus: mteb's data set, with ``id`` and some of ``title``, ``text``, ``image``.
            task_metadata: The task; its name is used in messages.
            hf_split: Not used.
            hf_subset: Not used.
            encode_kwargs: ``batch_size`` and ``show_progress_bar`` are heeded.
            num_proc: Not used.
            **kwargs: Not used.

        Raises:
            DatasetError: A document is of a kind that is not read.
        """
        name = str(task_metadata.name)
        self._ids = [str(one) for one in corpus["id"]]
        self._place_of = {one: place for place, one in enumerate(self._ids)}
        if self._clean_up is not None:
            self._documents = None
            self._clean_up()
        folder = Path(tempfile.mkdtemp(prefix="smart-mteb-"))
        self._clean_up = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._documents = self._encode("document", items_of(corpus, name), encode_kwargs, folder / "documents")
        self._weights = IdfWeights.fit(self._documents) if self.chosen.scoring.weights == "idf" else None

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
        """Rank the corpus for each query.

        Equal scores are set apart by the smallest step there is, in the order of the document ids, so that a ranking
        is the same wherever it is judged.

        Args:
            queries: mteb's data set, with ``id`` and some of ``text``, ``image``, ``instruction``.
            task_metadata: The task.
            hf_split: Not used.
            hf_subset: Not used.
            top_k: Documents listed for each query.
            encode_kwargs: ``batch_size`` and ``show_progress_bar`` are heeded.
            top_ranked: For reranking: the documents of each query, which alone are ranked.
            num_proc: Not used.
            **kwargs: Not used.

        Returns:
            Scores by query and document.

        Raises:
            DatasetError: Nothing was indexed, or a query is of a kind that is not read.
        """
        if self._documents is None:
            raise DatasetError(f"{task_metadata.name}: found no indexed corpus, expected index() before search()")
        ids = [str(one) for one in queries["id"]]
        encoded = self._encode("query", items_of(queries, str(task_metadata.name)), encode_kwargs, None)
        allowed = None if top_ranked is None else self._places(top_ranked, ids)
        found: dict[str, dict[str, float]] = {}
        step = max(1, SCORES_AT_ONCE // max(1, len(self._ids)))
        for start in range(0, len(ids), step):
            part = encoded[start : start + step]
            scores = self._scores(part, None if allowed is None else allowed[start : start + step])
            for query, row, names in zip(
                ids[start : start + step], scores, rank(scores, self._ids, top_k), strict=True
            ):
                found[query] = strictly_falling((name, row[self._place_of[name]]) for name in names)
        return found

    @property
    def mteb_model_meta(self) -> Any:
        """What mteb writes beside the results: sizes, and every setting that differs from run to run."""
        meta: Any = require("mteb.models.model_meta", "mteb")
        identity = self.smart.identity()
        parameters = list(self.smart.backbone.model.parameters())
        name = str(identity["name"])
        short = Path(name).name or name
        kinds = sorted(self.smart.modalities)
        return meta.ModelMeta(
            loader=None,
            name=name if name.count("/") == 1 and not name.startswith((".", "/", "~")) else f"smart-retrieval/{short}",
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
            modalities=kinds,
            model_type=["dense", "late-interaction"],
            experiment_kwargs={
                **self.chosen.scoring.to_dict(),
                "layers": ",".join(str(layer) for layer in self.chosen.readout.layers),
                "token_filter": self.chosen.readout.token_filter,
                "candidates": self.candidates,
                **self._kept(),
            },
        )

    def _kept(self) -> dict[str, Any]:
        """How token vectors are kept, for what is written beside results: as they are."""
        return {}

    # -- within ------------------------------------------------------------------------------------------------

    def _encode(
        self, side: str, items: Iterable[Item], encode_kwargs: Mapping[str, Any], out: Path | None
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

    def _places(self, top_ranked: Mapping[str, Sequence[str]], ids: Sequence[str]) -> list[NDArray[np.int64]]:
        known = self._place_of
        return [
            np.array(sorted({known[str(one)] for one in top_ranked.get(query, ()) if str(one) in known}), np.int64)
            for query in ids
        ]

    def _scores(self, queries: SmartEmbeddings, allowed: Sequence[NDArray[np.int64]] | None) -> NDArray[Any]:
        """``[Nq, Nd]``; minus infinity for documents that are not to be listed."""
        documents = self._documents
        if documents is None:
            raise DatasetError("found no indexed corpus")
        anchor = anchor_scores(queries, documents)
        limit = self.candidates
        if allowed is None and (limit is None or limit >= len(documents) or not self.chosen.scoring.lambda_late):
            late = (
                late_scores(queries, documents, weights=self._weights, floor=self.chosen.scoring.floor)
                if self.chosen.scoring.lambda_late
                else anchor
            )
            return self.chosen.scoring.combine(anchor, late)
        scores = np.full(anchor.shape, -np.inf, np.float32)
        for row in range(len(queries)):
            places = np.arange(len(documents)) if allowed is None else allowed[row]
            if limit is not None and limit < len(places):
                own = anchor[row, places]
                places = np.sort(places[np.lexsort((places, -own))[:limit]])
            if not len(places):
                continue
            late = late_scores(queries[row], documents[places], weights=self._weights, floor=self.chosen.scoring.floor)
            scores[row, places] = self.chosen.scoring.combine(anchor[row : row + 1, places], late)[0]
        return scores


def strictly_falling(ranked: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Scores of ranked documents; trec_eval keeps them as float32 and would order equal ones by its own rule.

    Args:
        ranked: Documents and their scores, best first; those from the first minus infinity on are left out.

    Example:
        >>> strictly_falling([("a", 0.5), ("b", 0.5), ("c", float("-inf"))])
        {'a': 0.5, 'b': 0.4999999701976776}
    """
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
    search: SmartSearch,
    out: str | Path,
    *,
    batch_size: int | None = None,
    progress: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
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
    tasks = [task for name in names for task in _tasks(mteb, name)]
    kwargs: dict[str, Any] = {"show_progress_bar": progress}
    if batch_size is not None:
        kwargs["batch_size"] = batch_size
    found: dict[str, Any] = {}
    for task in tasks:
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
    meta = search.mteb_model_meta
    result = {"benchmark": "mteb", "model": meta.name, "out": str(out), "tasks": found, **_about(search)}
    kept = json.dumps([meta.revision, meta.experiment_kwargs, sorted(found)], default=str)
    digest = hashlib.sha256(kept.encode()).hexdigest()[:12]
    write_json(result, Path(out) / "smart" / f"{meta.model_name_as_path()}-{digest}.json")
    return result


def _without_nan(value: Any) -> Any:
    """None for what could not be computed: NaN is no JSON."""
    if isinstance(value, dict):
        return {key: _without_nan(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _about(search: SmartSearch) -> dict[str, Any]:
    """What was measured with what, in the words of `evaluate.about`; mteb's own files say none of it but a name."""
    smart, chosen = search.smart, search.chosen
    identity = smart.identity()
    return {
        "preset": setting_label(chosen, smart.preset),
        "revision": identity.get("revision"),
        "weights_fingerprint": identity.get("fingerprint"),
        "readout": chosen.readout.to_dict(),
        "scoring": chosen.scoring.to_dict(),
        "settings": search.mteb_model_meta.experiment_kwargs,
        "prompts": {task: smart.backbone.prompt_for(task, None, None) or "" for task in ("query", "document")},
        "limits": limits(smart),
        "versions": versions(["mteb"]),
        "run": run_facts(),
    }


def _tasks(mteb: Any, name: str) -> list[Any]:
    try:
        return [mteb.get_task(name)]
    except KeyError as error:
        try:
            return list(mteb.get_benchmark(name).tasks)
        except KeyError:
            reason = " ".join(str(error.args[0] if error.args else error).split())[:300]
            raise DatasetError(f"found no mteb task or benchmark {name!r}: {reason}") from error
