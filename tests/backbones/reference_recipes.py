"""The published recipe of every visual family, written a second time in plain torch, NumPy and Pillow.

Nothing here imports the package under test, a processor, or a model's own position rule: strings, pixels, patches,
placeholders, positions and pooling are all spelled out, one item at a time and without padding. Only the transformer
itself is the library's. ``test_reference_recipes.py`` holds these recipes against the library's processors.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

IMAGE, VIDEO = "<|image_pad|>", "<|video_pad|>"
START, END = "<|vision_start|>", "<|vision_end|>"


@dataclass(frozen=True)
class Input:
    """One item as a publisher's script would be given it."""

    text: str | None = None
    images: tuple[Image.Image, ...] = ()
    frames: tuple[Image.Image, ...] = ()
    times: tuple[float, ...] = ()
    instruction: str | None = None
    query: bool = False


@dataclass(frozen=True)
class Encoded:
    """What a recipe makes of an item: everything in the order of the input ids, nothing padded."""

    anchor: torch.Tensor
    states: torch.Tensor
    input_ids: list[int]
    rendered: str
    image_grids: list[tuple[int, int, int]] = field(default_factory=list)
    video_grids: list[tuple[int, int, int]] = field(default_factory=list)
    positions: torch.Tensor | None = None


def fitted(height: int, width: int, factor: int, smallest: int, largest: int) -> tuple[int, int]:
    """Height and width in multiples of ``factor`` whose product lies within the limits."""
    high, wide = max(factor, round(height / factor) * factor), max(factor, round(width / factor) * factor)
    if high * wide > largest:
        shrink = math.sqrt(height * width / largest)
        return tuple(max(factor, math.floor(side / shrink / factor) * factor) for side in (height, width))  # type: ignore[return-value]
    if high * wide < smallest:
        grow = math.sqrt(smallest / (height * width))
        return math.ceil(height * grow / factor) * factor, math.ceil(width * grow / factor) * factor
    return high, wide


def resized(image: Image.Image, factor: int, smallest: int, largest: int) -> Image.Image:
    """The picture at the size a recipe feeds the model, by bicubic interpolation."""
    image = image.convert("RGB")
    height, width = fitted(image.height, image.width, factor, smallest, largest)
    return image if (width, height) == image.size else image.resize((width, height), Image.Resampling.BICUBIC)


