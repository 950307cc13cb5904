"""Small hand-made results of every kind."""

import json

import numpy as np
import pytest

from smart_retrieval.evaluation.metrics import METRICS
from smart_retrieval.evaluation.significance import paired_comparison

RUN = {"date": "2026-11-25 08:00 UTC", "commit": "abc1234", "machine": {"cpu": "Z80", "gpu": []}, "command": "smart"}
QUERIES = 24


class Results:
    """Builds results and writes them as files."""

    def __init__(self, folder):
        self.folder = folder

    def write(self, name, result):
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(result), encoding="utf-8")
        return file

    @staticmethod
    def values(seed, mean):
        """A value for every query, with this mean."""
        noise = np.random.default_rng(seed).normal(0, 0.05, QUERIES)
        return (mean + noise - noise.mean()).tolist()

    @staticmethod
    def shared(dataset="tiny", **changes):
        about = {
            "dataset": {"name": dataset, "split": "test", "n_documents": 9, "n_queries": QUERIES, "n_judgments": 30,
                        "fingerprint": f"{dataset}-texts", "judgments_fingerprint": f"{dataset}-grades",
                        "warnings": []},
            "model": "minilm",
            "preset": "default",
            "readout": {"layers": [-1], "mix": "mean", "token_filter": "paper"},
            "scoring": {"weights": "idf", "lambda_anchor": 1.0, "lambda_late": 2.0, "floor": None},
            "prompts": {"query": "", "document": ""},
            "limits": {"max_length": 256},
            "encode": {"revision": None, "weights_fingerprint": "feed", "max_length": 256},
            "versions": {"smart_retrieval": "0.1.0", "torch": "2.13.0"},
            "run": RUN,
        }  # fmt: skip
        about["dataset"] |= changes.pop("data", {})
        for key, value in changes.items():
            about[key] = {**about[key], **value} if isinstance(value, dict) else value
        return about

    def beir(self, dataset="tiny", *, anchor=0.4, late=0.45, hybrid=0.5, per_query=True, **changes):
        means = {"anchor": anchor, "late": late, "hybrid": hybrid}
        each = {name: self.values(place, mean) for place, (name, mean) in enumerate(means.items())}
        compared = {
            name: paired_comparison(each["anchor"], each[name], permutations=2000).to_dict()
            for name in ("late", "hybrid")
        }
        rows = [
            {"name": name, **dict.fromkeys(METRICS, mean), "bytes_per_document": size, "score_ms_per_query": 1.0 + size}
            for (name, mean), size in zip(means.items(), (10.0, 200.0, 210.0), strict=True)
        ]
        kept = {
            "ids": [f"q{n}" for n in range(QUERIES)],
            "values": {name: dict.fromkeys(METRICS, own) for name, own in each.items()},
        }
        return {
            "rows": rows,
            "gain": {"metric": "ndcg@10", **compared["hybrid"], "late": compared["late"]},
            **self.shared(dataset, **changes),
            **({"per_query": kept} if per_query else {}),
        }

    def compare(self, dataset="tiny", *, systems, **changes):
        rows = []
        for name, mean in systems.items():
            gain = {"metric": "ndcg@10", "mean_baseline": systems["anchor"], "mean_treatment": mean, "relative": 0.1,
                    "difference": mean - systems["anchor"], "p_value": 0.02, "ci_low": 0.0, "ci_high": 0.2,
                    "wins": 3, "ties": 2, "losses": 1}  # fmt: skip
            rows.append(
                {"name": name, **dict.fromkeys(METRICS, mean), "gain": None if name == "anchor" else gain}
            )  # fmt: skip
        return {"systems": rows, "fusion": {"lexical_weight": 0.2}, **self.shared(dataset, **changes)}

    def codecs(self, dataset="tiny", *, uncompressed=0.5, codecs, **changes):
        rows = [
            {"name": name, **dict.fromkeys(METRICS, mean), "bytes_per_document": 20.0 + place}
            for place, (name, mean) in enumerate({"uncompressed": uncompressed, **codecs}.items())
        ]
        return {"uncompressed": rows[0], "codecs": rows[1:], "fit": {}, **self.shared(dataset, **changes)}

    @staticmethod
    def mmeb(settings, **changes):
        tasks = sorted({task for scores in settings.values() for task in scores})
        return {
            "benchmark": "MMEB-V2",
            "model": "vlm",
            "preset": "paper",
            "readout": {"layers": [-1]},
            "scoring": {"weights": "uniform", "floor": None},
            "prompts": "qwen",
            "mode": "correct",
            "ties": "official",
            "identity": {"revision": "r1", "fingerprint": "beef", "max_visual_tokens": 768, "max_frames": 8},
            "max_length": 512,
            "versions": {"torch": "2.13.0"},
            "run": RUN,
            "missing": {},
            "settings": {name: {"means": [], "scores": scores} for name, scores in settings.items()},
            "tasks": {task: {"revision": None, "queries": 2, "notes": []} for task in tasks},
            **changes,
        }


@pytest.fixture
def results(tmp_path):
    return Results(tmp_path / "results")
