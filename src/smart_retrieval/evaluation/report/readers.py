"""A reader for each kind of result file: what it measured."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ...core.presets import PRESETS, get_preset
from ...errors import ReportError
from ..metrics import METRICS
from ..mmeb.tasks import Task, all_tasks
from ..results import (
    About,
    BeirResult,
    CodecsResult,
    CompareResult,
    ComparisonFacts,
    GainFacts,
    MmebResult,
    MtebResult,
    ProbeResult,
    QueryMetrics,
    TuneResult,
)
from .measurements import Data, Measurement

Settings = dict[str, str]

_SYSTEMS = {"SMART": "hybrid", "SMART + BM25": "hybrid + BM25"}


def kind_of(result: Any) -> str | None:
    """Which kind of result an object is; None if it is none."""
    if not isinstance(result, dict):
        return None
    kind = next((kind for kind, (keys, _) in _KINDS.items() if all(key in result for key in keys)), None)
    return None if kind == "mmeb" and result["benchmark"] != "MMEB-V2" else kind


def read_result(result: Mapping[str, Any], file: Path) -> list[Measurement]:
    """Read one result object, whose kind `kind_of` knows."""
    kind = str(kind_of(result))
    try:
        return list(_KINDS[kind][1](result, file))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise ReportError(f"{file}: found a {kind} result that cannot be read ({what}); measure it again") from error


def _beir(result: BeirResult, file: Path) -> Iterator[Measurement]:
    settings, metric = settings_of(result), result["gain"]["metric"]
    gains = {"hybrid": result["gain"], "late": result["gain"].get("late")}
    for row in result["rows"]:
        yield _row(result, row, str(row["name"]), settings, file, _gain(gains.get(row["name"]), metric))


def _compare(result: CompareResult, file: Path) -> Iterator[Measurement]:
    settings = settings_of(result)
    with_bm25 = {**settings, "lexical_weight": f"{float(result['fusion']['lexical_weight']):g}"}
    for row in result["systems"]:
        system = _SYSTEMS.get(row["name"], str(row["name"]))
        yield _row(result, row, system, with_bm25 if system == "hybrid + BM25" else settings, file, row["gain"])


def _codecs(result: CodecsResult, file: Path) -> Iterator[Measurement]:
    settings = settings_of(result)
    yield _row(result, result["uncompressed"], "hybrid", settings, file)
    for row in result["codecs"]:
        yield _row(result, row, "hybrid", {**settings, "codec": str(row["name"])}, file)


def _row(
    result: About, row: Mapping[str, Any], system: str, settings: Settings, file: Path, gain: GainFacts | None = None
) -> Measurement:
    return Measurement(
        system,
        _data(result),
        _numbers(row, METRICS),
        settings,
        file,
        bytes_per_document=_number(row.get("bytes_per_document")),
        milliseconds=_number(row.get("score_ms_per_query")),
        gain=gain,
        per_query=_per_query(result.get("per_query"), row["name"]),
    )


def _probe(result: ProbeResult, file: Path) -> Iterator[Measurement]:
    data, settings, metric = _data(result), settings_of(result), str(result["metric"])
    for row in result["systems"]:
        system, _, preset = str(row["name"]).partition(", ")
        own, values = _of_preset(settings, preset) if preset else settings, {metric: _finite(row["value"])}
        yield Measurement(system, data, values, own, file, gain=_gain(row.get("gain"), metric))


def _tune(result: TuneResult, file: Path) -> Iterator[Measurement]:
    """What was chosen counts as measured on the queries that it was not chosen on."""
    metric, chosen = str(result["metric"]), json.dumps(result["chosen"], sort_keys=True)
    for row, facts in zip(result["rows"], result["collections"], strict=True):
        data, settings = _data(facts), settings_of(facts)
        tuned = {**_of_preset(settings, "tuned, out of fold"), "scoring": chosen}
        over_anchor = _gain(row["over_anchor"], metric)
        for system, value, own, gain in (
            ("anchor", row["anchor"], settings, None),
            ("hybrid", row["default"], settings, None),
            ("hybrid", row["paper"], _of_preset(settings, "paper"), None),
            ("hybrid", row["out_of_fold"], tuned, over_anchor),
        ):
            yield Measurement(system, data, {metric: _finite(value)}, own, file, gain=gain)


def _of_preset(settings: Settings, name: str) -> Settings:
    """Settings with those of a preset in the place of the file's own."""
    if name == settings.get("preset"):
        return settings
    own = {key: value for key, value in settings.items() if key not in ("readout", "scoring", "token_filter", "layers")}
    if name in PRESETS:
        preset = get_preset(name)
        readout, scoring = preset.readout.to_dict(), preset.scoring.to_dict()
        own |= settings_of({"model": own["model"], "readout": readout, "scoring": scoring})
    return {**own, "preset": name}


