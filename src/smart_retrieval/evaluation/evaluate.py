"""Measure a model on a BEIR folder: anchor, late and hybrid ranking side by side."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

import numpy as np

from ..core.collection import CollectionStatistics
from ..core.hybrid import anchor_scores
from ..core.late import late_scores
from ..core.presets import Preset, get_preset
from ..core.scoring import CALIBRATED, LateWeight, Scoring, TokenWeights
from ..core.vectors import unit_rows
from ..errors import ReadoutError
from ..extras import require
from ..index.rerank import query_side, rerank_scores, reranker_of
from ..index.search.boosts import boost_all
from ..index.search.options import RERANK_DEPTH, Refinements, Reranker, RerankWith, check_weight
from ..index.search.searcher import lexical_scores
from ..index.store.lexical import Bm25
from ..inputs import item_of
from ..types import Array
from .beir import BeirDataset, load_beir
from .cache import Encoding, EncodingCache, encode_dataset
from .metrics import DEPTH, METRICS, mean_metrics, per_query_metrics
from .provenance import limits, run_facts, versions
from .results import About, BeirResult, ComparisonFacts
from .significance import paired_comparison

if TYPE_CHECKING:
    from ..model.options import ModelOptions
    from ..model.smart_model import SmartModel

SYSTEMS = ("anchor", "late", "hybrid")  #: the systems compared, in the order of the report
GAIN_METRIC: Literal["ndcg@10"] = "ndcg@10"  #: the metric that the gain is stated and tested in

#: Scores held at once, of each system: 64 MiB in float32, however many queries and documents there are.
SCORES_AT_ONCE = 1 << 24


class ScoringFields(TypedDict, total=False):
    """Fields of a `Scoring`; what is left out stays.

    Args:
        weights: ``"uniform"`` or ``"idf"`` query-token weights.
        lambda_anchor: Weight of the anchors' cosine.
        lambda_late: Weight of the mean MaxSim.
        floor: Token similarities that count as none; None for no floor.
    """

    weights: TokenWeights | Literal["preset"]
    lambda_anchor: float | None
    lambda_late: LateWeight | None
    floor: float | Literal["preset", "calibrated"] | None


class Settings(ScoringFields, total=False):
    """A model, and how it reads and scores: these and `ScoringFields`; what is left out is the preset's.

    Args:
        model: Name or path of a model (``"minilm"`` when left out), or a loaded one, whose readout is used as it is.
        preset: Where the settings start from; None takes the model's own (``"default"``, or the readout saved in the
            model's folder with the scoring of ``"default"``).
        layers: Hidden states to read.
        mix: How several layers become one vector.
        token_filter: Which positions are kept.
        scoring: The scoring as a whole; single fields replace its own.
        model_options: Further arguments of `SmartModel` for a model given by name.
    """

    model: str | Path | SmartModel
    preset: str | None
    layers: Sequence[int] | None
    mix: str | None
    token_filter: str | None
    scoring: Scoring | None
    model_options: ModelOptions | None


class EvalOptions(Settings, total=False):
    """What `evaluate_beir`, `compare_beir` and `evaluate_codecs` take beside the folder: `Settings`, and these.

    Args:
        split: Which qrels file to judge by, ``"test"`` when left out.
        cache: Where encodings are kept and looked for. With None everything is encoded, and held in memory.
        batch_size: Most texts in one forward pass; the model's default when None.
        progress: Draw bars on stderr; None draws them on a terminal only. False when left out.
    """

    split: str
    cache: EncodingCache | None
    batch_size: int | None
    progress: bool | None


@dataclass(frozen=True)
class Collection:
    """A BEIR folder, encoded by a model, with every setting settled.

    Attributes:
        data: Texts and judgments.
        smart: The model.
        chosen: Readout and scoring in use.
        documents: The encoded documents.
        queries: The encoded queries.
    """

    data: BeirDataset
    smart: SmartModel
    chosen: Preset
    documents: Encoding
    queries: Encoding

    @cached_property
    def statistics(self) -> CollectionStatistics:
        """IDF weights and calibration of these documents."""
        return self.smart.calibrator.statistics(self.documents.embeddings)

    @cached_property
    def scoring(self) -> Scoring:
        """The scoring in use, with the IDF table of these documents where it takes one."""
        return self.chosen.scoring.fitted(self.statistics)

    @property
    def calibration(self) -> dict[str, Any] | None:
        """What these documents were calibrated to, and the late weight and floor in use; None where none was used."""
        if CALIBRATED not in (self.chosen.scoring.lambda_late, self.chosen.scoring.floor):
            return None
        used = {"lambda_late": self.scoring.late_weight, "floor": self.scoring.late_floor}
        return {**self.statistics.calibration.to_dict(), **used}

    def query_parts(self) -> Iterator[slice]:
        """Slices of the queries whose scores of all documents fit into memory."""
        step = max(1, SCORES_AT_ONCE // len(self.data.texts))
        for start in range(0, len(self.data.queries), step):
            yield slice(start, start + step)

    def about(self, per_query: Mapping[str, Mapping[str, Array]] | None = None) -> About:
        """What was measured with what, for every result; and each system's metrics by query, if given."""
        data, smart, report = self.data, self.smart, self.documents.embeddings.report
        identity, seconds = smart.identity(), self.documents.seconds
        # Texts may stay the same where grades have changed.
        judgments = hashlib.sha256(json.dumps(data.qrels, sort_keys=True).encode()).hexdigest()
        about: About = {
            "dataset": {
                "name": data.name,
                "split": data.split,
                "n_documents": len(data.texts),
                "n_queries": len(data.queries),
                "n_judgments": sum(len(grades) for grades in data.qrels.values()),
                "fingerprint": data.fingerprint,
                "judgments_fingerprint": judgments,
                "warnings": list(data.warnings),
            },
            "model": str(identity["name"]),
            "preset": setting_label(self.chosen, smart.preset),
            "readout": self.chosen.readout.to_dict(),
            "scoring": self.chosen.scoring.to_dict(),
            "prompts": prompts_of(smart),
            "limits": limits(smart),
            "encode": {
                "seconds": seconds,
                "cached": seconds is None,
                "documents_per_second": len(self.documents.embeddings) / seconds if seconds else None,
                "truncated_documents": report.truncated,
                "truncated_queries": self.queries.embeddings.report.truncated,
                "max_length": smart.max_length,
                "revision": identity.get("revision"),
                "weights_fingerprint": identity.get("fingerprint"),
                "device": smart.device,
            },
            "versions": versions(),
            "run": run_facts(),
        }
        if per_query is not None:
            values = {name: {str(one): own[one].tolist() for one in METRICS} for name, own in per_query.items()}
            about["per_query"] = {"ids": list(data.query_ids), "values": values}
        return about


