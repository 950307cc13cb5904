"""``smart eval layers`` on glyph's pages: which layer late interaction reads, and that it is what is known already.

    python benchmarks/glyph_layers.py [--pages 1000] [--plot docs/images/glyph_layers.svg]

The held-out pages and their queries are written as a judged collection in the BEIR layout and measured by the command.
Its figures of the last layer must be those of ``results/glyph_frozen.json``, seed 0, which is the packaged model; those
of every layer must be what a model that reads that layer alone gives. Writes results/glyph_layers.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from lib.record import RESULTS, record

from smart_retrieval import Readout, SmartModel, anchor_scores, hybrid_scores, late_scores
from smart_retrieval.demo.glyph_pages import GlyphCollection, glyph_collection, write_beir
from smart_retrieval.evaluation.layers import draw_layers
from smart_retrieval.evaluation.metrics import per_query_metrics, rank
from smart_retrieval.evaluation.probe.layers import ablate_collection


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=1000)
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    collection = glyph_collection("test", arguments.pages)
    with tempfile.TemporaryDirectory() as folder:
        write_beir(collection, folder)
        found = ablate_collection(folder, model="glyph", layers=range(4), device="cpu")
    differences = {"alone": differences_to(collection, found), "recorded": None}
    if arguments.pages == 1000:
        known = json.loads((RESULTS / "glyph_frozen.json").read_text(encoding="utf-8"))["seeds"][0]["ndcg@10"]
        last = {"late": known["hybrid_paper"], "late_alone": known["late_paper"], "anchor_alone": known["anchor"]}
        ours = found["points"][-1]
        differences["recorded"] = max(abs(ours[kind]["mean"] - 100 * value) for kind, value in last.items())
    for name, difference in differences.items():
        if difference is not None and difference > 0.01:
            raise SystemExit(f"{name}: found a difference of {difference} points, expected none")
    for point in found["points"]:
        print(point["layer"], {kind: round(value["mean"], 2) for kind, value in point.items() if kind != "layer"})
    if arguments.plot is not None:
        draw_layers(found, arguments.plot)
    own = {name: found[name] for name in ("metric", "lambda_late", "documents", "queries", "anchor", "points")}
    record("glyph_layers", {"model": "glyph", **own, "largest_difference_in_points": differences})


def differences_to(collection: GlyphCollection, found: dict[str, Any]) -> float:
    """The largest difference to models that read one layer each, in points."""
    paper = SmartModel("glyph", preset="paper", device="cpu")
    texts, pages = [query.text for query in collection.queries], [page.image() for page in collection.pages]
    names, ids = [query.id for query in collection.queries], [page.id for page in collection.pages]
    last = paper.backbone.n_states - 1
    largest = 0.0
    for point in found["points"]:
        layer = point["layer"]
        read = paper.with_readout(Readout((layer if layer < last else -1,)))
        own = read.with_anchor_of(layer)
        late, both = ((one.encode_query(texts), one.encode_document(pages)) for one in (read, own))
        scores = {
            "late": hybrid_scores(*late),
            "both": hybrid_scores(*both),
            "late_alone": late_scores(*late),
            "anchor_alone": anchor_scores(*both),
        }
        for kind, values in scores.items():
            ranked = dict(zip(names, rank(values, ids, 10), strict=True))
            mean = 100 * float(per_query_metrics(collection.qrels, ranked)["ndcg@10"].mean())
            largest = max(largest, abs(mean - point[kind]["mean"]))
    return largest


if __name__ == "__main__":
    main()
