"""The local-binding test for glyph: which of two pages with the same colours and shapes combines them like this.

Every query names two objects of one page; its twin holds the same colours and shapes in other combinations. Measured
are the share of queries whose page is above its twin (chance: 50 %), and the share whose page is the first of all.
"""

from __future__ import annotations

import argparse

import numpy as np
from lib.record import record

from smart_retrieval import Scoring, SmartModel
from smart_retrieval.demo.glyph_pages import binding_task

SYSTEMS = {
    "anchor": Scoring(lambda_late=0.0),
    "late": Scoring(lambda_anchor=0.0),
    "hybrid": Scoring(),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="glyph")
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    record("local_binding", measure(arguments.model, arguments.pairs, arguments.queries, arguments.seed))


def measure(name: str, pairs: int = 40, queries: int = 1000, seed: int = 0) -> dict[str, object]:
    """Percentages of queries by preset and system."""
    task = binding_task(pairs, queries, seed=seed)
    rows, answers = np.arange(queries), np.array(task.answers)
    images = [page.image() for page in task.pages]
    found: dict[str, object] = {"model": name, "pairs": pairs, "queries": queries, "seed": seed}
    for preset in ("paper", "default"):
        model = SmartModel(name, preset=preset, device="cpu")
        documents, asked = model.encode_document(images), model.encode_query(task.queries)
        systems = {**SYSTEMS, **({"hybrid": model.preset.scoring} if preset == "default" else {})}
        measured: dict[str, dict[str, float]] = {}
        for system, scoring in systems.items():
            scores = model.similarity(asked, documents, scoring=scoring)
            own, twin = scores[rows, answers], scores[rows, answers ^ 1]
            measured[system] = {
                "above_its_twin": round(100 * float(((own > twin) + 0.5 * (own == twin)).mean()), 1),
                "first_of_all": round(100 * float((scores.argmax(axis=1) == answers).mean()), 1),
            }
        found[preset] = measured
    return found


if __name__ == "__main__":
    main()
