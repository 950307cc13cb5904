"""What SmartModel, Sentence Transformers and plain transformers make of the same items; run as a program.

It needs torchvision, see torchvision_check.py:

    PYTHONPATH=<folder with torchvision>:src:tests python embedding_gemma2_check.py <checkpoint> <empty folder>
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

_LIBRARY = torch.library.Library("torchvision", "DEF")
for _operator in ("nms", "qnms"):
    _LIBRARY.define(f"{_operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import numpy as np  # noqa: E402
from fixtures.pictures import picture  # noqa: E402

from smart_retrieval import Readout, SmartIndex, SmartModel  # noqa: E402
from smart_retrieval.core.roles import TokenRole  # noqa: E402
from smart_retrieval.inputs import Frames  # noqa: E402
from smart_retrieval.model.describe import describe_model  # noqa: E402

UNSAMPLED = {"video": {"do_sample_frames": False}}


def main(folder: Path, work: Path) -> None:
    from sentence_transformers import SentenceTransformer

    first, second = picture(1, 56, 40), picture(2, 90, 30)
    frames = Frames(tuple(picture(number, 56, 40) for number in range(3)), (0.5, 10.5, 20.5))
    items: list[dict[str, Any]] = [
        {"text": "an otter"}, {"image": first}, {"text": "an otter", "image": second}, {"image": [first, second]},
        {"video": frames}, {"text": "an otter", "image": second, "video": frames},
    ]  # fmt: skip
    model, stock = SmartModel(folder, device="cpu"), SentenceTransformer(str(folder), device="cpu")
    stacked = torch.from_numpy(np.stack([np.asarray(image) for image in frames.images]).transpose(0, 3, 1, 2))
    described = {"fps": 0.1, "total_num_frames": 3, "duration": 30.0, "frames_indices": [0, 1, 2]}
    video = {"array": stacked, "video_metadata": described}
    expected = np.vstack(
        [stock.encode_document([{**item, **({"video": video} if "video" in item else {})}], processing_kwargs=UNSAMPLED)
         for item in items]
    )  # fmt: skip
    together = model.encode_document(items)
    alone = np.vstack([model.encode_document([item]).anchors for item in items])
    query = model.encode_query([items[0]]).anchors - stock.encode_query([items[0]])
    paper = SmartModel(folder, device="cpu", preset="paper")
    states = paper.encode_document([items[2]])
    rebuilt, own = by_transformers(folder, "title: none | text: an otter", second)
    middle = paper.with_readout(Readout((2,))).encode_document([items[2]])
    hostile = model.encode_document(["a <|image|> and <|video|> and <|audio|>", "a picture"])
    model.save_pretrained(work / "saved")
    again = SmartModel(work / "saved", device="cpu").encode_document(items)
    with SmartIndex.create(work / "pages.smart", model, codec="float32") as index:
        index.add(items[1:3], ids=["first", "second"])
        hit = index.search({"image": first}, k=1)[0].id
    about = describe_model(folder)
    found = {
        "anchors": abs(together.anchors - expected).max(),
        "alone": abs(alone - expected).max(),
        "query": abs(query).max(),
        "transformers": abs(states.anchors[0] - rebuilt).max(),
        "states": abs(states.token_vectors - own).max() if states.token_vectors.shape == own.shape else 9,
        "state_of_layer_2": list(middle.token_vectors.shape),
        "saved": abs(again.anchors - together.anchors).max(),
        "roles": [
            sorted({TokenRole(role).name for role in together.roles[start:stop]})
            for start, stop in zip(together.offsets[:-1], together.offsets[1:], strict=True)
        ],
        "grids": [[list(grid) for grid in grids] for grids in together.grids],
        "visual": [int(np.isin(model.encode_document([item]).roles, (4, 5)).sum()) for item in items],
        "hostile": sorted({TokenRole(role).name for role in hostile.roles}),
        "hit": hit,
        "about": {
            name: about[name]
            for name in ("modalities", "pooling", "anchor_dim", "hidden_size", "max_frames", "prompts")
        },
    }  # fmt: skip
    print(json.dumps(found, default=float))


def by_transformers(folder: Path, text: str, image: Any) -> tuple[Any, Any]:
    """Anchor and states of all but special tokens, without Sentence Transformers."""
    from transformers import AutoModel, AutoProcessor

    processor, model = AutoProcessor.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    batch = processor(
        text=[f"<bos>{text}<|image|><eos>"], images=[[image]], return_tensors="pt", add_special_tokens=False
    )
    with torch.inference_mode():
        states = model(**batch).last_hidden_state[0]
    special = set(processor.tokenizer.all_special_ids) - {processor.image_token_id}
    kept = [place for place, id in enumerate(batch["input_ids"][0].tolist()) if id not in special]
    unit = torch.nn.functional.normalize(states, dim=-1)
    return torch.nn.functional.normalize(states.mean(dim=0), dim=0).numpy(), unit[kept].numpy()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
