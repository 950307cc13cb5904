"""What the library's own processors make of the references' items; run as a program, since it needs torchvision.

torchvision has no CPU build. Its CUDA wheel imports beside the CPU build of torch once two operators are declared, and
must not be seen by any other process: with it installed, every plain import of transformers would fail.

    PYTHONPATH=<folder with torchvision>:tests:tests/backbones python torchvision_check.py <out folder> name=folder ...
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

_LIBRARY = torch.library.Library("torchvision", "DEF")
for _operator in ("nms", "qnms"):
    _LIBRARY.define(f"{_operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import numpy as np  # noqa: E402
from reference_recipes import RECIPES, Input, Recipe  # noqa: E402
from vlm_items import inputs  # noqa: E402


def processed(processor: Any, recipe: Recipe, item: Input) -> Any:
    """The processor's inputs for an item: pictures sized by the recipe, everything else by the processor."""
    images = [recipe.size_image(image) for image in item.images]
    frames = [np.stack([np.asarray(frame) for frame in recipe.size_frames(item.frames)])] if item.frames else None
    fps = (len(item.times) - 1) / (item.times[-1] - item.times[0]) if item.times else None
    described = {"fps": fps, "frames_indices": list(range(len(item.times))), "total_num_frames": len(item.times)}
    return processor(
        text=[recipe.render(item)],
        images=images or None,
        videos=frames,
        video_metadata=[described] if item.frames else None,
        do_resize=False,
        do_sample_frames=False,
        return_tensors="pt",
    )


def check(name: str, folder: Path, out: Path) -> None:
    """Writes what the processor and the model's own position rule say, item by item."""
    from transformers import AutoProcessor

    recipe = RECIPES[name](folder)
    processor = AutoProcessor.from_pretrained(folder)
    processor.tokenizer = recipe.tokenizer
    found: dict[str, Any] = {"torchvision": np.array("torchvision" in sys.modules)}
    for kind, item in inputs(recipe.patch).items():
        batch = processed(processor, recipe, item)
        found[f"{kind}/ids"] = batch["input_ids"][0].numpy()
        for key in ("pixel_values", "pixel_values_videos"):
            if key in batch:
                found[f"{kind}/{key}"] = batch[key].numpy()
        if item.images or item.frames:
            known = ("input_ids", "mm_token_type_ids", "image_grid_thw", "video_grid_thw", "second_per_grid_ts")
            positions, _ = recipe.model.get_rope_index(**{key: batch[key] for key in known if key in batch})
            found[f"{kind}/positions"] = positions[:, 0].numpy()
    if (folder / "modules.json").exists():
        found |= sentence_transformer(folder, recipe)
    np.savez(out, **found)


def sentence_transformer(folder: Path, recipe: Recipe) -> dict[str, Any]:
    """Anchors by Sentence Transformers' own path, of items that need no resizing."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu")
    size = dict(zip(("shortest_edge", "longest_edge"), recipe.image_limits, strict=True))
    model[0].processor.image_processor.size = size
    found = {}
    for kind, item in inputs(recipe.patch).items():
        if kind not in ("text", "image", "image-text", "video"):
            continue
        given: dict[str, Any] = {}
        if item.frames:
            fps = 1 / (item.times[1] - item.times[0])
            described = {
                "fps": fps,
                "frames_indices": list(range(len(item.times))),
                "total_num_frames": len(item.times),
            }
            stack = np.stack([np.asarray(frame).transpose(2, 0, 1) for frame in item.frames])
            given["video"] = {"array": stack, "video_metadata": described}
        given |= {"image": item.images[0]} if item.images else {}
        given |= {"text": item.text} if item.text else {}
        kwargs = {"processing_kwargs": {"video": {"do_sample_frames": False}}} if item.frames else {}
        found[f"{kind}/sentence-transformer"] = model.encode([given], prompt="Represent the user's input.", **kwargs)[0]
    return found


if __name__ == "__main__":
    for pair in sys.argv[2:]:
        family, _, model_folder = pair.partition("=")
        check(family, Path(model_folder), Path(sys.argv[1]) / f"{family}.npz")
