"""The default preset on pages, as a user gets it: the packaged glyph, and other trainings of it.

    python benchmarks/glyph_default.py [RUN...]

Each RUN is an output folder of examples/glyph_pages/train.py. nDCG@10 of anchor and hybrid under both presets
on 1,000 held-out pages, and the calibration. Writes results/glyph_default.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lib.record import record

from smart_retrieval import SmartModel, anchor_scores, hybrid_scores
from smart_retrieval.demo.glyph_pages import GlyphCollection, glyph_collection
from smart_retrieval.evaluation.metrics import per_query_metrics, rank
from smart_retrieval.evaluation.significance import paired_comparison

PAGES = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="*", help="output folders of the training")
    arguments = parser.parse_args()
    collection = glyph_collection("test", PAGES)
    models = {"glyph": "glyph", **{folder.name: str(folder / "model") for folder in arguments.runs}}
    measured = {name: measure(model, collection) for name, model in models.items()}
    record("glyph_default", {"pages": PAGES, "models": measured})


def measure(model: str, collection: GlyphCollection) -> dict[str, Any]:
    """Anchor, and hybrid of both presets."""
    paper, default = (SmartModel(model, preset=preset, device="cpu") for preset in ("paper", "default"))
    texts, pages = [query.text for query in collection.queries], [page.image() for page in collection.pages]
    queries, documents = default.encode_query(texts), default.encode_document(pages)
    scores = {
        "anchor": anchor_scores(queries, documents),
        "paper": hybrid_scores(paper.encode_query(texts), paper.encode_document(pages)),
        "default": default.similarity(queries, documents),
    }
    names, ids = [query.id for query in collection.queries], [page.id for page in collection.pages]
    ndcg = {
        name: per_query_metrics(collection.qrels, dict(zip(names, rank(values, ids, 10), strict=True)))["ndcg@10"]
        for name, values in scores.items()
    }
    found = {name: float(values.mean()) for name, values in ndcg.items()}
    print(model, {name: round(value, 4) for name, value in found.items()}, flush=True)
    return {
        "ndcg@10": found,
        "over_anchor": {name: paired_comparison(ndcg["anchor"], ndcg[name]).to_dict() for name in ("paper", "default")},
        "calibration": default.calibrator.statistics(documents).calibration.to_dict(),
    }


if __name__ == "__main__":
    main()
