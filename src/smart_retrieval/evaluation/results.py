"""The schema of result files: what evaluations return and write, and what the report reads; and writing one.

Files of older versions lack some of the keys; who reads files takes those with ``.get``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NotRequired, TypedDict, final

from ..core.scoring import LateWeight
from ..files import write_text


class DatasetFacts(TypedDict):
    """The collection: its size, SHA-256 of its texts and of its judgments, and what was left out of it."""

    name: str
    split: str
    n_documents: int
    n_queries: int
    n_judgments: int
    fingerprint: str
    judgments_fingerprint: str
    warnings: list[str]


class EncodeFacts(TypedDict):
    """What encoding took (no seconds where it came from the cache), how many texts were cut, and the model's state."""

    seconds: float | None
    cached: bool
    documents_per_second: float | None
    truncated_documents: int
    truncated_queries: int
    max_length: int | None
    revision: str | None
    weights_fingerprint: str | None
    device: str


class RunFacts(TypedDict):
    """When, where and by which command: all that differs between two runs of the same thing."""

    date: str
    commit: str | None
    machine: dict[str, Any]
    command: str


class QueryMetrics(TypedDict):
    """Every query's metrics: ``values[system][metric]`` is in the order of ``ids``."""

    ids: list[str]
    values: dict[str, dict[str, list[float]]]


class About(TypedDict):
    """What was measured with what: in every result of a BEIR folder; and the metrics of every query, where wanted."""

    dataset: DatasetFacts
    model: str
    preset: str
    readout: dict[str, Any]
    scoring: dict[str, Any]
    prompts: dict[str, str]
    limits: dict[str, int]
    encode: EncodeFacts
    versions: dict[str, str]
    run: RunFacts
    per_query: NotRequired[QueryMetrics]


MetricMeans = TypedDict("MetricMeans", {"ndcg@10": float, "recall@100": float, "mrr@10": float, "map": float})


class ComparisonFacts(TypedDict):
    """A `Comparison` as JSON."""

    mean_baseline: float
    mean_treatment: float
    difference: float
    relative: float | None
    p_value: float
    ci_low: float
    ci_high: float
    wins: int
    ties: int
    losses: int


class GainFacts(ComparisonFacts):
    """A gain over the anchor in one metric."""

    metric: str


class HybridGain(GainFacts):
    """The hybrid's gain, and beside it that of late interaction alone, and of options over the hybrid."""

    late: ComparisonFacts
    refined: ComparisonFacts | None


class SystemRow(MetricMeans):
    """Anchor, late, hybrid, or that with options: metrics, bytes of its uncompressed vectors, time to score all."""

    name: str
    bytes_per_document: float
    score_ms_per_query: float


@final
class BeirResult(About):
    """What `evaluate_beir` returns."""

    rows: list[SystemRow]
    gain: HybridGain
    refinements: dict[str, Any]
    calibration: dict[str, Any] | None  # of the collection, with the late weight and the floor it gives


class ComparedRow(MetricMeans):
    """One of the systems compared; the anchor has no gain."""

    name: str
    gain: GainFacts | None


@final
class CompareResult(About):
    """What `compare_beir` returns; ``fusion`` has the constants of BM25 and of the fusions."""

    systems: list[ComparedRow]
    fusion: dict[str, Any]


class VectorsRow(MetricMeans):
    """The hybrid with token vectors kept in some way; ``bytes_per_document`` counts the float32 anchor too."""

    name: str
    bytes_per_token: float
    tokens_per_document: float
    token_bytes_per_document: float
    bytes_per_document: float


class CodecRow(VectorsRow):
    """The same with a codec; ``share`` is of the uncompressed nDCG@10, None where that is 0."""

    fit_seconds: float
    encode_seconds: float
    share: float | None


@final
class CodecsResult(About):
    """What `evaluate_codecs` returns; ``fit`` has the number of documents the codecs were fitted on, and the seed."""

    codecs: list[CodecRow]
    uncompressed: VectorsRow
    fit: dict[str, Any]


class MtebTask(TypedDict):
    """A task's main score, and all scores by split and subset."""

    main_score: float
    metric: str
    revision: str | None
    scores: dict[str, list[dict[str, Any]]]


class MtebResult(TypedDict):
    """What `evaluate_mteb` returns."""

    benchmark: str
    model: str
    out: str
    tasks: dict[str, MtebTask]
    preset: str
    revision: str | None
    weights_fingerprint: str | None
    readout: dict[str, Any]
    scoring: dict[str, Any]
    settings: dict[str, Any]
    prompts: dict[str, str]
    limits: dict[str, int]
    versions: dict[str, str]
    run: RunFacts


# Of the results below, the keys that the report reads.


class ProbeResult(About):
    """What `probe` returns; systems are named ``"hybrid, paper"``."""

    metric: str
    systems: list[dict[str, Any]]


class TuneResult(TypedDict):
    """What `tune` returns: a row for each collection, with its means under each setting."""

    metric: str
    rows: list[dict[str, Any]]
    chosen: dict[str, Any]
    collections: list[About]


class MmebSetting(TypedDict):
    """One way of weighing anchor and late score: means of groups of tasks, and each task's metrics and counts."""

    lambda_anchor: float
    lambda_late: LateWeight
    means: list[dict[str, Any]]
    scores: dict[str, dict[str, Any]]


class MmebTask(TypedDict):
    """What was measured of a task: counts, the commit of its data, and what a reader must know."""

    notes: list[str]
    queries: int
    candidates: int
    published_queries: int
    revision: str | None
    encoded: int
    reused: bool


class MmebResult(TypedDict):
    """What `evaluate_mmeb` returns: ``settings[system]["scores"][task]`` has the metrics."""

    benchmark: str
    model: str
    preset: str
    readout: dict[str, Any]
    scoring: dict[str, Any]
    prompts: str
    mode: str
    ties: str
    identity: dict[str, Any]
    device: str
    max_length: int | None
    limits: dict[str, int]
    versions: dict[str, str]
    run: RunFacts
    missing: dict[str, str]
    settings: dict[str, MmebSetting]
    tasks: dict[str, MmebTask]


def write_json(result: Mapping[str, Any], file: Path | None = None) -> None:
    """Write a result as one indented JSON object.

    Args:
        result: What `evaluate_beir` or another evaluation returned.
        file: Where to; its folder is made if need be. None writes to stdout.

    Raises:
        SmartError: The file cannot be written.

    Example:
        >>> write_json({"model": "minilm"})
        {
          "model": "minilm"
        }
    """
    text = json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False)
    if file is None:
        print(text)
    else:
        write_text(text + "\n", file)
