"""The kinds of result files there are, each read into what it measured."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ...core.presets import PRESETS, get_preset
from ...errors import ReportError
from ..metrics import METRICS
from .measured import Data, Measured, PerQuery

_SMART = {"SMART": "hybrid", "SMART + BM25": "hybrid + BM25"}


def kind_of(result: Any) -> str | None:
    """Which kind of result an object is; None if it is none.

    Example:
        >>> kind_of({"systems": [], "fusion": {}, "dataset": {}})
        'compare'
    """
    if not isinstance(result, dict):
        return None
    for kind, needed in _NEEDED.items():
        if all(key in result for key in needed):
            return kind if kind != "mmeb" or result["benchmark"] == "MMEB-V2" else None
    return None


def read_result(result: Mapping[str, Any], file: Path) -> list[Measured]:
    """Read one result object of a known kind.

    Args:
        result: The object; `kind_of` knows it.
        file: Where it comes from.

    Raises:
        ReportError: It lacks what its kind must have, or a value is not of the type it must be.
    """
    kind = kind_of(result)
    if kind is None:
        raise ReportError(f"{file}: found no result, expected what smart eval wrote")
    try:
        return list(_READERS[kind](result, file))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise ReportError(f"{file}: found a {kind} result that cannot be read ({what}); measure it again") from error


# -- BEIR folders ----------------------------------------------------------------------------------------------


def _beir(result: Mapping[str, Any], file: Path) -> Iterator[Measured]:
    data, settings = _data(result), settings_of(result)
    gains = {"hybrid": result["gain"], "late": {"metric": result["gain"]["metric"], **result["gain"].get("late", {})}}
    for row in result["rows"]:
        gain = gains.get(row["name"])
        yield Measured(
            str(row["name"]),
            data,
            _numbers(row, METRICS),
            settings,
            file,
            bytes_per_document=_number(row.get("bytes_per_document")),
            milliseconds=_number(row.get("score_ms_per_query")),
            gain=gain if gain and "p_value" in gain else None,
            per_query=_per_query(result, row["name"]),
        )


def _compare(result: Mapping[str, Any], file: Path) -> Iterator[Measured]:
    data, settings = _data(result), settings_of(result)
    weight = {"lexical_weight": f"{float(result['fusion']['lexical_weight']):g}"}
    for row in result["systems"]:
        system = _SMART.get(row["name"], str(row["name"]))
        own = {**settings, **weight} if system == "hybrid + BM25" else settings
        values = _numbers(row, METRICS)
        yield Measured(
            system, data, values, own, file, gain=row["gain"], per_query=_per_query(result, row["name"])
        )  # fmt: skip


def _codecs(result: Mapping[str, Any], file: Path) -> Iterator[Measured]:
    data, settings = _data(result), settings_of(result)
    for row in [result["uncompressed"], *result["codecs"]]:
        coded = row["name"] != "uncompressed"
        yield Measured(
            "hybrid",
            data,
            _numbers(row, METRICS),
            {**settings, "codec": str(row["name"])} if coded else settings,
            file,
            bytes_per_document=_number(row.get("bytes_per_document")),
            per_query=_per_query(result, row["name"]),
        )


def _probe(result: Mapping[str, Any], file: Path) -> Iterator[Measured]:
    data, settings = _data(result), settings_of(result)
    for row in result["systems"]:
        system, _, preset = str(row["name"]).partition(", ")
        values = {str(result["metric"]): _finite(row["value"])}
        own = _of_preset(settings, preset) if preset else settings
        yield Measured(system, data, values, own, file, gain=_gain(row.get("gain"), result["metric"]))


def _tune(result: Mapping[str, Any], file: Path) -> Iterator[Measured]:
    """What was chosen counts as measured on the queries that it was not chosen on."""
    metric = str(result["metric"])
    for row, facts in zip(result["rows"], result["collections"], strict=True):
        data, settings = _data(facts), settings_of(facts)
        tuned = {**_of_preset(settings, "tuned, out of fold"), "scoring": json.dumps(result["chosen"], sort_keys=True)}
        for system, name, own in (
            ("anchor", "anchor", settings),
            ("hybrid", "default", settings),
            ("hybrid", "paper", _of_preset(settings, "paper")),
            ("hybrid", "out_of_fold", tuned),
        ):
            gain = _gain(row["over_anchor"], metric) if name == "out_of_fold" else None
            yield Measured(system, data, {metric: _finite(row[name])}, own, file, gain=gain)


def _of_preset(settings: Mapping[str, str], name: str) -> dict[str, str]:
    """Settings with those of a preset in the place of the file's own."""
    if name == settings.get("preset"):
        return dict(settings)
    own = {key: value for key, value in settings.items() if key not in ("readout", "scoring", "token_filter", "layers")}
    own["preset"] = name
    if name in PRESETS:
        preset = get_preset(name)
        own |= settings_of(
            {"model": own["model"], "readout": preset.readout.to_dict(), "scoring": preset.scoring.to_dict()}
        )
    return own


