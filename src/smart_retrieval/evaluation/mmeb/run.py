"""One run of MMEB-V2: each task encoded, ranked, judged and written; and the result of all of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..._version import __version__
from ...core.presets import Preset
from ...errors import ScoringError, one_of
from ..evaluate import setting_label
from ..provenance import limits, run_facts, versions
from .cases import TaskData
from .judging import judge
from .keys import MediaDigests
from .metrics import MODES
from .ordering import TIES
from .parsers import parse
from .prompts import Prompts, get_prompts
from .ranking import Setting, rank_task, settings_for
from .report import NOT_METRICS, leaderboard, write_json
from .revisions import recorded
from .store import EncodingStore
from .summary import means
from .tasks import Task


@dataclass(frozen=True)
class Options:
    """How a run ranks and judges, apart from the model.

    Args:
        prompts: Wording of inputs, see :mod:`~smart_retrieval.evaluation.mmeb.prompts`; None takes ``"v2v"`` for
            VLM2Vec's models and ``"qwen"`` for all others.
        lambdas_late: Weights of late interaction to report.
        mode: Form of the metrics, see :func:`~smart_retrieval.evaluation.mmeb.metrics.score_ranking`.
        ties: Order of equal candidates, ``"official"`` or ``"name"``.
        depth: Candidates listed in the predictions.
        skip_incomplete: Measure the tasks that are complete and name the others, where it would else be an error.
        discard: Remove a task's encodings once it is scored, for disks that do not hold all of them.

    Raises:
        ScoringError: A choice is unknown.
    """

    prompts: str | None = None
    lambdas_late: tuple[float, ...] = (1.0,)
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
        if not all(float("-inf") < value < float("inf") for value in self.lambdas_late):
            raise ScoringError(f"lambda_late: found {list(self.lambdas_late)}, expected finite numbers")
        if self.depth < 10:
            raise ScoringError(f"depth: found {self.depth}, expected 10 or more, as deep as the metrics look")


@dataclass
class Run:
    """What is the same for all tasks of a run.

    Args:
        root: The data root.
        folder: Where results go.
        store: Where encodings lie.
        chosen: Readout, query-token weights, floor and the anchor's weight.
        prompts: How inputs are worded.
        options: How to rank and judge.
        digests: What pictures and frames are known by.
    """

    root: Path
    folder: Path
    store: EncodingStore
    chosen: Preset
    prompts: Prompts
    options: Options
    digests: MediaDigests

    @property
    def settings(self) -> tuple[Setting, ...]:
        """The ways of weighing that are reported."""
        return settings_for(self.chosen.scoring.lambda_anchor, self.options.lambdas_late)

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """What every file of this run says of where it comes from; how it was scored is in ``scoring_config``."""
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

    def task(self, task: Task) -> dict[str, Any]:
        """Measure one task, or read what an identical run has left."""
        data = parse(task, self.root, self.prompts)
        queries = [self.digests.key(case.item) for case in data.cases]
        candidates = [self.digests.key(item) for item in data.items]
        self.digests.save()
        configs = {setting.name: self._config(data, setting, queries, candidates) for setting in self.settings}
        done = {name: self._earlier(task, name, config) for name, config in configs.items()}
        result: dict[str, Any] = {
            "notes": list(data.notes),
            "queries": len(data.cases),
            "candidates": len(data.names),
            "published_queries": task.queries,
            "revision": recorded(self.root, task.data_set),
        }
        if all(scores is not None for scores in done.values()):
            return {**result, "encoded": 0, "reused": True, "scores": done}
        counts = [
            self.store.ensure("query", queries, [case.item for case in data.cases]),
            self.store.ensure("document", candidates, data.items),
        ]
        if truncated := sum(count.truncated for count in counts):
            result["notes"].append(f"{truncated} inputs cut off at the model's {self.store.smart.max_length} tokens")
        scores = self._rank(data, queries, candidates, configs) if self.store.processes.first else {}
        self.store.processes.wait()
        if self.options.discard:  # in every process: each keeps its own list of what is there
            self.store.discard("query", queries)
            self.store.discard("document", candidates)
        return {**result, "encoded": sum(count.encoded for count in counts), "reused": False, "scores": scores}

    def _rank(
        self, data: TaskData, queries: Sequence[str], candidates: Sequence[str], configs: Mapping[str, dict[str, Any]]
    ) -> dict[str, dict[str, Any]]:
        ranked = rank_task(
            data, self.store, queries, candidates, self.settings, self.chosen,
            depth=self.options.depth, ties=self.options.ties,
        )  # fmt: skip
        targets = {name: self.folder / name / f"{data.task.name}_pred.jsonl" for name in configs}
        # An earlier run's score goes first and the new one comes last: a score that is there has its predictions.
        for path in targets.values():
            path.with_name(f"{data.task.name}_score.json").unlink(missing_ok=True)
        judged = judge(data.cases, ranked, targets, mode=self.options.mode)
        found = {}
        for name, config in configs.items():
            count = {"num_pred": len(data.cases), "num_data": len(data.cases) + data.left_out}
            found[name] = {**judged[name], **count, "scoring_config": config, "provenance": self.provenance}
            write_json(found[name], self.folder / name / f"{data.task.name}_score.json")
        return found

    def _config(
        self, data: TaskData, setting: Setting, queries: Sequence[str], candidates: Sequence[str]
    ) -> dict[str, Any]:
        """Everything that decides a score; a score with another one is not taken for this."""
        digest = hashlib.sha256()
        for case, key in zip(data.cases, queries, strict=True):
            own = None if case.candidates is None else case.candidates.tolist()
            digest.update(json.dumps([key, case.labels, case.grades, own]).encode())
        digest.update(json.dumps([data.names, list(candidates)]).encode())
        return {
            "setting": setting.name,
            "lambda_anchor": setting.scoring.lambda_anchor,
            "lambda_late": setting.scoring.lambda_late,
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
            "encodings": self.store.folder.name,
            "smart_retrieval": __version__,
        }

    def _earlier(self, task: Task, setting: str, config: Mapping[str, Any]) -> dict[str, Any] | None:
        try:
            found = json.loads((self.folder / setting / f"{task.name}_score.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) and found.get("scoring_config") == config else None

    def finish(self, measured: dict[str, dict[str, Any]], missing: dict[str, str]) -> dict[str, Any]:
        """Put the result together, and write it."""
        smart = self.store.smart
        scores = {
            setting.name: {name: task["scores"].get(setting.name, {}) for name, task in measured.items()}
            for setting in self.settings
        }
        identity = smart.identity()
        result: dict[str, Any] = {
            "benchmark": "MMEB-V2",
            "model": str(identity["name"]),
            "preset": setting_label(self.chosen, smart.with_readout(self.chosen.readout).preset),
            "readout": self.chosen.readout.to_dict(),
            "scoring": {"weights": self.chosen.scoring.weights, "floor": self.chosen.scoring.floor},
            "prompts": self.prompts.name,
            "mode": self.options.mode,
            "ties": self.options.ties,
            "identity": identity,
            "device": smart.device,
            "max_length": smart.max_length,
            "limits": limits(smart),
            "versions": versions(["pillow"]),
            "run": run_facts(),
            "missing": missing,
            "settings": {},
            "tasks": {
                name: {key: value for key, value in task.items() if key != "scores"} for name, task in measured.items()
            },
        }
        if not self.store.processes.first:
            return result
        about = {
            **{key: result[key] for key in ("preset", "prompts", "mode", "ties", "versions")},
            "provenance": self.provenance,
            "data_revisions": {name: task["revision"] for name, task in measured.items() if task["revision"]},
        }
        for setting in self.settings:
            own = scores[setting.name]
            result["settings"][setting.name] = {
                "lambda_anchor": setting.scoring.lambda_anchor,
                "lambda_late": setting.scoring.lambda_late,
                "means": [mean.to_dict() for mean in means(own)],
                "scores": {
                    name: {key: value for key, value in one.items() if key not in NOT_METRICS}
                    for name, one in own.items()
                },
            }
            board = leaderboard(f"{result['model']} ({setting.name})", own, {**about, "missing": sorted(missing)})
            write_json(board, self.folder / setting.name / "leaderboard.json")
        write_json(result, self.folder / "result.json")
        return result
