"""The schema of result files: what evaluations return and write, and what the report reads; and writing one.

Files of older versions lack some of the keys; who reads files takes those with ``.get``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NotRequired, TypedDict, final

from ..files import write_text

# -- what every result says of where it comes from -------------------------------------------------------------


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
    """What encoding took (nothing where it came from the cache), how many texts were cut, and the model's state."""

    seconds: float | None
    cached: bool
    documents_per_second: float | None
    truncated_documents: int
    truncated_queries: int
    max_length: int | None
    revision: str | None
    weights_fingerprint: str | None
    device: str


class MachineFacts(TypedDict):
    """The machine; ``gpu`` has names once torch is loaded."""

    cpu: str
    cores: int | None
    memory_gib: int | None
    gpu: list[str]
    system: str
    python: str


class RunFacts(TypedDict):
    """When, where and by which command: all that differs between two runs of the same thing."""

    date: str
    commit: str | None
    machine: MachineFacts
    command: str


class QueryMetrics(TypedDict):
    """Every query's metrics: ``values[system][metric]`` is in the order of ``ids``."""

    ids: list[str]
    values: dict[str, dict[str, list[float]]]


class About(TypedDict):
    """What was measured with what; every result of a BEIR folder has these keys, and each query's metrics if wanted."""

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


# -- figures ---------------------------------------------------------------------------------------------------

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
    """The gain over the anchor in one metric."""

    metric: str


# -- results of a BEIR folder ----------------------------------------------------------------------------------


class SystemRow(MetricMeans):
    """One of anchor, late and hybrid: metrics, bytes of its uncompressed vectors, and time to score all documents."""

    name: str
    bytes_per_document: float
    score_ms_per_query: float


class HybridGain(GainFacts):
    """The hybrid's gain over the anchor, and the late row's."""

    late: ComparisonFacts


@final
class BeirResult(About):
    """What `evaluate_beir` returns."""

    rows: list[SystemRow]
    gain: HybridGain


class ComparedRow(MetricMeans):
    """One of the systems compared; the anchor has no gain."""

    name: str
    gain: GainFacts | None


class FusionFacts(TypedDict):
    """Constants of BM25 and of the fusions."""

    lexical_weight: float
    lexical_half: float
    rrf_k: int
    depth: int
    bm25: str


@final
class CompareResult(About):
    """What `compare_beir` returns."""

    systems: list[ComparedRow]
    fusion: FusionFacts


class CodecSizes(TypedDict):
    """Bytes of what is kept of a document; ``bytes_per_document`` counts the float32 anchor too."""

    bytes_per_token: float
    tokens_per_document: float
    token_bytes_per_document: float
    bytes_per_document: float


class UncompressedRow(CodecSizes, MetricMeans):
    """The hybrid with the vectors as they are."""

    name: str


class CodecRow(UncompressedRow):
    """The hybrid with a codec; ``share`` is of the uncompressed nDCG@10, None where that is 0."""

    fit_seconds: float
    encode_seconds: float
    share: float | None


class FitFacts(TypedDict):
    """What the codecs were fitted on."""

    documents: int
    seed: int
    vocabulary: bool


@final
class CodecsResult(About):
    """What `evaluate_codecs` returns."""

    codecs: list[CodecRow]
    uncompressed: UncompressedRow
    fit: FitFacts


# -- results of other commands, as far as the report reads them ------------------------------------------------


class ProbedSystem(TypedDict):
    """A system of a probe, named ``"hybrid, paper"``."""

    name: str
    value: float
    gain: ComparisonFacts | None


class ProbeResult(About):
    """What `probe` returns."""

    metric: str
    systems: list[ProbedSystem]


class TunedRow(TypedDict):
    """A collection of a tuning: means under each setting."""

    name: str
    anchor: float
    paper: float
    default: float
    out_of_fold: float
    in_sample: float
    over_anchor: ComparisonFacts


class TuneResult(TypedDict):
    """What `tune` returns."""

    metric: str
    rows: list[TunedRow]
    chosen: dict[str, Any]
    collections: list[About]


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


class MtebTaskFile(TypedDict):
    """A task's scores as mteb itself writes them."""

    task_name: str
    dataset_revision: str
    scores: dict[str, list[dict[str, Any]]]


class MmebScores(TypedDict):
    """Metrics of each task under one setting."""

    scores: dict[str, dict[str, Any]]


class MmebTask(TypedDict):
    """What is known of a task."""

    revision: str | None
    queries: int


class MmebResult(TypedDict):
    """What `evaluate_mmeb` returns."""

    benchmark: str
    model: str
    preset: str
    readout: dict[str, Any]
    scoring: dict[str, Any]
    prompts: str
    mode: str
    ties: str
    identity: dict[str, Any]
    max_length: int | None
    limits: dict[str, int]
    settings: dict[str, MmebScores]
    tasks: dict[str, MmebTask]


class Leaderboard(TypedDict):
    """The leaderboard's form: metrics by modality and task."""

    metadata: dict[str, Any]
    metrics: dict[str, dict[str, dict[str, Any]]]


def write_json(result: Mapping[str, Any], file: Path | None = None) -> None:
    """Write the result as one indented JSON object.

    Args:
        result: What `evaluate_beir` returned.
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