def _gain(gain: Mapping[str, Any] | None, metric: str) -> Mapping[str, Any] | None:
    return None if gain is None else {"metric": metric, **gain}


def _data(result: Mapping[str, Any]) -> Data:
    data = result["dataset"]
    return Data(
        str(data["name"]),
        str(data["split"]),
        _text(data.get("fingerprint")),
        _text(data.get("judgments_fingerprint")),
        int(data["n_queries"]),
    )


def settings_of(result: Mapping[str, Any]) -> dict[str, str]:
    """What a result was measured with, by name (`measured.SETTINGS`); what it does not say is left out."""
    encode, readout, prompts = result.get("encode") or {}, result.get("readout"), result.get("prompts")
    known: dict[str, Any] = {
        "model": result["model"],
        "preset": result.get("preset"),
        "prompts": prompts if isinstance(prompts, str) else _wording(prompts),
        "max_length": encode.get("max_length"),
        **(result.get("limits") or {}),
        "readout": None if readout is None else json.dumps(readout, sort_keys=True),
        "scoring": json.dumps(result["scoring"], sort_keys=True) if result.get("scoring") else None,
        "revision": result.get("revision") or encode.get("revision"),
        "weights": result.get("weights_fingerprint") or encode.get("weights_fingerprint"),
    }
    if isinstance(readout, dict):
        known |= {"token_filter": readout.get("token_filter"), "layers": readout.get("layers")}
    return {name: str(value) for name, value in known.items() if value is not None}


def _wording(prompts: Any) -> str | None:
    if not isinstance(prompts, dict):
        return None
    told = [f"{task} {text!r}" for task, text in sorted(prompts.items()) if text]
    return ", ".join(told) or "none"


def _per_query(result: Mapping[str, Any], system: str) -> PerQuery | None:
    kept = result.get("per_query")
    if not kept or system not in kept["values"]:
        return None
    ids = tuple(str(one) for one in kept["ids"])
    values = {name: [_finite(value) for value in own] for name, own in kept["values"][system].items()}
    if any(len(own) != len(ids) for own in values.values()):
        raise ValueError(f"per_query holds {len(ids)} ids and another number of values")
    return PerQuery(ids, values)


# -- mteb ------------------------------------------------------------------------------------------------------


def _mteb(result: Mapping[str, Any], file: Path) -> Iterator[Measured]:
    settings = settings_of(result)
    own = result.get("settings") or {}
    for name in ("candidates", "codec"):
        if own.get(name) is not None:
            settings[name] = str(own[name])
    for name, task in result["tasks"].items():
        data, values, main = _mteb_scores(str(name), task.get("revision"), task["scores"])
        yield Measured(_searched(result.get("scoring")), data, values, settings, file, main)


def _mteb_task(result: Mapping[str, Any], file: Path) -> Iterator[Measured]:
    """A file of mteb's own, whose model is told by the folders it lies in: ``<model>/<revision>/<task>.json``."""
    folder, experiment = file.resolve().parent, ""
    if folder.parent.name == "experiments":
        folder, experiment = folder.parent.parent, folder.name
    settings = {"model": folder.parent.name.replace("__", "/") or "unknown", "revision": folder.name}
    if experiment:
        settings["preset"] = experiment
    data, values, main = _mteb_scores(str(result["task_name"]), result["dataset_revision"], result["scores"])
    yield Measured("", data, values, settings, file, main)


def _mteb_scores(name: str, revision: Any, scores: Mapping[str, Any]) -> tuple[Data, dict[str, float], str | None]:
    """Means over subsets and splits, as mteb's own main score is one."""
    rows = [row for split in sorted(scores) for row in scores[split]]
    common = [key for key in rows[0] if all(_number(row.get(key)) is not None for row in rows)]
    means = {key: math.fsum(float(row[key]) for row in rows) / len(rows) for key in common}
    values = {_metric(key): value for key, value in means.items() if "_at_" in key or key == "main_score"}
    return Data(name, "+".join(sorted(scores)), _text(revision)), values, "main_score"


def _metric(name: str) -> str:
    """What this package calls a metric of mteb's: ``ndcg_at_10`` is nDCG@10, and MAP looks as deep as 1000."""
    return "map" if name == "map_at_1000" else name.replace("_at_", "@")


def _searched(scoring: Mapping[str, Any] | None) -> str:
    if not scoring or not scoring.get("lambda_late"):
        return "anchor"
    return "hybrid" if scoring.get("lambda_anchor") else "late"


