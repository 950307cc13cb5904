"""Draw docs/images/concept.svg: a question and the first words of a document, as MiniLM really sees them.

Run with `python dev/draw_concept.py`; needs the extras demo and plot.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle

from smart_retrieval import SmartModel, anchor_scores, late_scores
from smart_retrieval.core.matches import token_matches
from smart_retrieval.demo.stdlib_docs import build_stdlib_docs

QUESTION = "how do I rotate the log files"
ANSWER = "logging.handlers.RotatingFileHandler"

matplotlib.rcParams["svg.hashsalt"] = "smart-retrieval"  # the same file from the same numbers
matplotlib.rcParams["font.size"] = 9


def main() -> None:
    """Encode, score and draw."""
    model = SmartModel("minilm")
    documents = build_stdlib_docs()
    texts = {document.id: f"{document.title} {document.text}" for document in documents}
    sample = model.encode_document([texts[document.id] for document in documents[:: len(documents) // 400]])
    scoring = model.preset.scoring.fitted(model.calibrator.statistics(sample))
    text = next(document.text for document in documents if document.id == ANSWER)
    answer = f"{ANSWER.rpartition('.')[2]}: {' '.join(text.split('.')[0].split())}"
    query, document = model.encode_query(QUESTION), model.encode_document(answer)

    rows, columns = query.token_strings(0), document.token_strings(0)
    similarity = query.token_vectors @ document.token_vectors.T
    matches = token_matches(query, document, scoring.query_weights, scoring.late_floor)
    anchor = float(anchor_scores(query, document)[0, 0])
    late = float(late_scores(query, document, weights=scoring.query_weights, floor=scoring.late_floor)[0, 0])

    figure, (grid, bars) = plt.subplots(1, 2, figsize=(11, 3.4), width_ratios=[4, 1], sharey=True)
    image = grid.imshow(similarity, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    grid.set_xticks(range(len(columns)), columns, rotation=60, ha="right", rotation_mode="anchor")
    grid.set_yticks(range(len(rows)), rows)
    for match in matches:
        corner = (match.document_index - 0.5, match.query_index - 0.5)
        if match.contribution > 0:
            grid.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor="#d95f02", linewidth=1.8))
    grid.set_title(f"each word of the question finds its best match in {ANSWER}", loc="left")
    figure.colorbar(image, ax=grid, pad=0.01, label="cosine")

    contributions = np.array([match.contribution for match in matches])
    bars.barh(range(len(rows)), contributions, color="#d95f02")
    bars.tick_params(axis="y", left=False, labelleft=False)
    bars.set_title("part of the late score", loc="left")
    bars.spines[["top", "right"]].set_visible(False)
    total = scoring.lambda_anchor * anchor + scoring.late_weight * late
    figure.suptitle(
        f"score = anchors' cosine {anchor:.2f} + {scoring.late_weight:.2f} × late interaction {late:.2f} "
        f"= {total:.2f}, from one forward pass",
        x=0.01,
        ha="left",
        fontsize=11,
    )
    figure.tight_layout()
    target = Path(__file__).parents[1] / "docs" / "images" / "concept.svg"
    figure.savefig(target, metadata={"Date": None})
    print(f"wrote {target}")


if __name__ == "__main__":
    main()
