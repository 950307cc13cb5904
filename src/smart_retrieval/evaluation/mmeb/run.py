"""MMEB-V2 from a data root and a model to result files: read, check, encode once, rank, judge, write."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

from ..._version import __version__
from ...core.presets import Preset
from ...errors import DatasetError, ScoringError, one_of
from ..cache import EncodingCache
from ..evaluate import setting_label
from ..provenance import limits, run_facts, versions
from ..results import MmebResult, MmebTask
from .hub import check_revisions, recorded_commit
from .keys import MediaDigests
from .metrics import MODES
from .parsers import parse
from .processes import find_processes, own_device
from .prompts import Prompts, get_prompts
from .ranking import TIES, rank_task, settings_for
from .report import judge, leaderboard, means, metrics_of, remove_partial_files, write_json, written_whole
from .store import EncodingStore
from .task_data import Missing, TaskData, check_root
from .tasks import Task, choose

if TYPE_CHECKING:
    from ...model.options import ModelOptions
    from ...model.smart_model import SmartModel


@dataclass(frozen=True)
class MmebOptions:
    """How a run ranks and judges, apart from the model.

    Args:
        prompts: Wording of inputs, ``"qwen"`` or ``"v2v"``; None takes ``"v2v"`` for VLM2Vec's models and ``"qwen"``
            for all others.
        lambdas_late: Weights of late interaction to report; the preset's when None.
        mode: Form of the metrics, ``"correct"`` or ``"official-compatible"``.
        ties: Order of equal candidates, ``"official"`` or ``"name"``.
        depth: Candidates listed in the predictions.
        skip_incomplete: Measure the tasks that are complete and name the others, instead of raising an error.
        discard: Remove a task's encodings once it is scored, for disks that do not hold all of them.

    Raises:
        ScoringError: A choice is unknown.
    """

    prompts: str | None = None
    lambdas_late: tuple[float, ...] | None = None
    mode: str = "correct"
    ties: str = "official"
    depth: int = 100
    skip_incomplete: bool = False
    discard: bool = False

    def __post_init__(self) -> None:
        for name, allowed in (("mode", MODES), ("ties", TIES)):
            if getattr(self, name) not in allowed:
                raise ScoringError(f"{name}: {one_of(getattr(self, name), allowed)}")
        if self.prompts is not None:
            get_prompts(self.prompts)
        if not all(float("-inf") < value < float("inf") for value in self.lambdas_late or ()):
            raise ScoringError(f"lambda_late: found {list(self.lambdas_late or ())}, expected finite numbers")
        if self.depth < 10:
            raise ScoringError(f"depth: found {self.depth}, expected 10 or more, as deep as the metrics look")


def evaluate_mmeb(
    data_root: str | Path,
    out: str | Path,
    *,
    tasks: Sequence[str] = (),
    modalities: Sequence[str] = (),
    model: str | Path | SmartModel = "glyph",
    weights: str | None = "preset",
    floor: float | Literal["preset", "calibrated"] | None = "preset",
    token_filter: str | None = None,
    lambda_anchor: float | None = None,
    options: MmebOptions | None = None,
    revisions: Mapping[str, str] | None = None,
    cache: str | Path | None = None,
    batch_size: int | None = None,
    progress: bool | None = False,
    **model_options: Unpack[ModelOptions],
) -> MmebResult:
    """Measure a model on tasks of MMEB-V2.

    Args:
        data_root: Where the data lie, see ``docs/guides/mmeb_and_mteb.md``.
        out: Folder of the results: ``result.json``, and for each setting ``<setting>/leaderboard.json``,
            ``<setting>/<task>_score.json`` and ``<setting>/<task>_pred.jsonl``.
        tasks: Names of tasks; all of them when neither these nor modalities are given.
        modalities: ``"image"``, ``"video"``, ``"visdoc"``.
        model: Name or path of a model, or a loaded one.
        weights: ``"uniform"`` (None) or ``"idf"`` query-token weights, over the preset's.
        floor: Token similarities that count as none, None for no floor; the preset's when left out.
        token_filter: As :class:`~smart_retrieval.Readout` takes it, over the preset's.
        lambda_anchor: Weight of the anchors' cosine, over the preset's.
        options: Everything else about ranking.
        revisions: Commits by data set that the annotations must be of; for other data sets the result names theirs.
        cache: Where encodings are kept; the user's cache when None.
        batch_size: Most items in one forward pass.
        progress: Draw bars on stderr; None draws them on a terminal only.
        **model_options: As :class:`~smart_retrieval.SmartModel` takes them, ``preset`` among them; none beside a loaded
            model.

    Returns:
        JSON-able: ``model``, ``preset``, ``prompts``, ``settings`` (means of each), ``tasks`` (notes and counts of
        each), ``missing`` (task -> reason) and what is needed to run it again.

    Raises:
        DatasetError: Files are missing (``missing.txt`` in ``out`` lists all), malformed, or of another commit.
        SmartError: The model cannot be loaded or run; a folder cannot be written.
    """
    options, folder = options or MmebOptions(), Path(out).expanduser()
    plan = Plan.make(data_root, folder, tasks, modalities, options, revisions)
    smart = load_model(model, token_filter, model_options)
    scoring = smart.preset.scoring.override(weights=weights, lambda_anchor=lambda_anchor, floor=floor)
    cached = cache_folder(cache)
    store = EncodingStore(cached, smart, batch_size=batch_size, progress=progress, processes=find_processes())
    run = Run(plan, folder, store, replace(smart.preset, scoring=scoring), options, media_digests(cached))
    for task in plan.fitting(smart):
        run.measure(task)
    return run.finish()


@dataclass(frozen=True)
class Plan:
    """What is measured, and why the other tasks are not: reasons by name."""

    root: Path
    tasks: tuple[Task, ...]
    missing: dict[str, str]

    @classmethod
    def make(
        cls,
        data_root: str | Path,
        folder: Path,
        tasks: Sequence[str],
        modalities: Sequence[str],
        options: MmebOptions,
        revisions: Mapping[str, str] | None = None,
    ) -> Plan:
        """Choose tasks and check their files, before a model is loaded."""
        chosen = choose(tasks, modalities)
        root = check_root(Path(data_root))
        check_revisions(chosen, root, revisions or {})
        lacking = preflight(chosen, root, get_prompts(options.prompts or "qwen"))
        missing = _skip_or_refuse(lacking, len(chosen), folder, options)
        missing |= {task.name: "not asked for" for task in choose() if task not in chosen}
        return cls(root, tuple(task for task in chosen if task.name not in lacking), missing)

    def fitting(self, smart: SmartModel) -> Iterator[Task]:
        """The tasks whose inputs a model takes; the others are noted as missing."""
        for task in self.tasks:
            needed = "video" if task.modality == "video" else "image"
            if needed in smart.modalities:
                yield task
            else:
                self.missing[task.name] = f"the model takes no {needed}"


def cache_folder(cache: str | Path | None) -> Path:
    """Where the encodings of MMEB-V2 are kept."""
    return (EncodingCache().folder.parent if cache is None else Path(cache).expanduser()) / "mmeb"


def media_digests(folder: Path) -> MediaDigests:
    """Digests of pictures that are remembered in the folder of the cache."""
    return MediaDigests(folder / "media.jsonl")


def preflight(tasks: Iterable[Task], root: Path, prompts: Prompts) -> dict[str, Missing]:
    """What each task lacks; tasks that are complete are left out."""
    found = {task.name: parse(task, root, prompts).missing for task in tasks}
    return {name: missing for name, missing in found.items() if missing}


def _skip_or_refuse(lacking: Mapping[str, Missing], tasks: int, folder: Path, options: MmebOptions) -> dict[str, str]:
    """Reasons by task of those that lack files, or an error."""
    if not lacking:
        return {}
    listing = folder / "missing.txt"
    lines = [f"{name}\t{path}\n" for name, missing in lacking.items() for path in missing.all()]
    with written_whole(listing) as file:
        file.writelines(lines)
    if options.skip_incomplete and len(lacking) < tasks:
        return dict.fromkeys(lacking, f"files missing, listed in {listing}")
    first_name, first = next(iter(lacking.items()))
    annotations = any(missing.annotations for missing in lacking.values())
    advice = "fetch annotations with  smart eval mmeb --from-hub" if annotations else "extract the archives"
    raise DatasetError(
        f"{len(lacking)} of {tasks} tasks lack {len(lines)} files or folders, first {first.all()[0]} "
        f"({first_name}); all are listed in {listing}: {advice} "
        "(docs/guides/mmeb_and_mteb.md), or measure the others with --skip-incomplete"
    )


def load_model(model: str | Path | SmartModel, token_filter: str | None, options: ModelOptions) -> SmartModel:
    """The model of a run, on the device of this process; nothing is loaded where it is loaded already."""
    from ...model.smart_model import SmartModel

    if isinstance(model, SmartModel):
        if options:
            raise ScoringError("found a preset or model options beside a loaded model, expected the model's name")
        smart = model
    else:
        options = {**options, "device": options.get("device") or own_device()}
        smart = SmartModel(model, **options)
    if token_filter is not None:
        smart = smart.with_readout(replace(smart.readout, token_filter=token_filter))
    return smart


@dataclass
class Run:
    """What all tasks of a run share; each is encoded, ranked, judged and written."""

    plan: Plan
    folder: Path
    store: EncodingStore
    chosen: Preset
    options: MmebOptions
    digests: MediaDigests

    def __post_init__(self) -> None:
        if self.store.processes.first:
            remove_partial_files(self.folder)
        of_model = "v2v" if "vlm2vec" in self.store.smart.backbone.family else "qwen"
        self.prompts = get_prompts(self.options.prompts or of_model)
        self.measured: dict[str, MmebTask] = {}
        scoring, lambdas = self.chosen.scoring, self.options.lambdas_late
        self.settings = settings_for(scoring.lambda_anchor, (scoring.lambda_late,) if lambdas is None else lambdas)
        # What each task's score file holds, by setting; only in the process that ranks.
        self.scores: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in self.settings}

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """What every file of this run says of its origin; how it was scored is in ``scoring_config``."""
        identity = self.store.smart.identity()
        return {
            "model": str(identity["name"]),
            "revision": identity.get("revision"),
            "weights_fingerprint": identity.get("fingerprint"),
            "readout": self.chosen.readout.to_dict(),
            "scoring": {"weights": self.chosen.scoring.weights, "floor": self.chosen.scoring.floor},
            "prompts": self.prompts.name,
            "limits": limits(self.store.smart),
            "versions": versions(["pillow"]),
            "run": run_facts(),
        }

    def measure(self, task: Task) -> None:
        """Measure one task, or read what an identical run has left; one that the model cannot take is noted."""
        data = parse(task, self.plan.root, self.prompts)
        items = [*(case.item for case in data.cases), *data.items]
        if not self.store.smart.backbone.mixes and any(len(item.modalities) > 1 for item in items):
            self.plan.missing[task.name] = "the model takes no text beside a picture"
        else:
            self.measured[task.name] = self._measured(task, data)

    def _measured(self, task: Task, data: TaskData) -> MmebTask:
        queries = [self.digests.key(case.item) for case in data.cases]
        candidates = [self.digests.key(item) for item in data.items]
        self.digests.save()
        shared = self._config(data, queries, candidates)
        configs = {
            name: {"setting": name, "lambda_anchor": own.lambda_anchor, "lambda_late": own.lambda_late, **shared}
            for name, own in self.settings.items()
        }
        result: MmebTask = {
            "notes": list(data.notes),
            "queries": len(data.cases),
            "candidates": len(data.names),
            "published_queries": task.queries,
            "revision": recorded_commit(self.plan.root, task.data_set),
            "encoded": 0,
            "reused": True,
        }
        if self._take_earlier(task, configs):
            return result
        counts = [
            self.store.ensure("query", queries, [case.item for case in data.cases]),
            self.store.ensure("document", candidates, data.items),
        ]
        if truncated := sum(count.truncated for count in counts):
            result["notes"].append(f"{truncated} inputs cut off at the model's {self.store.smart.max_length} tokens")
        if self.store.processes.first:
            self._rank(data, queries, candidates, configs)
        self.store.processes.wait()
        if self.options.discard:  # in every process: each keeps its own list of what is stored
            self.store.discard("query", queries)
            self.store.discard("document", candidates)
        return {**result, "encoded": sum(count.encoded for count in counts), "reused": False}

    def _rank(
        self, data: TaskData, queries: Sequence[str], candidates: Sequence[str], configs: Mapping[str, dict[str, Any]]
    ) -> None:
        ranked = rank_task(
            data, self.store, queries, candidates, self.settings, self.chosen.scoring,
            depth=self.options.depth, ties=self.options.ties,
        )  # fmt: skip
        targets = {name: self.folder / name / f"{data.task.name}_pred.jsonl" for name in configs}
        # An earlier run's score is removed first and the new one written last: a score that exists has its predictions.
        for name in configs:
            self._score_file(data.task, name).unlink(missing_ok=True)
        judged = judge(data.cases, ranked, targets, mode=self.options.mode)
        count = {"num_pred": len(data.cases), "num_data": len(data.cases) + data.left_out}
        for name, config in configs.items():
            scores = {**judged[name], **count, "scoring_config": config, "provenance": self.provenance}
            write_json(scores, self._score_file(data.task, name))
            self.scores[name][data.task.name] = scores

    def _config(self, data: TaskData, queries: Sequence[str], candidates: Sequence[str]) -> dict[str, Any]:
        """Everything but the lambdas that decides a score; a score with another one is not reused."""
        digest = hashlib.sha256()
        for case, key in zip(data.cases, queries, strict=True):
            own = None if case.candidates is None else case.candidates.tolist()
            digest.update(json.dumps([key, case.labels, case.grades, own]).encode())
        digest.update(json.dumps([data.names, list(candidates)]).encode())
        return {
            "weights": self.chosen.scoring.weights,
            "floor": self.chosen.scoring.floor,
            "readout": self.chosen.readout.to_dict(),
            "prompts": self.prompts.name,
            "mode": self.options.mode,
            "ties": self.options.ties,
            "depth": self.options.depth,
            "scope": data.task.scope,
            "metric": data.task.metric,
            "data": digest.hexdigest()[:32],
            "encodings": self.store.label,
            "smart_retrieval": __version__,
        }

    def _take_earlier(self, task: Task, configs: Mapping[str, dict[str, Any]]) -> bool:
        """Whether an identical run has scored the task by every setting."""
        found: dict[str, Any] = {}
        for name, config in configs.items():
            try:
                found[name] = json.loads(self._score_file(task, name).read_text(encoding="utf-8"))
            except (OSError, ValueError):
                return False
            if not isinstance(found[name], dict) or found[name].get("scoring_config") != config:
                return False
        for name, scores in found.items():
            self.scores[name][task.name] = scores
        return True

    def _score_file(self, task: Task, setting: str) -> Path:
        return self.folder / setting / f"{task.name}_score.json"

    def finish(self) -> MmebResult:
        """Put the result together, and write it."""
        smart, facts, measured, missing = self.store.smart, self.provenance, self.measured, self.plan.missing
        result: MmebResult = {
            "benchmark": "MMEB-V2",
            "model": facts["model"],
            "preset": setting_label(self.chosen, smart.with_readout(self.chosen.readout).preset),
            "readout": facts["readout"],
            "scoring": facts["scoring"],
            "prompts": facts["prompts"],
            "mode": self.options.mode,
            "ties": self.options.ties,
            "identity": smart.identity(),
            "device": smart.device,
            "max_length": smart.max_length,
            "limits": facts["limits"],
            "versions": facts["versions"],
            "run": facts["run"],
            "missing": missing,
            "settings": {},
            "tasks": measured,
        }
        if not self.store.processes.first:
            return result
        about = {
            **{key: value for key, value in result.items() if key in ("preset", "prompts", "mode", "ties", "versions")},
            "provenance": facts,
            "data_revisions": {name: task["revision"] for name, task in measured.items() if task["revision"]},
            "missing": sorted(missing),
        }
        for name, scoring in self.settings.items():
            scores = self.scores[name]
            result["settings"][name] = {
                "lambda_anchor": scoring.lambda_anchor,
                "lambda_late": scoring.lambda_late,
                "means": [mean.to_dict() for mean in means(scores)],
                "scores": {task: metrics_of(own) for task, own in scores.items()},
            }
            board = leaderboard(f"{result['model']} ({name})", scores, about)
            write_json(board, self.folder / name / "leaderboard.json")
        write_json(result, self.folder / "result.json")
        return result