# -- MMEB-V2 ---------------------------------------------------------------------------------------------------


def _mmeb(result: Mapping[str, Any], file: Path) -> Iterator[Measured]:
    identity = result.get("identity") or {}
    shared = {**result, "revision": identity.get("revision"), "weights_fingerprint": identity.get("fingerprint")}
    limits = {"max_length": result.get("max_length"), **{key: identity.get(key) for key in ("max_visual_tokens",)}}
    limits |= {"max_frames": identity.get("max_frames"), **(result.get("limits") or {})}
    settings = settings_of({**shared, "limits": {name: value for name, value in limits.items() if value is not None}})
    settings |= {name: str(result[name]) for name in ("mode", "ties") if name in result}
    for name, setting in result["settings"].items():
        for task, scores in setting["scores"].items():
            about = result["tasks"].get(task, {})
            yield _mmeb_task(
                str(name), str(task), scores, settings, file,
                revision=_text(about.get("revision")), queries=about.get("queries"),
                predictions=file.parent / str(name) / f"{task}_pred.jsonl",
            )  # fmt: skip


def _leaderboard(result: Mapping[str, Any], file: Path) -> Iterator[Measured]:
    about = result["metadata"]
    model = str(about.get("model_name") or file.stem)
    setting = ""
    if model.endswith(")") and " (" in model and "prompts" in about:  # as this package writes it
        model, _, setting = model[:-1].rpartition(" (")
    provenance = about.get("provenance") or {}
    settings = {**settings_of({**provenance, "model": model, "preset": about.get("preset")})}
    settings |= {name: str(about[name]) for name in ("prompts", "mode", "ties") if name in about}
    revisions = about.get("data_revisions") or {}
    for own in result["metrics"].values():
        for task, scores in own.items():
            queries = scores.get("num_pred")
            found = _mmeb_task(setting, str(task), scores, settings, file, None, queries, None)
            revision = _text(revisions.get(found.data.name))
            yield _mmeb_task(setting, str(task), scores, settings, file, revision, queries, None)


def _score(result: Mapping[str, Any], file: Path) -> Iterator[Measured]:
    """One task's score file."""
    config, provenance = result["scoring_config"], result.get("provenance") or {}
    settings = settings_of({**provenance, "model": provenance.get("model") or "unknown"})
    settings |= {name: str(config[name]) for name in ("prompts", "mode", "ties") if name in config}
    task = file.name.removesuffix("_score.json")
    yield _mmeb_task(
        str(config["setting"]), task, result, settings, file, None, result.get("num_pred"),
        file.with_name(f"{task}_pred.jsonl"),
    )  # fmt: skip


def _mmeb_task(
    system: str,
    name: str,
    scores: Mapping[str, Any],
    settings: Mapping[str, str],
    file: Path,
    revision: str | None,
    queries: Any,
    predictions: Path | None,
) -> Measured:
    from ..mmeb.tasks import all_tasks

    for task in all_tasks():
        if name in (task.name, task.reported_as):
            break
    else:
        raise ValueError(f"MMEB-V2 has no task {name!r}")
    values = {key: value for key, value in scores.items() if _number(value) is not None and "@" in key}
    data = Data(task.name, task.split, revision, None, None if queries is None else int(queries))
    return Measured(
        system, data, _numbers(values, [task.metric, *values]), settings, file, task.metric,
        f"{task.modality}/{task.meta_task}", predictions=predictions if predictions and predictions.exists() else None,
    )  # fmt: skip


# -- values ----------------------------------------------------------------------------------------------------


def _numbers(row: Mapping[str, Any], names: Any) -> dict[str, float]:
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


#: Keys that tell the kinds apart; the first kind whose keys are all there is it.
_NEEDED: dict[str, tuple[str, ...]] = {
    "mmeb": ("benchmark", "settings", "tasks", "mode"),
    "probe": ("verdict", "systems", "query_length", "dataset"),
    "tune": ("verdict", "rows", "chosen", "collections"),
    "compare": ("systems", "fusion", "dataset"),
    "codecs": ("codecs", "uncompressed", "dataset"),
    "beir": ("rows", "gain", "dataset"),
    "mteb": ("tasks", "model", "out"),
    "mteb task": ("task_name", "dataset_revision", "scores"),
    "leaderboard": ("metadata", "metrics"),
    "score": ("scoring_config", "num_pred"),
}

_READERS: dict[str, Callable[[Mapping[str, Any], Path], Iterator[Measured]]] = {
    "mmeb": _mmeb,
    "probe": _probe,
    "tune": _tune,
    "compare": _compare,
    "codecs": _codecs,
    "beir": _beir,
    "mteb": _mteb,
    "mteb task": _mteb_task,
    "leaderboard": _leaderboard,
    "score": _score,
}