def evaluate_beir(
    folder: str | Path,
    *,
    per_query: bool = False,
    lexical_weight: float = 0.0,
    feedback: float = 0.0,
    neighbours: float = 0.0,
    rerank: RerankWith = None,
    rerank_depth: int = RERANK_DEPTH,
    **options: Unpack[EvalOptions],
) -> BeirResult:
    """Rank every document for every query by the anchor, by the tokens and by both, and judge the rankings.

    Scoring is exhaustive and exact; ties are broken by document id; the first 1000 documents are judged. A document
    with the query's id is not ranked, see `BeirDataset.identical`. The late row uses the same query-token weights as
    the hybrid.

    Args:
        folder: A BEIR-layout folder, see `load_beir`.
        per_query: Keep every query's metrics, for paired tests between results later.
        lexical_weight: As for :meth:`SmartIndex.search <smart_retrieval.SmartIndex.search>`, and so the next four. With
            any of them there is one more row, whose name says which; the hybrid's stays the preset's.
        feedback: Weight of the likeness to the best hit.
        neighbours: Weight of the mean score of a document's three nearest among the hybrid's first 400.
        rerank: What orders the first documents anew, reading the texts.
        rerank_depth: How many it reads.
        **options: Model, preset and what is changed of it, split, cache, batch size, progress: see `EvalOptions`.

    Returns:
        JSON-able: ``dataset``, ``model``, ``preset``, ``rows`` (one for each of `SYSTEMS`: metrics between 0 and 1,
        bytes of the uncompressed vectors a document, milliseconds to score all documents for a query), ``gain`` (the
        hybrid's `Comparison` with the anchor in nDCG@10; under ``late`` that of the late row; under ``refined`` that of
        a row with options, with the hybrid), ``refinements`` (these options), ``calibration`` (what ``"calibrated"``
        came to on these documents), ``readout``, ``scoring``, ``prompts`` (as put before queries and documents),
        ``limits``, ``encode``, ``versions``, ``run`` (date, commit, machine, command), and ``per_query`` where wanted
        (``ids``, and ``values`` by system and metric).

    Raises:
        DatasetError: The folder is missing, malformed or has nothing to evaluate.
        ReadoutError: Layers, mix or filter are given for a loaded model, or do not fit it.
        ScoringError: The preset or the weights are unknown, or a lambda is not finite.
        MissingExtraError: pytrec_eval is not installed.
        SmartError: The model cannot be loaded or run; the cache cannot be written.

    Example:
        >>> result = evaluate_beir("cranfield", preset="paper")  # doctest: +SKIP
        >>> [round(row["ndcg@10"], 2) for row in result["rows"]]  # doctest: +SKIP
        [0.43, 0.44, 0.45]

    Source:
        arXiv 2605.24938 for what is compared; BEIR's layout and trec_eval's metrics for how.
    """
    refinements = Refinements(feedback, neighbours, rerank, rerank_depth)
    check_weight("lexical_weight", lexical_weight)
    reranker = reranker_of(rerank)  # what cannot be loaded fails before an hour of encoding is spent
    collection = load_collection(folder, **options)
    rankings, milliseconds = _rank_all(collection, lexical_weight, refinements, reranker)
    judged = {system: per_query_metrics(collection.data.qrels, ranked) for system, ranked in rankings.items()}

    def compared(system: str, base: str) -> ComparisonFacts:
        return paired_comparison(judged[base][GAIN_METRIC], judged[system][GAIN_METRIC]).to_dict()

    refined = next((system for system in judged if system not in SYSTEMS), None)
    documents = collection.documents.embeddings
    # Uncompressed vectors; ids, offsets and roles are not counted.
    anchor_bytes, token_bytes = (
        array.nbytes / len(documents) for array in (documents.anchors, documents.token_vectors)
    )
    sizes = {"anchor": anchor_bytes, "late": token_bytes}
    about = collection.about(judged if per_query else None)
    return {
        "dataset": about["dataset"],
        "model": about["model"],
        "preset": about["preset"],
        "rows": [
            {
                "name": system,
                **mean_metrics(judged[system]),
                "bytes_per_document": sizes.get(system, anchor_bytes + token_bytes),
                "score_ms_per_query": milliseconds[system],
            }
            for system in judged
        ],
        "gain": {
            "metric": GAIN_METRIC,
            **compared("hybrid", "anchor"),
            "late": compared("late", "anchor"),
            "refined": compared(refined, "hybrid") if refined is not None else None,
        },
        "refinements": _options(lexical_weight, refinements),
        "calibration": collection.calibration,
        **about,
    }