def _gain(gain: ComparisonFacts | None, metric: str) -> GainFacts | None:
    return {"metric": metric, **gain} if gain and "p_value" in gain else None


def _data(result: Mapping[str, Any]) -> Data:
    data = result["dataset"]
    texts, judgments = _text(data.get("fingerprint")), _text(data.get("judgments_fingerprint"))
    return Data(str(data["name"]), str(data["split"]), texts, judgments, int(data["n_queries"]))


def settings_of(result: Mapping[str, Any]) -> Settings:
    """What a result was measured with, by name (`measurements.SETTINGS`); what it does not say is left out."""
    encode, readout, prompts = result.get("encode") or {}, result.get("readout"), result.get("prompts")
    if isinstance(prompts, dict):
        prompts = ", ".join(f"{task} {text!r}" for task, text in sorted(prompts.items()) if text) or "none"
    known: dict[str, Any] = {
        "model": result["model"],
        "preset": result.get("preset"),
        "prompts": prompts if isinstance(prompts, str) else None,
        "max_length": encode.get("max_length"),
        **(result.get("limits") or {}),
        "readout": None if readout is None else json.dumps(readout, sort_keys=True),
        "scoring": json.dumps(result["scoring"], sort_keys=True) if result.get("scoring") else None,
        "revision": result.get("revision") or encode.get("revision"),
        "weights": result.get("weights_fingerprint") or encode.get("weights_fingerprint"),
    }
    if isinstance(readout, dict):
        known |= {"token_filter": readout.get("token_filter"), "layers": readout.get("layers")}
    return _picked(known, *known)


def _per_query(kept: QueryMetrics | None, system: str) -> dict[str, dict[str, float]] | None:
    if not kept or system not in kept["values"]:
        return None
    ids = [str(one) for one in kept["ids"]]
    values = kept["values"][system]
    if any(len(own) != len(ids) for own in values.values()):
        raise ValueError(f"per_query holds {len(ids)} ids and another number of values")
    return {metric: dict(zip(ids, map(_finite, own), strict=True)) for metric, own in values.items()}


def _mteb(result: MtebResult, file: Path) -> Iterator[Measurement]:
    own, scoring = result.get("settings") or {}, result.get("scoring")
    settings = settings_of(result) | _picked(own, "candidates", "codec")
    system = "anchor"
    if scoring and scoring.get("lambda_late"):
        system = "hybrid" if scoring.get("lambda_anchor") else "late"
    for name, task in result["tasks"].items():
        yield _mteb_scores(system, str(name), task.get("revision"), task["scores"], settings, file)


def _mteb_task(result: Mapping[str, Any], file: Path) -> Iterator[Measurement]:
    """A file of mteb's own; the folders it lies in name its model: ``<model>/<revision>/<task>.json``."""
    folder, experiment = file.resolve().parent, ""
    if folder.parent.name == "experiments":
        folder, experiment = folder.parent.parent, folder.name
    known = {"model": folder.parent.name.replace("__", "/") or "unknown", "revision": folder.name}
    settings = known | ({"preset": experiment} if experiment else {})
    yield _mteb_scores("", str(result["task_name"]), result["dataset_revision"], result["scores"], settings, file)


def _mteb_scores(
    system: str,
    task: str,
    revision: str | None,
    scores: Mapping[str, list[dict[str, Any]]],
    settings: Settings,
    file: Path,
) -> Measurement:
    """Means over subsets and splits, as mteb's own main score is one."""
    rows = [row for split in sorted(scores) for row in scores[split]]
    values = {}
    for key in rows[0]:
        if ("_at_" in key or key == "main_score") and all(_number(row.get(key)) is not None for row in rows):
            # MAP looks as deep as 1000 here.
            name = "map" if key == "map_at_1000" else key.replace("_at_", "@")
            values[name] = math.fsum(float(row[key]) for row in rows) / len(rows)
    data = Data(task, "+".join(sorted(scores)), _text(revision))
    return Measurement(system, data, values, settings, file, "main_score")


