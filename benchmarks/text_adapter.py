"""A text adapter trained without judgments, on documents it is not judged on, against the frozen default preset.

    python benchmarks/research/text_adapter/sources.py SRC --data DATA --translation ... --packages ... --foldoc ...
    python benchmarks/research/text_adapter/states.py SRC STATES qvds --bfloat16
    python benchmarks/text_adapter.py STATES --data DATA --seeds 0 1 2

Judged on Cranfield (trained on CACM's titles, package descriptions and docstrings) and on CACM (Cranfield's titles in
CACM's place): full rankings, the project's encoder and scores. The settings were chosen with
research/text_adapter/trials.py on collections that are neither.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lib.record import record

sys.path.insert(0, str(Path(__file__).parent / "research" / "text_adapter"))
from explore import Source, Trial, principal_axes, train

from smart_retrieval import SmartEmbeddings, SmartModel, anchor_scores, late_scores
from smart_retrieval.core.adapter import Adapter, AdapterConfig
from smart_retrieval.core.weights import IdfWeights
from smart_retrieval.evaluation.beir import load_beir
from smart_retrieval.evaluation.cache import EncodingCache, encode_dataset
from smart_retrieval.evaluation.metrics import per_query_metrics
from smart_retrieval.evaluation.significance import paired_comparison

TARGETS = {"cranfield": "cacm", "cacm": "cranfield"}
OTHERS = ("debian", "packages")
# From research/text_adapter/trials.py: the first one tried, the best over all checks (1e-3), the one with a teacher,
# which was best on some checks, and two widths.
RECIPES: dict[str, dict[str, Any]] = {
    "requests": {"steps": 200, "batch": 48, "lr": 3e-4, "asked": "q4v4s2"},
    "requests at 1e-3": {"steps": 200, "batch": 48, "lr": 1e-3, "asked": "q4v4s2"},
    "smoothed teacher": {
        "steps": 200, "batch": 24, "lr": 1e-3, "asked": "q4v4s2", "negatives": 2, "distill": 0.8, "smooth": 0.3,
    },
    "width 64": {"steps": 200, "batch": 48, "lr": 1e-3, "asked": "q4v4s2", "width": 64},
    "width 32": {"steps": 200, "batch": 48, "lr": 1e-3, "asked": "q4v4s2", "width": 32},
}  # fmt: skip


class Judged:
    """A judged collection, encoded with the default preset; a projection is applied to its token vectors."""

    def __init__(self, model: SmartModel, folder: Path) -> None:
        self.data = load_beir(folder)
        documents, queries = encode_dataset(model, self.data, EncodingCache())
        self.documents, self.queries = documents.embeddings, queries.embeddings
        self.anchor = anchor_scores(self.queries, self.documents)
        scoring = model.preset.scoring.fitted(model.calibrator.statistics(self.documents))
        self.weights, self.floor = IdfWeights.fit(self.documents), scoring.late_floor
        self.late_weight = scoring.late_weight

    def ndcg(self, projection: torch.Tensor | None = None, gate: torch.Tensor | None = None) -> dict[str, Any]:
        """NDCG@10 of each query by anchor, late and hybrid."""
        queries, documents = (_projected(side, projection) for side in (self.queries, self.documents))
        weights = self.weights.weights(self.queries)
        if gate is not None:
            vectors = torch.from_numpy(np.array(self.queries.token_vectors, np.float32))
            weights = weights * torch.exp(vectors @ gate).numpy()
        late = late_scores(queries, documents, weights=weights, floor=self.floor)
        hybrid = self.anchor + self.late_weight * late
        return {
            system: per_query_metrics(self.data.qrels, self.data.rank(scores, 10))["ndcg@10"]
            for system, scores in (("anchor", self.anchor), ("late", late), ("hybrid", hybrid))
        }


def _projected(side: SmartEmbeddings, projection: torch.Tensor | None) -> SmartEmbeddings:
    if projection is None:
        return side
    vectors = torch.from_numpy(np.array(side.token_vectors, np.float32)) @ projection.T
    vectors = torch.nn.functional.normalize(vectors, dim=-1)
    return SmartEmbeddings(side.anchors, vectors.numpy(), side.offsets, side.token_ids, side.roles)


def as_adapter(projection: torch.Tensor) -> Adapter:
    """The project's adapter over both layers side by side that projects their sum."""
    width, size = projection.shape
    adapter = Adapter(AdapterConfig(size, width, 2, "concat"))
    with torch.no_grad():
        adapter.projection.weight.copy_(torch.cat([projection, projection], dim=1))
    return adapter


