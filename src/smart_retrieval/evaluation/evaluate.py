"""Measure a model on a BEIR folder: anchor, late and hybrid side by side, in one result object."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from numpy.typing import NDArray

from ..core.hybrid import anchor_scores
from ..core.late import late_scores
from ..core.presets import Preset, get_preset
from ..core.scoring import TokenWeights
from ..core.weights import IdfWeights
from ..embeddings import SmartEmbeddings
from ..errors import ReadoutError
from ..extras import require
from .beir import BeirDataset, load_beir
from .cache import Encoding, EncodingCache, encode_dataset
from .metrics import DEPTH, METRICS, per_query_metrics, rank
from .provenance import limits, run_facts, versions
from .significance import paired_comparison

if TYPE_CHECKING:
    from ..model.smart_model import SmartModel

#: The systems compared, in the order of the report.
SYSTEMS = ("anchor", "late", "hybrid")

#: The metric that the gain is stated and tested in.
GAIN_METRIC = "ndcg@10"

#: Scores held at once, of each system: 64 MiB in float32, however many queries and documents there are.
SCORES_AT_ONCE = 1 << 24


def evaluate_beir(
    folder: str | Path,
    *,
    model: str | Path | SmartModel = "minilm",
    preset: str | None = None,
    layers: Sequence[int] | None = None,
    mix: str | None = None,
    token_filter: str | None = None,
    weights: TokenWeights | Literal["preset"] = "preset",
    lambda_anchor: float | None = None,
    lambda_late: float | None = None,
    floor: float | Literal["preset"] | None = "preset",
    split: str = "test",
    cache: EncodingCache | None = None,
    batch_size: int | None = None,
    progress: bool | None = False,
    per_query: bool = False,
) -> dict[str, Any]:
    """Rank every document for every query by the anchor, by the tokens and by both, and judge the rankings.

    Scoring is exhaustive and exact; ties are broken by document id; the first 1000 documents are judged. The late row
    uses the same query-token weights as the hybrid.

    Args:
        folder: A BEIR-layout folder, see `load_beir`.
        model: Name or path of a model, or a loaded one, whose readout is then used as it is.
        preset: Where the settings start from; None takes the model's own (``"default"``, or the readout saved in the
            model's folder with the scoring of ``"default"``).
        layers: Hidden states to read, over the preset's.
        mix: How several layers become one vector, over the preset's.
        token_filter: Which positions are kept, over the preset's.
        weights: ``"uniform"`` or ``"idf"`` query-token weights, over the preset's.
        lambda_anchor: Weight of the anchors' cosine, over the preset's.
        lambda_late: Weight of the mean MaxSim, over the preset's.
        floor: Token similarities that count as none, None for no floor; the preset's when left out.
        split: Which qrels file to judge by.
        cache: Where encodings are kept and looked for. With None everything is encoded, and held in memory.
        batch_size: Most texts in one forward pass; the model's default when None.
        progress: Draw bars on stderr; None draws them on a terminal only.
        per_query: Keep every query's metrics, for paired tests between results later.

    Returns:
        JSON-able: ``dataset``, ``model``, ``preset``, ``rows`` (one for each of `SYSTEMS`: metrics between 0 and 1,
        bytes of the uncompressed vectors a document, milliseconds to score all documents for a query), ``gain`` (the
        hybrid's `Comparison` with the anchor in nDCG@10, and under ``late`` that of the late row), ``readout``,
        ``scoring``, ``prompts`` (as put before queries and documents), ``limits``, ``encode``, ``versions``, ``run``
        (date, commit, machine, command), and ``per_query`` where it is asked for (see `query_values`).

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
    # What can fail fast fails before a model is loaded and an hour of encoding is spent.
    require("pytrec_eval", "eval")
    data = load_beir(folder, split)
    readout = {"layers": layers, "mix": mix, "token_filter": token_filter}
    scoring: dict[str, Any] = {
        "weights": weights, "lambda_anchor": lambda_anchor, "lambda_late": lambda_late, "floor": floor,
    }  # fmt: skip
    smart, chosen = prepare(model, preset, given(readout), scoring)
    documents, queries = encode_dataset(smart, data, cache, batch_size=batch_size, progress=progress)
    rankings, milliseconds = _rank_all(queries.embeddings, documents.embeddings, data, chosen)
    judged = {system: per_query_metrics(data.qrels, rankings[system]) for system in SYSTEMS}
    bytes_each = _bytes_per_document(documents.embeddings)
    anchor = judged["anchor"][GAIN_METRIC]
    late, hybrid = (paired_comparison(anchor, judged[system][GAIN_METRIC]).to_dict() for system in ("late", "hybrid"))
    shared = about(data, smart, chosen, documents, queries)
    return {
        **{key: shared.pop(key) for key in ("dataset", "model", "preset")},
        "rows": [
            {
                "name": system,
                **{metric: float(judged[system][metric].mean()) for metric in METRICS},
                "bytes_per_document": bytes_each[system],
                "score_ms_per_query": milliseconds[system],
            }
            for system in SYSTEMS
        ],
        "gain": {"metric": GAIN_METRIC, **hybrid, "late": late},
        **shared,
        **({"per_query": query_values(data.query_ids, judged)} if per_query else {}),
    }


def about(
    data: BeirDataset, smart: SmartModel, chosen: Preset, documents: Encoding, queries: Encoding
) -> dict[str, Any]:
    """What was measured with what, JSON-able: the keys that every report of this package shares."""
    return {
        "dataset": {
            "name": data.name,
            "split": data.split,
            "n_documents": len(data.texts),
            "n_queries": len(data.queries),
            "n_judgments": sum(len(grades) for grades in data.qrels.values()),
            "fingerprint": data.fingerprint,
            "judgments_fingerprint": _judgments_fingerprint(data),
            "warnings": list(data.warnings),
        },
        "model": str(smart.identity()["name"]),
        "preset": setting_label(chosen, smart.preset),
        "readout": chosen.readout.to_dict(),
        "scoring": chosen.scoring.to_dict(),
        "prompts": {task: smart.backbone.prompt_for(task, None, None) or "" for task in ("query", "document")},
        "limits": limits(smart),
        "encode": _encode_facts(smart, documents, queries),
        "versions": versions(),
        "run": run_facts(),
    }


def query_values(query_ids: Sequence[str], judged: Mapping[str, Mapping[str, NDArray[Any]]]) -> dict[str, Any]:
    """Every query's metrics, JSON-able: ``ids``, and below ``values`` a list in their order by system and metric."""
    values = {system: {name: own[name].tolist() for name in METRICS} for system, own in judged.items()}
    return {"ids": list(query_ids), "values": values}


def given(options: dict[str, Any]) -> dict[str, Any]:
    """The options that are not None."""
    return {name: value for name, value in options.items() if value is not None}


def prepare(
    model: str | Path | SmartModel, preset: str | None, readout: dict[str, Any], scoring: dict[str, Any]
) -> tuple[SmartModel, Preset]:
    """The model, loaded if need be, and its preset with the given fields of readout and scoring replaced."""
    from ..model.smart_model import SmartModel

    base = get_preset("default" if preset is None else preset)
    # Unknown weights or layers fail here, before a model is loaded.
    replace(base, readout=replace(base.readout, **readout), scoring=base.scoring.override(**scoring))
    if isinstance(model, SmartModel):
        if readout:
            raise ReadoutError(
                f"found {', '.join(sorted(readout))} beside a loaded model, whose readout is settled; expected the "
                "model's name, or a model loaded with that readout"
            )
        chosen = model.preset if preset is None else base
        return model, replace(chosen, readout=model.readout, scoring=chosen.scoring.override(**scoring))
    smart = SmartModel(model, preset=base.name)
    if readout or preset is not None:
        # Without a word about the readout, a model's folder that brings its own keeps it.
        smart = smart.with_readout(replace(smart.preset.readout, **readout))
    return smart, replace(smart.preset, readout=smart.readout, scoring=smart.preset.scoring.override(**scoring))


def setting_label(chosen: Preset, loaded: Preset) -> str:
    """Name the preset, and what differs from it: a figure must not pass for the preset's when it is not."""
    # The default differs between kinds of models; what this model was loaded with is its own.
    original = loaded if loaded.name == chosen.name else get_preset(chosen.name)
    before = {**original.readout.to_dict(), **original.scoring.to_dict()}
    after = {**chosen.readout.to_dict(), **chosen.scoring.to_dict()}
    changed = [f"{name}={after[name]}" for name in after if after[name] != before.get(name)]
    return f"{chosen.name} with {', '.join(changed)}" if changed else chosen.name


def _rank_all(
    queries: SmartEmbeddings, documents: SmartEmbeddings, data: BeirDataset, chosen: Preset
) -> tuple[dict[str, dict[str, list[str]]], dict[str, float]]:
    """Rank all documents by each system; returns rankings by system and query, and milliseconds a query."""
    scoring = chosen.scoring.fitted(lambda: IdfWeights.fit(documents))
    rankings: dict[str, dict[str, list[str]]] = {system: {} for system in SYSTEMS}
    seconds = dict.fromkeys(SYSTEMS, 0.0)
    # Once without the clock: the first call maps files into memory and starts the threads of the linear algebra.
    late_scores(queries[:1], documents, weights=scoring.query_weights, floor=scoring.floor)
    anchor_scores(queries[:1], documents)
    step = max(1, SCORES_AT_ONCE // len(documents))
    for start in range(0, len(queries), step):
        part = queries[start : start + step]
        clock = [time.perf_counter()]
        by_anchor = anchor_scores(part, documents)
        clock.append(time.perf_counter())
        by_late = late_scores(part, documents, weights=scoring.query_weights, floor=scoring.floor)
        clock.append(time.perf_counter())
        # The sum that `hybrid_scores` computes, without computing both of its terms a second time.
        by_both = scoring.combine(by_anchor, by_late)
        clock.append(time.perf_counter())
        seconds["anchor"] += clock[1] - clock[0]
        seconds["late"] += clock[2] - clock[1]
        seconds["hybrid"] += clock[3] - clock[0]
        for system, scores in zip(SYSTEMS, (by_anchor, by_late, by_both), strict=True):
            ranked = rank(scores, data.document_ids, DEPTH)
            rankings[system].update(zip(data.query_ids[start : start + step], ranked, strict=True))
    return rankings, {system: 1000 * seconds[system] / len(queries) for system in SYSTEMS}


def _bytes_per_document(documents: SmartEmbeddings) -> dict[str, float]:
    """Mean bytes of the vectors each system needs, uncompressed; ids, offsets and roles are not counted."""
    anchor, tokens = documents.anchors.nbytes / len(documents), documents.token_vectors.nbytes / len(documents)
    return {"anchor": anchor, "late": tokens, "hybrid": anchor + tokens}


def _encode_facts(smart: SmartModel, documents: Encoding, queries: Encoding) -> dict[str, Any]:
    """Say what encoding took and met, and what another run must match to give the same vectors."""
    identity = smart.identity()
    seconds = documents.seconds
    return {
        "seconds": seconds,
        "cached": seconds is None,
        "documents_per_second": len(documents.embeddings) / seconds if seconds else None,
        "truncated_documents": documents.embeddings.report.truncated,
        "truncated_queries": queries.embeddings.report.truncated,
        "max_length": smart.max_length,
        "revision": identity.get("revision"),
        "weights_fingerprint": identity.get("fingerprint"),
        "device": smart.device,
    }


def _judgments_fingerprint(data: BeirDataset) -> str:
    """Digest of the judgments in use: texts may stay the same where grades have changed."""
    return hashlib.sha256(json.dumps(data.qrels, sort_keys=True).encode()).hexdigest()