def _mmeb(result: MmebResult, file: Path) -> Iterator[Measurement]:
    identity = result.get("identity") or {}
    settings = settings_of(
        {
            **result,
            "revision": identity.get("revision"),
            "weights_fingerprint": identity.get("fingerprint"),
            "limits": {
                "max_length": result.get("max_length"),
                "max_visual_tokens": identity.get("max_visual_tokens"),
                "max_frames": identity.get("max_frames"),
                **(result.get("limits") or {}),
            },
        }
    )
    settings |= _picked(result, "mode", "ties")
    for system, setting in result["settings"].items():
        for task, scores in setting["scores"].items():
            about: Mapping[str, Any] = result["tasks"].get(task, {})
            known = (about.get("revision"), about.get("queries"), file.parent / str(system) / f"{task}_pred.jsonl")
            yield _mmeb_task(str(system), str(task), scores, settings, file, *known)


def _leaderboard(result: Mapping[str, Any], file: Path) -> Iterator[Measurement]:
    about = result["metadata"]
    model, system = str(about.get("model_name") or file.stem), ""
    if model.endswith(")") and " (" in model and "prompts" in about:  # as this package writes it
        model, _, system = model[:-1].rpartition(" (")
    settings = settings_of({**(about.get("provenance") or {}), "model": model, "preset": about.get("preset")})
    settings |= _picked(about, "prompts", "mode", "ties")
    revisions = about.get("data_revisions") or {}
    for own in result["metrics"].values():
        for name, scores in own.items():
            revision = revisions.get(_task_named(name).name)
            yield _mmeb_task(system, name, scores, settings, file, revision, scores.get("num_pred"), None)


def _score(result: Mapping[str, Any], file: Path) -> Iterator[Measurement]:
    """One task's score file."""
    config, provenance = result["scoring_config"], result.get("provenance") or {}
    settings = settings_of({**provenance, "model": provenance.get("model") or "unknown"})
    settings |= _picked(config, "prompts", "mode", "ties")
    task, system = file.name.removesuffix("_score.json"), str(config["setting"])
    known = (None, result.get("num_pred"), file.with_name(f"{task}_pred.jsonl"))
    yield _mmeb_task(system, task, result, settings, file, *known)


def _mmeb_task(
    system: str,
    name: str,
    scores: Mapping[str, Any],
    settings: Settings,
    file: Path,
    revision: Any,
    queries: Any,
    predictions: Path | None,
) -> Measurement:
    task = _task_named(name)
    metrics = [task.metric, *(key for key, value in scores.items() if _number(value) is not None and "@" in key)]
    return Measurement(
        system,
        Data(task.name, task.split, _text(revision), None, None if queries is None else int(queries)),
        _numbers(scores, metrics),
        settings,
        file,
        task.metric,
        f"{task.modality}/{task.meta_task}",
        predictions=predictions if predictions and predictions.exists() else None,
    )


def _task_named(name: str) -> Task:
    for task in all_tasks():
        if name in (task.name, task.reported_as):
            return task
    raise ValueError(f"MMEB-V2 has no task {name!r}")


def _numbers(row: Mapping[str, Any], names: Iterable[str]) -> dict[str, float]:
    return {name: _finite(row[name]) for name in names}


def _number(value: Any) -> float | None:
    known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if known else None


def _finite(value: Any) -> float:
    number = _number(value)
    if number is None:
        raise ValueError(f"found {value!r} where a number is expected")
    return number


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _picked(values: Mapping[str, Any], *names: str) -> Settings:
    """Of these, what is known, as text."""
    return {name: str(value) for name in names if (value := values.get(name)) is not None}


#: Each kind of result: the keys by which it is recognised, the first kind whose keys are all there; and its reader.
_KINDS: dict[str, tuple[tuple[str, ...], Callable[[Any, Path], Iterator[Measurement]]]] = {
    "mmeb": (("benchmark", "settings", "tasks", "mode"), _mmeb),
    "probe": (("verdict", "systems", "query_length", "dataset"), _probe),
    "tune": (("verdict", "rows", "chosen", "collections"), _tune),
    "compare": (("systems", "fusion", "dataset"), _compare),
    "codecs": (("codecs", "uncompressed", "dataset"), _codecs),
    "beir": (("rows", "gain", "dataset"), _beir),
    "mteb": (("tasks", "model", "out"), _mteb),
    "mteb task": (("task_name", "dataset_revision", "scores"), _mteb_task),
    "leaderboard": (("metadata", "metrics"), _leaderboard),
    "score": (("scoring_config", "num_pred"), _score),
}
