"""A Qwen-VL checkpoint as modules of a Sentence Transformers model, with preprocessing of our own.

The checkpoint's own processor class is not used: it cannot be built without torchvision, knows no token roles, and
fails a whole batch for one bad picture. The tests compare the two on well-formed input.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers.base.modules import InputModule, Module
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ...core.head import ANCHOR_MARKS, ROLES_KEY
from ...core.roles import TokenRole
from ...embeddings import Grid
from ...errors import MediaError, UnsupportedModelError
from ...inputs import Frames, Item, item_of
from ...pictures.sources import LIST_RATE
from ...types import Array
from ..backbone import GRIDS_KEY
from .family import VISION_SPAN, Family, Part, VisualLimits
from .loading import Checkpoint
from .pixels import Resizer, patches
from .rendering import Rendered, Renderer, timed_video

# Written by preprocessing: text tokens cut off each item, a list of numbers.
CUT_KEY = "cut_tokens"
_MODEL_INPUTS = (
    "input_ids", "attention_mask", "mm_token_type_ids", "position_ids", "pixel_values", "image_grid_thw",
    "pixel_values_videos", "video_grid_thw", "second_per_grid_ts",
)  # fmt: skip
_TEXT_SIDE = 64  # tokens that template and prompt take, for estimates


class VisionLanguageTransformer(InputModule):
    """Turns items into token states, as a family's recipe says."""

    def __init__(self, checkpoint: Checkpoint, family: Family, max_length: int, limits: VisualLimits) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.model = checkpoint.model
        self.tokenizer = checkpoint.tokenizer
        self.family = family
        self.settings = checkpoint.settings
        self.preprocessor = checkpoint.preprocessor
        self.resizer = Resizer(self.settings, limits, family.middle_frame)
        self.max_seq_length = max_length
        self.renderer = Renderer(checkpoint.tokenizer, checkpoint.special_ids)

    @property
    def config(self) -> Any:
        """The checkpoint's configuration."""
        return self.model.config

    @property
    def modalities(self) -> list[Any]:
        """What it takes, in Sentence Transformers' words."""
        return ["text", "image", "message", *(["video"] if self.family.video else [])]

    def get_embedding_dimension(self) -> int:
        """Dimensions of a hidden state."""
        return int(self.config.get_text_config().hidden_size)

    # -- before the model --------------------------------------------------------------------------------------

    def open_media(self, item: Item) -> Item:
        """Open an item's pictures and video and bring them to their size; does nothing the second time."""
        opened = self.resizer.opened(item)
        visual = sum(self.resizer.token_counts(opened))
        # The template is short beside half the limit; only above that it is counted.
        room = self.max_seq_length - (self._around(opened) if 2 * visual > self.max_seq_length else 0)
        if visual > room:
            raise MediaError(
                f"found {visual} visual tokens, expected at most {max(room, 0)} beside the template: lower "
                "max_visual_tokens or max_frames, or raise max_length"
            )
        return opened

    def _around(self, item: Item) -> int:
        """Tokens around the visual ones of an opened item without its text, on the longer of both sides."""
        bare = replace(item, text=item.text[:1])
        sides = [self.parts(bare, None, side) for side in ("query", "document")]
        if isinstance(item.video, Frames) and self.config.model_type == "qwen3_vl":
            sides = [timed_video(parts, self._step_times(item.video)) for parts in sides]
        placeholders = sum(part.role in (TokenRole.IMAGE, TokenRole.VIDEO) for part in sides[0])
        return max(self.renderer.count(parts) for parts in sides) - placeholders

    def estimated_tokens(self, item: Item) -> int:
        """Tokens of an item, exact as to its loaded pictures."""
        return sum(self.resizer.token_counts(item)) + len(item.text) // 3 + _TEXT_SIDE

    def parts(self, item: Item, prompt: str | None, task: str | None) -> list[Part]:
        """An item's rendering, placeholders not yet repeated."""
        side = "query" if task == "query" else "document"
        instruction = self.family.spelled(item.instruction or prompt or self.family.prompts.get(side, ""))
        return self.family.conversation(item, instruction)

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **kwargs: Any) -> dict[str, Any]:
        """Render, tokenise, cut up and pad a batch of whatever :func:`~smart_retrieval.inputs.item_of` takes.

        ``prompt`` is the instruction of items that bring none, ``task`` is ``"query"`` or ``"document"``. Gives the
        model's inputs, the token roles, the visual grids, and how many tokens were cut off.
        """
        task = kwargs.get("task")
        cut_up: dict[str, list[tuple[Array, tuple[int, int, int]]]] = {"image": [], "video": []}
        seconds: list[float] = []
        rendered: list[Rendered] = []
        grids: list[tuple[Grid, ...]] = []
        for position, value in enumerate(inputs):
            item = self.open_media(item_of(value, position))
            parts = self.parts(item, prompt, task)
            tokens: list[int] = []
            own: list[Grid] = []
            # The video stands in front of the pictures.
            if isinstance(item.video, Frames):
                own.append(grid := self._cut_up("video", item.video.images, cut_up))
                tokens.append(grid.tokens)
                if self.config.model_type == "qwen3_vl":
                    parts, tokens = timed_video(parts, self._step_times(item.video)), [grid.h * grid.w] * grid.t
                seconds.append(self._step_seconds(item.video))
            pictures = [self._cut_up("image", [image], cut_up) for image in item.images]
            tokens += [grid.tokens for grid in pictures]
            grids.append((*own, *pictures))
            rendered.append(self.renderer.render(parts, tokens, self.max_seq_length, position))
        features = self._padded(rendered)
        features[GRIDS_KEY] = grids
        features[CUT_KEY] = [one.cut for one in rendered]
        for kind, key in (("image", "pixel_values"), ("video", "pixel_values_videos")):
            if found := cut_up[kind]:
                features[key] = torch.from_numpy(np.concatenate([values for values, _ in found]))
                features[f"{kind}_grid_thw"] = torch.tensor([grid for _, grid in found])
        if seconds and self.config.model_type == "qwen2_5_vl":
            features["second_per_grid_ts"] = torch.tensor(seconds)
        return features

    def _cut_up(self, kind: str, frames: Sequence[Any], done: dict[str, list[Any]]) -> Grid:
        """Append a picture's (one frame) or video's patches to those of its kind; its grid of visual tokens."""
        values, (t, h, w) = patches(np.stack([np.asarray(image) for image in frames]), self.settings)
        done[kind].append((values, (t, h, w)))
        return Grid(kind, t, h // self.settings.merge, w // self.settings.merge)

    def _step_times(self, frames: Frames) -> list[float]:
        """A step's time: the middle between its first and its last frame's."""
        step, times = self.settings.temporal, [*frames.times]
        pace = 0.0
        if self.resizer.limits.frames_as_pictures:
            pace = times[-1] - times[-2] if len(times) > 1 else 1 / LIST_RATE
        times += [times[-1] + pace * (i + 1) for i in range(-len(times) % step)]
        return [(times[i] + times[i + step - 1]) / 2 for i in range(0, len(times), step)]

    def _step_seconds(self, frames: Frames) -> float:
        gaps = np.diff(frames.times)
        return self.settings.temporal * (float(gaps.mean()) if len(gaps) else 1.0)

    def _padded(self, rendered: list[Rendered]) -> dict[str, Any]:
        def padded(rows: list[Array], value: int = 0) -> Tensor:
            return pad_sequence([torch.from_numpy(row) for row in rows], batch_first=True, padding_value=value)

        tokenizer = self.renderer.tokenizer
        pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        roles = padded([one.roles for one in rendered])
        attended = padded([np.ones_like(one.ids) for one in rendered])
        features: dict[str, Any] = {
            "input_ids": padded([one.ids for one in rendered], pad),
            "attention_mask": attended,
            "mm_token_type_ids": (roles == int(TokenRole.IMAGE)) + 2 * (roles == int(TokenRole.VIDEO)),
            ROLES_KEY: roles,
            "modality": "message",
        }
        if self.family.positions == "sequential":
            # Batch first, as trainers cut batches along the first axis.
            features["position_ids"] = (attended.cumsum(dim=1) - 1).clamp(min=0)
        if not self.family.pools_as_sentence_transformers:
            marks = torch.zeros_like(roles, dtype=torch.bool)
            for row, one in enumerate(rendered):
                marks[row, self._pooled(one)] = True
            features[ANCHOR_MARKS] = marks
        return features

    def _pooled(self, one: Rendered) -> slice:
        """The positions whose states make the anchor."""
        id_of = self.renderer.tokenizer.convert_tokens_to_ids
        if self.family.pooling == VISION_SPAN:
            if not (one.roles == int(TokenRole.IMAGE)).any():
                return slice(0, len(one.ids))
            first, last = (np.flatnonzero(one.ids == id_of(f"<|vision_{end}|>"))[0] for end in ("start", "end"))
            return slice(int(first), int(last) + 1)
        # Before the last <emb> of the template; one in the user's words has the role of text.
        token = self.family.pooling.removeprefix("before ")
        place = int(np.flatnonzero((one.ids == id_of(token)) & (one.roles != int(TokenRole.TEXT)))[-1])
        return slice(place - 1, place)

    # -- the model ---------------------------------------------------------------------------------------------

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Add ``token_embeddings`` ``[B, T, H]``, and ``all_layer_embeddings`` where the config requests them."""
        inputs = {name: features[name] for name in _MODEL_INPUTS if name in features}
        if "position_ids" in inputs:
            inputs["position_ids"] = inputs["position_ids"].unsqueeze(0).expand(3, -1, -1)
        for name in ("pixel_values", "pixel_values_videos"):
            if name in inputs:
                inputs[name] = inputs[name].to(self.model.dtype)
        wanted = bool(self.config.output_hidden_states)
        output = self.model(**inputs, use_cache=False, output_hidden_states=wanted, return_dict=True)
        states: Tensor = output.last_hidden_state
        features["token_embeddings"] = states
        if wanted:
            # Whether the last of them is taken before or after the final norm has changed between releases.
            features["all_layer_embeddings"] = (*output.hidden_states[:-1], states)
        return features

    # -- disk --------------------------------------------------------------------------------------------------

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write weights, tokenizer and preprocessing as a transformers checkpoint."""
        self.model.save_pretrained(output_path)
        self.renderer.tokenizer.save_pretrained(output_path)
        # With the limits in force, so that every reader of this file sizes pictures alike.
        area = self.settings.factor**2
        limits = self.resizer.limits
        size = {"shortest_edge": limits.min_tokens * area, "longest_edge": limits.max_tokens * area}
        stale = ("min_pixels", "max_pixels")
        config = {key: value for key, value in self.preprocessor.items() if key not in stale} | {"size": size}
        text = json.dumps(config, indent=1) + "\n"
        (Path(output_path) / "preprocessor_config.json").write_text(text, encoding="utf-8")


class MarkedPooling(Module):
    """Anchors that no stock pooling takes: the mean of each item's marked states."""

    config_keys: list[str] = ["pooling_mode"]  # noqa: RUF012 (as its base class declares it)

    def __init__(self, pooling_mode: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.pooling_mode = pooling_mode  # for descriptions

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Add ``sentence_embedding`` ``[B, H]``."""
        if ANCHOR_MARKS not in features:
            raise UnsupportedModelError(
                f"found features without {ANCHOR_MARKS!r}, expected those of this model's own preprocessing"
            )
        states = features["token_embeddings"]
        marks = features[ANCHOR_MARKS].to(states.device).unsqueeze(-1)
        features["sentence_embedding"] = (states * marks).sum(dim=1) / marks.sum(dim=1)
        return features

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Nothing to save: it follows from the family."""
