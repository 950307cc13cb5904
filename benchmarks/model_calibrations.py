"""The calibrations that come with the packaged models, for collections that are too small for one of their own.

    python benchmarks/model_calibrations.py

MiniLM's is measured on the standard library's documentation, glyph's on its own test pages. Writes
src/smart_retrieval/model/calibrations.json; to be run again when a packaged model or the rule changes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from lib.record import ROOT

from smart_retrieval import SmartEmbeddings, SmartModel
from smart_retrieval.demo.glyph_pages import glyph_collection
from smart_retrieval.demo.stdlib_docs import build_stdlib_docs

PAGES = 300
TARGET = ROOT / "src" / "smart_retrieval" / "model" / "calibrations.json"


def main() -> None:
    texts = [f"{document.title} {document.text}" for document in build_stdlib_docs()]
    pages = [page.image() for page in glyph_collection("test", PAGES).pages]
    entries = [entry("minilm", texts[:: len(texts) // 500]), entry("glyph", pages)]
    TARGET.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {TARGET.relative_to(ROOT)}")


def entry(name: str, documents: Sequence[object]) -> dict[str, object]:
    """The calibration of a model on documents, and what it holds for."""
    model = SmartModel(name, device="cpu")
    encoded: SmartEmbeddings = model.encode_document(documents)
    found = model.calibrate(encoded)
    print(f"{name}: {found}")
    return {
        "model": name,
        "fingerprint": model.backbone.fingerprint,
        "readout": model.readout.to_dict(),
        "calibration": found.to_dict(),
    }


if __name__ == "__main__":
    main()