def saved(model: SmartModel, projection: torch.Tensor) -> dict[str, Any]:
    """Save as an adapter folder, load it, and compare with the projection of the frozen vectors."""
    texts = ["heat transfer in laminar boundary layers", "a compiler that allocates registers by colouring graphs"]
    with tempfile.TemporaryDirectory() as folder:
        scored = model.with_adapter(as_adapter(projection), scoring=model.preset.scoring.override(weights="idf"))
        scored.save_adapter(folder)
        loaded = SmartModel(folder)
        found = np.asarray(loaded.encode_document(texts).token_vectors)
        size = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
        scoring = loaded.preset.scoring.to_dict()
    wanted = np.asarray(_projected(model.encode_document(texts), projection).token_vectors)
    return {"smallest_cosine": float((found * wanted).sum(axis=1).min()), "bytes": size, "scoring": scoring}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("states", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--targets", nargs="+", default=list(TARGETS), choices=TARGETS)
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--record", default="text_adapter", help="name of the result")
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = SmartModel("minilm")
    figures: dict[str, Any] = {"baseline": "default preset, frozen", "recipes": RECIPES, "targets": {}}
    for target in args.targets:
        judged = Judged(model, args.data / target)
        frozen = judged.ndcg()
        found: dict[str, Any] = {"frozen": {name: float(values.mean()) for name, values in frozen.items()}}
        names = (TARGETS[target], *OTHERS)
        sources = [Source(args.states / f"train_{name}") for name in names]
        found["trained_on"] = {name: len(source.queries) for name, source in zip(names, sources, strict=True)}
        for recipe in args.recipes:
            found[recipe] = []
            width = RECIPES[recipe].get("width")
            axes = principal_axes(sources, width) if width else None
            against = {"frozen": frozen["hybrid"]}
            if axes is not None:
                at_width = judged.ndcg(axes)
                against["axes"] = at_width["hybrid"]
                found[f"principal axes {width}"] = {name: float(values.mean()) for name, values in at_width.items()}
            # The smoothed teacher was measured once, to see whether its gain on the checks carries over.
            for seed in args.seeds[:1] if recipe == "smoothed teacher" else args.seeds:
                trained, _ = train(Trial(recipe, names, seed=seed, **RECIPES[recipe]), sources, axes)
                projection = (trained.start + trained.change).detach()
                gate = None if trained.gate is None else trained.gate.detach()[:-1]
                values = judged.ndcg(projection, gate)
                row: dict[str, Any] = {name: float(each.mean()) for name, each in values.items()}
                for name, baseline in against.items():
                    compared = paired_comparison(baseline, values["hybrid"])
                    row[f"against_{name}"] = compared.to_dict()
                    print(
                        f"{target} {recipe} seed {seed}: {row['hybrid']:.4f}, {name} {compared.mean_baseline:.4f} "
                        f"({100 * (compared.relative or 0):+.1f} %, p {compared.p_value:.3f}), late {row['late']:.4f}",
                        file=sys.stderr,
                    )
                found[recipe].append({"seed": seed, **row})
                if "saved" not in figures:
                    figures["saved"] = saved(model, projection)
        figures["targets"][target] = found
        record(args.record, figures)


if __name__ == "__main__":
    main()