def load_collection(
    folder: str | Path,
    *,
    split: str = "test",
    cache: EncodingCache | None = None,
    batch_size: int | None = None,
    progress: bool | None = False,
    **settings: Unpack[Settings],
) -> Collection:
    """Read and encode a folder; options and errors as for `evaluate_beir`."""
    # What can fail fast fails before a model is loaded and an hour of encoding is spent.
    require("pytrec_eval", "eval")
    data = load_beir(folder, split)
    smart, chosen = prepare(**settings)
    encodings = encode_dataset(smart, data, cache, batch_size=batch_size, progress=progress)
    return Collection(data, smart, chosen, *encodings)


def prepare(
    model: str | Path | SmartModel = "minilm",
    preset: str | None = None,
    *,
    layers: Sequence[int] | None = None,
    mix: str | None = None,
    token_filter: str | None = None,
    scoring: Scoring | None = None,
    model_options: ModelOptions | None = None,
    **fields: Unpack[ScoringFields],
) -> tuple[SmartModel, Preset]:
    """The model, loaded if need be, and its preset with the given fields of readout and scoring replaced."""
    from ..model.smart_model import SmartModel

    changed: dict[str, Any] = {"layers": layers, "mix": mix, "token_filter": token_filter}
    changed = {name: value for name, value in changed.items() if value is not None}

    def scored(chosen: Preset, readout: Any) -> Preset:
        return replace(chosen, readout=readout, scoring=(scoring or chosen.scoring).override(**fields))

    base = get_preset("default" if preset is None else preset)
    scored(base, replace(base.readout, **changed))  # unknown weights or layers fail here, before a model is loaded
    if isinstance(model, SmartModel):
        if changed or model_options:
            given = sorted({**changed, **(model_options or {})})
            raise ReadoutError(
                f"found {', '.join(given)} beside a loaded model, whose readout is settled; expected the "
                "model's name, or a model loaded with that readout"
            )
        return model, scored(model.preset if preset is None else base, model.readout)
    options: ModelOptions = {"preset": base.name, **(model_options or {})}
    smart = SmartModel(model, **options)
    if changed or preset is not None:
        # Without a word about the readout, a model's folder that brings its own keeps it.
        smart = smart.with_readout(replace(smart.preset.readout, **changed))
    return smart, scored(smart.preset, smart.readout)


