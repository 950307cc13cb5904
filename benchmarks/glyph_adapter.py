"""The paper's adapter on the shipped visual model: trained on glyph training pages, judged on test pages.

Against it stand the frozen hybrid, and the frozen token vectors projected to the same width by PCA. The test pages take
no part in training, in the choice of the checkpoint, or in the fit of the PCA.

    python benchmarks/glyph_adapter.py --pages 2000 --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from lib.record import record

from smart_retrieval import SmartEmbeddings, SmartModel, anchor_scores, late_scores
from smart_retrieval.demo.glyph_pages import GlyphCollection, glyph_collection
from smart_retrieval.evaluation.metrics import per_query_metrics, rank
from smart_retrieval.evaluation.significance import paired_comparison
from smart_retrieval.inputs import Item
from smart_retrieval.training import AdapterRecipe, TrainingSet, train_adapter
from smart_retrieval.training.data.examples import Collector


def training_set(collection: GlyphCollection) -> TrainingSet:
    """Queries and the pages that hold what they name: all of them, since the judgments are complete."""
    collector = Collector("glyph training pages")
    numbers = {page.id: collector.document(Item(images=(page.image(),))) for page in collection.pages}
    for query in collection.queries:
        collector.add(Item(query.text), [numbers[p] for p, grade in collection.qrels[query.id].items() if grade > 0])
    return collector.finish()


class Judged:
    """Test pages and queries."""

    def __init__(self, collection: GlyphCollection) -> None:
        self.collection = collection
        self.pages = [page.image() for page in collection.pages]
        self.queries = [query.text for query in collection.queries]

    def encode(self, model: SmartModel) -> tuple[SmartEmbeddings, SmartEmbeddings]:
        return model.encode_query(self.queries), model.encode_document(self.pages)

    def ndcg(self, queries: SmartEmbeddings, pages: SmartEmbeddings, lambda_late: float) -> dict[str, Any]:
        """NDCG@10 of each query by anchor, late and hybrid."""
        anchor, late = anchor_scores(queries, pages), late_scores(queries, pages)
        ids = [page.id for page in self.collection.pages]
        names = [query.id for query in self.collection.queries]
        return {
            name: per_query_metrics(self.collection.qrels, dict(zip(names, rank(scores, ids, 10), strict=True)))[
                "ndcg@10"
            ]
            for name, scores in (("anchor", anchor), ("late", late), ("hybrid", anchor + lambda_late * late))
        }


def means(values: dict[str, Any]) -> dict[str, float]:
    return {name: float(value.mean()) for name, value in values.items()}


def projected(embeddings: SmartEmbeddings, axes: Any) -> SmartEmbeddings:
    vectors = embeddings.token_vectors @ axes
    return SmartEmbeddings(
        embeddings.anchors, vectors / np.linalg.norm(vectors, axis=1, keepdims=True), embeddings.offsets
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="glyph")
    parser.add_argument("--pages", type=int, default=2000)
    parser.add_argument("--test-pages", type=int, default=1000)
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 32, 16])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--objective", default="late")
    parser.add_argument("--record", default="glyph_adapter", help="name of the results' file")
    parser.add_argument("--lambda-late", type=float, default=1.0, help="in training, and in every hybrid judged")
    parser.add_argument(
        "--choose-lambda", action="store_true", help="choose it on validation pages, for frozen and trained alike"
    )
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    options = parser.parse_args()
    judged = Judged(glyph_collection("test", options.test_pages))
    model = SmartModel(options.model, preset="paper", device="cpu")
    frozen = judged.encode(model)
    paper = judged.ndcg(*frozen, 1.0)
    found: dict[str, Any] = {"settings": vars(options), "frozen_paper": means(paper), "runs": []}
    print(found["frozen_paper"], file=sys.stderr)
    data = training_set(glyph_collection("train", options.pages))
    # A page may answer many queries, so pages of one collection cannot be divided: validation has its own.
    held = training_set(glyph_collection("validation", 300))
    sample = model.encode_document([item.images[0] for item in data.documents[:500]]).token_vectors
    _, _, axes = np.linalg.svd(sample, full_matrices=False)
    for width in options.widths:
        pca = [projected(part, axes[:width].T) for part in frozen]
        for seed in options.seeds:
            with tempfile.TemporaryDirectory() as folder:
                recipe = AdapterRecipe(
                    objective=options.objective, width=width, epochs=options.epochs, seed=seed, validate=1,
                    learning_rate=options.learning_rate, lambda_late=options.lambda_late,
                    choose_lambda=options.choose_lambda,
                    # Training pages hold what validation queries name, too, and are not judged for them.
                    distractors=0,
                )  # fmt: skip
                cache = Path(tempfile.gettempdir()) / "glyph_states"
                result = train_adapter(model, data, Path(folder) / "a", recipe, validation=held, cache=cache)
                encoded = judged.encode(SmartModel(Path(folder) / "a", preset="paper", device="cpu"))
            # Where the weight is chosen, each side has the one that validation pages chose for it.
            before, after = result.before["lambda_late"], result.after["lambda_late"]
            base, trained = judged.ndcg(*frozen, before), judged.ndcg(*encoded, after)
            projection = judged.ndcg(pca[0], pca[1], after)
            run = {
                "width": width,
                "seed": seed,
                "lambda_late": {"frozen": before, "trained": after},
                "frozen": means(base),
                "trained": means(trained),
                "pca": means(projection),
                "over_frozen_paper": paired_comparison(paper["hybrid"], trained["hybrid"]).to_dict(),
                "over_frozen": paired_comparison(base["hybrid"], trained["hybrid"]).to_dict(),
                "over_pca": paired_comparison(projection["hybrid"], trained["hybrid"]).to_dict(),
                "best_step": result.best_step,
                "steps": result.steps,
                "seconds": result.seconds,
                "curve": result.curve,
            }
            found["runs"].append(run)
            gains = ", ".join(
                f"{run[over]['relative']:+.1%} {over.replace('_', ' ')}"
                for over in ("over_frozen_paper", "over_frozen", "over_pca")
            )
            print(
                f"width {width}, seed {seed}: {run['trained']}, lambda {before:g} -> {after:g}: {gains}",
                file=sys.stderr,
            )
    record(options.record, found)


if __name__ == "__main__":
    main()
