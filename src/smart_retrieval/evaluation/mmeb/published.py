"""Published results on MMEB-V2, beside which a run is shown."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedRow:
    """Means over tasks, in percent.

    Args:
        model: The model.
        image: Over the 36 image tasks.
        video: Over the 18 video tasks.
        visdoc: Over the 24 visual-document tasks.
        all: Over all 78.
        source: Where it was published.
    """

    model: str
    image: float
    video: float
    visdoc: float
    all: float
    source: str


_REPORT = "Qwen3-VL-Embedding technical report, Table 2"
# Before the page tasks were repaired (2025-11-03): not to be compared in visdoc and all.
_PAPER = "arXiv 2507.04590, page tasks before their repair"

PUBLISHED = (
    PublishedRow("Qwen3-VL-Embedding-2B", 75.0, 61.9, 79.2, 73.2, _REPORT),
    PublishedRow("Qwen3-VL-Embedding-8B", 80.1, 67.1, 82.4, 77.8, _REPORT),
    PublishedRow("GME-2B", 51.9, 33.6, 76.8, 55.3, _REPORT),
    PublishedRow("GME-7B", 56.0, 38.4, 79.3, 59.1, _REPORT),
    PublishedRow("VLM2Vec-V2 2B", 64.9, 34.6, 69.2, 59.2, _REPORT),
    PublishedRow("LamRA Qwen2 7B", 54.1, 35.2, 23.9, 40.4, _PAPER),
    PublishedRow("LamRA Qwen2.5 7B", 52.4, 33.7, 50.2, 47.4, _PAPER),
)