def patches_of(
    frames: Sequence[Image.Image], patch: int, mean: Sequence[float], std: Sequence[float]
) -> tuple[Any, Any]:
    """Patches two frames deep, in blocks of two by two, each as (channel, frame, row, column) flattened.

    Args:
        frames: Pictures of one size; an odd last one counts twice, a single picture is its own second frame.
        patch: Side of a patch.
        mean: Subtracted from each channel.
        std: Each channel is divided by.

    Returns:
        Patches [N, 3·2·patch·patch] and the grid (time, rows, columns).
    """
    stack = [np.asarray(frame, dtype=np.float32) / np.float32(255) for frame in frames]
    stack = [(one - np.asarray(mean, np.float32)) / np.asarray(std, np.float32) for one in stack]
    if len(stack) % 2:
        stack.append(stack[-1])
    rows, columns = stack[0].shape[0] // patch, stack[0].shape[1] // patch
    taken = []
    for time in range(0, len(stack), 2):
        for block_row in range(0, rows, 2):
            for block_column in range(0, columns, 2):
                for row in (block_row, block_row + 1):
                    for column in (block_column, block_column + 1):
                        window = (slice(row * patch, (row + 1) * patch), slice(column * patch, (column + 1) * patch))
                        pair = np.stack([stack[time][window], stack[time + 1][window]])
                        taken.append(pair.transpose(3, 0, 1, 2).reshape(-1))
    return np.stack(taken), (len(stack) // 2, rows, columns)


def mrope_positions(
    ids: Sequence[int],
    image_id: int,
    video_id: int,
    image_grids: Sequence[tuple[int, int, int]],
    video_grids: Sequence[tuple[int, int, int]],
    temporal_step: float = 1.0,
) -> torch.Tensor:
    """M-RoPE: text counts on in all three axes; a picture spans (time, row, column) from where the text stands.

    ``temporal_step`` is Qwen2.5-VL's: positions a pair of video frames is apart. Qwen3-VL gives every pair of frames a
    block of its own, so its ``video_grids`` hold one grid for each.
    """
    images, videos = iter(image_grids), iter(video_grids)
    columns: list[tuple[int, int, int]] = []
    start = index = 0
    while index < len(ids):
        if ids[index] not in (image_id, video_id):
            columns.append((start, start, start))
            start, index = start + 1, index + 1
            continue
        moving = ids[index] == video_id
        time, rows, wide = next(videos if moving else images)
        rows, wide = rows // 2, wide // 2
        block = [
            (start + int(t * (temporal_step if moving else 1.0)), start + row, start + column)
            for t in range(time)
            for row in range(rows)
            for column in range(wide)
        ]
        columns += block
        index += len(block)
        start = max(max(place) for place in block) + 1
    return torch.tensor(columns).T


class Recipe:
    """One family: how its script renders, sizes, numbers and pools. Subclasses say what is special.

    Args:
        folder: A checkpoint.
        positions: ``mrope`` or ``sequential``; the family's published way when not given.
        deepstack: False leaves Qwen3-VL's DeepStack features out, to show that they matter.
        outer_pair: True puts Qwen3-VL's dated frames inside one more ``<|vision_start|><|vision_end|>``, as the
            library's processor does since transformers 5.10; when the models were published it did not.
    """

    published_positions = "mrope"
    image_limits = (3136, 12845056)
    video_limits = (128 * 28 * 28, 768 * 28 * 28)

    def __init__(
        self, folder: Path, positions: str | None = None, deepstack: bool = True, outer_pair: bool = False
    ) -> None:
        from transformers import AutoModel, AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
        self.positions = positions or self.published_positions
        self.outer_pair = outer_pair
        self.architecture = self.model.config.model_type
        self.deep = self.architecture == "qwen3_vl"
        if not deepstack:
            self.model.language_model._deepstack_process = lambda states, mask, features: states
        self.patch = 16 if self.deep else 14
        self.factor = 2 * self.patch
        self.mean = [0.5] * 3 if self.deep else [0.48145466, 0.4578275, 0.40821073]
        self.std = [0.5] * 3 if self.deep else [0.26862954, 0.26130258, 0.27577711]

    def render(self, item: Input) -> str:
        """The string the script builds, with one placeholder a picture or a video."""
        raise NotImplementedError

    def pool(self, states: torch.Tensor, ids: list[int]) -> torch.Tensor:
        """The state the script reads, before it is normalised: the last one unless a family says otherwise."""
        return states[-1]

    def size_image(self, image: Image.Image) -> Image.Image:
        """The picture as the model gets it."""
        return resized(image, self.factor, *self.image_limits)

    def size_frames(self, frames: Sequence[Image.Image]) -> list[Image.Image]:
        """The frames as the model gets them."""
        return [resized(frame, self.factor, *self.video_limits) for frame in frames]

    def _video_block(self, grid: tuple[int, int, int], times: Sequence[float]) -> str:
        """What stands for a video, between nothing at all: Qwen3-VL dates every pair of frames."""
        each = grid[1] * grid[2] // 4
        if not self.deep:
            return VIDEO * (grid[0] * each)
        moments = list(times) + [times[-1]] * (len(times) % 2)
        means = [(first + second) / 2 for first, second in zip(moments[::2], moments[1::2], strict=True)]
        return "".join(f"<{mean:.1f} seconds>{START}{VIDEO * each}{END}" for mean in means)

    @torch.no_grad()
    def encode(self, item: Input) -> Encoded:
        """The anchor and the last normed state of every position."""
        inputs: dict[str, Any] = {}
        taken = [patches_of([self.size_image(image)], self.patch, self.mean, self.std) for image in item.images]
        image_grids = [grid for _, grid in taken]
        rendered = self.render(item)
        for _, (_, rows, columns) in taken:
            rendered = rendered.replace(IMAGE, "\0" * (rows * columns // 4), 1)
        rendered = rendered.replace("\0", IMAGE)
        if taken:
            inputs["pixel_values"] = torch.from_numpy(np.concatenate([patches for patches, _ in taken]))
            inputs["image_grid_thw"] = torch.tensor(image_grids)
        video_grids: list[tuple[int, int, int]] = []
        if item.frames:
            patches, grid = patches_of(self.size_frames(item.frames), self.patch, self.mean, self.std)
            video_grids = [grid]
            place = f"{START}{VIDEO}{END}" if self.deep and not self.outer_pair else VIDEO
            rendered = rendered.replace(place, self._video_block(grid, item.times))
            inputs["pixel_values_videos"] = torch.from_numpy(patches)
            inputs["video_grid_thw"] = torch.tensor(video_grids)
        ids: list[int] = self.tokenizer(rendered, add_special_tokens=False)["input_ids"]
        positions = self._positions(ids, image_grids, video_grids, item.times)
        states = self.model(
            input_ids=torch.tensor([ids]), position_ids=positions[:, None], use_cache=False, **inputs
        ).last_hidden_state[0]
        anchor = torch.nn.functional.normalize(self.pool(states, ids), dim=-1)
        return Encoded(anchor, states, ids, rendered, image_grids, video_grids, positions)

    def _positions(
        self,
        ids: list[int],
        image_grids: list[tuple[int, int, int]],
        video_grids: list[tuple[int, int, int]],
        times: Sequence[float],
    ) -> torch.Tensor:
        if self.positions == "sequential":
            return torch.arange(len(ids)).expand(3, -1)
        config = self.model.config
        step = 1.0
        if self.deep:
            video_grids = [(1, rows, columns) for time, rows, columns in video_grids for _ in range(time)]
        elif self.architecture == "qwen2_5_vl" and len(times) > 1:
            # Seconds a pair of frames covers, at so many positions a second.
            step = 2 * (times[-1] - times[0]) / (len(times) - 1) * config.vision_config.tokens_per_second
        return mrope_positions(ids, config.image_token_id, config.video_token_id, image_grids, video_grids, step)

    def _blocks(self, item: Input) -> str:
        return (f"{START}{VIDEO}{END}" if item.frames else "") + f"{START}{IMAGE}{END}" * len(item.images)


class Qwen3VLEmbedding(Recipe):
    """QwenLM/Qwen3-VL-Embedding, src/models/qwen3_vl_embedding.py."""

    image_limits = (4 * 32 * 32, 1800 * 32 * 32)
    video_limits = (128 * 32 * 32, 768 * 32 * 32)

    def render(self, item: Input) -> str:
        instruction = (item.instruction or "").strip()
        if instruction and not unicodedata.category(instruction[-1]).startswith("P"):
            instruction += "."
        content = self._blocks(item) + (item.text or "")
        return (
            f"<|im_start|>system\n{instruction or 'Represent the user' + chr(39) + 's input.'}<|im_end|>\n"
            f"<|im_start|>user\n{content or 'NULL'}<|im_end|>\n<|im_start|>assistant\n"
        )


class Gme(Recipe):
    """Alibaba-NLP/gme-Qwen2-VL-*, gme_inference.py; of a video its middle frame, as SMART's evaluation has it."""

    published_positions = "sequential"
    image_limits = (256 * 28 * 28, 1280 * 28 * 28)

    middle_frame = True

    def encode(self, item: Input) -> Encoded:
        if item.frames and self.middle_frame:
            item = replace(item, images=(item.frames[len(item.frames) // 2], *item.images), frames=(), times=())
        return super().encode(item)

    def render(self, item: Input) -> str:
        given = item.instruction if item.query else None
        return (
            f"<|im_start|>system\n{given or 'You are a helpful assistant.'}<|im_end|>\n"
            f"<|im_start|>user\n{self._blocks(item)}{item.text or ''}<|im_end|>\n<|im_start|>assistant\n<|endoftext|>"
        )

    def size_image(self, image: Image.Image) -> Image.Image:
        # fetch_image brings it to multiples of 28, then the processor into the limits.
        return super().size_image(resized(image, 28, 4 * 28 * 28, 16384 * 28 * 28))


def _spelled(text: str) -> str:
    """LamRA's format_string: no quotes around, a capital first, a stop last."""
    text = text.replace("\r", "").strip().strip('"')
    text = text[:1].upper() + text[1:]
    return text if not text or text[-1] in ".?!" else text + "."


class LamRA(Recipe):
    """Code-kunkun/LamRA, demo.py and dataset/*.py; adds ``<emb>`` as all its scripts do.

    Carried over to Qwen3-VL without the DeepStack features, as HanSolo9682/SMART has them.
    """

    published_positions = "sequential"
    # Training and M-BEIR; other scripts of theirs and of others allow 784, 1280 or 16384 tokens.
    image_limits = (4 * 28 * 28, 300 * 28 * 28)

    def __init__(self, folder: Path, deepstack: bool = False, **kwargs: Any) -> None:
        super().__init__(folder, deepstack=deepstack, **kwargs)
        if "<emb>" not in self.tokenizer.get_vocab():
            assert self.tokenizer.add_tokens(["<emb>"]) == 1
        self.emb = self.tokenizer.convert_tokens_to_ids("<emb>")
        if self.emb >= self.model.get_input_embeddings().weight.shape[0]:
            self.model.resize_token_embeddings(self.emb + 1)
        if self.deep:
            self.image_limits = (4 * 32 * 32, 1024 * 28 * 28)
            self.video_limits = (128 * 32 * 32, 768 * 32 * 32)

    def render(self, item: Input) -> str:
        text = _spelled(f"{_spelled(item.instruction or '')} {item.text or ''}")
        parts = [name for name, there in (("video", item.frames), ("image", item.images), ("sentence", text)) if there]
        asked = f"{self._blocks(item)}{text}\nSummarize above {' and '.join(parts) or 'sentence'} in one word: "
        opening = "" if self.deep else "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        return (
            f"{opening}<|im_start|>user\n{asked}<|im_end|>\n"
            "<|im_start|>assistant\n<emb>.<|im_end|>\n<|im_start|>assistant\n"
        )

    def pool(self, states: torch.Tensor, ids: list[int]) -> torch.Tensor:
        return states[ids.index(self.emb) - 1]


class LamRAOfSMART(LamRA):
    """HanSolo9682/SMART, eval/src/models/lamra_ret.py: what the paper's LamRA rows were measured with.

    The instruction ends in punctuation and has a line of its own behind a blank, the text is left as it is, pictures
    come without either where there is no text, and at most 1024 x 28^2 pixels of them.
    """

    def render(self, item: Input) -> str:
        text, asked = item.text or "", "sentence"
        instruction = (item.instruction or "").strip()
        if instruction and not unicodedata.category(instruction[-1]).startswith("P"):
            instruction += "."
        if text and instruction:
            text = f" {instruction}\n{text}"
        elif not text and (item.images or item.frames):
            asked = "image"
        return (
            f"<|im_start|>user\n{self._blocks(item)}{text}\nSummarize above {asked} in one word: <|im_end|>\n"
            "<|im_start|>assistant\n<emb>.<|im_end|>\n<|im_start|>assistant\n"
        )


class VLM2VecV2(Recipe):
    """TIGER-AI-Lab/VLM2Vec, src/model/processor.py: bare text, bare placeholders."""

    published_positions = "sequential"
    image_limits = (4 * 28 * 28, 1280 * 28 * 28)
    video_limits = image_limits

    def render(self, item: Input) -> str:
        prompt = " ".join(part for part in (item.instruction, item.text) if part)
        # process_input_text puts the video's mark in front, then the pictures'; an empty text becomes two blanks.
        marks = f"{IMAGE} " * len(item.images) + f"{VIDEO} " * bool(item.frames)
        return marks + prompt or "  "

    def size_image(self, image: Image.Image) -> Image.Image:
        # Their collator first enlarges slivers, which the processor would refuse.
        return super().size_image(image.convert("RGB").resize((56, 56)) if min(image.size) < 28 else image)


class JinaV4(Recipe):
    """jinaai/jina-embeddings-v4, modeling_jina_embeddings_v4.py, one task's adapter merged: text or one picture."""

    image_limits = (4 * 28 * 28, 768 * 28 * 28)

    def render(self, item: Input) -> str:
        if item.images:
            return f"<|im_start|>user\n{self._blocks(item)}Describe the image.<|im_end|>\n"
        return f"{item.instruction or ('Query' if item.query else 'Passage')}: {item.text or ''}"

    def pool(self, states: torch.Tensor, ids: list[int]) -> torch.Tensor:
        start, end = self.tokenizer.convert_tokens_to_ids([START, END])
        if start in ids:
            return states[ids.index(start) : ids.index(end) + 1].mean(dim=0)
        return states.mean(dim=0)


RECIPES: dict[str, type[Recipe]] = {
    "qwen3-vl-embedding": Qwen3VLEmbedding,
    "qwen3-vl-embedding-plain": Qwen3VLEmbedding,
    "gme": Gme,
    "lamra": LamRA,
    "lamra-emb": LamRA,
    "lamra-qwen25": LamRA,
    "lamra-qwen3": LamRAOfSMART,
    "lamra-qwen3-upstream": LamRA,
    "vlm2vec-v2": VLM2VecV2,
    "jina-v4-merged": JinaV4,
}