def setting_label(chosen: Preset, loaded: Preset) -> str:
    """Name the preset, and what differs from it: a figure must not pass for the preset's when it is not."""
    # The default differs between kinds of models; what this model was loaded with is its own.
    original = loaded if loaded.name == chosen.name else get_preset(chosen.name)
    before = {**original.readout.to_dict(), **original.scoring.to_dict()}
    after = {**chosen.readout.to_dict(), **chosen.scoring.to_dict()}
    changed = [f"{name}={after[name]}" for name in after if after[name] != before.get(name)]
    return f"{chosen.name} with {', '.join(changed)}" if changed else chosen.name


def prompts_of(smart: SmartModel) -> dict[str, str]:
    """The prompts that the model puts before queries and documents by default."""
    return {task: smart.backbone.prompt_for(task, None, None) or "" for task in ("query", "document")}


def _rank_all(
    collection: Collection, lexical_weight: float, refinements: Refinements, reranker: Reranker | None
) -> tuple[dict[str, dict[str, list[str]]], dict[str, float]]:
    """All documents ranked by each system: rankings by system and query, and milliseconds a query."""
    data, scoring = collection.data, collection.scoring
    queries, documents = collection.queries.embeddings, collection.documents.embeddings
    refined, units = _options(lexical_weight, refinements), unit_rows(documents.anchors)
    systems = (*SYSTEMS, refined_name(refined)) if refined else SYSTEMS
    bm25 = Bm25(data.texts) if lexical_weight else None
    rankings: dict[str, dict[str, list[str]]] = {system: {} for system in systems}
    seconds = dict.fromkeys(systems, 0.0)
    # Once without the clock: the first call maps files into memory and starts the threads of the linear algebra.
    late_scores(queries[:1], documents, weights=scoring.query_weights, floor=scoring.late_floor)
    anchor_scores(queries[:1], documents)
    for part in collection.query_parts():
        clock = [time.perf_counter()]
        by_anchor = anchor_scores(queries[part], documents)
        clock.append(time.perf_counter())
        by_late = late_scores(queries[part], documents, weights=scoring.query_weights, floor=scoring.late_floor)
        clock.append(time.perf_counter())
        by_both = scoring.combine(by_anchor, by_late)
        clock.append(time.perf_counter())
        for system, start, stop in zip(SYSTEMS, (0, 1, 0), (1, 2, 3), strict=True):
            seconds[system] += clock[stop] - clock[start]
        for system, scores in zip(SYSTEMS, (by_anchor, by_late, by_both), strict=True):
            rankings[system].update(data.rank(scores, DEPTH, part))
        if refined:
            began = time.perf_counter()
            # Left out first: the best hit must not be the query itself.
            found = data.without_identical(by_both, part)
            if bm25 is not None:
                words = np.where(np.isneginf(found), np.float32(0), bm25.scores(data.queries[part]))
                spread = collection.statistics.calibration.anchor_spread
                found = found + np.float32(lexical_weight) * lexical_scores(words, spread)
            boosted = boost_all(found, units, refinements.feedback, refinements.neighbours)
            ranked = data.rank(boosted, DEPTH, part)
            if reranker is not None:
                ranked = _reranked(reranker, refinements.rerank_depth, data, ranked)
            seconds[systems[-1]] += clock[3] - clock[0] + time.perf_counter() - began
            rankings[systems[-1]].update(ranked)
    return rankings, {system: 1000 * seconds[system] / len(queries) for system in systems}


def _options(lexical_weight: float, refinements: Refinements) -> dict[str, Any]:
    """What is on beside the plain hybrid, JSON-able."""
    return {**({"lexical_weight": lexical_weight} if lexical_weight else {}), **refinements.to_dict()}


def refined_name(options: Mapping[str, Any]) -> str:
    """How a row with options is called: ``hybrid, lexical 3, feedback 0.5, rerank ms-marco (50)``."""
    values = {name.removesuffix("_weight"): value for name, value in options.items() if name != "rerank_depth"}
    parts = [
        f"{name} {value} ({options['rerank_depth']})" if name == "rerank" else f"{name} {value:g}"
        for name, value in values.items()
    ]
    return ", ".join(["hybrid", *parts])


def _reranked(
    reranker: Reranker, depth: int, data: BeirDataset, ranked: Mapping[str, list[str]]
) -> dict[str, list[str]]:
    """Each query's first documents in the reranker's order, ties in theirs, then the others."""
    documents = dict(zip(data.document_ids, data.items("document"), strict=True))
    queries = dict(zip(data.query_ids, data.items("query"), strict=True))
    found = {}
    for name, ids in ranked.items():
        sides = [query_side(item_of(documents[id])) for id in ids[:depth]]
        scores = rerank_scores(reranker, query_side(item_of(queries[name])), sides)
        found[name] = [ids[place] for place in np.argsort(-scores, kind="stable")] + ids[depth:]
    return found
