"""What keeping token vectors costs: SmartModel against plain SentenceTransformer, in turn, in one process.

    python benchmarks/encode_overhead.py --data FOLDER      texts of a BEIR folder
    python benchmarks/encode_overhead.py --pages 256        drawn pages as pictures, the visual model
    python benchmarks/encode_overhead.py --folder FOLDER    a folder of files into a new index, beside its passages

The same items go through both in alternating order; quoted is the median over the pairs of (ours / plain). For pages,
plain is Sentence Transformers' own ``encode`` over the same modules, preprocessing included.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from lib.record import record
from sentence_transformers import SentenceTransformer

from smart_retrieval import Readout, SmartIndex, SmartModel
from smart_retrieval.backbones.checkpoints import resolve_model
from smart_retrieval.backbones.compute import bfloat16_units
from smart_retrieval.demo.glyph_pages import glyph_collection
from smart_retrieval.evaluation.beir import load_beir


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def texts(data: Path, count: int, name: str) -> tuple[list[Any], Any, dict[str, SmartModel]]:
    """Texts, the plain model, and ours by readout."""
    ours = {
        "paper": SmartModel(name, preset="paper"),
        "default": SmartModel(name, preset="default"),
        "concatenation of two layers": SmartModel(name, readout=Readout((-1, -2), "concat")),
        "default, bfloat16": SmartModel(name, preset="default", compute="bfloat16"),
    }
    return load_beir(data).texts[:count], SentenceTransformer(resolve_model(name)), ours


def pages(count: int, name: str) -> tuple[list[Any], Any, dict[str, SmartModel]]:
    """Pictures of pages, the plain modules, and ours by readout."""
    ours = {"last layer": SmartModel(name, preset="paper"), "two layers": SmartModel(name, readout=Readout((-1, -2)))}
    return [page.image() for page in glyph_collection("test", count).pages], SmartModel(name).backbone.model, ours


class Indexing:
    """A folder into a new index, whatever texts are handed over."""

    def __init__(self, folder: Path, model: SmartModel) -> None:
        self.folder, self.model = folder, model

    def encode_document(self, items: list[str]) -> list[str]:
        """Index the folder; the passages that it holds."""
        with (
            tempfile.TemporaryDirectory() as temporary,
            SmartIndex.create(Path(temporary) / "i.smart", self.model) as index,
        ):
            index.index_folder(self.folder, show_progress=False)
            return [document.text for document in index.get(index.store.ids())]


def folder_texts(folder: Path, name: str) -> tuple[list[Any], Any, dict[str, Any]]:
    """The passages of a folder's files, the plain model, and `index_folder` by what it computes in."""
    names = ("float32", "bfloat16") if bfloat16_units() else ("float32",)
    ours = {compute: Indexing(folder, SmartModel(name, compute=compute)) for compute in names}
    return ours["float32"].encode_document([]), SentenceTransformer(resolve_model(name)), ours


def compare(
    items: list[Any], plain: Any, ours: Mapping[str, Any], pairs: int, size: dict[str, Any]
) -> tuple[dict[str, list[dict[str, float]]], dict[str, float]]:
    """Seconds of all pairs, and the median of (ours / plain), by readout."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in ours}
    plain.encode(items[:64], **size)
    for model in ours.values():
        model.encode_document(items[:64], **size)
    for pair in range(pairs):
        for name, model in ours.items():
            first: dict[str, float] = {}
            order = ["ours", "plain"] if pair % 2 else ["plain", "ours"]
            for side in order:
                encode = plain.encode if side == "plain" else model.encode_document
                first[side] = seconds(partial(encode, items, **size))
            runs[name].append(first)
    return runs, {name: statistics.median(run["ours"] / run["plain"] for run in own) for name, own in runs.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--data", type=Path, help="a BEIR-layout folder")
    what.add_argument("--folder", type=Path, help="files, of which --texts and --batch-size say nothing")
    what.add_argument("--pages", type=int, help="drawn pages instead of texts")
    parser.add_argument("--model", help="minilm, or glyph for pages")
    parser.add_argument("--texts", type=int, default=320)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--batch-size", type=int, default=32)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")

    ours: Mapping[str, Any]
    if arguments.pages:
        items, plain, ours = pages(arguments.pages, arguments.model or "glyph")
    elif arguments.folder:
        items, plain, ours = folder_texts(arguments.folder, arguments.model or "minilm")
    else:
        items, plain, ours = texts(arguments.data, arguments.texts, arguments.model or "minilm")
    # Pages are of one length, so both make the same batches if told their size; texts each batch as they always do.
    size: dict[str, Any] = {"batch_size": arguments.batch_size} if arguments.pages else {}
    runs, ratios = compare(items, plain, ours, arguments.pairs, size)
    for name, ratio in ratios.items():
        print(f"{name:30} {ratio:.3f} x plain encode (median of {arguments.pairs} pairs)")
    figures = {"ratios": ratios, "runs_seconds": runs, "load_average": os.getloadavg()}
    if arguments.pages:
        record("encode_overhead_pages", {"pages": len(items), **figures})
    elif arguments.folder:
        shares = {name: 1 / ratio for name, ratio in ratios.items()}
        record("index_overhead", {"passages": len(items), "share_of_plain_passages_a_second": shares, **figures})
    else:
        record("encode_overhead", {"texts": len(items), "data": arguments.data.name, **figures})


if __name__ == "__main__":
    main()
