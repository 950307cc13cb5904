"""Pictures reranked by a Qwen3-VL that is asked for yes or no; run as a program, since it needs torchvision.

    PYTHONPATH=<folder with torchvision>:tests python picture_reranker.py <folder>

Prints the hits' ids and scores, and what the model says of the same pictures when it is asked directly.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

_LIBRARY = torch.library.Library("torchvision", "DEF")
for _operator in ("nms", "qnms"):
    _LIBRARY.define(f"{_operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from fixtures.pictures import picture, visual_model, write_pdf, write_video  # noqa: E402
from fixtures.tiny_vlm import save_vlm  # noqa: E402
from sentence_transformers import CrossEncoder  # noqa: E402
from sentence_transformers.base.modules import Transformer  # noqa: E402
from sentence_transformers.cross_encoder.modules import LogitScore  # noqa: E402

from smart_retrieval.index.smart_index import SmartIndex  # noqa: E402
from smart_retrieval.pictures.images import load_image  # noqa: E402
from smart_retrieval.pictures.pdf_pages import PdfPageImage  # noqa: E402


def main(folder: Path) -> None:
    """Make the model, the pictures and the index in this folder, and search it."""
    bare = save_vlm(folder / "bare", "qwen3_vl")
    judge = Transformer(str(bare), transformer_task="any-to-any")
    CrossEncoder(modules=[judge, LogitScore(5, 6)]).save_pretrained(str(folder / "reranker"))
    files = folder / "files"
    files.mkdir()
    for seed in range(4):
        picture(seed).save(files / f"{seed}.png")
    write_pdf(files / "a.pdf", 1)
    write_video(files / "clip.mp4")
    with SmartIndex.create(folder / "a.smart", visual_model(folder), files_as="pages", codec="float32") as index:
        index.index_folder(files, show_progress=False)
        hits = index.search("the otter", 10, rerank=folder / "reranker", rerank_depth=10)
        shown = CrossEncoder(str(folder / "reranker"))
        sides = {f"{seed}.png": load_image(files / f"{seed}.png") for seed in range(4)}
        sides["a.pdf"] = PdfPageImage(files / "a.pdf", 1).load()
        asked = shown.predict([("the otter", side) for side in sides.values()]).tolist()
        found = [(hit.source, hit.score, hit.rerank) for hit in hits]
    print(json.dumps({"hits": found, "asked": dict(zip(sides, asked, strict=True))}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
